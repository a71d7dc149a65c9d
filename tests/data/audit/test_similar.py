"""Near duplicates: the search against brute force, and what counts as one photograph."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmtrain.data.audit import similar
from pmtrain.data.audit.similar import block_pairs, close_pairs, near_groups, perceptual_hash, texture, thumbnail


def hashes_with_neighbours(seed: int, count: int) -> np.ndarray:
    """(count, 32) uint8: random ones, and others a few bits off an earlier one."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2, (count, 256), np.uint8)
    for row in range(1, count):
        if rng.random() < 0.5:
            bits[row] = bits[rng.integers(row)]
            bits[row, rng.choice(256, rng.integers(0, 40), replace=False)] ^= 1
    return np.packbits(bits, axis=1)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.integers(0, 256), st.integers(1, 17))
def test_the_search_finds_what_comparing_each_with_each_finds(seed, count, most, block):
    hashes = hashes_with_neighbours(seed, count)
    ours, similar.BLOCK = similar.BLOCK, block
    try:
        parts = list(close_pairs(hashes, most))
        assert len(parts) == block_pairs(count)
    finally:
        similar.BLOCK = ours
    numbers = [int.from_bytes(row.tobytes(), "big") for row in hashes]
    expected = {(i, j) for j in range(count) for i in range(j) if bin(numbers[i] ^ numbers[j]).count("1") <= most}
    found = [tuple(pair) for part in parts for pair in part.tolist()]
    assert len(found) == len(set(found))
    assert set(found) == expected


def photograph(seed: int, size: int = 160) -> np.ndarray:
    """A disc with a texture of its own, uint8 (size, size, 3): discs look alike, textures don't."""
    rng = np.random.default_rng(seed)
    texture = sum(
        cv2.resize(rng.normal(0, 1, (n, n, 3)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC) * w
        for n, w in ((4, 0.08), (12, 0.07), (40, 0.07))
    )
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    radius = np.hypot(x, y)[..., None]
    image = (np.array([0.25, 0.4, 0.7]) * (1 - 0.4 * radius**2) + texture) * (radius < 0.95)
    return np.clip(image * 255, 0, 255).astype(np.uint8)


def groups_of(images: list[np.ndarray]) -> list[list[int]]:
    grey = np.stack([cv2.cvtColor(thumbnail(image), cv2.COLOR_BGR2GRAY) for image in images])
    return near_groups(np.stack([perceptual_hash(one) for one in grey]), np.stack([texture(one) for one in grey]))


COPIES = {
    "JPEG at quality 40": lambda im: cv2.imdecode(cv2.imencode(".jpg", im, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], 1),
    "half size": lambda im: cv2.resize(im, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "double size": lambda im: cv2.resize(im, None, fx=2, fy=2),
    "squeezed": lambda im: cv2.resize(im, (160, 100), interpolation=cv2.INTER_AREA),
    "darker": lambda im: (im * 0.75).astype(np.uint8),
    "of gamma 1.4": lambda im: ((im / 255) ** 1.4 * 255).astype(np.uint8),
    "turned by a degree": lambda im: cv2.warpAffine(
        im, cv2.getRotationMatrix2D((im.shape[1] / 2, im.shape[0] / 2), 1, 1), im.shape[1::-1]
    ),
    "brighter": lambda im: np.clip(im * 1.15, 0, 255).astype(np.uint8),
    "another tint": lambda im: np.clip(im * (0.85, 1, 1.15), 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_found_among_photographs_that_look_alike(copy):
    images = [photograph(seed) for seed in range(6)]
    assert groups_of([*images, COPIES[copy](images[2])]) == [[2, 6]]


def test_different_photographs_are_no_copies():
    assert groups_of([photograph(seed) for seed in range(40)]) == []


def test_several_copies_are_one_group_and_groups_stay_apart():
    one, other = photograph(1), photograph(2)
    shots = [one, other, COPIES["half size"](one), photograph(3), COPIES["darker"](other), COPIES["squeezed"](one)]
    assert groups_of(shots) == [[0, 2, 5], [1, 4]]


@pytest.mark.parametrize("images", [[], [photograph(0)]])
def test_none_and_one(images):
    found = groups_of(images) if images else near_groups(np.zeros((0, 32), np.uint8), np.zeros((0, 64, 64), np.int8))
    assert found == []


def test_real_photographs_of_different_eyes_are_no_copies(real_data):
    """Both eyes of 20 patients: much alike in light, frame and colour."""
    paths = sorted((real_data / "dr-768" / "images").glob("*.jpg"))[:40]
    images = [cv2.imread(str(path), cv2.IMREAD_REDUCED_COLOR_4) for path in paths]
    assert groups_of(images) == []
    assert groups_of([*images, COPIES["JPEG at quality 40"](images[7])]) == [[7, 40]]
