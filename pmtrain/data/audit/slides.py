"""Patches of slides, by file names that hold their places: `slide3_x1024_y512.png`, `TCGA-3C-AALI_2048_1536.png`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pmtrain.data.dataset import Sample

LETTERED = re.compile(r"(?P<slide>.+?)[ _-]+x(?P<x>\d+)[ _-]+y(?P<y>\d+)(?:\D.*)?", re.IGNORECASE)
NUMBERS = re.compile(r"(?P<slide>.+)[ _-]+(?P<x>\d+)[ _-]+(?P<y>\d+)")
MATCHING = 0.8  # share of the names that must hold two numbers for these to be places,
PATCHES = 4  # with so many to a slide in the mean
STEP = 8  # pixels: places that lie closer than this in the mean count rows and columns, not pixels

# What to give as --patient-pattern.
PATTERNS = {LETTERED: r"^(.+?)[ _-]+x\d+[ _-]+y\d+", NUMBERS: r"^(.+)[ _-]+\d+[ _-]+\d+\."}


class Patch(NamedTuple):
    """Where a patch lies: its left upper corner, in pixels or in rows and columns."""

    sample: Sample
    x: int
    y: int


def slides_of(samples: Sequence[Sample]) -> tuple[dict[str, list[Patch]], str]:
    """The slides that names tell, and the --patient-pattern that finds them; none where names hold no places."""
    for expression, pattern in PATTERNS.items():
        slides: dict[str, list[Patch]] = defaultdict(list)
        for sample in samples:
            if match := expression.fullmatch(sample.path.stem):
                slides[match["slide"]].append(Patch(sample, int(match["x"]), int(match["y"])))
        count = sum(map(len, slides.values()))
        if count >= MATCHING * len(samples) and count >= PATCHES * len(slides) > 0:
            return dict(slides), pattern
    return {}, ""


def overlapping(patches: Sequence[Patch], width: int, height: int) -> Iterator[tuple[Patch, Patch]]:
    """Pairs of patches of one slide that share pixels, where patches are `width` x `height`.

    None where the places count rows and columns. The work grows with the patches and the pairs.
    """
    for line in ({patch.x for patch in patches}, {patch.y for patch in patches}):
        if len(line) > 1 and (max(line) - min(line)) / (len(line) - 1) < STEP:
            return
    cells: dict[tuple[int, int], list[Patch]] = defaultdict(list)
    for patch in sorted(patches, key=lambda one: (one.x, one.y, str(one.sample.path))):
        column, row = patch.x // width, patch.y // height
        for near in ((column + i, row + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
            for other in cells.get(near, ()):
                if abs(other.x - patch.x) < width and abs(other.y - patch.y) < height:
                    yield other, patch
        cells[column, row].append(patch)
