"""Batch norm statistics of the images to judge: against NumPy, and by what they make of a network's output."""

from __future__ import annotations

import numpy as np
import pytest

from pmtrain.models import build_model
from pmtrain.models.adapt_bn import BATCH, FEWEST, adapt, estimate, even_batches
from pmtrain.models.backends.choose import Backend, choose_backend
from pmtrain.system.errors import UsageError
from pmtrain.system.framework import paddle

PADDLE = Backend("cpu", "fp32", None)


@pytest.fixture
def network():
    paddle.seed(0)
    model = build_model(18)
    model.eval()
    return model


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(1, 2, (FEWEST, 3, 32, 32)).astype(np.float32)


def logits(model, images: np.ndarray) -> np.ndarray:
    with paddle.no_grad():
        return model(paddle.to_tensor(images)).numpy()


def test_statistics_are_those_of_all_values(network, images):
    assert adapt(network, PADDLE, np.split(images, [14, 40])) == FEWEST
    with paddle.no_grad():
        values = network.conv._conv(paddle.to_tensor(images)).numpy().astype(float)
    norm = network.conv._batch_norm
    np.testing.assert_allclose(norm._mean.numpy(), values.mean(axis=(0, 2, 3)), atol=1e-5)
    np.testing.assert_allclose(norm._variance.numpy(), values.var(axis=(0, 2, 3)), rtol=1e-4)
    assert not network.training and norm._momentum == 0.9


def test_in_one_batch_the_network_then_says_what_it_says_in_training(network, images):
    adapt(network, PADDLE, [images])
    adapted = logits(network, images)
    network.train()
    np.testing.assert_allclose(adapted, logits(network, images), atol=1e-4)


@pytest.mark.parametrize("backend", ["auto", "paddle"])
def test_a_network_adapted_to_doubled_values_says_the_same_of_them(network, images, backend):
    """Its convolutions have no biases, so that doubled values are what its batch norms take out."""
    chosen = choose_backend(network, "cpu", backend)
    scores = {}
    for factor in (1, 2):
        adapt(network, chosen, np.split(factor * images, 2))
        scores[factor] = logits(network, factor * images)
    np.testing.assert_allclose(scores[1], scores[2], atol=2e-3)
    assert np.abs(logits(network, images) - scores[1]).max() > 0.01


def test_too_few_images_are_refused_and_leave_the_network_as_it_was(network, images):
    before = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    with pytest.raises(UsageError, match=f"{FEWEST - 1} images, and it takes {FEWEST}"):
        adapt(network, PADDLE, [images[1:]])
    for name, tensor in network.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), before[name])


@pytest.mark.parametrize(("images", "size"), [(50, 10), (59, 10), (101, 20), (400, 64), (10, 10)])
def test_batches_are_of_nearly_one_size(images, size):
    chosen = even_batches(images, size)
    last = images - chosen * (-(-images // chosen) - 1)
    assert chosen >= min(images, max(BATCH, size)) and last >= 0.6 * chosen


def statistics(model) -> dict[str, np.ndarray]:
    return {
        name: tensor.numpy() for name, tensor in model.state_dict().items() if name.endswith(("_mean", "_variance"))
    }


def test_processes_estimate_together_what_one_does(network, images):
    """The stem's statistics don't depend on how images are batched; one process has 10 images, one none, one 40."""
    estimate(network, PADDLE, [images])
    alone = statistics(network.conv)
    shares = []

    class Noting:
        def gathered(self, value):
            shares.append(value)
            return [value]

    class Joined:
        def gathered(self, value):
            return [*shares, value]

    estimate(network, PADDLE, [images[:10]], Noting())
    estimate(network, PADDLE, [], Noting())
    assert estimate(network, PADDLE, [images[10:], images[:0]], Joined()) == FEWEST
    for name, expected in alone.items():
        np.testing.assert_allclose(statistics(network.conv)[name], expected, atol=1e-5, rtol=1e-4)


def test_frozen_batch_norms_keep_their_statistics(network, images):
    before = statistics(network)
    network.freeze(2)
    estimate(network, PADDLE, [images])
    changed = {name for name, array in statistics(network).items() if not np.array_equal(array, before[name])}
    assert changed == {name for name in before if name.startswith(("bb_2", "bb_3"))}
    network.freeze(4)
    assert estimate(network, PADDLE, iter(())) == 0
