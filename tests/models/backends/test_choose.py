"""Synchronised batch norm: its names, and where Paddle hasn't got it."""

from __future__ import annotations

import pytest

from pmtrain.models import build_model
from pmtrain.models.backends.choose import with_synchronised_norms
from pmtrain.system.errors import UsageError


def test_synchronised_norms_keep_every_name_and_value():
    """Converted only: Paddle computes them on GPUs alone."""
    model = build_model(18)
    before = {name: value.numpy() for name, value in model.state_dict().items()}
    changed = with_synchronised_norms(model, "gpu:0")
    norms = [type(layer).__name__ for layer in changed.sublayers() if "Norm" in type(layer).__name__]
    assert set(norms) == {"SyncBatchNorm"} and len(norms) == 20
    after = changed.state_dict()
    assert list(after) == list(before)
    assert all((after[name].numpy() == value).all() for name, value in before.items())
    changed.freeze(None)


def test_a_cpu_has_none():
    with pytest.raises(UsageError, match="GPUs alone"):
        with_synchronised_norms(build_model(18), "cpu")
