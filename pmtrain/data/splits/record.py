"""A run's record of its images: a table of name, patient, label, split, size and SHA-256."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from pmtrain.data.dataset import DataSet, Sample
from pmtrain.data.images import source
from pmtrain.data.images.file_table import FILES
from pmtrain.system import console
from pmtrain.system.errors import PmtrainError
from pmtrain.system.files import plain_cell, safe_cell, write_atomic
from pmtrain.system.hardware import available_cpus

HEADER = ("file", "patient", "label", "split", "bytes", "sha256")
AT_A_TIME = 1000  # files given to the threads


class Content(NamedTuple):
    """A file's size and the SHA-256 of its bytes, empty where it can't be read."""

    bytes: int
    sha256: str


# The splits of each content's images.
Use = dict[Content, set[str | None]]


def contents(samples: Sequence[Sample]) -> dict[Path, Content]:
    """The content of every image's file, by path; files that no part of the command has read yet are read."""
    found: dict[Path, Content] = {}
    with (
        ThreadPoolExecutor(available_cpus()) as pool,  # hashing lets other threads run
        console.progress(len(samples), "image", "fingerprints") as bar,
    ):
        for start in range(0, len(samples), AT_A_TIME):
            paths = [sample.path for sample in samples[start : start + AT_A_TIME]]
            found.update(zip(paths, pool.map(_content, paths), strict=True))
            bar.update(len(paths))
    return found


def _content(path: Path) -> Content:
    try:
        size, digest = FILES.digest(path)
    except OSError:  # decoding reports it, and stops or leaves the image out
        return Content(-1, "")
    return Content(size, digest.hex())


def write_record(path: Path, dataset: DataSet, known: Mapping[Path, Content] | None = None) -> None:
    """Write the record of a run on `dataset`; `known`: the contents where they were computed before."""
    known = contents(dataset.samples) if known is None else known
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(HEADER)
    for sample in dataset.samples:
        content = known[sample.path]
        text_cells = map(safe_cell, (dataset.name_of(sample), sample.patient))
        rows.writerow((*text_cells, sample.label, sample.split or "", *content))
    write_atomic(path, text.getvalue().encode("utf-8", errors="surrogateescape"))


def write_digests(path: Path, uses: Sequence[Use]) -> None:
    """Write a record without names, patients and labels, to go with a model that leaves its runs.

    Args:
        uses: of each run; an image that any of them trained on was trained on.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(HEADER)
    for number, content in enumerate(dict.fromkeys(content for use in uses for content in use)):
        splits = set().union(*(use.get(content, ()) for use in uses))
        split = next((split for split in ("train", "val", "test") if split in splits), "")
        rows.writerow((number, "", "", split, *content))
    write_atomic(path, text.getvalue().encode())


@dataclass(frozen=True)
class Record:
    """What `write_record` wrote: the split of each image by name, and the names by content."""

    splits: dict[str, str | None]
    contents: dict[Content, list[str]]

    def applied(self, listed: DataSet, fingerprint: str) -> DataSet | None:
        """The data as the run split it; None unless all of the run's images are there, unchanged.

        Images that the run didn't have keep the split that they are listed with.

        Args:
            fingerprint: of the run's data.
        """
        samples, own = [], []
        for sample in listed.samples:
            name = listed.name_of(sample)
            samples.append(replace(sample, split=self.splits.get(name, sample.split)))
            if name in self.splits:
                own.append(samples[-1])
        if len(own) != len(self.splits) or replace(listed, samples=tuple(own)).fingerprint() != fingerprint:
            return None
        return listed if tuple(samples) == listed.samples else replace(listed, samples=tuple(samples))

    def used(self, samples: Sequence[Sample], dropped: Collection[str] = ()) -> list[set[str | None]]:
        """The run's splits that hold each of these images, as an identical file; dropped ones don't count."""
        sizes = {content.bytes for content in self.contents}
        found = contents([sample for sample in samples if _size(sample.path) in sizes])
        return [self._splits(found[s.path], dropped) if s.path in found else set() for s in samples]

    def use(self, dropped: Collection[str] = ()) -> Use:
        """In which of the run's splits the images of each content are; dropped ones are in none."""
        return {content: self._splits(content, dropped) for content in self.contents}

    def _splits(self, content: Content, dropped: Collection[str]) -> set[str | None]:
        return {self.splits[name] for name in self.contents.get(content, ()) if name not in dropped}


def _size(path: Path) -> int:
    try:
        return source.size(path)
    except OSError:
        return -2


def read_record(path: Path) -> Record:
    """Read what `write_record` wrote.

    Raises:
        PmtrainError: the file is damaged.
    """
    splits: dict[str, str | None] = {}
    by_content: dict[Content, list[str]] = {}
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            for row in csv.DictReader(file):
                name = plain_cell(row["file"])
                splits[name] = row["split"] or None
                if row["sha256"]:
                    by_content.setdefault(Content(int(row["bytes"]), row["sha256"]), []).append(name)
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise PmtrainError(f"{path}: can't be read: {error}", "restore the file as the run wrote it") from None
    return Record(splits, by_content)
