from __future__ import annotations

import cv2
import numpy as np
import pytest

from pmtrain.data.images.read import ImageFile, read_image
from pmtrain.data.preprocessing import preprocess as transforms
from pmtrain.data.preprocessing.preprocess import PREPROCESSING, Preprocess
from pmtrain.system.errors import PmtrainError, UsageError


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


@pytest.mark.parametrize("name", PREPROCESSING)
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


def retina(width: int = 900, height: int = 600) -> np.ndarray:
    """A disc on black with less the finer a structure is, as photographs have it, BGR."""
    rng = np.random.default_rng(3)
    fine = np.full((height, width, 3), 150.0)
    for cells, strength in ((4, 30), (16, 15), (64, 8), (256, 4)):
        fine += cv2.resize(rng.normal(0, strength, (cells, cells, 3)), (width, height), interpolation=cv2.INTER_CUBIC)
    fine = np.clip(fine, 60, 255).astype(np.uint8)
    mask = np.zeros((height, width), np.uint8)
    cv2.circle(mask, (width // 2, height // 2), int(0.4 * height), 255, -1)
    return cv2.bitwise_and(fine, fine, mask=mask)


def test_fundus_is_the_field_of_view_squared_and_resized_by_area():
    image = np.zeros((600, 900, 3), np.uint8)
    image[100:500, 250:850] = np.random.default_rng(0).integers(100, 250, (400, 600, 3), np.uint8)
    small = Preprocess("fundus", 60).resize(image)
    blocks = image[100:500, 250:850].reshape(40, 10, 60, 10, 3).mean(axis=(1, 3))
    assert np.abs(small[12:48, 2:58].astype(int) - blocks[2:38, 2:58]).mean() < 2
    assert (small[:9] == 0).all() and (small[51:] == 0).all()  # black above and below
    assert (small[20:40, 1] > 90).all() and (small[20:40, -2] > 90).all()
    seen = Preprocess("fundus", 60).seen(image)
    assert seen.shape[0] == seen.shape[1] and abs(len(seen) - 600) <= 6


def test_imagenet_is_the_middle_of_the_shorter_side():
    image = np.random.default_rng(0).integers(0, 256, (256, 500, 3), np.uint8)
    preprocess = Preprocess("imagenet", 112)
    small = preprocess.resize(image)
    np.testing.assert_allclose(small, image[16:240, 138:362].reshape(112, 2, 112, 2, 3).mean(axis=(1, 3)), atol=0.51)
    np.testing.assert_array_equal(preprocess.seen(image), image[16:240, 138:362])
    values = preprocess.normalise(small[None])[0]
    for channel, (mean, std) in enumerate(((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))):  # red, green, blue
        np.testing.assert_allclose(values[channel], (small[..., 2 - channel] / 255 - mean) / std, atol=1e-5)


@pytest.mark.parametrize("name", PREPROCESSING)
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 3000, 3), (3000, 1, 3), (2, 2, 3)])
def test_any_shape_of_image(name, shape):
    image = np.full(shape, 90, np.uint8)
    preprocess = Preprocess(name, 32)
    assert preprocess.resize(image).shape == (32, 32, 3)
    assert min(preprocess.seen(image).shape) >= 1


