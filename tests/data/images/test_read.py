from __future__ import annotations

import io
import os
import pickle
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pmtrain.data.images.read import SUFFIXES, BadImage, read_image


def encode(kind: str, size: tuple[int, int] = (97, 61), **options) -> bytes:
    """A noisy photograph, written by Pillow."""
    rng = np.random.default_rng(7)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
    noise = Image.fromarray(rng.integers(0, 60, (size[1], size[0], 3), np.uint8))
    image = Image.blend(coarse.resize(size, Image.Resampling.BICUBIC), noise, 0.3)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def thumbnail_exif() -> bytes:
    """EXIF data with a whole JPEG inside, end-of-image marker and all."""
    thumbnail = encode("JPEG", (32, 24))
    # Little-endian TIFF: an empty first directory, then one that points at the thumbnail.
    header = b"II*\0" + struct.pack("<I", 8) + struct.pack("<HI", 0, 14)
    entries = struct.pack("<HHII", 0x0201, 4, 1, 14 + 2 + 24 + 4) + struct.pack("<HHII", 0x0202, 4, 1, len(thumbnail))
    return b"Exif\0\0" + header + struct.pack("<H", 2) + entries + struct.pack("<I", 0) + thumbnail


JPEGS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "grey thumbnail in EXIF": {"exif": thumbnail_exif()},
    "progressive with thumbnail": {"progressive": True, "exif": thumbnail_exif()},
    "restart markers": {"restart_marker_blocks": 2},
    "comment and colour profile": {"comment": b"\xff\xd9 no end \xff\xda", "icc_profile": b"\xff\xd9" * 400},
    "full colour": {"subsampling": 0, "quality": 100},
}


def pillow_decodes(data: bytes) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.open(io.BytesIO(data)).load()
    except (OSError, SyntaxError, ValueError, struct.error):
        return False
    return True


