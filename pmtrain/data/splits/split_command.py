"""Splitting a data set: into train, val and test, or into folds, as a table for --data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pmtrain.config import SplitConfig
from pmtrain.data.dataset import SPLITS, DataSet, Sample
from pmtrain.data.select import select
from pmtrain.data.splits.manifest import write_manifest
from pmtrain.data.splits.split import folds, group_cell, split_into
from pmtrain.system import console
from pmtrain.system.errors import UsageError

DEFAULT_VAL = 0.2


def split(config: SplitConfig) -> None:
    """Write the table, and print images and groups of each split and class.

    Raises:
        PmtrainError: the data can't be read or split so, or the table exists already.
    """
    if os.path.lexists(config.output):
        raise UsageError(f"--output {config.output}: exists already, and is not overwritten", "give another name")
    if config.folds and config.val is not None:
        raise UsageError(
            f"--val {config.val:g} with --folds {config.folds}: each fold is the validation split once",
            "leave one of them out",
        )
    data = select(config, make_synthetic_set=False)
    how = (config.group_by, config.stratify, config.seed)
    fold_of: dict[Path, int] | None = None
    sides: dict[str, tuple[Sample, ...]]
    if config.folds:
        if config.test:
            data = split_into(data, 0, config.test, *how)
        parts = folds(data, config.folds, config.seed, config.group_by, config.stratify)
        fold_of = {sample.path: number for number, part in enumerate(parts, 1) for sample in part.split("val")}
        sides = {f"fold {number}": part.split("val") for number, part in enumerate(parts, 1)}
        sides["test"] = data.split("test")
    else:
        data = split_into(data, DEFAULT_VAL if config.val is None else config.val, config.test, *how)
        sides = {name: data.split(name) for name in SPLITS}
    warn_of_loners(data, config.group_by)
    write_manifest(config.output, data, fold_of)
    for line in table(data, sides, config.group_by):
        console.result(line)
    following = ["pmtrain", "train", "--data", str(config.output)]
    following += ["--folds", str(config.folds)] if config.folds else []
    following += ["--positive", config.positive] if config.positive else []  # a table can't tell that
    console.notice(f"wrote {config.output}; next: {console.quoted(*following)}")


def warn_of_loners(data: DataSet, group_by: str) -> None:
    """Warn of images without a group: if some belong together, they may be in different splits."""
    count = sum(not group_cell(data, sample, group_by) for sample in data.samples)
    if count and group_by != "none":
        console.warn(f"{count} of {len(data.samples)} images have no {group_by}: each counts as one of its own")


def table(data: DataSet, sides: dict[str, tuple[Sample, ...]], group_by: str) -> list[str]:
    """A row for each split: its images, and where there are groups their number; of all classes, then of each."""
    grouped = any(group_cell(data, sample, group_by) for sample in data.samples)
    what = {"patient": "patients"}.get(group_by, group_by)
    rows: list[tuple[str, ...]] = [("images/" + what if grouped else "images", "all", *data.classes)]
    for side, samples in sides.items():
        if samples:
            classes = [[sample for sample in samples if sample.label == label] for label in (0, 1)]
            rows.append((side, *(_cell(data, part, group_by, grouped) for part in [list(samples), *classes])))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _cell(data: DataSet, samples: Sequence[Sample], group_by: str, grouped: bool) -> str:
    if not grouped:
        return str(len(samples))
    groups = {(group_cell(data, sample, group_by) or sample.path) for sample in samples}
    return f"{len(samples)}/{len(groups)}"
