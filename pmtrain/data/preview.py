"""A contact sheet of training images, each beside the versions of it that the first epochs train on."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from itertools import zip_longest

import cv2
import numpy as np

from pmtrain.config import PreviewConfig
from pmtrain.data.dataset import DataSet, Sample
from pmtrain.data.images.read import BadImage
from pmtrain.data.preprocessing.augment import Augment
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.data.preprocessing.retina.eye import aligned
from pmtrain.data.select import select
from pmtrain.data.splits.split import hold_out
from pmtrain.system import console
from pmtrain.system.errors import PmtrainError, UsageError
from pmtrain.system.files import new_file
from pmtrain.system.fonts import font_families

SMALLEST, LARGEST = 128, 320  # pixels: a tile's side
NARROWEST = 420  # pixels: room for the title
GAP, LINE = 6, 22  # pixels: between tiles, and the height of a line of text


def preview(config: PreviewConfig) -> None:
    """Write the contact sheet.

    Raises:
        PmtrainError: the data can't be read, an image is bad and is to stop the command, or the file exists already or
            can't be written.
    """
    if config.output.suffix.lower() != ".png":
        raise UsageError(f"--output {config.output}: a contact sheet is a PNG file", "give a name that ends in .png")
    with new_file(config.output) as file:
        data = hold_out(select(config), config.val_fraction, config.seed)
        preprocess = _preprocess(config)
        names, rows = [], []
        for sample, images in versions(data, config):
            eye = preprocess.eye(np.ascontiguousarray(images[0][..., ::-1]), sample.path, sample.columns)
            which = f"   eye: {eye.side}{f' ({eye.source})' if eye.source else ''}" if eye else ""
            names.append(f"{data.classes[sample.label]}   {data.name_of(sample)}{which}")
            rows.append([as_tile(image) for image in images])
        heads = ["as it is", *(f"epoch {epoch}" for epoch in range(config.versions))]
        title = f"augment {config.augment}, strength {config.augment_strength:g}, seed {config.seed}"
        title = ("SYNTHETIC images, " if data.synthetic else "") + title
        file.write(sheet(rows, title, heads, names))
    console.notice(
        f"{config.output}: {len(rows)} training images, each as it is and as epochs 0 to {config.versions - 1} of"
        f" --augment {config.augment} --augment-strength {config.augment_strength:g} --seed {config.seed} have it"
    )


def versions(data: DataSet, config: PreviewConfig) -> Iterator[tuple[Sample, list[np.ndarray]]]:
    """Some training images of both classes, chosen by the seed: the image as it is, then one version an epoch, RGB.

    Where eyes are aligned, the versions are those of a left eye.

    Raises:
        PmtrainError: an image is bad and `on_bad_image` is `stop`; there is none that can be read.
    """
    preprocess = _preprocess(config)
    augment = Augment(config.augment, config.seed, config.augment_strength, mirror=not config.align_eyes)
    samples = data.split("train")
    left = config.images
    for index in _choice([sample.label for sample in samples], config.seed):
        if not left:
            return
        try:
            plain = preprocess.read(samples[index].path)
        except BadImage as bad:
            name = data.name_of(samples[index])
            if config.on_bad_image == "stop":
                raise BadImage(name, bad.reason, "to leave such images out: --on-bad-image skip") from None
            console.warn(f"left out: {name}: {bad.reason}")
            continue
        eye = preprocess.eye(plain, samples[index].path, samples[index].columns)
        shown = aligned(plain, eye) if eye else plain
        changed = [augment(shown, epoch, index) for epoch in range(config.versions)]
        yield samples[index], [np.rint(image[..., ::-1]).astype(np.uint8) for image in (plain, *changed)]
        left -= 1
    if left == config.images:
        raise PmtrainError(f"{data.root}: no training image can be read", "look at the files, or give other --data")


def _preprocess(config: PreviewConfig) -> Preprocess:
    return Preprocess(config.preprocess, config.image_size, align_eyes=config.align_eyes)


def _choice(labels: list[int], seed: int) -> list[int]:
    """All places in a seeded order, the classes by turns for as long as both last."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(3,)))
    by_class = (rng.permutation(np.flatnonzero(np.array(labels) == label)).tolist() for label in (1, 0))
    return [index for pair in zip_longest(*by_class) for index in pair if index is not None]


def sheet(rows: list[list[np.ndarray]], title: str, heads: list[str], names: list[str]) -> bytes:
    """A PNG of rows of tiles, uint8 RGB (side, side, 3), pixel for pixel.

    Args:
        heads: one a column.
        names: one a row.
    """
    import matplotlib  # here: --help doesn't wait for it
    from matplotlib.figure import Figure

    side = len(rows[0][0])
    step, top = side + GAP, 2 * LINE
    height, width = top + len(rows) * (step + LINE), max(len(heads) * step + GAP, NARROWEST)
    canvas = np.full((height, width, 3), 255, np.uint8)
    lines = [(GAP, LINE // 2, title)]
    lines += [(GAP + column * step, LINE * 3 // 2, head) for column, head in enumerate(heads)]
    for row, (tiles, name) in enumerate(zip(rows, names, strict=True)):
        y = top + row * (step + LINE)
        lines.append((GAP, y + LINE // 2, _shortened(name, width // 8)))
        for column, tile in enumerate(tiles):
            x = GAP + column * step
            canvas[y + LINE : y + LINE + side, x : x + side] = tile
    content, dpi = io.BytesIO(), 100
    with matplotlib.rc_context({"font.family": font_families()}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+.*missing from")  # a letter that no font has is drawn as a box
        # A Figure of its own, without pyplot: no window, no state shared with whatever else draws in this process.
        figure = Figure(figsize=(width / dpi, height / dpi), dpi=dpi)
        figure.figimage(canvas, origin="upper")
        for x, y, text in lines:
            # parse_math: a file name with two dollar signs is no formula.
            figure.text(x / width, 1 - y / height, text, va="center", fontsize=9, parse_math=False)
        figure.savefig(content, format="png", dpi=dpi, metadata={"Software": None})
    return content.getvalue()


def as_tile(image: np.ndarray) -> np.ndarray:
    """The image at a size to look at: itself, unless it is tiny or huge."""
    side = int(np.clip(len(image), SMALLEST, LARGEST))
    if len(image) == side:
        return image
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if len(image) > side else cv2.INTER_NEAREST)


def _shortened(text: str, most: int) -> str:
    """The text in printable letters, its middle left out where it is too long."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"
