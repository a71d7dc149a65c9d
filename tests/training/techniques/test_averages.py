"""The averages of weights, against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pmtrain.config import TrainConfig
from pmtrain.system.errors import PmtrainError, UsageError
from pmtrain.system.framework import paddle
from pmtrain.training.techniques.averages import Ema, Swa, average_of, without_average


def of_one_number(value: float):
    layer = paddle.nn.Linear(1, 1, bias_attr=False)
    layer.weight.set_value(np.full((1, 1), value, np.float32))
    return layer


def test_the_average_follows_its_formula():
    layer = of_one_number(0.0)
    average = Ema(layer, 0.4)
    found = []
    for step, value in enumerate((1.0, 2.0, 4.0, 8.0, 16.0, 32.0), 1):
        layer.weight.set_value(np.full((1, 1), value, np.float32))
        average.after_step(step)
        found.append(average.arrays()["weight"].item())
    # decays 2/11, 3/12, 4/13, 5/14, 0.4 (for 6/15), 0.4 (for 7/16)
    expected, mean = [], 0.0
    for decay, value in zip((2 / 11, 3 / 12, 4 / 13, 5 / 14, 0.4, 0.4), (1, 2, 4, 8, 16, 32), strict=True):
        mean = decay * mean + (1 - decay) * value
        expected.append(mean)
    assert found == pytest.approx(expected, rel=1e-6)


def test_the_average_has_the_bits_of_paddles_operations():
    layer = paddle.nn.Linear(300, 300)  # more values than are taken at a time
    average, expected = Ema(layer, 0.98), layer.weight.clone().detach()
    for step in range(1, 4):
        layer.weight.set_value(layer.weight * 1.3 + 0.01)
        average.after_step(step)
        decay = (step + 1) / (step + 10)
        expected = expected.scale(decay) + layer.weight.detach() * (1 - decay)
    assert average.arrays()["weight"].tobytes() == expected.numpy().tobytes()
    assert average.arrays()["weight"].std() > 0.01


def test_batch_norm_statistics_are_averaged_too():
    layer = paddle.nn.BatchNorm2D(2)
    average = Ema(layer, 0.5)
    layer._mean.set_value(np.array([11.0, 22.0], np.float32))
    average.after_step(1)  # the decay is 2/11
    np.testing.assert_allclose(average.arrays()["_mean"], [9.0, 18.0], rtol=1e-6)


def test_the_model_has_the_average_meanwhile_and_its_own_weights_after_an_error():
    layer = of_one_number(1 / 3)
    average = Ema(layer, 0.5)
    layer.weight.set_value(np.full((1, 1), 0.7, np.float32))
    own = layer.weight.numpy()
    with pytest.raises(KeyError), average.in_model():
        assert layer.weight.numpy().item() == pytest.approx(1 / 3)
        raise KeyError
    assert layer.weight.numpy() == own


def test_what_is_saved_is_restored_to_the_bit():
    layer = of_one_number(1 / 3)
    average = Ema(layer, 0.98)
    layer.weight.set_value(np.full((1, 1), 0.7, np.float32))
    average.after_step(1)
    saved = average.saved() | {"velocity": np.zeros(1)}
    other = Ema(of_one_number(5.0), 0.98)
    other.restore(saved, Path("x"))
    assert other.arrays()["weight"].tobytes() == average.arrays()["weight"].tobytes()
    assert list(without_average(saved)) == ["velocity"]
    with pytest.raises(PmtrainError, match="weight are missing or have another shape"):
        other.restore({}, Path("x"))


def test_the_mean_over_epochs_takes_each_epoch_once():
    layer = of_one_number(100.0)
    average = Swa(layer, first=2, most=3)
    found = []
    for epoch, value in enumerate((50.0, 20.0, 1.0, 2.0, 6.0)):
        layer.weight.set_value(np.full((1, 1), value, np.float32))
        assert average.after_epoch(epoch) == (epoch >= 2)
        assert average.after_epoch(epoch) == (epoch >= 2)  # as after a stop in the validation
        found.append([array.item() for array in average.arrays().values()])
    assert found == [[], [], [1.0], [1.5], [3.0]]
    with average.in_model():
        assert layer.weight.numpy() == 3.0
    assert layer.weight.numpy() == 6.0


def test_before_its_first_epoch_the_mean_leaves_the_model_alone_and_has_no_weights_to_save():
    layer = of_one_number(2.0)
    average = Swa(layer, first=1, most=1)
    average.after_epoch(0)
    with average.in_model():
        assert layer.weight.numpy() == 2.0
    assert average.arrays() == {}
    other = Swa(of_one_number(5.0), first=1, most=1)
    other.restore(average.saved(), Path("x"))
    assert other.arrays() == {}


def test_a_restored_mean_goes_on_and_keeps_the_statistics_it_was_given():
    layer = paddle.nn.BatchNorm2D(1)
    average = Swa(layer, first=0, most=2)
    layer._mean.set_value(np.array([4.0], np.float32))
    average.after_epoch(0)
    layer._mean.set_value(np.array([7.0], np.float32))
    average.keep_statistics()
    other = Swa(paddle.nn.BatchNorm2D(1), first=0, most=2)
    other.restore(average.saved(), Path("x"))
    assert other.arrays()["_mean"] == [7.0]
    other._weights["weight"].set_value(np.array([3.0], np.float32))
    other.after_epoch(1)
    assert other.arrays()["weight"] == [2.0]  # of 1 and 3
    assert list(without_average(average.saved() | {"velocity": np.zeros(1)})) == ["velocity"]


@pytest.mark.parametrize("epochs", [None, [np.nan], [-1.0], [0.5], [3.0], [1e30], ["1"], [1.0, 1.0]])
def test_a_damaged_number_of_epochs_is_refused(epochs):
    average = Swa(of_one_number(1.0), first=0, most=2)
    average.after_epoch(0)
    state = average.saved() | ({} if epochs is None else {"swa.epochs": np.array(epochs)})
    if epochs is None:
        del state["swa.epochs"]
    with pytest.raises(PmtrainError, match=r"x: swa\.epochs, .* is missing or not in 0 to 2"):
        average.restore(state, Path("x"))


@pytest.mark.parametrize(
    ("options", "kind"), [({}, None), ({"ema": 0.9}, Ema), ({"ema": 0.0, "swa_epochs": 5}, Swa), ({"ema": None}, None)]
)
def test_the_options_name_the_average(options, kind):
    average = average_of(of_one_number(1.0), TrainConfig(**options))
    assert type(average) is (kind or type(None))


def test_the_mean_takes_no_epoch_in_which_only_the_classifier_is_trained():
    with pytest.raises(UsageError, match="--swa-epochs 3 of 5 with --warmup-head 3"):
        average_of(of_one_number(1.0), TrainConfig(swa_epochs=3, warmup_head=3))
    average_of(of_one_number(1.0), TrainConfig(swa_epochs=2, warmup_head=3))
