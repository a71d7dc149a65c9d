"""What every layout is read into before its classes are named, and what a reader may be told."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

from pmtrain.config import ListingOptions

# What people call their splits, in lower case.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


class Row(NamedTuple):
    """One photograph as a layout tells of it, its class still in the layout's words; `line` of a table, else 0."""

    path: Path
    label: str
    split: str | None = None
    patient: str = ""
    columns: tuple[tuple[str, str], ...] = ()
    line: int = 0


@dataclass(frozen=True)
class Found:
    """What a reader found.

    `root` is what names of images are told from, None for the data's own folder; `positive` the positive class where
    the layout itself knows it; `notes` what a person should be told of the reading, a line each.
    """

    rows: list[Row]
    root: Path | None = None
    positive: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableOptions:
    """How a table is read: its columns by name, None to find them and "" for none, and where its paths begin."""

    root: Path | None = None
    path_column: str | None = None
    label_column: str | None = None
    patient_column: str | None = None
    split_column: str | None = None

    @classmethod
    def of(cls, options: ListingOptions) -> TableOptions:
        """Those of the options that are about tables."""
        return cls(**{each.name: getattr(options, each.name) for each in fields(cls)})

    def given(self) -> list[str]:
        """The options that aren't left as they are."""
        return [name for name, value in vars(self).items() if value is not None]


BY_NAME = TableOptions()  # every column found by its name
