"""Standardisation by the image's own pixels against SciPy's Gaussian filter and NumPy, in float64."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy import ndimage

from pmtrain.data.preprocessing.per_image import PerImage
from pmtrain.data.preprocessing.preprocess import PREPROCESSING, Preprocess
from tests.data.preprocessing.drawn import smooth


def disc(size: int) -> np.ndarray:
    y, x = np.mgrid[:size, :size] + 0.5
    return ((x - size / 2) ** 2 + (y - size / 2) ** 2 <= (size / 2) ** 2).astype(float)


def by_formula(image: np.ndarray, mask: np.ndarray, local: int, least: float, clip: float) -> np.ndarray:
    """uint8 (S, S, 3), BGR -> float64 (3, S, S), RGB."""
    planes = []
    for channel in (2, 1, 0):
        x = image[..., channel] / 255
        if local:
            reach = len(image) // local
            options = {"sigma": reach / 4, "mode": "constant", "radius": reach}
            weight = np.maximum(ndimage.gaussian_filter(mask, **options), 1e-9)  # far outside it is 0
            x = x - ndimage.gaussian_filter(x * mask, **options) / weight
        field = x[mask > 0]
        x = (x - field.mean()) / (field.std() + least) * mask
        planes.append(clip * np.tanh(x / clip) if clip else x)
    return np.stack(planes)


def noisy(size: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(smooth(size) + rng.normal(0, 15, (size, size, 3)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [32, 65, 128])
def test_fundus_local_is_the_formula(size):
    images = np.stack([noisy(size, seed) for seed in range(3)])
    ours = Preprocess("fundus-local", size).normalise(images)
    assert ours.dtype == np.float32 and ours.flags.c_contiguous
    expected = np.stack([by_formula(image, disc(size), 10, 0.01, 3) for image in images])
    np.testing.assert_allclose(ours, expected, atol=2e-4)
    assert not ours[:, :, 0, 0].any() and not ours[:, :, -1, 0].any()


def test_standardised_is_the_formula():
    images = np.stack([noisy(48, seed) for seed in range(3)])
    ours = Preprocess("standardised", 48).normalise(images)
    expected = np.stack([by_formula(image, np.ones((48, 48)), 0, 0.02, 0) for image in images])
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    np.testing.assert_allclose(ours.mean((2, 3)), 0, atol=1e-5)


def test_a_ramp_by_hand():
    """Without a local mean: 0, 1, 2, 3 of 255 have the standard deviation sqrt(1.25) / 255."""
    ramp = np.array([[0, 1], [2, 3]], np.uint8)[..., None].repeat(3, axis=2)
    ours = PerImage(disc=False, local=0, least=0.02, clip=3)(ramp[None])[0, 0]
    z = (np.array([[0, 1], [2, 3]]) - 1.5) / (1.25**0.5 + 0.02 * 255)
    np.testing.assert_allclose(ours, 3 * np.tanh(z / 3), rtol=1e-5)


def test_exposure_and_colour_cast_cancel():
    """Half the light, and each channel by another gain, is nearly the same input."""
    image = noisy(96)
    dim = image * np.array([0.9, 0.7, 0.5])
    for name in ("fundus-local", "standardised"):
        rule = PREPROCESSING[name].statistics
        assert isinstance(rule, PerImage)
        plain, changed = rule(image[None]), rule(dim.astype(np.float32)[None])
        assert np.abs(plain - changed).mean() < 0.15 * np.abs(plain).mean()


def test_outside_of_the_disc_counts_for_nothing():
    image = noisy(64)
    other = np.where(disc(64)[..., None] > 0, image, 255).astype(np.uint8)
    rule = PREPROCESSING["fundus-local"].statistics
    assert isinstance(rule, PerImage)
    np.testing.assert_array_equal(rule(image[None]), rule(other[None]))


@pytest.mark.parametrize(
    "rule", [PerImage(True, 10, 0.01, 3), PerImage(False, 4, 0.01, 0), PerImage(False, 0, 0.02, 2)]
)
@pytest.mark.parametrize("size", [1, 2, 9, 33])
def test_flat_images_of_any_size_are_zero(rule, size):
    flat = np.full((2, size, size, 3), 77, np.uint8)
    np.testing.assert_allclose(rule(flat), 0, atol=1e-4)


def test_bytes_and_floats_and_batches_agree():
    rule = PREPROCESSING["fundus-local"].statistics
    assert isinstance(rule, PerImage)
    images = np.stack([noisy(40, seed) for seed in range(4)])
    whole = rule(images)
    np.testing.assert_array_equal(rule(images.astype(np.float32)), whole)
    for image, expected in zip(images, whole, strict=True):
        np.testing.assert_array_equal(rule(image[None])[0], expected)
    assert rule(images[:0]).shape == (0, 3, 40, 40)


def test_opencvs_threads_change_nothing():
    rule = PREPROCESSING["fundus-local"].statistics
    assert isinstance(rule, PerImage)
    images = np.stack([noisy(224, seed) for seed in range(2)])
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        one = rule(images)
        cv2.setNumThreads(4)
        np.testing.assert_array_equal(rule(images), one)
    finally:
        cv2.setNumThreads(threads)
