"""Every kind of pixel against the values it was made of, written by hand or by Pillow, or against the other decoder."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pmtrain.data.images.decoders import REDUCED, over_black, to_bytes
from pmtrain.data.images.read import BadImage, ImageFile, count_pictures, read_image

RNG = np.random.default_rng(5)
COLOURS = RNG.integers(0, 256, (6, 5, 4), np.uint8)  # RGBA


def read(tmp_path: Path, data: bytes) -> np.ndarray:
    """What we make of it, RGB: the name says nothing."""
    path = tmp_path / "image"
    path.write_bytes(data)
    image = read_image(path)
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    return image[..., ::-1]


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(values: np.ndarray, depth: int, colour: int, **chunks: bytes) -> bytes:
    """A PNG of rows of packed bits or of (H, W[, C]) values, with chunks before the picture's."""
    rows = values.astype(">u2") if depth == 16 else values
    width = values.shape[1] * 8 // depth if depth < 8 else values.shape[1]

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, len(values), depth, colour, 0, 0, 0)
    extra = b"".join(chunk(kind.encode(), content) for kind, content in chunks.items())
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def tiff(values: np.ndarray, order: str = "<", bits: int = 16, packed: bytes = b"", **tags: int) -> bytes:
    """An uncompressed TIFF of one strip; tags as t262=0."""
    channels = values.shape[2] if values.ndim == 3 else 1
    content = packed or values.astype(values.dtype.newbyteorder(order)).tobytes()
    known = {256: values.shape[1], 257: values.shape[0], 258: bits, 259: 1, 262: 2 if channels > 2 else 1, 273: 0}
    known |= {277: channels, 278: values.shape[0], 279: len(content)} | {int(t[1:]): v for t, v in tags.items()}
    behind = 8 + 2 + 12 * len(known) + 4
    known[273] = behind + 2 * channels
    entries = b""
    for tag, value in sorted(known.items()):
        if tag in (258, 281, 339) and channels > 2:  # one for each channel, all the same, kept with the first of them
            entries += (
                struct.pack(order + "HHII", tag, 3, 1, value)
                if tag != 258
                else struct.pack(order + "HHII", tag, 3, channels, behind)
            )
        else:
            entries += struct.pack(order + "HHII", tag, 4, 1, value)
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    depths = struct.pack(order + f"{channels}H", *[bits] * channels)
    return start + struct.pack(order + "H", len(known)) + entries + struct.pack(order + "I", 0) + depths + content


def scaled(values: np.ndarray, bits: int) -> np.ndarray:
    return np.rint(values.astype(float) * 255 / (2**bits - 1)).astype(np.uint8)


def three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "TIFF, big-endian"])
def test_deep_values_are_scaled_by_the_least_depth_that_holds_them(bits, channels, kind, tmp_path):
    values = RNG.integers(0, 2**bits, (6, 5, channels), np.uint16)
    values.flat[0] = 2**bits - 1
    values = values[..., 0] if channels == 1 else values
    if kind == "PNG":
        data = png(values, 16, 0 if channels == 1 else 2)
    else:
        data = tiff(values, "<" if kind == "TIFF" else ">")
    expected = scaled(values, bits)
    np.testing.assert_array_equal(read(tmp_path, data), expected if channels == 3 else three(expected))
    if channels == 1:  # Pillow has no colour of 16 bits
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), values)


def test_a_dark_deep_image_is_not_brightened_below_eight_bits(tmp_path):
    values = np.array([[0, 1, 17, 100]], np.uint16)
    np.testing.assert_array_equal(read(tmp_path, png(values, 16, 0))[0, :, 0], values[0])


def test_the_bits_that_a_file_states_come_first(tmp_path):
    dark = np.array([[0, 500, 1000, 2047]], np.uint16)  # 11 bits would hold it
    for data in (
        png(dark, 16, 0, sBIT=bytes([12])),
        tiff(dark, t281=4095),
        tiff(dark, t281=2048),  # twelve bits are what holds that
    ):
        np.testing.assert_array_equal(read(tmp_path, data)[0, :, 0], scaled(dark[0], 12))
    colour = np.repeat(dark[..., None], 3, axis=2)
    np.testing.assert_array_equal(
        read(tmp_path, png(colour, 16, 2, sBIT=bytes([12] * 3)))[0, :, 0], scaled(dark[0], 12)
    )


