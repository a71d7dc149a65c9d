"""The overlay of a saliency map: visible, scaled by a high percentile, with a colour bar."""

from __future__ import annotations

import numpy as np
import pytest

from pmtrain.evaluation.saliency.overlay import (
    GAP,
    LONGEST_SIDE,
    NARROWEST,
    STRIP,
    colours,
    css_gradient,
    overlay,
    picture,
    scale_top,
)


def panels(height: int, width: int, heat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    shown = picture(np.full((height, width, 3), 120, np.uint8), heat, ("P(x) = 0.5", "Grad-CAM"), ("0", ">= 0.5"))
    middle = (shown.shape[1] - GAP) // 2
    return shown[STRIP:-STRIP, :middle], shown[STRIP:-STRIP, middle + GAP :]


@pytest.mark.parametrize("size", [(36, 40), (2000, 3000), (700, 700), (3000, 2), (2, 3000)], ids=str)
def test_pictures_of_any_size_can_be_read(size):
    plain, overlay = panels(*size, np.eye(3, dtype=np.float32))
    assert plain.shape == overlay.shape
    assert plain.shape[1] >= NARROWEST
    assert max(plain.shape[0], plain.shape[1]) <= LONGEST_SIDE[1]


def test_colour_is_where_the_map_is():
    heat = np.zeros((4, 4), np.float32)
    heat[0, 3] = 0.01
    plain, overlay = panels(512, 512, heat)
    changed = np.abs(overlay.astype(int) - plain).sum(2) > 30
    assert changed[:100, -100:].all()
    assert not changed[:, :256].any() and not changed[256:].any()


def test_a_map_of_zeros_has_no_colour():
    plain, overlay = panels(512, 512, np.zeros((4, 4), np.float32))
    np.testing.assert_array_equal(plain, overlay)  # a grey image in grey


def test_one_peak_leaves_the_rest_of_the_map_visible():
    """A value a hundred times the others takes the whole scale of a map that is scaled by its maximum."""
    heat = np.zeros((100, 100), np.float32)
    heat[:, :50], heat[50, 50] = 0.01, 1
    shown = overlay(np.full((100, 100, 3), 120, np.uint8), heat).astype(int)
    assert scale_top(heat) == np.float32(0.01)
    assert (np.ptp(shown[:, :40], axis=2) > 60).all()
    assert (np.ptp(shown[:, 60:], axis=2) == 0).all()


def test_without_evidence_a_coloured_image_turns_grey():
    image = np.full((64, 64, 3), (20, 60, 160), np.uint8)
    grey = 0.114 * 20 + 0.587 * 60 + 0.299 * 160  # ITU-R BT.601
    shown = overlay(image, np.zeros((2, 2), np.float32))
    np.testing.assert_allclose(shown, grey, atol=1)
    assert (image == (20, 60, 160)).all()


def test_the_colour_bar_shows_the_whole_scale():
    shown = picture(np.full((512, 512, 3), 120, np.uint8), np.ones((2, 2), np.float32), ("a", "b"), ("0", "1"))
    bar = shown[-STRIP // 2, shown.shape[1] // 2 :].reshape(-1, 3)
    for colour in colours(np.array([[0.0, 0.5, 1.0]]))[0]:
        assert np.abs(bar.astype(int) - colour).sum(1).min() <= 6
    assert css_gradient().count("rgb(") == 9
