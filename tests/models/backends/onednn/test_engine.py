"""The engine under the project's ResNet, against Paddle's own kernels in float64 and float32."""

from __future__ import annotations

import copy
import dataclasses
import gc
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

from pmtrain.models import build_model
from pmtrain.models.backends.onednn import attach, unavailable_reason
from pmtrain.models.backends.onednn.engine import SHAPES_KEPT
from pmtrain.models.backends.onednn.library import ReferenceCode
from pmtrain.models.backends.onednn.memory import Layout, f32, image_layout
from pmtrain.models.backends.onednn.plans import PLANS
from pmtrain.models.resnet import ResNet
from pmtrain.system.errors import PmtrainError
from pmtrain.system.framework import paddle

F = paddle.nn.functional
Results = dict[str, np.ndarray]


def fresh(layers: int = 50, seed: int = 0, last_gamma: float | None = 0.1):
    """A network in training mode; with a small last gamma in each block its gradients are well conditioned."""
    paddle.seed(seed)
    model = build_model(layers)
    if last_gamma is not None:
        for name, parameter in model.named_parameters():
            if name.endswith(f"conv{2 if layers >= 50 else 1}._batch_norm.weight"):
                parameter.set_value(parameter * last_gamma)
    model.train()
    return model


def batch(shape: tuple[int, ...], seed: int = 0, dtype: str = "float32"):
    rng = np.random.default_rng(seed)
    images = rng.standard_normal(shape).astype(np.float32)
    labels = rng.integers(0, 2, (shape[0], 1)).astype(np.float32)
    return paddle.to_tensor(images, dtype=dtype), paddle.to_tensor(labels, dtype=dtype)


def step(model, x, y) -> Results:
    """Forward and backward once: logits, loss, gradients and running statistics by name."""
    logits = model(x)
    loss = F.binary_cross_entropy_with_logits(logits, y)
    loss.backward()
    results = {"logits": logits.numpy(), "loss": np.array(float(loss))}
    for name, value in model.named_parameters():
        results[name] = value.numpy() if value.stop_gradient else value.grad.numpy()
    return results


def error(actual: np.ndarray, expected: np.ndarray) -> float:
    """The norm of the difference over the norm of what is expected."""
    return float(np.linalg.norm((actual - expected).ravel()) / (np.linalg.norm(expected.ravel()) + 1e-30))


def cosine(actual: np.ndarray, expected: np.ndarray) -> float:
    """Of the angle between two gradients."""
    return float(actual.ravel() @ expected.ravel() / np.linalg.norm(actual) / np.linalg.norm(expected))


def worst(actual: Results, expected: Results) -> float:
    assert actual.keys() == expected.keys()
    return max(error(actual[name], expected[name]) for name in expected)


def compared(layers: int, shape: tuple[int, ...], seed: int, precision: str = "fp32") -> tuple[Results, ...]:
    """One step of the same weights through Paddle in float64, Paddle in float32, and the engine."""
    results = []
    for runner in ("float64", "float32", precision):
        model = fresh(layers, seed)
        dtype = "float64" if runner == "float64" else "float32"
        if runner == "float64":
            model.to(dtype=dtype)
        elif runner == precision:
            attach(model, precision)
        results.append(step(model, *batch(shape, seed, dtype)))
    return tuple(results)


# The layer of each network after which only a sum, a ReLU and the mean come.
LAST = {18: "bb_3_1.conv1.", 34: "bb_3_2.conv1.", 50: "bb_3_2.conv2.", 101: "bb_3_2.conv2.", 152: "bb_3_2.conv2."}


def slow(*cases):
    return [pytest.param(*case, marks=pytest.mark.slow) for case in cases]