def test_bits_at_the_upper_end_as_png_asks_for_are_scaled_from_sixteen(tmp_path):
    values = np.array([[0, 0x123, 0xABC, 0xFFF]], np.uint16)
    np.testing.assert_array_equal(
        read(tmp_path, png(values << 4, 16, 0, sBIT=bytes([12])))[0, :, 0], scaled(values[0], 12)
    )


def test_twelve_bits_packed(tmp_path):
    values = np.array([[0x000, 0x123, 0xABC, 0xFFF]], np.uint16)
    packed = bytes.fromhex("000123ABCFFF")
    np.testing.assert_array_equal(
        read(tmp_path, tiff(values, ">", bits=12, packed=packed))[0, :, 0], scaled(values[0], 12)
    )


@pytest.mark.parametrize("bits", [8, 16])
def test_grey_that_counts_darkness_is_turned_round(bits, tmp_path):
    values = np.linspace(0, 2**bits - 1, 30).reshape(6, 5).astype(np.uint8 if bits == 8 else np.uint16)
    np.testing.assert_array_equal(read(tmp_path, tiff(values, bits=bits, t262=0)), three(255 - scaled(values, bits)))


MODES = {
    "PNG": ("1", "L", "RGB", "RGBA", "LA", "P"),
    "TIFF": ("1", "L", "RGB", "RGBA", "LA", "P"),
    "WEBP": ("L", "RGB", "RGBA", "LA", "P"),
    "BMP": ("1", "L", "RGB", "P"),
    "GIF": ("1", "L", "P"),
}


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in MODES.items() for mode in modes])
def test_kinds_of_pixels(mode, kind, tmp_path):
    if mode in ("RGB", "RGBA"):
        image = Image.fromarray(COLOURS[..., : len(mode)])
    elif mode == "P":
        image = Image.fromarray(COLOURS[..., 0] % 7)
        image.putpalette(COLOURS[..., :3].tobytes()[:21])
    else:
        image = Image.fromarray(COLOURS[..., 0]).convert(mode)
        if mode == "LA":
            image.putalpha(Image.fromarray(COLOURS[..., 3]))
    rgba = np.asarray(image.convert("RGBA")).astype(float)
    data = saved(image, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    expected = np.rint(rgba[..., :3] * rgba[..., 3:] / 255)
    np.testing.assert_array_equal(read(tmp_path, data), expected)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_of_grey(bits, tmp_path):
    packed = RNG.integers(0, 256, (6, 3), np.uint8)
    values = np.unpackbits(packed, axis=1).reshape(6, -1, bits) @ (1 << np.arange(bits)[::-1])
    np.testing.assert_array_equal(read(tmp_path, png(packed, bits, 0)), three(scaled(values, bits)))


def test_transparency_of_palettes_and_single_colours_lies_over_black(tmp_path):
    indices = np.array([[0, 1, 2]], np.uint8)
    palette = bytes([200, 100, 50, 10, 20, 30, 255, 255, 255])
    pixels = read(tmp_path, png(indices, 8, 3, PLTE=palette, tRNS=bytes([255, 128, 0])))
    assert pixels[0].tolist() == [[200, 100, 50], [5, 10, 15], [0, 0, 0]]
    grey = np.array([[7, 8, 9]], np.uint8)
    assert read(tmp_path, png(grey, 8, 0, tRNS=struct.pack(">H", 8)))[0, :, 0].tolist() == [7, 0, 9]


def test_deep_transparency_lies_over_black(tmp_path):
    values = RNG.integers(0, 65536, (6, 5, 4), np.uint16)
    values[0, 0] = 65535
    expected = np.rint(scaled(values[..., :3], 16).astype(float) * scaled(values[..., 3:], 16) / 255)
    np.testing.assert_array_equal(read(tmp_path, png(values, 16, 6)), expected)
    grey = values[..., 2:]
    grey[0, 0] = 65535
    expected = np.rint(scaled(grey[..., 0], 16).astype(float) * scaled(grey[..., 1], 16) / 255)
    np.testing.assert_array_equal(read(tmp_path, png(grey, 16, 4)), three(expected))


def smooth(width: int = 64, height: int = 48) -> np.ndarray:
    return cv2.resize(RNG.integers(0, 256, (4, 5, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize("transform", ["CMYK", "YCCK"])
def test_cmyk_is_decoded_as_opencv_does(transform, tmp_path):
    data = saved(Image.fromarray(smooth()).convert("CMYK"), "JPEG", quality=95)
    if transform == "YCCK":  # the same components taken for luminance and colour: nonsense, but the same nonsense
        adobe = data.index(b"Adobe")
        data = data[: adobe + 11] + b"\x02" + data[adobe + 12 :]
    theirs = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    assert np.abs(read(tmp_path, data) - theirs).max() <= 2
    if transform == "CMYK":
        assert np.abs(read(tmp_path, data) - theirs).mean() < 1.5


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "TIFF, 16 bits"])
def test_exif_turns_are_followed(turn, kind, tmp_path):
    picture = smooth(64, 32)
    if kind == "TIFF, 16 bits":
        data = tiff(picture[..., 0].astype(np.uint16) * 257, t274=turn)
        picture = three(picture[..., 0])
    else:
        exif = Image.Exif()
        exif[0x0112] = turn
        options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(kind, {})
        data = saved(Image.fromarray(picture), kind, exif=exif, **options)
    pixels = read(tmp_path, data).astype(int)
    expected = TURNS[turn](picture)
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected).max() <= (12 if kind == "JPEG" else 0)


@pytest.mark.parametrize("turn", TURNS)
def test_a_jpeg_at_a_fraction_of_its_size_is_turned_too(turn, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = turn
    picture = smooth(320, 160)
    path = tmp_path / "a.jpg"
    path.write_bytes(saved(Image.fromarray(picture), "JPEG", exif=exif, quality=95))
    file = ImageFile(path)
    assert file.scalable_sides == (160, 320)
    for by in (1, 2, 4, 8):
        expected = cv2.resize(
            np.ascontiguousarray(TURNS[turn](picture)), None, fx=1 / by, fy=1 / by, interpolation=cv2.INTER_AREA
        )
        pixels = file.decode(by)[..., ::-1]
        assert pixels.shape == expected.shape
        assert np.abs(pixels.astype(int) - expected).mean() < 2


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}, {"grey": True}])
def test_a_jpeg_has_opencvs_bytes(options, tmp_path):
    picture = Image.fromarray(smooth(157, 99)).convert("L" if options.pop("grey", False) else "RGB")
    data = saved(picture, "JPEG", **options)
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    for by in (1, 2, 4, 8):
        theirs = cv2.imdecode(np.frombuffer(data, np.uint8), REDUCED[by])
        np.testing.assert_array_equal(ImageFile(path).decode(by), theirs)


