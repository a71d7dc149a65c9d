"""The training step and the scoring pass, on every backend that this machine has."""

from __future__ import annotations

import numpy as np
import pytest

from pmtrain.data.dataset import Sample
from pmtrain.data.loading.loader import Batch
from pmtrain.evaluation.scores.score import score
from pmtrain.models import build_model
from pmtrain.models.backends.choose import choose_backend
from pmtrain.models.backends.onednn.library import LibraryUnavailable, open_library
from pmtrain.system.errors import UsageError
from pmtrain.system.framework import paddle
from pmtrain.training.step import NonFiniteLoss, TrainingStep


def batches(sizes: tuple[int, ...], side: int = 32) -> list[Batch]:
    rng = np.random.default_rng(0)
    made = []
    for index, size in enumerate(sizes):
        labels = rng.integers(0, 2, (size, 1)).astype(np.float32)
        samples = [Sample(f"{index}-{i}", int(label)) for i, label in enumerate(labels[:, 0])]
        tints = rng.standard_normal((size, 3, 1, 1))  # images that differ, so that scores do
        images = (tints + 0.3 * rng.standard_normal((size, 3, side, side))).astype(np.float32)
        made.append(Batch(index, images, labels, samples))
    return made


def ready(backend: str, seed: int = 0, precision: str = "fp32"):
    paddle.seed(seed)
    model = build_model(18)
    # Small residual branches and running statistics that fit the images, so that scores are well conditioned.
    for block in (block for blocks in model.stages for block in blocks):
        weight = block.path[-1]._batch_norm.weight
        weight.set_value(paddle.full_like(weight, 0.1))
    with paddle.no_grad():
        for _ in range(30):
            model(paddle.to_tensor(batches((8,))[0].images))
    try:
        return model, choose_backend(model, "cpu", backend=backend, precision=precision)
    except UsageError as error:
        pytest.skip(str(error))


def in_float64(model, images: np.ndarray) -> np.ndarray:
    """Logits of the model's own forward, weights and all in float64."""
    twin = build_model(18)
    twin.to(dtype="float64")
    twin.set_state_dict({name: tensor.astype("float64") for name, tensor in model.state_dict().items()})
    twin.eval()
    with paddle.no_grad():
        return type(twin).forward(twin, paddle.to_tensor(images.astype(np.float64))).numpy().reshape(-1)


