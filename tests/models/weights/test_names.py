"""Names of parameters, against the networks of paddle.vision, which has torchvision's names but for batch norms."""

from __future__ import annotations

import pytest

from pmtrain.models import DEPTHS, build_model
from pmtrain.models.weights.names import LINEAR_WEIGHT, foreign_names
from pmtrain.system.framework import paddle


@pytest.mark.parametrize("layers", [18, 50])
def test_every_parameter_has_a_name_and_fits_paddle_vision(layers):
    ours = build_model(layers).state_dict()
    theirs = getattr(paddle.vision.models, f"resnet{layers}")(num_classes=1).state_dict()
    names = foreign_names(layers, "paddle.vision")
    assert set(names) == set(ours)
    assert set(names.values()) == set(theirs)
    assert {tuple(ours[name].shape) == tuple(theirs[other].shape) for name, other in names.items()} == {True}


def test_pytorchs_names_of_batch_norms():
    names = foreign_names(34)
    assert names["conv._batch_norm._variance"] == "bn1.running_var"
    assert names["bb_3_2.conv1._batch_norm._mean"] == "layer4.2.bn2.running_mean"
    assert names["bb_1_0.short._conv.weight"] == "layer2.0.downsample.0.weight"
    assert names[LINEAR_WEIGHT] == "fc.weight"
    assert "bb_0_0.short._conv.weight" not in names


@pytest.mark.parametrize("layers", DEPTHS)
def test_no_name_occurs_twice(layers):
    names = foreign_names(layers)
    assert len(set(names.values())) == len(names)