# With four or fewer values for each channel's statistics, as the last stage has here, any rounding is magnified.
TINY = slow((50, (1, 3, 64, 64)), (50, (2, 3, 33, 32)))
CASES = [
    (50, (3, 3, 32, 48)),
    (18, (3, 3, 64, 64)),
    *slow((18, (5, 3, 33, 47)), (34, (3, 3, 97, 131)), (34, (2, 3, 32, 64))),
    *slow((50, (7, 3, 64, 64)), (50, (13, 3, 32, 32)), (50, (3, 3, 97, 131)), (50, (1, 3, 225, 193))),
    *slow((101, (3, 3, 64, 64)), (152, (3, 3, 64, 64))),
]


@pytest.mark.parametrize(("layers", "shape"), CASES + TINY)
def test_fp32_step_follows_float64(layers, shape):
    def is_last(name: str) -> bool:  # no ReLU but the last lies between these and the loss
        return name.startswith(("out.", LAST[layers]))

    for seed in range(3):  # rounding may open the last ReLU too; see the next test
        double, single, engine = compared(layers, shape, seed)
        if all(error(engine[name], double[name]) < 1e-4 for name in filter(is_last, double)):
            break
    for name in double:
        limit = 0.05  # of a gradient behind a ReLU that rounding opened
        if name in ("logits", "loss") or name.endswith(("_mean", "_variance")):
            limit = 1e-5
        elif is_last(name):
            limit = max(1e-4, 2 * error(single[name], double[name]))
        assert error(engine[name], double[name]) < limit, name


@pytest.mark.parametrize(
    "shape",
    [(2, 3, 33, 32), *slow([(3, 3, 32, 48)], [(13, 3, 32, 32)])],
)
def test_every_fp32_gradient_is_as_near_to_float64_as_paddles(shape):
    # A ReLU whose input is 0 but for rounding opens in one run and not in another, and moves every gradient before it
    # by far more than rounding does. With few pixels most seeds have none; a mistake would show in all of them.
    distances = []
    for seed in range(8):
        double, single, engine = compared(50, shape, seed)
        distances.append((worst(engine, double), worst(single, double)))
        if distances[-1][0] < max(1e-5, min(2 * distances[-1][1], 1e-4)):
            return
    pytest.fail(f"largest relative errors of the engine and of Paddle in float32: {distances}")


@pytest.mark.parametrize(("layers", "orders"), [(18, {"blocked8", "channels_last"}), (50, {"blocked8"})])
def test_under_avx2_stages_of_basic_blocks_with_few_pixels_have_channels_last(layers, orders):
    if image_layout(f32) is not Layout.blocked8:
        pytest.skip("the processor has AVX-512")
    model = fresh(layers)
    with attach(model) as engine:
        norms = engine._training_plan((3, 3, 64, 64)).norms
        assert {norm.y.descriptor.order for norm in norms} == orders
        assert norms[0].y.descriptor.order == "blocked8"


@pytest.mark.parametrize("dtype", ["bf16, blocked", "bf16, channels last"], indirect=True)
@pytest.mark.parametrize(("layers", "shape"), CASES)
def test_bf16_step_follows_float64(layers, shape, precision):
    double, _, engine = compared(layers, shape, seed=0, precision=precision)
    assert error(engine["logits"], double["logits"]) < 0.05
    # Eight bits of activations: single gradients are rough, the more so the deeper, their direction as a whole is not.
    names = [name for name in double if not name.endswith(("logits", "loss", "_mean", "_variance"))]
    for name in names:
        assert cosine(engine[name], double[name]) > 0.6, name
    ours, expected = (np.concatenate([results[name].ravel() for name in names]) for results in (engine, double))
    assert cosine(ours, expected) > 0.9
    assert error(engine["out.weight"], double["out.weight"]) < 0.03
    for name in double:
        if name.endswith(("_mean", "_variance")):
            assert error(engine[name], double[name]) < 0.03, name


