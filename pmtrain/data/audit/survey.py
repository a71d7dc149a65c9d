"""Every image of a data set read and decoded once: the file's format and header, and what its pixels show."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from pmtrain.data.audit.keypoints import MOST_IMAGES, NONE, Points, points_of
from pmtrain.data.audit.similar import HASH_SIDE, THUMBNAIL, perceptual_hash, texture, thumbnail
from pmtrain.data.audit.tissue import Tissue, tissue_of
from pmtrain.data.dataset import DataSet, Sample
from pmtrain.data.images.file_table import FILES, FileContent
from pmtrain.data.images.quality import fundus_quality, looks_like_fundus
from pmtrain.data.images.read import BadImage, ImageFile
from pmtrain.data.images.shortcut_features import FEATURES_KIND, FeatureTable
from pmtrain.data.loading.cache import Cache
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.data.preprocessing.retina.field_of_view import find_field
from pmtrain.system import console

# Pillow's modes, in words; a mode that isn't here goes by its own name.
COLOURS = {
    "1": "grey",
    "L": "grey",
    "I": "grey",
    "I;16": "grey",
    "I;16B": "grey",
    "F": "grey",
    "LA": "grey with transparency",
    "P": "palette",
    "RGB": "colour",
    "YCbCr": "colour",
    "RGBA": "colour with transparency",
    "CMYK": "CMYK",
}
BITS = {"1": 1, "I;16": 16, "I;16B": 16, "I": 32, "F": 32}  # per channel; 8 in all other modes

ONE_COLOUR = 1.0  # grey levels; an image whose channels all have a smaller standard deviation is of one colour
GREY = 1.0  # mean difference of two channels, in grey levels, below which colours are grey


class Header(NamedTuple):
    """Properties from the file's header; empty and 0 where Pillow can't tell."""

    format: str = ""  # JPEG, PNG, ...
    colour: str = ""  # a value of COLOURS
    bits: int = 0  # a channel
    orientation: int = 1  # EXIF's, 1 to 8


@dataclass(frozen=True, slots=True)
class Look:
    """One image: why it can't be decoded, or what was found."""

    error: str = ""
    content: bytes = b""  # SHA-256 of the file
    pixels: bytes = b""  # SHA-256 of the decoded pixels and their shape
    size: tuple[int, int] = (0, 0)  # width and height, turned as EXIF says
    header: Header = Header()
    one_colour: str = ""  # black, white or grey level, where nothing else is in the image
    tissue: Tissue | None = None
    photographs: int = 0  # fields of view in the image: 0 where no dark or white ground surrounds one
    fundus: bool = False  # whether it looks like a fundus photograph
    poor: str = ""  # why, if it is one, its quality is poor


@dataclass(frozen=True)
class Survey:
    """A data set with a look at each of its samples, in their order.

    `textures` (N, THUMBNAIL, THUMBNAIL) int8 and `hashes` (N, 32) uint8 are 0 and `points` empty where there is an
    error; they are what takes memory, 4 KiB an image and 18 KiB more where there are points.
    """

    data: DataSet
    looks: tuple[Look, ...]
    textures: np.ndarray
    hashes: np.ndarray
    points: tuple[Points, ...]

    def seen(self) -> Iterator[tuple[int, Sample, Look]]:
        """Index, sample and look of every image that was decoded."""
        for index, (sample, look) in enumerate(zip(self.data.samples, self.looks, strict=True)):
            if not look.error:
                yield index, sample, look


class Keeper:
    """Keeps what a training needs of each image that is decoded here: its training-size bytes and its features."""

    def __init__(self, cache: Cache, preprocess: Preprocess) -> None:
        self.cache, self.preprocess = cache, preprocess

    def keep(self, file: ImageFile, content: FileContent, row: np.ndarray | None) -> None:
        """Store one image and its features `row`, where there are any, unless they are in the cache already."""
        kind = self.preprocess.pixels_key
        there = self.cache.look(file.path, kind)
        if there and there.digest == content.digest:
            if there.place is None:
                self.cache.store(kind, [(there, self.preprocess.read_file(file))])
            if row is not None:
                self.cache.store(FEATURES_KIND, [(there, row)])