def test_jpegs_are_decoded_without_simplejpeg_too(tmp_path, monkeypatch):
    data = saved(Image.fromarray(smooth()), "JPEG")
    pixels = read(tmp_path, data)
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    np.testing.assert_array_equal(read(tmp_path, data), pixels)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_with_a_block_missing_or_zeroed_is_damaged(progressive, tmp_path):
    pytest.importorskip("simplejpeg")
    image = Image.fromarray(np.clip(smooth(640, 480) + RNG.normal(0, 9, (480, 640, 3)), 0, 255).astype(np.uint8))
    data = saved(image, "JPEG", progressive=progressive)
    start = data.rindex(b"\xff\xda") + 20
    middle = (start + len(data)) // 2
    for damaged in (
        data[:middle] + data[middle + 2048 :],
        data[:middle] + bytes(4096) + data[middle + 4096 :],
    ):
        with pytest.raises(BadImage, match="damaged: Corrupt JPEG data"):
            read(tmp_path, damaged)


def test_bytes_too_many_at_the_end_of_a_scan_are_no_damage(tmp_path):
    data = saved(Image.fromarray(smooth()), "JPEG")
    np.testing.assert_array_equal(read(tmp_path, data[:-2] + b"\x12\x34\x56" + data[-2:]), read(tmp_path, data))


