"""Sample and DataSet: what every layout is read into."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pmtrain.data.images import source
from pmtrain.system.errors import PmtrainError

SYNTHETIC_NOTE = "SYNTHETIC.md"  # its presence at the root marks a data set as drawn by a program
SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Sample:
    """One image: its file, its label (1 is the positive class), and what the layout says about it.

    `split` is a name of SPLITS, or None where the layout has no splits; `patient` is empty where unknown; `columns`
    are (name, cell) of a table's other columns.
    """

    path: Path
    label: int
    split: str | None = None
    patient: str = ""
    columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class DataSet:
    """The images found at `root`, in a fixed order, with the names of the negative and the positive class.

    `notes` are messages for people about how the listing was read.
    """

    root: Path
    layout: str
    classes: tuple[str, str]
    samples: tuple[Sample, ...]
    synthetic: bool = False
    notes: tuple[str, ...] = ()

    def split(self, name: str | None) -> tuple[Sample, ...]:
        """The samples of one split; empty where the data set has no such split."""
        return tuple(sample for sample in self.samples if sample.split == name)

    def name_of(self, sample: Sample) -> str:
        """The sample's path relative to `root`, with forward slashes: its name in everything printed and written."""
        return _relative(str(sample.path), str(self.root))

    def describe(self) -> str:
        """The layout, and the number of images of each class in each split, as text for people."""
        counts = Counter((sample.split, sample.label) for sample in self.samples)
        made = "SYNTHETIC images; " if self.synthetic else ""
        lines = [f"{self.root}: {made}{self.layout} layout, {len(self.samples)} images"]
        for split in (*SPLITS, None):
            negatives, positives = counts[split, 0], counts[split, 1]
            if negatives or positives:
                negative, positive = self.classes
                what = split or "no split"
                lines.append(f"  {what}: {positives} {positive} (positive), {negatives} {negative} (negative)")
        return "\n".join(lines + [f"  {note}" for note in self.notes])

    def fingerprint(self) -> str:
        """SHA-256 of the listing: relative path, size in bytes, label and split of every file, sorted by path.

        Equal listings have equal fingerprints on every system; a file changed without a change in size goes unnoticed.

        Raises:
            PmtrainError: a file is gone.
        """
        digest = hashlib.sha256()
        for name, sample in sorted((self.name_of(sample), sample) for sample in self.samples):
            try:
                size = source.size(sample.path)
            except OSError as error:
                raise PmtrainError(f"{sample.path}: {error.strerror}") from None
            line = "\0".join((name, str(size), str(sample.label), sample.split or ""))
            digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
        return digest.hexdigest()


def _relative(path: str, root: str) -> str:
    if path.startswith(root + os.sep):  # the usual case, and the quick one
        name = path[len(root) + 1 :]
    else:
        try:
            name = os.path.relpath(path, root)
        except ValueError:  # another drive of Windows
            name = path
    return name.replace(os.sep, "/")


LONGEST = 500  # characters of an item in a message; paths have fewer


def first_few(things: Sequence[object], few: int = 5) -> str:
    """The first few items of a list as text: `a, b, c and 7 more`; of an endless one, its beginning."""
    named = ", ".join(text if len(text := str(thing)) <= LONGEST else text[:LONGEST] + "..." for thing in things[:few])
    return named if len(things) <= few else f"{named} and {len(things) - few} more"
