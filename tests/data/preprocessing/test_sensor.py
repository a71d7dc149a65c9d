"""Blur, noise and JPEG against SciPy and Pillow, by draws that are chosen."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from pmtrain.data.preprocessing.sensor import Sensor
from tests.data.preprocessing.drawn import Draws, smooth

EACH = Sensor(blur=0.2, noise=0.4, jpeg=0.3)


def draws(chances: list[float], amounts: list[float]) -> Draws:
    return Draws(random=[chances, amounts])


class Grains(Draws):
    def standard_normal(self, size, dtype):
        return super().standard_normal(size).astype(dtype)


def test_the_defaults_change_and_draw_nothing():
    image = smooth()
    assert Sensor()(image, Draws()) is image


@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_blur_is_a_gaussian(sigma):
    changed = EACH(smooth(), draws([0.19, 0.41, 0.31], [sigma, 0, 0]))
    expected = gaussian_filter(smooth().astype(float), (0.015 * 64 * sigma,) * 2 + (0,), mode="mirror")
    assert changed.dtype == np.float32
    np.testing.assert_allclose(changed, expected, atol=0.5)


def test_noise_is_added_and_clipped():
    image = np.full((8, 8, 3), 128, np.uint8)
    image[0], image[1] = 0, 255
    normal = np.random.default_rng(0).standard_normal((8, 8, 3))
    grains = Grains(random=[[0.21, 0.39, 0.31], [0, 0.5, 0]], normal=[normal])
    expected = np.clip(image + 255 * 0.1 * 0.5 * normal, 0, 255)
    np.testing.assert_allclose(EACH(image, grains), expected, atol=1e-3)


@pytest.mark.parametrize(("amount", "quality"), [(0.0, 10), (1.0, 60)])
def test_jpeg_is_that_of_a_larger_file(amount, quality):
    """Pillow's file of the doubled image; its bilinear filter and chroma upsampling differ a little from OpenCV's."""
    image = smooth()
    file = io.BytesIO()
    Image.fromarray(image[..., ::-1]).resize((128, 128), Image.Resampling.BILINEAR).save(file, "jpeg", quality=quality)
    read = np.asarray(Image.open(file))[..., ::-1].astype(float)
    expected = read.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    changed = EACH(image, draws([0.21, 0.41, 0.29], [0, 0, amount]))
    error = np.abs(changed - expected).mean()
    assert error < 0.5 * np.abs(changed - image).mean() if quality == 10 else error < 1


def test_strength_multiplies_the_probabilities():
    for strength, changes in ((1.0, False), (1.1, True)):
        changed = EACH(smooth(), draws([0.21, 0.9, 0.9], [1, 0, 0]), strength)
        assert (np.abs(changed - smooth()).max() > 0.01) == changes
