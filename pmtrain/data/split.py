"""Splits for data sets that come without one."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from pmtrain.data.samples import DataSet, Sample
from pmtrain.errors import PmtrainError


def require_both_classes(dataset: DataSet) -> None:
    """Refuse what can't be trained on: both the training and the validation split need both classes.

    Raises:
        PmtrainError: one is empty or lacks a class.
    """
    for split in ("train", "val"):
        labels = {sample.label for sample in dataset.split(split)}
        for label, name in enumerate(dataset.classes):
            if label not in labels:
                raise PmtrainError(
                    f"{dataset.root}: the {split} split holds no image of class {name!r}",
                    "each class must be in both the training and the validation split",
                )


def hold_out(dataset: DataSet, fraction: float, seed: int) -> DataSet:
    """Hold a part of the training images out for validation, the same part of each class.

    All images of a patient stay on one side where patients are known. Which images are held out depends on the
    seed and the relative paths alone. A data set that has a validation split is returned as it is.

    Args:
        fraction: the part to hold out, between 0 and 1.
    Raises:
        PmtrainError: a class hasn't enough images (or patients) for both sides.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must be between 0 and 1, not {fraction}")
    if dataset.split("val"):
        return dataset
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in dataset.samples:
        if sample.split != "test":
            # The leading letter keeps a patient and a file of one name apart.
            groups[f"p {sample.patient}" if sample.patient else f"f {dataset.name_of(sample)}"].append(sample)
    total = _per_class(sample for group in groups.values() for sample in group)
    wanted = [max(1, round(count * fraction)) for count in total]
    held, held_out = [0, 0], set()
    for name in sorted(groups, key=lambda name: _lot(seed, name)):
        more = [have + count for have, count in zip(held, _per_class(groups[name]), strict=True)]
        if _distance(more, wanted) < _distance(held, wanted):
            held = more
            held_out.add(name)
    if 0 in held or any(have == count for have, count in zip(held, total, strict=True)):
        raise PmtrainError(
            f"{dataset.root}: too few images or patients of a class to hold {fraction:.0%} out for validation: "
            + ", ".join(f"{name} {count} images" for name, count in zip(dataset.classes, total, strict=True)),
            "add images, or name the validation images yourself with --val-data",
        )
    split_of = {sample.path: "val" if name in held_out else "train" for name in groups for sample in groups[name]}
    return replace(
        dataset, samples=tuple(replace(sample, split=split_of.get(sample.path, "test")) for sample in dataset.samples)
    )


def _per_class(samples: Iterable[Sample]) -> list[int]:
    """Images of the negative and of the positive class."""
    counts = [0, 0]
    for sample in samples:
        counts[sample.label] += 1
    return counts


def _distance(these: list[int], those: list[int]) -> int:
    return abs(these[0] - those[0]) + abs(these[1] - those[1])


def _lot(seed: int, name: str) -> bytes:
    """A group's place in the seeded drawing: the same on every system and for every version of NumPy."""
    return hashlib.sha256(f"{seed} {name}".encode("utf-8", "surrogateescape")).digest()
