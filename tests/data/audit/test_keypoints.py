"""Copies that were cropped, turned or mirrored, against photographs that merely look alike."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pmtrain.data.audit.keypoints import NONE, Points, candidates, points_of, same_pairs
from pmtrain.data.preprocessing.retina.field_of_view import field_of_view


def tree(seed: int, side: int = 320) -> np.ndarray:
    """SYNTHETIC tissue, dark lines that cross on a mottled ground: uint8 (side, side, 3)."""
    rng = np.random.default_rng(seed)
    mottled = cv2.resize(rng.uniform(120, 170, (40, 40)), (side, side), interpolation=cv2.INTER_CUBIC)
    image = np.clip(mottled[..., None] * [0.4, 0.8, 1.2], 0, 255).astype(np.uint8)
    for _ in range(40):
        ends = rng.integers(0, side, (2, 2)).tolist()
        cv2.line(image, *ends, (20, 40, 90), int(rng.integers(2, 5)), cv2.LINE_AA)
    return cv2.imdecode(cv2.imencode(".jpg", image)[1], cv2.IMREAD_COLOR)


def contrasted(image: np.ndarray) -> np.ndarray:
    """CLAHE on the lightness."""
    lab = cv2.cvtColor(image, cv2.COLOR_BGR2LAB)
    lab[..., 0] = cv2.createCLAHE(3, (8, 8)).apply(lab[..., 0])
    return cv2.cvtColor(lab, cv2.COLOR_LAB2BGR)


def cropped(image: np.ndarray, share: float) -> np.ndarray:
    height, width = (int(side * share) for side in image.shape[:2])
    return image[image.shape[0] - height :, :width]


COPIES = {
    "mirrored": lambda image: image[:, ::-1],
    "with CLAHE": contrasted,
    "mirrored, with CLAHE": lambda image: contrasted(image[:, ::-1].copy()),
    "cropped to 80 %": lambda image: cropped(image, 0.8),
    "turned": lambda image: np.rot90(image),
    "turned by 10 degrees": lambda image: cv2.warpAffine(
        image, cv2.getRotationMatrix2D((image.shape[1] / 2, image.shape[0] / 2), 10, 1), image.shape[1::-1]
    ),
}


def points(image: np.ndarray) -> Points:
    """Of the field of view, saved as a JPEG once more."""
    image = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 80])[1], cv2.IMREAD_COLOR)
    return points_of(field_of_view(image).of(image))


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_found(copy):
    images = [tree(seed) for seed in range(6)]
    assert same_pairs([points(image) for image in [*images, COPIES[copy](images[2])]]) == [(2, 6)]


def test_flat_small_and_no_images():
    flat = np.full((300, 300, 3), 90, np.uint8)
    assert points_of(flat) is NONE and points_of(tree(0, 100)) is NONE
    assert same_pairs([]) == same_pairs([points(flat)]) == same_pairs([NONE, NONE]) == []
    assert not list(candidates([NONE, points(tree(0))]))


# Of 15 eyes at 768 x 514, as measured: all of those mirrored, cropped or turned, and most of those with CLAHE.
LEAST = {"with CLAHE": 11, "mirrored, with CLAHE": 10}


def test_copies_of_real_photographs_are_found_and_no_other_eyes(real_data):
    paths = sorted((real_data / "dr-768" / "images").glob("*.jpg"))[100:130:2]  # another patient each
    images = [cv2.imread(str(path)) for path in paths]
    eyes = [points(image) for image in images]
    assert same_pairs(eyes) == []
    for name, copy in COPIES.items():
        found = same_pairs([*eyes, *(points(copy(image)) for image in images)])
        assert all(second == first + len(eyes) for first, second in found), (name, found)
        assert len(found) >= LEAST.get(name, 14), (name, len(found))
