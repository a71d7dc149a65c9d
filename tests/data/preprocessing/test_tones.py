"""Brightness, contrast, colour and sharpness against arithmetic and SciPy."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from pmtrain.data.preprocessing.tones import Tones
from tests.data.preprocessing.drawn import Draws, inside, smooth

STILL = np.eye(2, 3)


def changed(tones: Tones, image: np.ndarray, *, draws=(0.0,) * 5, blur=0.0, strength=1.0) -> np.ndarray:
    return tones(image, STILL, Draws(uniform=[draws], random=[blur]), strength)


def test_tones_are_arithmetic():
    image = smooth()
    brighter = changed(Tones(brightness=1.5), image, draws=(1, 0, 0, 0, 0))
    np.testing.assert_allclose(brighter, np.minimum(image * 1.5, 255), atol=0.501)
    darker = changed(Tones(brightness=1.5), image, draws=(-1, 0, 0, 0, 0))
    np.testing.assert_allclose(darker, image / 1.5, atol=0.501)
    doubled = changed(Tones(brightness=1.5), image, draws=(1, 0, 0, 0, 0), strength=2)
    np.testing.assert_allclose(doubled, np.minimum(image * 1.5**2, 255), atol=0.501)
    tinted = changed(Tones(colour=1.2), image, draws=(0, 0, 1, 0, -1))
    np.testing.assert_allclose(tinted, np.minimum(image * np.array([1.2, 1, 1 / 1.2]), 255), atol=0.501)
    mean = image.mean((0, 1))
    for draw in (1, -1):
        curved = changed(Tones(contrast=1.3), image, draws=(0, draw, 0, 0, 0))
        np.testing.assert_allclose(curved, np.minimum(mean * (image / mean) ** 1.3**draw, 255), atol=0.501)
        assert (curved.std() > image.std()) == (draw > 0)


def test_a_blur_is_scipys():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    blurred = changed(Tones(blur=0.05), image, blur=0.5)
    expected = ndimage.gaussian_filter(image.astype(float), (1.6, 1.6, 0))
    assert np.abs(inside(blurred) - inside(expected)).max() <= 2


def test_black_stays_black():
    black = np.zeros((48, 48, 3), np.uint8)
    for seed in range(20):
        tones = Tones(brightness=1.5, contrast=1.5, colour=1.5, blur=0.05)
        assert not tones(black, STILL, np.random.default_rng(seed)).any()


def test_the_order_of_channels_does_not_matter():
    light = Tones(brightness=1.1, contrast=1.1)
    for seed in range(5):
        turned = light(smooth()[..., ::-1], STILL, np.random.default_rng(seed))
        np.testing.assert_array_equal(turned, light(smooth(), STILL, np.random.default_rng(seed))[..., ::-1])
    # Colours are drawn for each channel alike: the same gains the other way round are as likely.
    forth = changed(Tones(colour=1.2), smooth(), draws=(0, 0, 1, 0.2, -1))
    back = changed(Tones(colour=1.2), np.ascontiguousarray(smooth()[..., ::-1]), draws=(0, 0, -1, 0.2, 1))
    np.testing.assert_array_equal(forth, back[..., ::-1])