def test_only_jpeg_is_decoded_at_a_fraction(tmp_path):
    path = tmp_path / "a.jpg"
    for data in (saved(Image.fromarray(smooth()), "PNG"), saved(Image.fromarray(smooth()).convert("CMYK"), "JPEG")):
        path.write_bytes(data)
        assert ImageFile(path).scalable_sides is None


def test_the_first_of_several_pictures_is_read_and_their_number_told(tmp_path):
    first, second = (Image.fromarray(np.full((9, 8, 3), value, np.uint8)) for value in (200, 30))
    for kind, name in (("TIFF", "a.tif"), ("MPO", "a.jpg"), ("GIF", "a.gif"), ("WEBP", "a.webp")):
        path = tmp_path / name
        path.write_bytes(saved(first, kind, save_all=True, append_images=[second]))
        assert np.abs(read_image(path).astype(int) - 200).max() <= 2
        assert count_pictures(path) == (2 if kind == "TIFF" else 1)
    path = tmp_path / "broken.tif"
    path.write_bytes(b"II*\0 and nothing")
    assert count_pictures(path) == 1


def test_what_is_no_photograph_says_why(tmp_path):
    for data, reason in (
        (tiff(np.zeros((4, 4), np.float32), bits=32, t339=3), "fractions of 32 bits"),
        (tiff(np.zeros((4, 4), np.int16), t339=2), "signed numbers of 16 bits"),
        (saved(Image.fromarray(smooth()), "TIFF")[:-99], "Pillow can't decode it"),
        (tiff(np.zeros((4, 4), np.uint16))[:40], "TIFF tags"),
        (tiff(np.zeros((4, 4), np.uint16)).replace(b"\2\1\4\0", b"\2\1\2\0"), "TIFF tags"),  # depth as text
        (b"RIFF....WEBPVP8 nothing", "Pillow can't decode it"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),  # Pillow would start another program
    ):
        path = tmp_path / "a"
        path.write_bytes(data)
        with pytest.raises(BadImage, match=reason):
            read_image(path)


def test_a_single_pixel(tmp_path):
    for kind in ("PNG", "JPEG", "TIFF", "WEBP", "BMP"):
        assert read(tmp_path, saved(Image.new("RGB", (1, 1), (77, 77, 77)), kind)).shape == (1, 1, 3)


def test_scaling_keeps_the_ends_and_the_order():
    for bits in range(8, 17):
        every = np.arange(1 << bits, dtype=np.uint16)
        np.testing.assert_array_equal(to_bytes(every), scaled(every, bits))


def test_over_black_is_what_pillow_shows():
    colours, alpha = RNG.integers(0, 256, (64, 64, 3), np.uint8), RNG.integers(0, 256, (64, 64), np.uint8)
    image = Image.fromarray(np.dstack([colours, alpha]))
    theirs = np.asarray(Image.alpha_composite(Image.new("RGBA", (64, 64), "black"), image))[..., :3].astype(int)
    assert np.abs(over_black(colours, alpha) - theirs).max() <= 1


# DICOM


def dicom(values: np.ndarray, kind: str, bits: int = 8, syntax: str = "1.2.840.10008.1.2.1", **elements) -> bytes:
    """A DICOM file of (H, W[, 3]) values."""
    from pydicom.dataset import FileDataset, FileMetaDataset

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.77.1.5.1", "1.2.3"
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    dataset.Rows, dataset.Columns = values.shape[-3:-1] if values.shape[-1] == 3 else values.shape[-2:]
    dataset.SamplesPerPixel = 3 if values.shape[-1] == 3 else 1
    if dataset.SamplesPerPixel == 3:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = kind
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * values.itemsize, bits, bits - 1
    dataset.PixelRepresentation = 0
    for name, value in elements.items():
        setattr(dataset, name, value)
    if "PixelData" not in elements:
        dataset.PixelData = values.tobytes()
    dataset["PixelData"].VR = "OW" if values.itemsize == 2 else "OB"
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def test_dicom_grey_is_scaled_by_its_stored_bits(tmp_path):
    values = RNG.integers(0, 1000, (6, 4), np.uint16)  # of twelve bits, though ten would hold them
    expected = three(scaled(values, 12))
    np.testing.assert_array_equal(read(tmp_path, dicom(values, "MONOCHROME2", 12)), expected)
    np.testing.assert_array_equal(read(tmp_path, dicom(values, "MONOCHROME1", 12)), 255 - expected)


