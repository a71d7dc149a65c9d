"""The average of weights, against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pmtrain.system.errors import PmtrainError
from pmtrain.system.framework import paddle
from pmtrain.training.techniques.ema import Average, without_average


def of_one_number(value: float):
    layer = paddle.nn.Linear(1, 1, bias_attr=False)
    layer.weight.set_value(np.full((1, 1), value, np.float32))
    return layer


def test_the_average_follows_its_formula():
    layer = of_one_number(0.0)
    average = Average(layer, 0.4)
    found = []
    for step, value in enumerate((1.0, 2.0, 4.0, 8.0, 16.0, 32.0), 1):
        layer.weight.set_value(np.full((1, 1), value, np.float32))
        average.update(step)
        found.append(average.arrays()["weight"].item())
    # decays 2/11, 3/12, 4/13, 5/14, 0.4 (for 6/15), 0.4 (for 7/16)
    expected, mean = [], 0.0
    for decay, value in zip((2 / 11, 3 / 12, 4 / 13, 5 / 14, 0.4, 0.4), (1, 2, 4, 8, 16, 32), strict=True):
        mean = decay * mean + (1 - decay) * value
        expected.append(mean)
    assert found == pytest.approx(expected, rel=1e-6)


def test_the_average_has_the_bits_of_paddles_operations():
    layer = paddle.nn.Linear(300, 300)  # more values than are taken at a time
    average, expected = Average(layer, 0.98), layer.weight.clone().detach()
    for step in range(1, 4):
        layer.weight.set_value(layer.weight * 1.3 + 0.01)
        average.update(step)
        decay = (step + 1) / (step + 10)
        expected = expected.scale(decay) + layer.weight.detach() * (1 - decay)
    assert average.arrays()["weight"].tobytes() == expected.numpy().tobytes()
    assert average.arrays()["weight"].std() > 0.01


def test_batch_norm_statistics_are_averaged_too():
    layer = paddle.nn.BatchNorm2D(2)
    average = Average(layer, 0.5)
    layer._mean.set_value(np.array([11.0, 22.0], np.float32))
    average.update(1)  # the decay is 2/11
    np.testing.assert_allclose(average.arrays()["_mean"], [9.0, 18.0], rtol=1e-6)


def test_the_model_has_the_average_meanwhile_and_its_own_weights_after_an_error():
    layer = of_one_number(1 / 3)
    average = Average(layer, 0.5)
    layer.weight.set_value(np.full((1, 1), 0.7, np.float32))
    own = layer.weight.numpy()
    with pytest.raises(KeyError), average.in_model():
        assert layer.weight.numpy().item() == pytest.approx(1 / 3)
        raise KeyError
    assert layer.weight.numpy() == own


def test_what_is_saved_is_restored_to_the_bit():
    layer = of_one_number(1 / 3)
    average = Average(layer, 0.98)
    layer.weight.set_value(np.full((1, 1), 0.7, np.float32))
    average.update(1)
    saved = average.saved() | {"velocity": np.zeros(1)}
    other = Average(of_one_number(5.0), 0.98)
    other.restore(saved, Path("x"))
    assert other.arrays()["weight"].tobytes() == average.arrays()["weight"].tobytes()
    assert list(without_average(saved)) == ["velocity"]
    with pytest.raises(PmtrainError, match="weight are missing or have another shape"):
        other.restore({}, Path("x"))