@pytest.mark.parametrize("backend", ["paddle", "onednn"])
def test_scores_are_one_row_an_image_also_in_a_short_last_batch(backend):
    model, chosen = ready(backend)
    assert chosen.name == backend
    data = batches((4, 4, 1))
    seen = []
    scores = score(model, data, chosen, lambda batch: seen.append(batch.index))
    expected = np.concatenate([in_float64(model, batch.images) for batch in data])
    np.testing.assert_allclose(scores.logits, expected, rtol=1e-4, atol=1e-4)
    assert len(np.unique(scores.logits)) == 9
    assert [sample.path for sample in scores.samples] == [s.path for batch in data for s in batch.samples]
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("backend", ["paddle", "onednn"])
def test_scores_follow_the_weights_as_they_change(backend):
    model, chosen = ready(backend)
    optimizer = paddle.optimizer.Momentum(0.01, 0.9, parameters=model.parameters())
    step = TrainingStep(model, optimizer, chosen)
    (data,) = batches((4,))
    for _ in range(2):
        step(data.images, data.labels)
        np.testing.assert_allclose(
            score(model, [data], chosen).logits, in_float64(model, data.images), rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("backend", ["paddle", "onednn"])
def test_a_step_gives_the_loss_before_it_and_momentums_update(backend):
    model, chosen = ready(backend)
    rate, momentum, decay = 0.01, 0.9, 0.001
    optimizer = paddle.optimizer.Momentum(rate, momentum, parameters=model.parameters(), weight_decay=decay)
    step = TrainingStep(model, optimizer, chosen)
    (data,) = batches((4,))
    weight = model.out.weight
    before = weight.numpy().copy()
    caught = []
    hook = model.out.register_forward_post_hook(lambda layer, inputs, output: caught.append((inputs[0], output)))
    loss = step(data.images, data.labels)
    hook.remove()
    features, logits = (tensor.numpy().astype(np.float64) for tensor in caught[0])
    chances = 1 / (1 + np.exp(-logits))
    expected = -np.mean(data.labels * np.log(chances) + (1 - data.labels) * np.log(1 - chances))
    assert loss == pytest.approx(expected, rel=1e-5)
    gradient = features.T @ (chances - data.labels) / len(data.labels) + decay * before
    np.testing.assert_allclose(weight.numpy(), before - rate * gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("backend", ["paddle", "onednn"])
@pytest.mark.parametrize("weights", [(1.0, 3.0), (0.625, 2.5)])
def test_a_weighted_loss_is_the_sum_over_the_number_of_images(backend, weights):
    model, chosen = ready(backend)
    rate = 0.01
    step = TrainingStep(model, paddle.optimizer.Momentum(rate, 0.9, parameters=model.parameters()), chosen, weights)
    (data,) = batches((5,))
    assert 0 < data.labels.sum() < 5
    weight = model.out.weight
    before = weight.numpy().copy()
    caught = []
    hook = model.out.register_forward_post_hook(lambda layer, inputs, output: caught.append((inputs[0], output)))
    loss = step(data.images, data.labels)
    hook.remove()
    features, logits = (tensor.numpy().astype(np.float64) for tensor in caught[0])
    chances = 1 / (1 + np.exp(-logits))
    each = -weights[1] * data.labels * np.log(chances) - weights[0] * (1 - data.labels) * np.log(1 - chances)
    assert loss == pytest.approx(each.sum() / 5, rel=1e-5)
    of_image = np.where(data.labels == 1, weights[1], weights[0])
    gradient = features.T @ (of_image * (chances - data.labels)) / 5
    np.testing.assert_allclose(weight.numpy(), before - rate * gradient, rtol=1e-4, atol=1e-7)


def test_equal_weights_of_one_change_no_bit():
    losses = []
    for weights in (None, (1.0, 1.0)):
        model, chosen = ready("paddle")
        step = TrainingStep(model, paddle.optimizer.Momentum(0.01, 0.9, parameters=model.parameters()), chosen, weights)
        losses.append([step(batch.images, batch.labels) for batch in batches((4, 4))])
    assert losses[0] == losses[1]


@pytest.mark.parametrize("backend", ["paddle", "onednn"])
def test_a_loss_that_is_not_finite_teaches_nothing(backend):
    model, chosen = ready(backend)
    step = TrainingStep(model, paddle.optimizer.Momentum(0.01, 0.9, parameters=model.parameters()), chosen)
    (data,) = batches((4,))
    before = {name: p.numpy().copy() for name, p in model.named_parameters() if not p.stop_gradient}
    data.labels[0, 0] = np.nan  # Paddle's ReLU turns a NaN pixel into 0
    with pytest.raises(NonFiniteLoss):
        step(data.images, data.labels)
    assert all((p.numpy() == before[name]).all() for name, p in model.named_parameters() if name in before)


def test_bf16_on_the_engine_is_near_float64():
    model, chosen = ready("onednn", precision="bf16")
    (data,) = batches((8,))
    expected = in_float64(model, data.images)
    # bf16 holds 8 bits; the engine's own tests say how near it has to be.
    np.testing.assert_allclose(score(model, [data], chosen).logits, expected, atol=0.1 * expected.std())


def test_what_cannot_be_had_is_refused_with_the_reason():
    model = build_model(18)
    for options, said in (
        ({"precision": "fp16"}, "needs a GPU"),
        ({"precision": "bf16", "backend": "paddle"}, "--backend onednn"),
    ):
        with pytest.raises(UsageError, match=said):
            choose_backend(model, "cpu", **options)
    with pytest.raises(UsageError, match="needs the CPU"):
        choose_backend(model, "gpu:0", backend="onednn")


def test_the_engine_is_never_used_on_a_gpu():
    model = build_model(18)
    assert choose_backend(model, "gpu:0").engine is None
    assert "forward" not in model.__dict__


def test_auto_takes_the_engine_on_a_cpu_that_has_it(capsys):
    model = build_model(18)
    try:
        has_it = open_library().has_avx2
    except LibraryUnavailable:
        has_it = False
    chosen = choose_backend(model, "cpu")
    assert chosen.name == ("onednn" if has_it else "paddle")
    assert bool(capsys.readouterr().err) == (not has_it)


def test_precision_auto_is_bf16_where_the_processor_has_it(monkeypatch, capsys):
    model = build_model(18)
    assert choose_backend(model, "cpu", precision="auto", backend="paddle").precision == "fp32"
    for lacks, expected in ((set(), "bf16"), ({"bf16"}, "fp32"), ({"bf16", "fp32"}, "fp32")):
        monkeypatch.setattr(
            "pmtrain.models.backends.choose.unavailable_reason",
            lambda _, kind, lacks=lacks: "a test" if kind in lacks else None,
        )
        monkeypatch.setattr("pmtrain.models.backends.choose.attach", lambda _, kind, required: kind)
        chosen = choose_backend(model, "cpu", precision="auto")
        assert (chosen.precision, chosen.engine) == (expected, None if "fp32" in lacks else expected)
        why = ", since a test" if lacks else ""
        assert f"computing in {expected}{why}\n" in capsys.readouterr().err


def test_auto_falls_back_to_paddle_with_one_line_that_names_the_reason(monkeypatch, capsys):
    model = build_model(18)
    monkeypatch.setattr("pmtrain.models.backends.choose.unavailable_reason", lambda *_: "this is a test")
    assert choose_backend(model, "cpu").name == "paddle"
    assert capsys.readouterr().err == "computing with Paddle's own kernels, since this is a test\n"
    with pytest.raises(UsageError, match="this is a test"):
        choose_backend(model, "cpu", backend="onednn")


def test_a_batch_in_parts_is_learned_from_as_a_whole_where_batch_norms_are_fixed():
    """5 images in parts of 2, 2 and 1 against one pass."""
    after = []
    for parts in (1, 3):
        paddle.seed(0)
        model = build_model(18)
        for layer in model.sublayers():
            if isinstance(layer, paddle.nn.BatchNorm2D):
                layer._use_global_stats = True
        optimizer = paddle.optimizer.Momentum(0.01, 0.9, parameters=model.parameters())
        step = TrainingStep(model, optimizer, choose_backend(model, "cpu", "paddle"), (1.0, 3.0), parts=parts)
        (batch,) = batches((5,))
        loss = step(batch.images, batch.labels)
        assert step.images == 5
        after.append((loss, {name: tensor.numpy() for name, tensor in model.named_parameters()}))
    assert after[0][0] == pytest.approx(after[1][0], rel=1e-6)
    for name, weights in after[0][1].items():
        np.testing.assert_allclose(after[1][1][name], weights, atol=1e-6, err_msg=name)
