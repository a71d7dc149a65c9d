"""The tables of changes: whole, growing, and each row a change of images of every kind."""

from __future__ import annotations

import inspect

import cv2
import numpy as np
import pytest

from pmtrain.evaluation.robustness import changes
from pmtrain.evaluation.robustness.changes import Scene
from pmtrain.evaluation.robustness.suite import SEVERITIES, SHIFTS

ROWS = [(suite, name) for suite, rows in SHIFTS.items() for name in rows]


def photographs() -> list[np.ndarray]:
    """A disc on black, a textured square, one of a single channel's values, and a tiny one."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.integers(0, 256, (90, 70, 3)).astype(np.float32), (0, 0), 3)
    texture = np.clip(120 + 6 * (texture - texture.mean()), 30, 220).astype(np.uint8)
    round_field = texture.copy()
    cv2.ellipse(round_field, (35, 45), (60, 60), 0, 0, 360, (0, 0, 0), 50)
    return [round_field, texture, np.repeat(texture[..., :1], 3, axis=2), texture[:9, :7].copy()]


@pytest.mark.parametrize(("suite", "name"), ROWS)
def test_a_row_grows_and_names_its_source(suite, name):
    row = SHIFTS[suite][name]
    assert len(row.amounts) == len(SEVERITIES) == 5
    assert (np.diff(row.amounts) > 0).all() or (np.diff(row.amounts) < 0).all()
    assert any(str(year) in row.source for year in range(1980, 2027))


@pytest.mark.parametrize(("suite", "name"), ROWS)
def test_a_row_changes_images_of_every_kind(suite, name):
    row = SHIFTS[suite][name]
    for image in photographs():
        for amount in row.amounts:
            changed = row.apply(Scene(image), amount, np.random.default_rng(1))
            assert changed.dtype == np.uint8 and changed.ndim == 3 and changed.shape[2] == 3 and changed.size
    coloured = photographs()[1]
    strongest = row.apply(Scene(coloured), row.amounts[-1], np.random.default_rng(1))
    assert strongest.shape != coloured.shape or np.abs(strongest.astype(int) - coloured).mean() > 2


def test_every_change_has_a_row():
    functions = {
        function
        for name, function in inspect.getmembers(changes, inspect.isfunction)
        if function.__module__ == changes.__name__ and not name.startswith("_")
    }
    assert functions == {row.apply for rows in SHIFTS.values() for row in rows.values()}
