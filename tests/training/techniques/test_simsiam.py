"""SimSiam's loss against NumPy, and what has no gradient."""

from __future__ import annotations

import numpy as np
import pytest

from pmtrain.models import build_model
from pmtrain.models.backends.choose import Backend, choose_backend
from pmtrain.system.framework import paddle
from pmtrain.training.techniques.simsiam import SimSiam

PADDLE = Backend("cpu", "fp32", None)


@pytest.fixture
def model() -> SimSiam:
    paddle.seed(0)
    made = SimSiam(build_model(18))
    made.train()
    return made


@pytest.fixture(scope="module")
def images():
    return paddle.to_tensor(np.random.default_rng(0).normal(0, 1, (8, 3, 32, 32)).astype(np.float32))


def normed(x: np.ndarray) -> np.ndarray:
    """A batch norm as it begins: scale 1, shift 0."""
    return (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)


def test_loss_and_spread_by_hand(model, images):
    loss, spread = model(images, PADDLE)
    one, two, hidden, last = (
        layer.weight.numpy().astype(float) for layer in model.sublayers() if isinstance(layer, paddle.nn.Linear)
    )
    with paddle.no_grad():
        features = model.body(images).numpy().astype(float)
    z = normed(np.maximum(normed(features @ one), 0) @ two)
    p = np.maximum(normed(z @ hidden), 0) @ last + model.prediction[3].bias.numpy()
    z, p = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (z, p))
    cosines = [p[place] @ z[(place + 4) % 8] for place in range(8)]
    assert loss.item() == pytest.approx(-np.mean(cosines), abs=1e-4)
    assert spread.item() == pytest.approx(z.std(axis=0).mean() * 512**0.5, abs=1e-4)


def test_versions_alike_and_a_perfect_prediction_give_the_least_loss(model, images):
    model.prediction = paddle.nn.Identity()
    same = paddle.concat([images[:4], images[:4]])
    assert model(same, PADDLE)[0].item() == pytest.approx(-1, abs=1e-5)


def test_no_gradient_flows_through_what_is_to_be_predicted(model, images):
    last = model.prediction[3]
    last.weight.set_value(np.zeros(last.weight.shape, np.float32))  # the prediction no longer depends on the images
    last.bias.set_value(np.ones(last.bias.shape, np.float32))
    model(images, PADDLE)[0].backward()
    assert not np.any(model.body.conv._conv.weight.grad.numpy()) and np.any(last.bias.grad.numpy())


def test_the_engine_gives_the_same_loss_and_gradients(model, images):
    found = []
    for backend in (PADDLE, choose_backend(model.body, "cpu")):
        loss, _ = model(images, backend)
        loss.backward()
        stem = model.body.conv._conv.weight
        found.append((loss.item(), stem.grad.numpy().copy()))
        stem.clear_grad()
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-4)
    assert np.linalg.norm(found[0][1] - found[1][1]) < 0.02 * np.linalg.norm(found[0][1])