def survey(data: DataSet, threads: int, keeper: Keeper | None = None, features: FeatureTable | None = None) -> Survey:
    """Read and decode every image once, `threads` at a time, with progress; `features` gets those that it wants."""
    count = len(data.samples)
    looks, points = [], []
    textures = np.zeros((count, THUMBNAIL, THUMBNAIL), np.int8)
    hashes = np.zeros((count, HASH_SIDE * HASH_SIDE // 8), np.uint8)
    with _any_size(), console.progress(count, "image", "looking at images") as bar:
        paths = [sample.path for sample in data.samples]
        for index, (seen, fine, bits, places) in enumerate(_in_order(paths, threads, keeper, features)):
            looks.append(seen)
            points.append(places)
            textures[index], hashes[index] = fine, bits
            bar.update()
    return Survey(data, tuple(looks), textures, hashes, tuple(points))


Looked = tuple[Look, "np.ndarray | int", "np.ndarray | int", Points]


def _in_order(
    paths: list[Path], threads: int, keeper: Keeper | None, features: FeatureTable | None
) -> Iterator[Looked]:
    """`look` at each path; at most twice as many as there are threads at the same time."""
    waiting = iter(paths)
    few = len(paths) <= MOST_IMAGES
    if not few:
        console.notice(f"more than {MOST_IMAGES} images: cropped, turned or mirrored copies aren't looked for")
    pool = ThreadPoolExecutor(threads, thread_name_prefix="look")
    try:
        under_way: deque[Future[Looked]] = deque(
            pool.submit(look, path, keeper, features, few) for path in itertools.islice(waiting, 2 * threads)
        )
        while under_way:
            yield under_way.popleft().result()
            under_way.extend(pool.submit(look, path, keeper, features, few) for path in itertools.islice(waiting, 1))
    finally:
        pool.shutdown(cancel_futures=True)


def look(path: Path, keeper: Keeper | None = None, features: FeatureTable | None = None, points: bool = True) -> Looked:
    """One image's look, texture, perceptual hash and, with `points`, points; zeros and none if it can't be decoded."""
    try:
        content = FILES.read(path)
    except OSError:  # reading it again says why
        content = None
    try:
        file = ImageFile(path, content.data if content else None)
        image = file.decode()
    except BadImage as bad:
        return Look(bad.reason), 0, 0, NONE
    if features is not None:
        with suppress(BadImage):  # of another scale: the baseline leaves it out
            features.fill(file)
    small, field = thumbnail(image), find_field(image)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    pixels = hashlib.sha256(repr(image.shape).encode())
    pixels.update(np.ascontiguousarray(image).data)
    if keeper and content:
        keeper.keep(file, content, features.rows.get(path) if features is not None else None)
    found = Look(
        content=content.digest if content else hashlib.sha256(file.data).digest(),
        pixels=pixels.digest(),
        size=(image.shape[1], image.shape[0]),
        header=_header(file.data, small),
        one_colour=_one_colour(image) if grey.std() < 4 * ONE_COLOUR else "",
        tissue=tissue_of(small),
        photographs=field.photographs,
        fundus=looks_like_fundus(small),
        poor=fundus_quality(field.box.of(image)).reason,
    )
    return found, texture(grey), perceptual_hash(grey), points_of(field.box.of(image)) if points else NONE


@contextmanager
def _any_size() -> Iterator[None]:
    """Let Pillow read the headers of very large images, which it refuses because decoding them may fill the memory."""
    from PIL import Image

    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _header(content: bytes, small: np.ndarray) -> Header:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as opened:
            colour = COLOURS.get(opened.mode, opened.mode)
            if colour == "colour" and _is_grey(small):
                colour = "grey stored as colour"
            # Asked for its EXIF data, Pillow decodes a PNG whole; hardly one has any.
            has_exif = opened.format != "PNG" or b"eXIf" in content
            orientation = opened.getexif().get(0x0112, 1) if has_exif else 1
            bits = _bits(opened, content)
            return Header(opened.format or "", colour, bits, orientation if orientation in range(1, 9) else 1)
    except Exception:  # it was decoded, so the image is good even if another library can't read its header
        return Header()


def _bits(opened, content: bytes) -> int:
    """Bits a channel; Pillow's mode doesn't tell those of every colour image."""
    if opened.mode == "P":
        return 8
    if opened.format == "PNG":
        return content[24]  # of the header chunk, always the first
    if opened.format == "TIFF":
        return max(opened.tag_v2.get(258, (1,)))
    return BITS.get(opened.mode, 8)


def _is_grey(small: np.ndarray) -> bool:
    channels = small.astype(np.int16)
    return bool((np.abs(channels - channels[..., 1:2]).mean(axis=(0, 1)) < GREY).all())


def _one_colour(image: np.ndarray) -> str:
    mean, deviation = cv2.meanStdDev(image)
    if (deviation >= ONE_COLOUR).any():
        return ""
    return "black" if mean.max() < 8 else "white" if mean.min() > 247 else "one colour"
