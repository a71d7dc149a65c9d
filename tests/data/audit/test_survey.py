"""What one look at an image tells, against what was written."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pmtrain.data.audit.survey import Header, look, survey
from pmtrain.data.dataset import DataSet, Sample
from tests.data.conftest import picture

RGB = picture(1)[..., ::-1]


def write(path: Path, mode: str = "RGB", **options) -> Path:
    Image.fromarray(np.ascontiguousarray(RGB)).convert(mode).save(path, **options)
    return path


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def grey16(path: Path) -> Path:
    Image.fromarray(RGB[..., 0].astype(np.uint16) * 256).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "make", "header"),
    [
        ("a.jpg", write, Header("JPEG", "colour", 8, 1)),
        ("a.png", write, Header("PNG", "colour", 8, 1)),
        ("a.bmp", write, Header("BMP", "colour", 8, 1)),
        ("a.webp", write, Header("WEBP", "colour", 8, 1)),
        ("a.tif", write, Header("TIFF", "colour", 8, 1)),
        ("grey.jpg", lambda path: write(path, "L"), Header("JPEG", "grey", 8, 1)),
        ("grey.png", lambda path: write(path, "L"), Header("PNG", "grey", 8, 1)),
        ("alpha.png", lambda path: write(path, "RGBA"), Header("PNG", "colour with transparency", 8, 1)),
        ("palette.png", lambda path: write(path, "P"), Header("PNG", "palette", 8, 1)),
        ("cmyk.jpg", lambda path: write(path, "CMYK"), Header("JPEG", "CMYK", 8, 1)),
        ("sixteen.png", grey16, Header("PNG", "grey", 16, 1)),
        ("sixteen.tif", grey16, Header("TIFF", "grey", 16, 1)),
        ("turned.jpg", lambda path: write(path, exif=turned(6)), Header("JPEG", "colour", 8, 6)),
        ("turned.png", lambda path: write(path, exif=turned(3)), Header("PNG", "colour", 8, 3)),
        ("no such turn.jpg", lambda path: write(path, exif=turned(99)), Header("JPEG", "colour", 8, 1)),
    ],
)
def test_the_header_is_what_was_written(tmp_path, name, make, header):
    found, *_ = look(make(tmp_path / name))
    assert (found.error, found.header) == ("", header)


def test_colours_that_are_grey_are_told(tmp_path):
    grey = np.repeat(RGB[..., :1], 3, axis=2)
    Image.fromarray(grey).save(tmp_path / "a.png")
    assert look(tmp_path / "a.png")[0].header.colour == "grey stored as colour"


def test_digests_tell_equal_bytes_from_equal_pixels(tmp_path):
    one, other = (look(write(tmp_path / name))[0] for name in ("a.png", "a.bmp"))
    assert one.content == hashlib.sha256((tmp_path / "a.png").read_bytes()).digest() != other.content
    assert one.pixels == other.pixels
    assert one.size == (24, 16)


def test_the_size_is_that_of_the_turned_image(tmp_path):
    assert look(write(tmp_path / "a.jpg", exif=turned(6)))[0].size == (16, 24)


@pytest.mark.parametrize(
    ("value", "noise", "said"),
    [(0, 0, "black"), (0, 1, "black"), (255, 0, "white"), (90, 0, "one colour"), (90, 12, "")],
)
def test_an_image_of_one_colour_is_told(tmp_path, value, noise, said):
    image = np.full((64, 80, 3), value, np.int16)
    image += np.random.default_rng(0).integers(0, noise + 1, image.shape, np.int16)
    Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(tmp_path / "a.png")
    assert look(tmp_path / "a.png")[0].one_colour == said


def test_looks_come_in_the_order_of_the_samples_whatever_the_threads(tmp_path, make_image):
    paths = [make_image(tmp_path / f"{number}.png", number) for number in range(9)]
    paths[4].write_bytes(b"")
    paths.append(tmp_path / "gone.png")
    data = DataSet(tmp_path, "folder", ("a", "b"), tuple(Sample(path, 0) for path in paths))
    one, many = survey(data, 1), survey(data, 3)
    assert one.looks == many.looks
    assert [bool(found.error) for found in one.looks] == [n in (4, 9) for n in range(10)]
    assert (one.hashes == many.hashes).all() and (one.textures == many.textures).all()
    assert one.hashes[3].any() and not one.hashes[4].any()
