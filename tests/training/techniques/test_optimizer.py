"""The optimizer's steps, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import pmtrain.training.techniques.optimizer as module
from pmtrain.config import TrainConfig
from pmtrain.models import build_model
from pmtrain.system.errors import UsageError
from pmtrain.system.framework import paddle
from pmtrain.training.techniques.optimizer import make_optimizer

WEIGHT = np.array([[0.5, -2.0], [1.5, 0.25]], np.float32)
BIAS = np.array([1.0, -0.5], np.float32)
GRADIENTS = [(np.float32(3 * WEIGHT**2 + k), np.float32(BIAS - k)) for k in (0, 1, 2)]


def stepped(**options) -> tuple[np.ndarray, np.ndarray]:
    """A layer's weight (2, 2) and bias (2,) after three steps by GRADIENTS."""
    with paddle.utils.unique_name.guard():
        layer = paddle.nn.Linear(2, 2)
        layer.weight.set_value(WEIGHT)
        layer.bias.set_value(BIAS)
        optimizer = make_optimizer(layer, TrainConfig(lr=0.1, **options))
        for weight, bias in GRADIENTS:
            ((layer.weight * paddle.to_tensor(weight)).sum() + (layer.bias * paddle.to_tensor(bias)).sum()).backward()
            optimizer.step()
            optimizer.clear_grad()
    return layer.weight.numpy(), layer.bias.numpy()


def by_hand(nesterov=False, momentum=0.9, decay=(0.0, 0.0), clip=None) -> list[np.ndarray]:
    """PyTorch's SGD: g = gradient + decay * w, v = momentum * v + g, w = w - lr * (g + momentum * v or v)."""
    values = [WEIGHT.astype(float), BIAS.astype(float)]
    velocities = [np.zeros((2, 2)), np.zeros(2)]
    for gradients in GRADIENTS:
        norm = np.sqrt(sum((gradient.astype(float) ** 2).sum() for gradient in gradients))
        scale = 1.0 if clip is None else min(1.0, clip / norm)
        for k in (0, 1):
            g = gradients[k] * scale + decay[k] * values[k]
            velocities[k] = momentum * velocities[k] + g
            values[k] = values[k] - 0.1 * (g + momentum * velocities[k] if nesterov else velocities[k])
    return values


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"weight_decay": 0.1}, {"decay": (0.1, 0.1)}),
        ({"weight_decay": 0.1, "no_decay_norms": True}, {"decay": (0.1, 0.0)}),
        ({"weight_decay": 0.0, "nesterov": True, "momentum": 0.8}, {"nesterov": True, "momentum": 0.8}),
        ({"weight_decay": 0.1, "nesterov": True}, {"nesterov": True, "decay": (0.1, 0.1)}),
        ({"weight_decay": 0.1, "clip_norm": 5.0}, {"clip": 5.0, "decay": (0.1, 0.1)}),
        ({"weight_decay": 0.0, "clip_norm": 1e6}, {}),
    ],
)
def test_three_steps_are_those_of_pytorchs_sgd(options, expected):
    for found, value in zip(stepped(**options), by_hand(**expected), strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-6)


def test_nesterov_needs_momentum():
    with pytest.raises(UsageError, match="--nesterov with --momentum 0"):
        make_optimizer(paddle.nn.Linear(2, 2), TrainConfig(nesterov=True, momentum=0.0))


@pytest.mark.parametrize(
    "options",
    [
        {"weight_decay": 0.01},
        {"weight_decay": 0.01, "nesterov": True, "no_decay_norms": True},
        {"weight_decay": 0.0, "clip_norm": 0.5, "body_lr": 0.003},
    ],
)
def test_weights_and_velocities_are_paddles_to_the_bit(options, monkeypatch):
    def stepped_model(kind: type) -> list[np.ndarray]:
        with paddle.utils.unique_name.guard(), monkeypatch.context() as patch:
            patch.setattr(module, "Momentum", kind)
            paddle.seed(0)
            model = build_model(18)
            optimizer = make_optimizer(model, TrainConfig(lr=0.01, **options))
            rng = np.random.default_rng(0)
            for _ in range(3):
                for parameter in model.parameters():
                    if not parameter.stop_gradient:
                        parameter.grad = paddle.to_tensor(rng.standard_normal(parameter.shape, np.float32))
                optimizer.step()
                optimizer.clear_grad(set_to_zero=False)
        state = optimizer.state_dict()
        state.pop("LR_Scheduler", None)
        names[kind] = list(state)
        return [tensor.numpy() for tensor in (*model.state_dict().values(), *state.values())]

    names: dict[type, list[str]] = {}
    own, paddles = stepped_model(module.Momentum), stepped_model(paddle.optimizer.Momentum)
    assert names[module.Momentum] == names[paddle.optimizer.Momentum]
    assert len(names[module.Momentum]) == 62
    assert all(np.array_equal(a, b) for a, b in zip(own, paddles, strict=True))