@pytest.mark.parametrize(
    ("layers", "shape"), [(18, (3, 3, 64, 64)), (50, (3, 3, 64, 64)), (50, (1, 3, 97, 131)), (50, (10, 3, 32, 33))]
)
def test_folded_inference_is_paddles(layers, shape, precision):
    model = fresh(layers)
    x, y = batch(shape)
    with attach(model), paddle.no_grad():
        for seed in range(3):  # statistics of their own for the batch norms
            model(batch(shape, seed)[0])
    model.eval()
    with paddle.no_grad():
        expected = model(x).numpy()
        with attach(model, precision):
            actual = model(x).numpy()
    assert error(actual, expected) < {"fp32": 1e-5, "bf16": 0.05}[precision]


def test_inference_sees_every_change_of_the_weights():
    model, x = fresh(), batch((2, 3, 64, 64))[0]
    optimizer = paddle.optimizer.Momentum(0.01, parameters=model.parameters(), weight_decay=1e-3)

    def both() -> tuple[np.ndarray, np.ndarray]:
        model.eval()
        with paddle.no_grad():
            pair = model(x).numpy(), type(model).forward(model, x).numpy()
        model.train()
        return pair

    def one_step():
        step(model, *batch((2, 3, 64, 64)))
        optimizer.step()
        optimizer.clear_grad()

    def forward_alone():
        with paddle.no_grad():
            model(x)

    def one_value():
        weight = model.stages[2][1].conv1._conv.weight
        array = weight.numpy()
        array[3, 5, 1, 1] += 50
        weight.set_value(array)

    def flipped():
        weight = model.stages[1][1].conv1._conv.weight
        weight.set_value(weight.numpy()[:, :, ::-1, ::-1].copy())

    def loaded():
        model.set_state_dict(fresh(seed=7).state_dict())

    def in_place():
        with paddle.no_grad():
            model.stages[0][0].conv0._batch_norm._variance.scale_(3.0)

    attach(model)
    previous, _ = both()
    for change in (one_step, forward_alone, one_value, flipped, loaded, in_place):
        change()
        ours, paddles = both()
        assert error(ours, paddles) < 1e-5, change.__name__
        assert error(ours, previous) > 1e-5, change.__name__
        previous = ours


def move(model) -> None:
    """Change one folded parameter so that every logit changes."""
    shift = model.stages[3][2].conv2._batch_norm.bias
    shift.set_value(shift + 1)


def test_fixed_weights_are_folded_once():
    model, x = fresh(), batch((2, 3, 64, 64))[0]
    engine = attach(model)
    model.eval()
    with paddle.no_grad(), engine.fixed_weights():
        before = model(x).numpy()
        move(model)  # breaks the promise, so that what was folded shows
        np.testing.assert_array_equal(model(x).numpy(), before)
        model.out.bias.set_value(model.out.bias + 1)  # the last layer is Paddle's, and always current
        np.testing.assert_allclose(model(x).numpy(), before + 1, rtol=1e-6)
        assert np.array_equal(model(batch((1, 3, 64, 64))[0]).shape, [1, 1])  # another shape, the same weights
    with paddle.no_grad():
        assert error(model(x).numpy(), type(model).forward(model, x).numpy()) < 1e-5
        assert error(model(x).numpy(), before + 1) > 1e-5


def test_a_training_run_repeats_to_the_bit(precision):
    def run() -> Results:
        model = fresh(last_gamma=None)
        attach(model, precision)
        optimizer = paddle.optimizer.Momentum(0.001, parameters=model.parameters(), weight_decay=1e-3)
        for seed in range(3):
            for size in ((4, 3, 64, 64), (3, 3, 64, 64)):
                results = step(model, *batch(size, seed))
                optimizer.step()
                optimizer.clear_grad()
        return results

    first, second = run(), run()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_gradients_accumulate_over_two_passes(precision):
    model = fresh()
    attach(model, precision)
    x, y = batch((3, 3, 64, 64))
    once = step(model, x, y)
    twice = step(model, x, y)
    for name, parameter in model.named_parameters():
        if not parameter.stop_gradient:
            np.testing.assert_allclose(twice[name], 2 * once[name], rtol=1e-6, atol=0, err_msg=name)