def test_the_training_sets_own_mean_and_std():
    images = list(np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8) // [1, 2, 5])
    images = [image.astype(np.uint8) for image in images]
    preprocess = Preprocess("fundus", 16)
    assert preprocess.lacks_statistics
    with pytest.raises(PmtrainError, match="mean and std"):
        preprocess.normalise(np.stack(images))
    measured = preprocess.measured(images)
    assert not measured.lacks_statistics and measured.pixels_key == preprocess.pixels_key
    assert measured == preprocess.measured(reversed(images))  # to the bit
    rgb = np.stack(images)[..., ::-1] / 255
    np.testing.assert_allclose(measured.mean, rgb.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(measured.std, rgb.std(axis=(0, 1, 2)), rtol=1e-12)
    values = measured.normalise(np.stack(images))
    assert values.dtype == np.float32 and values.flags.c_contiguous
    np.testing.assert_allclose(values.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(values.std(axis=(0, 2, 3)), 1, atol=1e-5)


def test_a_channel_that_never_changes_divides_by_nothing():
    measured = Preprocess("fundus", 4).measured([np.full((4, 4, 3), 51, np.uint8)])
    assert (measured.mean, measured.std) == ((0.2,) * 3, (1.0,) * 3)
    assert np.isfinite(measured.normalise(np.zeros((1, 4, 4, 3), np.uint8))).all()
    with pytest.raises(PmtrainError, match="no training image"):
        Preprocess("fundus", 4).measured([])


def test_what_decides_the_bytes_is_in_the_key():
    keys = {Preprocess(name, size).pixels_key for name in PREPROCESSING for size in (32, 64)}
    assert len(keys) == 2 * len(PREPROCESSING)
    assert all(set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.") for key in keys)


def test_the_notes_read_every_pixel_of_a_jpeg(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(cv2.imencode(".jpg", retina(1200, 900))[1].tobytes())
    expected = cv2.resize(cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR), (32, 32))
    np.testing.assert_array_equal(Preprocess("notes", 32).read(path), expected)


@pytest.mark.parametrize("name", ["fundus", "imagenet"])
@pytest.mark.parametrize(("size", "by"), [(32, 8), (64, 4), (100, 2), (200, 1)])
def test_a_jpeg_decoded_at_a_fraction_gives_nearly_the_same_bytes(name, size, by, tmp_path, monkeypatch):
    """A field of 720 pixels, and the middle 788 of 900: twice the training size is left of each."""
    path = tmp_path / "a.jpg"
    path.write_bytes(cv2.imencode(".jpg", retina(1203, 901), [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes())
    preprocess = Preprocess(name, size)
    whole = preprocess.resize(read_image(path))
    asked = []

    class Watched(ImageFile):
        def decode(self, by: int = 1) -> np.ndarray:
            asked.append(by)
            return super().decode(by)

    monkeypatch.setattr(transforms, "ImageFile", Watched)
    small = preprocess.read(path)
    assert asked[-1] == by
    difference = np.abs(small.astype(int) - whole)
    assert difference.mean() < 0.7 and difference.max() < 25


@pytest.mark.parametrize("name", ["fundus", "imagenet"])
def test_a_fraction_first_is_nearly_the_mean_over_the_whole_part(name):
    image = retina(1600, 1600)
    preprocess = Preprocess(name, 64)
    seen = preprocess.seen(image)
    at_once = cv2.resize(seen, (64, 64), interpolation=cv2.INTER_AREA)
    difference = np.abs(preprocess.resize(image).astype(int) - at_once)
    assert difference.mean() < 1 and difference.max() < 20


def test_a_small_field_in_a_large_photograph_keeps_its_pixels(tmp_path):
    image = np.zeros((1600, 1600, 3), np.uint8)
    image[600:1200, 500:1100] = retina(1200, 1200)[300:900, 300:900]
    for path in (tmp_path / "a.png", tmp_path / "a.jpg"):
        path.write_bytes(cv2.imencode(path.suffix, image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
        small = Preprocess("fundus", 150).read(path)  # of 600 pixels, where 1600 would allow 1/4
        expected = cv2.resize(image[600:1200, 500:1100], (150, 150), interpolation=cv2.INTER_AREA)
        assert np.abs(small.astype(int) - expected)[5:-5, 5:-5].mean() < 2


@pytest.mark.parametrize(("name", "most", "worst"), [("fundus", 0.3, 10), ("imagenet", 0.4, 10)])
def test_real_photographs_decoded_at_a_fraction_give_nearly_the_same_bytes(name, most, worst, real_data):
    preprocess = Preprocess(name, 224)
    for path in sorted((real_data / "dr-native").rglob("*.jpg"))[::4]:
        difference = np.abs(preprocess.read(path).astype(int) - preprocess.resize(read_image(path)))
        assert difference.mean() < most and difference.max() < worst
