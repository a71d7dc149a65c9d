from __future__ import annotations

import cv2
import numpy as np
import pytest

from pmtrain.data.transforms import PREPROCESSES, Preprocess
from pmtrain.errors import UsageError


def notes_transform(image: np.ndarray) -> np.ndarray:
    """What the notes do to one image, operation by operation."""
    image = cv2.resize(image, (224, 224))
    image = np.transpose(image, (2, 0, 1))
    image = image.astype("float32")
    image = image / 255.0
    return image * 2.0 - 1.0


def test_notes_preprocessing_is_the_notes_to_the_bit():
    rng = np.random.default_rng(0)
    images = [
        rng.integers(0, 256, (height, width, 3), np.uint8) for height, width in ((50, 70), (224, 224), (999, 301))
    ]
    preprocess = Preprocess()
    ours = preprocess.normalise(np.stack([preprocess.resize(image) for image in images]))
    assert ours.dtype == np.float32 and ours.shape == (3, 3, 224, 224) and ours.flags.c_contiguous
    np.testing.assert_array_equal(ours, np.stack([notes_transform(image) for image in images]))


def test_every_byte_has_the_notes_value():
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    values = Preprocess(size=16).normalise(every)[0, 0].ravel()
    one, two, most = np.float32([1, 2, 255])
    one_by_one = [np.float32(byte) / most * two - one for byte in range(256)]
    assert values[0] == -1 and values[255] == 1
    np.testing.assert_array_equal(values, one_by_one)


@pytest.mark.parametrize("name", PREPROCESSES)
@pytest.mark.parametrize("size", [1, 32, 100])
def test_every_preprocessing_gives_its_shapes(name, size):
    preprocess = Preprocess(name, size)
    small = preprocess.resize(np.zeros((7, 300, 3), np.uint8))
    assert small.shape == (size, size, 3) and small.dtype == np.uint8
    if preprocess.lacks_statistics:
        preprocess = preprocess.measured([small])
    assert preprocess.normalise(small[None]).shape == (1, 3, size, size)


def test_what_there_is_not_is_refused():
    with pytest.raises(UsageError, match="'note'.*\n.*notes"):
        Preprocess("note")
    with pytest.raises(UsageError, match="0"):
        Preprocess(size=0)