def test_overlapping_promises_end_with_the_last_of_them():
    model, x = fresh(), batch((2, 3, 64, 64))[0]
    engine = attach(model)
    model.eval()
    first, second = engine.fixed_weights(), engine.fixed_weights()
    with paddle.no_grad():
        first.__enter__()
        second.__enter__()
        before = model(x).numpy()
        first.__exit__(None, None, None)
        move(model)  # breaks the second promise, which still holds
        np.testing.assert_array_equal(model(x).numpy(), before)
        second.__exit__(None, None, None)
        assert error(model(x).numpy(), type(model).forward(model, x).numpy()) < 1e-5
        assert error(model(x).numpy(), before) > 1e-5


def test_more_shapes_than_are_remembered():
    model = fresh()
    model.eval()
    shapes = [(1, 3, 32, 32 + number) for number in range(SHAPES_KEPT + 1)]
    with paddle.no_grad(), attach(model):
        for shape in [*shapes, shapes[0]]:
            x = batch(shape)[0]
            assert error(model(x).numpy(), type(model).forward(model, x).numpy()) < 1e-5


def test_frozen_parameters_have_no_gradient():
    model, plain = fresh(), fresh()
    for each in (model, plain):
        for parameter in each.stages[0][0].parameters():
            parameter.stop_gradient = True
    attach(model)
    for each in (model, plain):
        F.binary_cross_entropy_with_logits(*[each(batch((3, 3, 64, 64))[0]), batch((3, 3, 64, 64))[1]]).backward()
    for (name, ours), (_, theirs) in zip(model.named_parameters(), plain.named_parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None), name


def test_activations_that_are_gone_are_an_error():
    model = fresh()
    attach(model)
    first, _ = model(batch((2, 3, 64, 64))[0]), model(batch((1, 3, 64, 64))[0])
    with pytest.raises(Exception, match="activations of this forward pass are gone"):
        first.sum().backward()


@pytest.mark.parametrize("shape", [(3, 3, 31, 40), (1, 3, 32, 32)])  # the second: one value a channel at the end
def test_images_too_small_for_the_engine_are_paddles(shape):
    model, plain = fresh(), fresh()
    attach(model, "fp32")
    ours, paddles = (step(each, *batch(shape)) for each in (model, plain))
    for name in paddles:
        np.testing.assert_array_equal(ours[name], paddles[name], err_msg=name)


def test_a_backward_pass_after_detaching_is_an_error():
    model = fresh()
    engine = attach(model)
    loss = model(batch((2, 3, 64, 64))[0]).sum()
    engine.detach()
    with pytest.raises(Exception, match="activations of this forward pass are gone"):
        loss.backward()


def test_a_backward_pass_on_another_thread():
    x, y = batch((2, 3, 64, 64))
    expected = step(fresh(), x, y)
    model = fresh()
    attach(model)
    loss = F.binary_cross_entropy_with_logits(model(x), y)
    thread = threading.Thread(target=loss.backward)
    thread.start()
    thread.join()
    for name, parameter in model.named_parameters():
        if name.startswith(("out.", "bb_3_2.conv2.")) and not parameter.stop_gradient:
            assert error(parameter.grad.numpy(), expected[name]) < 1e-4, name


@pytest.mark.parametrize("stem_is_frozen", [False, True])
def test_a_backward_pass_in_eval_mode_is_an_error(stem_is_frozen):
    model = fresh()
    for parameter in model.conv.parameters() if stem_is_frozen else ():
        parameter.stop_gradient = True
    attach(model)
    model.eval()
    with pytest.raises(Exception, match="keeps nothing for a backward pass in eval mode"):
        model(batch((2, 3, 64, 64))[0]).sum().backward()


