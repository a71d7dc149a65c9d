"""Initial weights: their spread, and what stays."""

from __future__ import annotations

import numpy as np
import pytest

from pmtrain.models import build_model
from pmtrain.system.framework import paddle
from pmtrain.training.techniques.initialisation import INITIALISATIONS


def drawn(name: str, seed: int) -> dict[str, np.ndarray]:
    paddle.seed(0)
    model = build_model(50)
    INITIALISATIONS[name](model, seed)
    return {key: tensor.numpy() for key, tensor in model.state_dict().items()}


def test_he_draws_convolutions_by_fan_out_and_leaves_the_rest():
    plain, he = drawn("notes", 0), drawn("he", 0)
    for name, array in he.items():
        if array.ndim == 4:
            out, _, height, width = array.shape
            expected = np.sqrt(2 / (out * height * width))  # torch.nn.init.kaiming_normal_(mode="fan_out")
            assert array.std() == pytest.approx(expected, rel=0.05)
            assert abs(array.mean()) < 0.05 * expected
        else:
            assert (array == plain[name]).all()
    again, other = drawn("he", 0), drawn("he", 1)
    name = "conv._conv.weight"
    assert (again[name] == he[name]).all()
    assert (other[name] != he[name]).any()
