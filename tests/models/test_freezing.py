"""Frozen stages, on Paddle's kernels and on the engine: what stays, what learns, and the same gradients."""

from __future__ import annotations

import numpy as np
import pytest

from pmtrain.models import build_model
from pmtrain.models.backends.onednn import attach, unavailable_reason
from pmtrain.system.framework import paddle


def network(layers: int):
    paddle.seed(0)
    model = build_model(layers)
    rng = np.random.default_rng(0)
    for name, tensor in model.state_dict().items():
        if name.endswith("_mean"):
            tensor.set_value(rng.normal(0, 0.1, tensor.shape).astype("f4"))
        elif name.endswith("_variance"):
            tensor.set_value(rng.uniform(0.5, 2, tensor.shape).astype("f4"))
    for block in (block for stage in model.stages for block in stage):  # small branches: well conditioned
        norm = block.path[-1]._batch_norm
        norm.weight.set_value(paddle.full_like(norm.weight, 0.1))
    model.train()
    return model


def one_step(model) -> dict[str, np.ndarray]:
    """The gradients of a step, by name; those that there are."""
    images = paddle.to_tensor(np.random.default_rng(1).normal(size=(3, 3, 64, 64)).astype("f4"))
    paddle.nn.functional.softplus(model(images)).mean().backward()
    return {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}


def learning(name: str, stages: int) -> bool:
    return name.startswith("out.") or (name.startswith("bb_") and int(name[3]) >= stages)


@pytest.mark.parametrize("stages", [0, 2, 4])
@pytest.mark.parametrize("layers", [18, 50])
def test_what_is_frozen_stays_and_the_rest_learns_alike_on_both_backends(layers, stages):
    found = []
    for backend in ("paddle", "onednn"):
        model = network(layers)
        model.freeze(stages)
        if backend == "onednn":
            if reason := unavailable_reason(model):
                pytest.skip(reason)
            own = type(model).forward
            attach(model)
            type(model).forward = None  # the engine must not fall back to it
        before = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        try:
            gradients = one_step(model)
        finally:
            if backend == "onednn":
                type(model).forward = own
        after = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        trained = {name for name in before if learning(name, stages) and not name.endswith(("_mean", "_variance"))}
        assert set(gradients) == trained
        changed = {name for name in before if not np.array_equal(before[name], after[name])}
        assert changed == {n for n in before if learning(n, stages) and n.endswith(("_mean", "_variance"))}
        found.append((gradients, after))
    for name, gradient in found[0][0].items():
        # Where rounding opens or closes a ReLU, single numbers differ by more.
        assert np.linalg.norm(found[1][0][name] - gradient) <= 0.03 * np.linalg.norm(gradient) + 1e-6, name
    for name, value in found[0][1].items():
        np.testing.assert_allclose(found[1][1][name], value, rtol=1e-3, atol=1e-4, err_msg=name)


def test_a_frozen_stage_gives_what_it_gives_in_evaluation():
    model = network(18)
    model.freeze(4)
    images = paddle.to_tensor(np.random.default_rng(1).normal(size=(2, 3, 64, 64)).astype("f4"))
    with paddle.no_grad():
        training = model(images).numpy()
        model.eval()
        np.testing.assert_array_equal(model(images).numpy(), training)


def test_thawing_gives_back_the_plain_network():
    model, plain = network(18), network(18)
    model.freeze(4)
    model.freeze(None)
    expected, found = one_step(plain), one_step(model)
    assert expected.keys() == found.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
    assert model.bb_0_0.conv0._batch_norm._mean.stop_gradient  # a statistic isn't learned