def test_evaluation_between_forward_and_backward_changes_nothing():
    x, y = batch((3, 3, 64, 64))
    alone, interrupted = fresh(), fresh()
    attach(alone)
    attach(interrupted)
    expected = step(alone, x, y)
    loss = F.binary_cross_entropy_with_logits(interrupted(x), y)
    interrupted.eval()
    with paddle.no_grad():
        interrupted(batch((5, 3, 96, 64))[0])
    interrupted.train()
    loss.backward()
    for name, parameter in interrupted.named_parameters():
        if not parameter.stop_gradient:
            np.testing.assert_array_equal(parameter.grad.numpy(), expected[name], err_msg=name)


def test_the_model_stays_paddles():
    model, plain = fresh(), fresh()
    engine = attach(model)
    names = []
    for each in (model, plain):
        with paddle.utils.unique_name.guard():  # names that are counted from 0
            optimizer = paddle.optimizer.Momentum(0.001, parameters=each.parameters())
            step(each, *batch((2, 3, 64, 64)))
            optimizer.step()
            names.append(list(optimizer.state_dict()))
    assert names[0] == names[1]
    assert list(model.state_dict()) == list(plain.state_dict())
    assert [p.name for p in model.parameters()] == [p.name for p in plain.parameters()]
    assert model.full_name() == plain.full_name()
    engine.detach()
    assert "forward" not in model.__dict__
    x = batch((2, 3, 64, 64))[0]
    model.set_state_dict(plain.state_dict())
    np.testing.assert_array_equal(model(x).numpy(), plain(x).numpy())


def test_paddles_forward_serves_where_more_than_logits_is_asked_for():
    model = fresh()
    attach(model)
    conv0, called = model.stages[0][0].conv0, []
    conv0.__dict__["forward"] = lambda x: called.append(x.shape) or type(conv0).forward(conv0, x)
    model(batch((2, 3, 64, 64))[0])
    del conv0.__dict__["forward"]
    assert called == [[2, 64, 16, 16]]
    conv0._batch_norm._use_global_stats, before = True, conv0._batch_norm._mean.numpy()
    model(batch((2, 3, 64, 64))[0])
    conv0._batch_norm._use_global_stats = None
    np.testing.assert_array_equal(conv0._batch_norm._mean.numpy(), before)
    seen = []
    hook = model.stages[3][2].register_forward_post_hook(lambda layer, inputs, output: seen.append(output.shape))
    model(batch((1, 3, 64, 64))[0])
    hook.remove()
    assert seen == [[1, 2048, 2, 2]]
    x = batch((2, 3, 64, 64))[0]
    x.stop_gradient = False
    model(x).sum().backward()
    assert x.grad is not None
    model.to(dtype="float64")
    assert model(batch((2, 3, 64, 64), dtype="float64")[0]).dtype == paddle.float64
    model.to(dtype="float32")
    model.stages[3][2].to(dtype="float64")
    with pytest.raises(Exception, match="float64"):  # Paddle's own error, and no result
        model(batch((2, 3, 64, 64))[0])
    model.to(dtype="float32")
    model.conv.eval()  # a frozen batch norm
    before = model.conv._batch_norm._mean.numpy()
    model(batch((2, 3, 64, 64))[0])
    np.testing.assert_array_equal(model.conv._batch_norm._mean.numpy(), before)


def test_a_transposed_view_is_read_as_what_it_shows():
    model = fresh()
    model.eval()
    x = batch((2, 3, 64, 96))[0]
    view = paddle.transpose(x, [0, 1, 3, 2])
    with paddle.no_grad():
        expected = model(view).numpy()
        attach(model)
        assert error(model(view).numpy(), expected) < 1e-5


