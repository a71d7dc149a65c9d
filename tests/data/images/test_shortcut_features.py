"""The features of the shortcut baseline, against NumPy and OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pmtrain.data.images.read import ImageFile, read_image
from pmtrain.data.images.shortcut_features import GROUPS, columns_of, features_of


def test_features_are_those_of_numpy(tmp_path):
    path = tmp_path / "a.png"
    image = np.zeros((40, 48, 3), np.uint8)
    image[4:36, 8:40] = np.random.default_rng(1).integers(40, 130, (32, 32, 3))
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    found = features_of(ImageFile(path))
    inside = image[4:36, 8:40].reshape(-1, 3).astype(float)
    assert found[columns_of("size")] == pytest.approx(np.log([len(path.read_bytes()), 40, 48]))
    assert found[columns_of("colour")] == pytest.approx(np.concatenate([inside.mean(0), inside.std(0)]), rel=1e-5)
    big = np.kron(image, np.ones((16, 16, 1)))  # 640 x 768: a cell of the thumbnail is a whole number of these pixels
    cells = big.reshape(16, 40, 16, 48, 3).mean((1, 3))
    assert np.abs(found[columns_of("thumbnail")].reshape(16, 16, 3) - cells).max() <= 1  # rounded
    assert len(found) == sum(group.width for group in GROUPS.values())


def test_an_image_without_a_bright_pixel_has_features(tmp_path):
    (tmp_path / "black.png").write_bytes(cv2.imencode(".png", np.full((1, 1, 3), 3, np.uint8))[1].tobytes())
    found = features_of(ImageFile(tmp_path / "black.png"))
    assert found[columns_of("colour")].tolist() == [3, 3, 3, 0, 0, 0]
    assert np.isfinite(found).all()


@pytest.mark.parametrize("turned", [False, True])
def test_a_large_jpeg_at_reduced_scale_has_nearly_the_features_of_the_whole(tmp_path, turned):
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 255, (4, 6, 3), np.uint8), (2403, 1602), interpolation=cv2.INTER_CUBIC)
    data = cv2.imencode(".jpg", image)[1].tobytes()
    if turned:  # EXIF orientation 6, as a camera held upright writes it
        exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
        data = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    path = tmp_path / "large.jpg"
    path.write_bytes(data)
    found, whole = features_of(ImageFile(path)), read_image(path)
    assert whole.shape[:2] == ((2403, 1602) if turned else (1602, 2403))
    assert found[columns_of("size")] == pytest.approx(np.log([len(data), *whole.shape[:2]]))
    assert found[columns_of("colour")][:3] == pytest.approx(whole.reshape(-1, 3).mean(0), abs=2)
    thumbnail = cv2.resize(whole, (16, 16), interpolation=cv2.INTER_AREA).ravel().astype(float)
    assert np.abs(found[columns_of("thumbnail")] - thumbnail).mean() < 1.5