def is_read(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    try:
        read_image(path)
    except BadImage as bad:
        assert str(path) in str(bad) and bad.reason
        return False
    return True


def cuts(data: bytes, count: int) -> list[int]:
    """Lengths to cut to: evenly spread, and every one of the last few."""
    return sorted({*range(1, len(data), max(1, len(data) // count)), *range(len(data) - 6, len(data))})


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
def test_a_whole_jpeg_is_read_as_pillow_reads_it(options, tmp_path):
    data = encode("JPEG", **options)
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    image = read_image(path)
    assert image.dtype == np.uint8 and image.shape == (61, 97, 3)
    theirs = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)[..., ::-1]
    assert np.abs(theirs - image).mean() < 2  # decoders round their own way


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
def test_a_jpeg_cut_anywhere_is_bad(options, tmp_path):
    data = encode("JPEG", **options)
    assert pillow_decodes(data)
    for length in cuts(data, 150):
        assert not is_read(tmp_path / "cut.jpg", data[:length]), f"cut to {length} of {len(data)} bytes"


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
def test_what_pillow_refuses_of_a_cut_jpeg_with_bytes_after_its_end_is_refused(options, tmp_path):
    whole = encode("JPEG", **options)
    data = whole + b"\0" * 40 + encode("JPEG", (16, 16))  # as cameras append a preview
    for length in [*cuts(whole, 60), len(whole), len(whole) + 20, len(data) - 5, len(data)]:
        read = is_read(tmp_path / "cut.jpg", data[:length])
        assert read == (length >= len(whole))
        if read:
            assert pillow_decodes(data[:length])


def test_fill_bytes_and_stray_bytes_between_segments_are_no_damage(tmp_path):
    data = encode("JPEG")
    start_of_scan = data.index(b"\xff\xda")
    filled = data[:start_of_scan] + b"\xff\xff\xff" + data[start_of_scan:-2] + b"\xff\xff\xff\xd9"
    assert pillow_decodes(filled)
    assert is_read(tmp_path / "a.jpg", filled)


def test_a_jpeg_without_a_picture_is_bad(tmp_path):
    assert not is_read(tmp_path / "a.jpg", b"\xff\xd8\xff\xd9")
    assert not is_read(tmp_path / "a.jpg", b"\xff\xd8")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_other_formats_cut_anywhere_are_bad(kind, tmp_path):
    data = encode(kind)
    path = tmp_path / f"cut.{kind.lower()}"
    assert is_read(path, data)
    whole = read_image(path)
    for length in cuts(data, 60):
        if is_read(path, data[:length]):  # nothing that matters was cut off
            np.testing.assert_array_equal(read_image(path), whole, f"cut to {length} of {len(data)} bytes")


def test_a_png_with_any_byte_changed_is_bad(tmp_path):
    data = encode("PNG", (24, 16))
    rng = np.random.default_rng(0)
    for position in rng.choice(len(data), 80, replace=False):
        changed = bytearray(data)
        changed[position] ^= 0x55
        assert not is_read(tmp_path / "a.png", bytes(changed)), f"byte {position}"


def test_png_chunks_of_others_are_no_damage(tmp_path):
    data = encode("PNG")
    chunk = b"prVt" + b"IEND anything"
    extra = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    assert is_read(tmp_path / "a.png", data[:33] + extra + data[33:])
    assert is_read(tmp_path / "a.png", data + b"trailing")


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty"), (b"not an image at all" * 9, "not an image"), (b"\xff\xd8\xff\xe0 junk", "truncated")],
)
def test_the_reason_is_named(data, reason, tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    with pytest.raises(BadImage, match=reason):
        read_image(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "gone.jpg", tmp_path):
        with pytest.raises(BadImage) as caught:
            read_image(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["眼底 照片.jpg", "Ünïcødé ñ.png", "глаз.jpeg", "a b  c.JPG", "😀.jpg"])
def test_names_of_any_script(name, tmp_path):
    kind = "PNG" if name.endswith("png") else "JPEG"
    assert is_read(tmp_path / name, encode(kind))


def test_the_suffix_does_not_decide(tmp_path):
    assert is_read(tmp_path / "a.jpg", encode("PNG"))
    assert not is_read(tmp_path / "b.png", encode("JPEG")[:-200])


def test_channels_are_blue_green_red(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (3, 3), (255, 128, 1)).save(path)
    assert read_image(path)[0, 0].tolist() == [1, 128, 255]


def test_a_bad_image_travels_between_processes():
    bad = pickle.loads(pickle.dumps(BadImage("a.jpg", "cut short", "do this")))
    assert (str(bad.name), bad.reason, bad.hint) == ("a.jpg", "cut short", "do this")


@pytest.mark.slow
def test_no_false_alarm_on_real_images(real_data):
    files = sorted(path for path in real_data.rglob("*") if path.suffix.lower() in SUFFIXES)
    assert len(files) > 1000
    for path in files:
        height, width, _ = read_image(path).shape
        with Image.open(path) as theirs:
            assert theirs.size == (width, height)


def test_real_photographs_cut_short_are_bad(real_data, tmp_path):
    for folder in ("ichallenge-pm-224", "dr-768", "dr-native", "malaria-gray50"):
        files = sorted(path for path in (real_data / folder).rglob("*") if path.suffix in (".jpg", ".png"))
        for path in files[:: len(files) // 3]:
            data = path.read_bytes()
            assert is_read(tmp_path / "whole", data)
            for length in np.linspace(1, len(data) - 1, 12).astype(int):
                assert not is_read(tmp_path / "cut", data[:length]), f"{path} cut to {length}"


@pytest.mark.parametrize(
    ("sides", "depth", "said"),
    [
        ((65_535, 65_535), 8, "has 65,535 x 65,535 pixels of 8 bits"),
        ((16_384, 16_385), 8, "has 16,384 x 16,385 pixels of 8 bits"),
        ((16_384, 8_193), 16, "has 16,384 x 8,193 pixels of 16 bits"),
        ((16_384, 8_192), 16, "OpenCV can't decode"),  # not too many: there are no pixels
    ],
)
def test_a_few_bytes_that_claim_many_pixels_are_bad(tmp_path, sides, depth, said):
    path = tmp_path / "bomb.png"
    header = struct.pack(">IIBBBBB", *sides, depth, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    packed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    with pytest.raises(BadImage, match=said):
        read_image(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_is_bad_and_nobody_waits_for_its_writer(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(BadImage, match=r"pipe\.png: a pipe or a device, not a file"):
        read_image(tmp_path / "pipe.png")


def test_a_file_of_many_gigabytes_is_bad_before_it_is_read(tmp_path):
    with open(tmp_path / "huge.png", "wb") as file:
        file.truncate((1 << 30) + 1)  # sparse: it takes no room
    with pytest.raises(BadImage, match=r"huge\.png: has 1,073,741,825 bytes; at most 1,073,741,824"):
        read_image(tmp_path / "huge.png")