def test_two_models_and_another_thread():
    models, x = [fresh(seed=seed) for seed in range(2)], batch((2, 3, 64, 64))
    expected = [step(fresh(seed=seed), *x) for seed in range(2)]
    results: dict[int, Results] = {}
    for model in models:
        attach(model)
    threads = [
        threading.Thread(target=lambda index=index: results.update({index: step(models[index], *x)}))
        for index in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(2):
        for name in ("logits", "out.weight", "bb_3_2.conv2._conv.weight", "conv._batch_norm._mean"):
            assert error(results[index][name], expected[index][name]) < 1e-4, name


def test_two_threads_share_one_engine():
    model = fresh()
    model.eval()
    inputs = [batch((2, 3, 64, 64 + 32 * number), number)[0] for number in range(4)]
    with paddle.no_grad():
        expected = [model(x).numpy() for x in inputs]
        results: dict[int, np.ndarray] = {}

        def work(index: int) -> None:
            with paddle.no_grad():
                results[index] = model(inputs[index]).numpy()

        attach(model)
        threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for index in range(4):
        assert error(results[index], expected[index]) < 1e-5


def resident_mib() -> float:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("this system has no /proc to read the memory from")
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 2**10


@pytest.mark.slow
def test_memory_does_not_grow_over_many_steps(precision):
    model = fresh()
    attach(model, precision)
    optimizer = paddle.optimizer.Momentum(0.001, parameters=model.parameters())
    for number in range(200):
        step_of = batch(((2, 3, 32, 32), (1, 3, 32, 64))[number % 2])
        F.binary_cross_entropy_with_logits(model(step_of[0]), step_of[1]).backward()
        optimizer.step()
        optimizer.clear_grad()
        if number % 20 == 0:
            model.eval()
            with paddle.no_grad():
                model(step_of[0])
            model.train()
        if number == 50:
            before = resident_mib()
    assert resident_mib() - before < 20


def test_detaching_frees_the_memory():
    model = fresh()
    engine = attach(model)
    step(model, *batch((10, 3, 128, 128)))
    held = resident_mib()
    engine.detach()
    assert held - resident_mib() > 200  # the activations alone


def test_memory_goes_with_the_model():
    model = fresh()
    engine = weakref.ref(attach(model))
    step(model, *batch((2, 3, 64, 64)))
    del model
    gc.collect()
    assert engine() is None


def test_a_second_engine_and_a_copy_are_refused():
    model = fresh()
    engine = attach(model)
    with pytest.raises(PmtrainError, match="attached to this model already"):
        attach(model)
    with pytest.raises(PmtrainError, match="can't be copied"):
        copy.deepcopy(model)
    engine.detach()
    copy.deepcopy(model)
    attach(model).detach()


def test_a_shape_without_fast_code_is_refused_or_paddles_with_one_line(monkeypatch, capsys):
    def no_code(*_):
        raise ReferenceCode("convolution", "ref:any")

    row = dataclasses.replace(PLANS[ResNet], training=no_code, inference=no_code)
    monkeypatch.setitem(PLANS, ResNet, row)
    x, y = batch((2, 3, 64, 64))
    expected = step(fresh(), x, y)
    model = fresh()
    with attach(model), pytest.raises(PmtrainError, match=r"slow reference code \(ref:any\) here for the convolution"):
        model(x)
    attach(model, required=False)
    actual = step(model, x, y)
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)
    model(batch((1, 3, 64, 64))[0])
    said = capsys.readouterr().err
    assert said.startswith("computing with Paddle's own kernels, since oneDNN has only slow") and said.count("\n") == 1


def test_what_cannot_be_served_has_a_reason():
    assert unavailable_reason(fresh()) is None
    assert unavailable_reason(paddle.nn.Linear(2, 2)) == "there is no plan for the model Linear"
    double = fresh()
    double.to(dtype="float64")
    assert "float32" in unavailable_reason(double)

    class Other(ResNet):
        def forward(self, x):
            return super().forward(2 * x)

    assert unavailable_reason(Other()) == "there is no plan for the model Other"
    with pytest.raises(PmtrainError, match="has no fp16"):
        attach(fresh(), "fp16")
    with pytest.raises(PmtrainError, match="no plan for the model Linear"):
        attach(paddle.nn.Linear(2, 2))