def test_dicom_colours(tmp_path):
    rgb = COLOURS[..., :3].repeat(2, axis=1)
    np.testing.assert_array_equal(read(tmp_path, dicom(rgb, "RGB")), rgb)
    ycbcr = np.asarray(Image.fromarray(rgb).convert("YCbCr"))
    assert np.abs(read(tmp_path, dicom(ycbcr, "YBR_FULL")) - rgb.astype(int)).max() <= 3


def test_dicom_that_begins_like_a_tiff(tmp_path):
    """Files of both kinds in one have a TIFF's header in the 128 bytes that DICOM leaves free."""
    rgb = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    content = b"II*\0\x08\0\0\0" + dicom(rgb, "RGB")[8:]
    np.testing.assert_array_equal(read(tmp_path, content), rgb)


def test_dicom_palette(tmp_path):
    table = RNG.integers(0, 256, (3, 256)).astype(np.uint16)
    elements = {}
    for name, channel in zip(("Red", "Green", "Blue"), table, strict=True):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        elements[f"{name}PaletteColorLookupTableData"] = (channel * 257).astype("<u2").tobytes()
    indices = RNG.integers(0, 256, (6, 4), np.uint8)
    np.testing.assert_array_equal(read(tmp_path, dicom(indices, "PALETTE COLOR", **elements)), table.T[indices])


def test_dicom_holding_a_jpeg(tmp_path):
    from pydicom.encaps import encapsulate

    picture = smooth()
    jpeg = saved(Image.fromarray(picture), "JPEG", quality=95)
    data = dicom(picture, "YBR_FULL_422", syntax="1.2.840.10008.1.2.4.50", PixelData=encapsulate([jpeg]))
    theirs = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).astype(int)
    assert np.abs(read(tmp_path, data) - theirs).max() <= 2


def test_the_first_dicom_frame_is_read_and_their_number_told(tmp_path):
    frames = np.stack([np.full((6, 4), 50, np.uint8), np.full((6, 4), 90, np.uint8)])
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom(frames, "MONOCHROME2", NumberOfFrames=2))
    assert (read_image(path) == 50).all() and count_pictures(path) == 2


def test_dicom_that_cannot_be_read_says_why(tmp_path, monkeypatch):
    from pydicom.encaps import encapsulate

    grey = np.zeros((6, 4), np.uint8)
    path = tmp_path / "a.dcm"
    for data, reason in (
        (dicom(grey, "MONOCHROME2", syntax="1.2.840.10008.1.2.4.80", PixelData=encapsulate([b"\0\0"])), "JPEG-LS"),
        (dicom(grey, "MONOCHROME2", PixelRepresentation=1), "signed"),
        (dicom(grey, "MONOCHROME2").replace(b"\4\0CS", b"\4\0CQ"), "can't read PhotometricInterpretation of the DICOM"),
        (dicom(grey, "MONOCHROME2").replace(b"\1\1US", b"\1\1LO"), "can't read BitsStored of the DICOM"),
        (dicom(grey, "MONOCHROME2")[:-10], "pydicom can't decode"),
        (dicom(grey, "MONOCHROME2")[:200], "pydicom can't|no image"),
    ):
        path.write_bytes(data)
        with pytest.raises(BadImage, match=reason):
            read_image(path)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    monkeypatch.setitem(sys.modules, "pydicom.pixels", None)
    with pytest.raises(BadImage, match=r'pip install "pmtrain\[dicom\]"'):
        read_image(path)
