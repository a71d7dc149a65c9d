"""Plain statistics of images whose answers are known beforehand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pmtrain.evaluation.domain.image_statistics import STATISTICS, image_statistics


def found(image: np.ndarray) -> dict[str, float]:
    return dict(zip(STATISTICS, image_statistics(image), strict=True))


def disc(side: int = 200, radius: int = 90) -> np.ndarray:
    """A textured orange disc on black, BGR."""
    rng = np.random.default_rng(0)
    texture = cv2.GaussianBlur(rng.integers(0, 120, (side, side), np.uint8), (0, 0), 2)
    image = np.stack([texture // 4 + 20, texture // 2 + 60, texture // 2 + 130], axis=2).astype(np.uint8)
    mask = np.zeros((side, side), np.uint8)
    cv2.circle(mask, (side // 2, side // 2), radius, 1, -1)
    return image * mask[..., None]


def test_one_colour_has_its_colour_and_nothing_else():
    values = found(np.full((50, 80, 3), (51, 102, 204), np.uint8))  # blue 0.2, green 0.4, red 0.8
    assert values["brightness"] == pytest.approx(1.4 / 3, abs=1e-6)
    assert (values["red"], values["blue"]) == pytest.approx((0.4, -0.2), abs=1e-6)
    for name in ("red contrast", "green contrast", "blue contrast", "red-green variation", "direction"):
        assert values[name] == pytest.approx(0, abs=1e-6)
    for name in ("finest detail", "coarsest detail"):
        assert values[name] == pytest.approx(np.log(0.002), abs=1e-4)
    assert values["flat areas"] == 1


def test_a_wider_black_frame_changes_hardly_anything():
    image = disc()
    framed = cv2.copyMakeBorder(image, 20, 20, 60, 60, cv2.BORDER_CONSTANT)
    np.testing.assert_allclose(image_statistics(framed), image_statistics(image), atol=0.12)
    assert found(image)["corners"] < 0.05 < found(image)["centre"]


def test_blur_takes_the_finest_detail_first():
    sharp, blurred = found(disc()), found(cv2.GaussianBlur(disc(), (0, 0), 2))
    lost = {name: sharp[name] - blurred[name] for name in STATISTICS if name.endswith("detail")}
    assert lost["finest detail"] > lost["coarse detail"] > abs(lost["coarsest detail"])


@pytest.mark.parametrize("turned", [False, True])
def test_direction_tells_stripes_apart(turned):
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::8] = stripes[:, 1::8] = 200
    image = stripes.transpose(1, 0, 2) if turned else stripes
    assert (found(np.ascontiguousarray(image))["direction"] < -1) == turned


def test_colour_is_the_median_over_lit_pixels_so_that_a_mark_does_not_count():
    rng = np.random.default_rng(5)
    image = rng.integers(60, 256, (128, 128, 3), np.uint8).repeat(2, axis=0).repeat(2, axis=1)[:128, :128]
    small = image[::2, ::2].astype(int)
    assert found(image)["colour"] == pytest.approx(np.median(np.ptp(small, axis=2)) / 255, abs=1 / 255)
    grey = np.repeat(rng.integers(60, 200, (128, 128, 1), np.uint8), 3, axis=2)
    grey[10:30, 10:80] = (20, 30, 220)
    assert found(grey)["colour"] == 0
    half_dark = image.copy()
    half_dark[:100] = 0
    assert found(half_dark)["colour"] > 0.1


def test_grey_has_channels_that_are_alike_and_noise_has_not():
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.integers(0, 256, (64, 64, 1), np.uint8), 3, axis=2)
    assert found(grey)["red and green alike"] > 0.99
    assert abs(found(rng.integers(0, 256, (64, 64, 3), np.uint8))["red and green alike"]) < 0.1


def test_words_grow_with_the_distance():
    row = STATISTICS["brightness"]
    assert [row.words(z) for z in (-7, -4, 4, 7)] == ["underexposed", "darker", "brighter", "overexposed"]
    assert STATISTICS["red"].words(9) == "more red"
