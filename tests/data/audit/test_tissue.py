"""Stained tissue: drawn by the Beer-Lambert law with known stains."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pmtrain.data.audit.tissue import tissue_of, told_by_stain, two_stains

# Optical density of haematoxylin and eosin in red, green and blue (Ruifrok and Johnston 2001).
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11]])


def section(seed: int = 0, glass: float = 0.3, stains: np.ndarray = STAINS) -> np.ndarray:
    """SYNTHETIC: uint8 (64, 64, 3) BGR; the upper share `glass` of its rows is empty."""
    rng = np.random.default_rng(seed)
    amount = cv2.resize(rng.uniform(0, 0.8, (16, 16, 2)), (64, 64))
    density = amount @ stains
    density[: round(64 * glass)] = 0.02
    return np.clip(256 * np.exp(-density) - 1 + rng.normal(0, 2, (64, 64, 3)), 0, 255).astype(np.uint8)[..., ::-1]


@pytest.mark.parametrize("glass", [0, 0.3, 0.97])
def test_the_share_without_tissue(glass):
    found = tissue_of(section(glass=glass))
    assert found.empty == pytest.approx(round(64 * glass) / 64, abs=0.04) and not found.ink


@pytest.mark.parametrize(
    ("colour", "ink"), [((180, 60, 20), "blue"), ((60, 150, 30), "green"), ((20, 18, 16), "black")]
)
def test_ink(colour, ink):
    image = np.ascontiguousarray(section())
    cv2.line(image, (5, 10), (60, 50), colour, 4)
    assert tissue_of(image).ink == ink


def test_the_stain_is_that_of_the_densities():
    found = tissue_of(section(glass=0.0, stains=STAINS[1:].repeat(2, axis=0)))
    assert found.stain == pytest.approx((STAINS[1] / STAINS[1].sum())[::-1], abs=0.02)


def test_other_images_have_no_tissue():
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    retina = (np.array([40, 90, 170]) * (np.hypot(x, y) < 0.9)[..., None]).astype(np.uint8)
    grey = cv2.cvtColor(cv2.cvtColor(section(), cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    assert tissue_of(retina) is None and tissue_of(grey) is None


def test_two_stains_are_told_from_one():
    rng = np.random.default_rng(0)
    one = rng.normal((0.2, 0.5, 0.3), 0.01, (60, 3))
    assert two_stains(one) is None
    groups = two_stains(np.concatenate([one, rng.normal((0.3, 0.4, 0.3), 0.01, (30, 3))]))
    assert len(set(groups[:60])) == 1 and len(set(groups[60:])) == 1 and groups[0] != groups[60]
    assert two_stains(one[:5]) is None


def test_the_directions_are_those_of_the_stains():
    found = np.reshape(tissue_of(section(glass=0.0)).directions, (2, 3))[:, ::-1]  # red first
    cosines = (found * STAINS / np.linalg.norm(STAINS, axis=1, keepdims=True)).sum(axis=1)
    assert (cosines > 0.98).all()
    assert not any(tissue_of(section(glass=0.97)).directions)


def test_classes_of_two_laboratories_are_told_by_stain_and_others_are_not():
    other = STAINS + [[-0.05, 0, 0.08], [0.06, 0, -0.04]]  # another batch of dyes
    labels = np.arange(60) % 2
    groups = np.arange(60) // 2

    def found(stains_of) -> float | None:
        images = [section(seed, 0.2, stains_of(seed)) for seed in range(60)]
        return told_by_stain(np.array([tissue_of(image).directions for image in images]), labels, groups)

    assert found(lambda seed: other if labels[seed] else STAINS) > 0.95
    assert found(lambda seed: STAINS) is None
    assert found(lambda seed: other if seed % 4 < 2 else STAINS) is None  # both classes from both


def test_few_patients_of_a_class_say_nothing():
    directions = np.repeat([[0.6, 0.7, 0.3, 0.1, 0.9, 0.1], [0.7, 0.6, 0.3, 0.1, 0.9, 0.1]], 20, axis=0)
    labels = np.repeat([0, 1], 20)
    assert told_by_stain(directions, labels, np.arange(40) // 10) is None
    assert told_by_stain(directions[:18], labels[12:30], np.arange(18)) is None
