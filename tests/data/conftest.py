"""Small images and data sets that the tests of the data layer share."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.reading import write


def picture(seed: int, width: int = 24, height: int = 16) -> np.ndarray:
    """A smooth picture of its own for every seed: uint8 (height, width, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return cv2.resize(coarse, (width, height))


@pytest.fixture
def make_image():
    """make_image(path, seed=0): writes a small image in the format of the suffix, its folders included."""

    def make(path: Path, seed: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(path.suffix, picture(seed))[1].tobytes())
        return path

    return make


@pytest.fixture
def touch():
    """touch(root, "a/1.jpg", ...): empty files, enough for what only lists."""

    def make(root: Path, *names: str) -> Path:
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return root

    return make


@pytest.fixture
def palm(tmp_path, touch) -> Path:
    """The challenge's layout, five images small."""
    touch(tmp_path, *(f"PALM-Training400/{name}.jpg" for name in ("P0001", "H0001", "N0001")))
    touch(tmp_path, *(f"PALM-Validation400/{name}.jpg" for name in ("V0001", "V0002")))
    write(tmp_path / "labels.csv", "ID,imgName,Label,Fovea_X,Fovea_Y\n1,V0001.jpg,0,1.5,2\n2,V0002.jpg,1,3,4\n")
    return tmp_path
