"""Quality of fundus photographs: on drawn (SYNTHETIC) eyes and copies of them that were made worse."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pmtrain.data.images.quality import fundus_quality, looks_like_fundus


def eye(seed: int = 0, side: int = 300) -> np.ndarray:
    """A red disc with vessels and grain on black: uint8 (side, side, 3), BGR."""
    rng = np.random.default_rng(seed)
    image = np.empty((side, side, 3), np.float32)
    image[:] = (40, 80, 150)
    for _ in range(40):
        ends = rng.integers(0, side, (2, 2))
        cv2.line(image, tuple(map(int, ends[0])), tuple(map(int, ends[1])), (20, 35, 95), int(rng.integers(1, 5)))
    image += rng.normal(0, 6, image.shape)
    y, x = np.mgrid[:side, :side]
    image[np.hypot(x - side / 2, y - side / 2) > 0.46 * side] = 2
    return np.clip(image, 0, 255).astype(np.uint8)


def lit(factor: float) -> np.ndarray:
    return np.clip(eye() * factor, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("image", [eye(), eye(1, 128), eye(2, 1000), lit(0.7), lit(1.4)], ids=range(5))
def test_a_good_eye_is_good(image):
    assert fundus_quality(image) == (True, "")
    assert fundus_quality(image).word == "good"
    assert looks_like_fundus(image)


spot = np.zeros((200, 200, 3), np.uint8)
cv2.circle(spot, (60, 60), 20, (40, 90, 160), -1)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((90, 120, 3), np.uint8), "blank"),
        (np.full((90, 120, 3), 255, np.uint8), "blank"),
        (spot, "no field of view"),
        (lit(0.15), "underexposed"),
        (lit(2.5), "overexposed"),
        *((cv2.GaussianBlur(eye(), (0, 0), sigma), "out of focus, or a tiny picture") for sigma in (6, 10)),
        (cv2.resize(eye(), (32, 32), interpolation=cv2.INTER_AREA), "out of focus, or a tiny picture"),
    ],
    ids=range(8),
)
def test_what_is_poor_and_why(image, reason):
    before = image.copy()
    quality = fundus_quality(image)
    assert (quality.word, quality.reason) == ("poor", reason)
    assert (image == before).all()


def test_other_pictures_do_not_look_like_fundus():
    grey = np.repeat(eye()[..., 2:], 3, axis=2)
    bright = 255 - eye()
    for image in (grey, bright, eye()[..., ::-1], eye()[100:200, 100:200]):
        assert not looks_like_fundus(image)
