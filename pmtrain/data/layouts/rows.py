"""What every layout is read into before its classes are named, and what a reader may be told."""

from __future__ import annotations

from collections.abc import Sequence
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
    """How a table is read.

    Attributes:
        root: where its paths begin; None for the table's own folder.
        path_column, label_column: names of columns, several for a table with a line a patient; none to find them.
        patient_column, split_column: a column's name, None to find it and "" for none.
        sheet: an Excel file's sheet; None for the first.
        skip_missing: leave out rows whose file isn't there.
        blank_labels: whether a row may lack a label, since it will be left out.
    """

    root: Path | None = None
    path_column: Sequence[str] = ()
    label_column: Sequence[str] = ()
    patient_column: str | None = None
    split_column: str | None = None
    sheet: str | None = None
    skip_missing: bool = False
    blank_labels: bool = False

    @classmethod
    def of(cls, options: ListingOptions) -> TableOptions:
        """Those of the options that are about tables."""
        own = {each.name: getattr(options, each.name) for each in fields(cls) if each.name != "blank_labels"}
        own |= {name: tuple(own[name]) for name in ("path_column", "label_column")}
        both = options.positive is not None and options.negative is not None
        return cls(**own, blank_labels=both or "" in parts_of(options.exclude))

    def given(self) -> list[str]:
        """The options that aren't left as they are."""
        own = [each for each in fields(self) if each.name != "blank_labels"]
        return [each.name for each in own if getattr(self, each.name) != each.default]

    def columns_of(self, role: str) -> list[str]:
        """The names of the columns that are given for `path`, `label`, `patient` or `split`."""
        value = getattr(self, f"{role}_column")
        return [value] if isinstance(value, str) else list(value or ())


def parts_of(text: str | None) -> list[str]:
    """The parts of a comma-separated list; an empty part stands for an empty label."""
    return [] if text is None else [part.strip() for part in text.split(",")]


BY_NAME = TableOptions()  # every column found by its name
