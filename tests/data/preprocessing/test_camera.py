"""Another camera's colours against the formulas, pixel by pixel in float64, by operations of NumPy alone."""

from __future__ import annotations

import numpy as np
import pytest

from pmtrain.data.preprocessing.camera import Camera
from tests.data.preprocessing.drawn import Draws, smooth

STILL = np.eye(2, 3)


def drawn(seed: int, chance: float = 0.9) -> tuple[Draws, list[np.ndarray]]:
    """Normal draws as the generator would give them, and grey's chance and weights."""
    rng = np.random.default_rng(seed)
    normal = [rng.standard_normal((2, 3)), rng.standard_normal(3), rng.standard_normal((3, 3))]
    return Draws(normal=normal, random=[[chance, 0.2, 0.5, 0.3]]), normal


def by_formula(image: np.ndarray, normal: list[np.ndarray], s: float) -> np.ndarray:
    (gammas, gains), (gamma, gain, contrast), mixing = normal
    x = image / 255
    x = x ** np.exp(0.25 * s * gammas + 0.35 * s * gamma) * np.exp(0.2 * s * gains + 0.25 * s * gain)
    x = np.einsum("ij,hwj->hwi", np.eye(3) + 0.15 * s * mixing, x)
    return np.clip((x - x.mean()) * np.exp(0.3 * s * contrast) + x.mean(), 0, 1)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("colour", "strength"), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.7), (0.5, 2.0)])
def test_colours_are_the_formulas(seed, colour, strength):
    image = np.random.default_rng(9).integers(0, 256, (40, 40, 3), np.uint8)
    draws, normal = drawn(seed)
    changed = Camera(colour=colour)(image, STILL, draws, strength)
    assert changed.dtype == np.float32
    np.testing.assert_allclose(changed / 255, by_formula(image, normal, colour * strength), atol=2e-6)


def test_grey_is_a_mean_of_the_changed_channels():
    for chance, strength, grey in ((0.29, 1, True), (0.31, 1, False), (0.31, 2, True), (0.29, 0.5, False)):
        draws, normal = drawn(3, chance)
        changed = Camera(grey=0.3)(smooth(), STILL, draws, strength) / 255
        plain = by_formula(smooth(), normal, strength)
        expected = np.repeat((plain @ [0.2, 0.5, 0.3])[..., None], 3, axis=2) if grey else plain
        np.testing.assert_allclose(changed, expected, atol=2e-6)


def test_pixels_are_moved_and_uncovered_ones_black():
    quarter = np.array([[0, 1, 0], [-1, 0, 63.0]])  # (x, y) to (y, 63 - x): a quarter turn to the left
    for seed in range(4):
        turned = Camera()(smooth(), quarter, drawn(seed)[0])
        np.testing.assert_allclose(turned, np.rot90(Camera()(smooth(), STILL, drawn(seed)[0])), atol=1e-3)
    draws, normal = drawn(0)
    half = Camera(colour=0)(smooth(), np.array([[1, 0, 32.0], [0, 1, 0]]), draws)
    assert not half[:, :32].any()
    np.testing.assert_allclose(half[:, 32:], smooth()[:, :32], atol=1e-3)


def test_draws_have_the_stated_spread():
    """Of 3000 cameras of a grey pixel, little apart: in the mean of the channels, the standard deviations add up."""
    pixel, rng = np.full((1, 1, 3), 51, np.uint8), np.random.default_rng(0)  # 0.2
    means = np.array([Camera(colour=0.2)(pixel, STILL, rng).mean() for _ in range(3000)])
    # ln x = gamma * ln 0.2 + ln gain, and gamma is nearly 1 + its logarithm. Three channels' own draws average out; the
    # matrix changes the mean by a third of its nine entries' sum.
    curve, gain = np.hypot(0.35 * np.log(0.2), 0.25), np.hypot(0.25 * np.log(0.2), 0.2) / 3**0.5
    expected = 0.2 * np.sqrt(curve**2 + gain**2 + 0.15**2)
    assert abs(np.log(means / 51).std() / expected - 1) < 0.06
