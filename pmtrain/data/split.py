"""Splits for data sets that come without one."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import replace

import numpy as np

from pmtrain.data.samples import DataSet, Sample
from pmtrain.errors import PmtrainError


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
    counts = {name: np.bincount([sample.label for sample in group], minlength=2) for name, group in groups.items()}
    total = np.sum(list(counts.values()), axis=0)  # (2,) images per class
    wanted = np.maximum(1, np.round(total * fraction))
    held, held_out = np.zeros(2), set()
    for name in sorted(groups, key=lambda name: _lot(seed, name)):
        if np.abs(held + counts[name] - wanted).sum() < np.abs(held - wanted).sum():  # nearer to what is wanted
            held += counts[name]
            held_out.add(name)
    if not (held.all() and (total - held).all()):
        raise PmtrainError(
            f"{dataset.root}: too few images or patients of a class to hold {fraction:.0%} out for validation: "
            + ", ".join(f"{name} {int(count)} images" for name, count in zip(dataset.classes, total, strict=True)),
            "add images, or name the validation images yourself with --val-data",
        )
    split_of = {sample.path: "val" if name in held_out else "train" for name in groups for sample in groups[name]}
    return replace(
        dataset, samples=tuple(replace(sample, split=split_of.get(sample.path, "test")) for sample in dataset.samples)
    )


def _lot(seed: int, name: str) -> bytes:
    """A group's place in the seeded drawing: the same on every system and for every version of NumPy."""
    return hashlib.sha256(f"{seed} {name}".encode("utf-8", "surrogateescape")).digest()
