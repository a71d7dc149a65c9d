"""Where a run stands, from a state.json that may be damaged."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pmtrain.system.errors import PmtrainError
from pmtrain.training.saving import RunState


def saved(state: dict) -> SimpleNamespace:
    return SimpleNamespace(state=state, checkpoint=SimpleNamespace(path=Path("run/last/epoch1/model.pdparams")))


def test_a_state_comes_back():
    state = {
        "epoch": 2,
        "batch": 3,
        "loss_sum": 0.5,
        "images": 8,
        "seconds": 1,
        "history": [{"epoch": 0}],
        "best": None,
    }
    assert RunState.of(saved(state)) == RunState(2, 3, 0.5, 8, 1.0, [{"epoch": 0}], None)


@pytest.mark.parametrize(
    ("state", "where"), [({"epoch": "two"}, "epoch"), ({"history": [3]}, "history.0"), ({"best": []}, "best")]
)
def test_a_state_of_other_types_is_refused(state, where):
    with pytest.raises(PmtrainError, match=rf"state\.json is not as pmtrain writes it: {where}: "):
        RunState.of(saved(state))
