"""joined: a YAML file of several data sets, each with its own layout, used as one.

clinic:
  data: clinic/labels.csv     # paths are relative to this file
  label_column: grade
  positive: 2,3,4             # in this set's own labels
  split: train                # replaces the set's own splits
palm:
  data: ichallenge-pm
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pmtrain.config import ListingOptions, read_yaml, validated
from pmtrain.config.values import OneOf
from pmtrain.data.layouts.classes import Classes, classify_rows
from pmtrain.data.layouts.rows import Found, Row, TableOptions
from pmtrain.system.errors import PmtrainError, UsageError

SUFFIXES = (".yaml", ".yml")
COLUMN = "set"  # column name for --group-by


class SetOptions(ListingOptions):
    """The options of one set: those of the command line, and those that only joined sets need."""

    split: Annotated[str, OneOf("pmtrain.data.dataset:SPLITS")] | None = None
    same_patients: bool = False


# Reads a set's rows from its folder or table with its options; also returns the layout's name.
ReadRows = Callable[[Path, ListingOptions], tuple[str, Found]]


def read(data: Path, options: TableOptions, read_rows: ReadRows) -> Found:
    """The rows of all sets, with the set's name as a column.

    The two classes keep their names if all sets use the same ones, else they are `negative` and `positive`. Patients of
    different sets are different people, unless both sets have `same_patients: true`.

    Raises:
        PmtrainError: a set can't be read; two sets contain the same file; or only some sets have splits.
    """
    parts = {str(name): _read_set(data, str(name), each, read_rows) for name, each in read_yaml(data).items()}
    if not parts:
        raise PmtrainError(
            f"{data}: lists no data set", "write `name:` for each, and below it, indented, `data: FOLDER`"
        )
    named = [classes for _, _, classes, _ in parts.values()]
    negative = _shared({classes.negative for classes in named} - {""}, "negative")
    positive = _shared({classes.positive for classes in named} - {""}, "positive")
    if negative == positive:
        negative, positive = "negative", "positive"
    rows: list[Row] = []
    notes: list[str] = []
    owners: dict[Path, str] = {}
    for name, (layout, found, classes, how) in parts.items():
        told = f"{classes.positive or 'nothing'} is positive, {classes.negative or 'nothing'} negative"
        notes += [f"{name}: {layout} layout, {len(found.rows)} images, {told}"]
        notes += [f"{name}: {note}" for note in found.notes]
        for row in found.rows:
            if (owner := owners.setdefault(row.path, name)) != name:
                raise PmtrainError(f"{data}: {owner} and {name} both contain {row.path}", "leave it out of one of them")
            rows.append(
                row._replace(
                    label=positive if row.label in classes.labels else negative,
                    split=how.split or row.split,
                    patient=row.patient if how.same_patients or not row.patient else f"{name}/{row.patient}",
                    columns=(*row.columns, (COLUMN, name)),
                    line=0,
                )
            )
    _require_splits_alike(data, rows)
    return Found(rows, root=data.parent, positive=positive, notes=tuple(notes))


def _read_set(file: Path, name: str, content: object, read_rows: ReadRows) -> tuple[str, Found, Classes, SetOptions]:
    if not isinstance(content, dict):
        raise UsageError(
            f"{file}: {name}: {content!r} are not options", "write `data: FOLDER` below the name, indented"
        )
    how = validated(SetOptions, content, lambda key: f"{file}: {name}: {key}:")
    if how.data is None:
        raise UsageError(f"{file}: {name}: no data", "write `data: FOLDER`, or a table, relative to this file")
    if how.data.suffix.lower() in SUFFIXES:
        raise UsageError(f"{file}: {name}: {how.data} is itself a list of data sets", "list its data sets here instead")
    paths = {key: file.parent / path for key in ("data", "val_data", "root") if (path := getattr(how, key)) is not None}
    try:
        layout, found = read_rows(paths["data"], how.model_copy(update=paths))
        positive = found.positive if how.positive is None and how.negative is None else how.positive
        rows, classes, notes = classify_rows(
            found.rows, paths["data"], positive, how.negative, how.exclude, one_will_do=True
        )
        return layout, replace(found, rows=rows, notes=found.notes + notes), classes, how
    except PmtrainError as error:
        raise type(error)(f"{file}: {name}: {_in_yaml(error.message)}", _in_yaml(error.hint)) from None


def _in_yaml(text: str) -> str:
    """Write flags as YAML keys: `--label-column grade` -> `label_column: grade`."""
    return re.sub(r"--([a-z-]+):? ", lambda flag: flag[1].replace("-", "_") + ": ", text)


def _shared(names: set[str], otherwise: str) -> str:
    return names.pop() if len(names) == 1 else otherwise


def _require_splits_alike(data: Path, rows: list[Row]) -> None:
    """Refuse sets without splits next to sets with a validation split: their images would not be used."""
    unsplit = {dict(row.columns)[COLUMN] for row in rows if row.split is None}
    if unsplit and any(row.split == "val" for row in rows):
        name = sorted(unsplit)[0]
        raise PmtrainError(
            f"{data}: {name} has no splits, but other sets have a validation split",
            f"write `split: train` (or val, or test) below {name}; or remove the val splits of the others",
        )
