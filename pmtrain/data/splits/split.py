"""Splits and folds; the images of a group, such as a patient, stay together."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from pmtrain.data.dataset import DataSet, Sample, first_few
from pmtrain.system.errors import PmtrainError, UsageError

FOLD = "fold"  # the column of a table that says which fold an image is in


def require_both_classes(dataset: DataSet) -> None:
    """Refuse data that can't be trained on: the training and the validation split both need both classes.

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
    """Hold out a fraction of the training images for validation, the same fraction of each class.

    All images of a patient stay in one split where patients are known. Which images are held out depends on the
    seed and the relative paths alone. A data set that has a validation split is returned unchanged.

    Args:
        fraction: the share to hold out, between 0 and 1.
    Raises:
        PmtrainError: a class hasn't enough images (or patients) for both splits.
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
    held, held_out = _draw(groups, wanted, seed)
    if 0 in held or any(have == count for have, count in zip(held, total, strict=True)):
        raise PmtrainError(
            f"{dataset.root}: too few images or patients of a class to hold {fraction:.0%} out for validation: "
            + ", ".join(f"{name} {count} images" for name, count in zip(dataset.classes, total, strict=True)),
            "add images, or name the validation images yourself with --val-data",
        )
    split_of = {sample.path: "val" if name in held_out else "train" for name in groups for sample in groups[name]}
    return _with_splits(dataset, split_of)


def split_into(
    dataset: DataSet, val: float, test: float, group_by: str = "patient", stratify: bool = True, seed: int = 0
) -> DataSet:
    """Split the images into train, val and test, with no group in two splits.

    A test split of the data stays as it is; a validation split is joined to the training images first. What is drawn
    depends on the seed, the groups' names and the relative paths alone.

    Args:
        val, test: shares of the images that are split, in [0, 1); shares are met as closely as whole groups allow.
        group_by: as `groups_of`.
        stratify: meet the shares class by class.
    Raises:
        UsageError: the shares leave nothing, there is a test split already, or no such column.
        PmtrainError: a split lacks a class, or a group lies in the test split and outside of it.
    """
    if val + test <= 0 or val + test >= 1:
        raise UsageError(
            f"--val {val:g} --test {test:g}: nothing is left to {'split off' if val + test <= 0 else 'train on'}",
            "give shares such as --val 0.2 --test 0.2",
        )
    if test and dataset.split("test"):
        raise UsageError(
            f"--test {test:g}: {dataset.root} has a test split of {len(dataset.split('test'))} images already",
            "leave --test out to keep that one",
        )
    groups = groups_of(dataset, group_by)
    tally: Callable[[Iterable[Sample]], list[int]] = _per_class if stratify else _count
    total = tally(sample for group in groups.values() for sample in group)
    split_of: dict[Path, str] = {}
    for split, share in (("test", test), ("val", val)):
        if share:
            _, drawn = _draw(groups, [max(1, round(count * share)) for count in total], seed, tally)
            split_of |= {sample.path: split for name in drawn for sample in groups.pop(name)}
    split_of |= {sample.path: "train" for group in groups.values() for sample in group}
    result = _with_splits(dataset, split_of)
    for split, share in (("train", 1), ("val", val), ("test", test)):
        if share:
            _require_classes(result, split, f"the {split} split", "give other shares, another --seed, or more images")
    return result


def folds(dataset: DataSet, k: int, seed: int, group_by: str = "patient", stratify: bool = True) -> list[DataSet]:
    """`k` data sets: the validation split of the i-th is the i-th fold, and its training split all the others.

    A test split of the data stays as it is; a validation split is folded with the training images. No group lies in
    two folds. What is drawn depends on the seed, the groups' names, the relative paths and scikit-learn alone.

    Args:
        group_by: as `groups_of`.
        stratify: keep the classes' shares alike.
    Raises:
        PmtrainError: a class has too few groups for `k` folds, or a group lies in the test split and outside of it.
        UsageError: no such column.
    Source: StratifiedGroupKFold of scikit-learn; StratifiedKFold where every image is a group of its own.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    groups = groups_of(dataset, group_by)
    for label, name in enumerate(dataset.classes):
        count = sum(any(sample.label == label for sample in group) for group in groups.values())
        if count < k:
            what = "images" if len(groups) == sum(map(len, groups.values())) else f"groups (by {group_by})"
            raise PmtrainError(
                f"{dataset.root}: {name!r} has {count} {what}, too few for {k} folds",
                f"give --folds {count}" if count > 1 else "each fold needs images of both classes: add images",
            )
    samples = [sample for group in groups.values() for sample in group]
    numbers = [number for number, group in enumerate(groups.values()) for _ in group]
    labels = [sample.label if stratify else 0 for sample in samples]
    grouped = len(groups) < len(samples)
    kind = StratifiedGroupKFold if grouped else StratifiedKFold
    parts = kind(k, shuffle=True, random_state=seed).split(numbers, labels, numbers if grouped else None)
    fold_of = {samples[i].path: number for number, (_, part) in enumerate(parts, 1) for i in part}
    return _folded(dataset, fold_of, k, "give fewer --folds or another --seed")


def given_folds(dataset: DataSet, k: int) -> list[DataSet] | None:
    """As `folds`, by the `fold` column (1 to k) of the data's table; None where it has none.

    Raises:
        PmtrainError: a cell is no fold's number, a fold lacks a class, or a patient lies in two folds.
        UsageError: there are other than `k` folds.
    """
    cells = {sample: _cell(sample, FOLD) for sample in dataset.samples if sample.split != "test"}
    if not any(cells.values()):
        return None
    fold_of = {}
    for sample, cell in cells.items():
        number = cell.removesuffix(".0")  # as a spreadsheet may write it
        if not number.isdecimal() or int(number) < 1:
            raise PmtrainError(
                f"{dataset.root}: {dataset.name_of(sample)}: its fold is {cell!r}, which isn't a number from 1 on",
                "fill the column fold, or remove it to have the folds drawn",
            )
        fold_of[sample.path] = int(number)
    if (there := set(fold_of.values())) != set(range(1, k + 1)):
        raise UsageError(
            f"--folds {k}: the column fold of {dataset.root} has {first_few(sorted(there), 12)}",
            f"give --folds {len(there)}" if there == set(range(1, len(there) + 1)) else f"number them from 1 to {k}",
        )
    torn = [
        group[0].patient
        for group in groups_of(dataset, "patient").values()
        if len({fold_of[sample.path] for sample in group}) > 1
    ]
    if torn:
        raise PmtrainError(
            f"{dataset.root}: the column fold puts patients into more than one fold: {first_few(torn)}",
            "put each patient into one fold: `pmtrain data split --folds` does",
        )
    return _folded(dataset, fold_of, k, "correct the column fold")


def groups_of(dataset: DataSet, group_by: str) -> dict[str, list[Sample]]:
    """What must stay together: the name of each group and its images, both sorted, those of a test split left out.

    Args:
        group_by: `patient`, another column of the data's table, or `none`. An image with an empty cell is a group of
            its own.
    Raises:
        UsageError: there is no such column.
        PmtrainError: a group lies in the test split and outside of it.
    """
    groups: dict[str, list[Sample]] = defaultdict(list)
    in_test = set()
    for sample in sorted(dataset.samples, key=dataset.name_of):
        cell = group_cell(dataset, sample, group_by)
        # The leading letter keeps a patient and a file of one name apart.
        name = f"p {cell}" if cell else f"f {dataset.name_of(sample)}"
        if sample.split == "test":
            in_test.add(name)
        else:
            groups[name].append(sample)
    if torn := sorted(in_test & groups.keys()):
        raise PmtrainError(
            f"{dataset.root}: {len(torn)} groups (by {group_by}) lie in the test split and outside of it: "
            + first_few([name[2:] for name in torn]),
            "correct the test split, or leave it out of the data and have one drawn: pmtrain data split --test 0.2",
        )
    return dict(sorted(groups.items()))


def group_cell(dataset: DataSet, sample: Sample, group_by: str) -> str:
    """The name of the group that an image is in, empty where it is in none.

    Raises:
        UsageError: there is no such column.
    """
    if group_by == "none":
        return ""
    if group_by == "patient":
        return sample.patient
    for name, cell in sample.columns:
        if name == group_by:
            return cell
    columns = dict.fromkeys(name for sample in dataset.samples for name, _ in sample.columns)
    raise UsageError(
        f"--group-by {group_by!r}: {dataset.root} has no such column",
        f"give one of {', '.join(['patient', *columns])}; or none, for each image by itself",
    )


def _cell(sample: Sample, column: str) -> str:
    return next((cell for name, cell in sample.columns if name.lower() == column), "")


def _folded(dataset: DataSet, fold_of: Mapping[Path, int], k: int, hint: str) -> list[DataSet]:
    parts = []
    for number in range(1, k + 1):
        splits = {path: "val" if fold == number else "train" for path, fold in fold_of.items()}
        parts.append(_with_splits(dataset, splits))
        _require_classes(parts[-1], "val", f"fold {number}", hint)
        _require_classes(parts[-1], "train", f"what is left without fold {number}", hint)
    return parts


def _with_splits(dataset: DataSet, split_of: Mapping[Path, str]) -> DataSet:
    """The data with these splits; images that aren't named are those of the test split."""
    samples = tuple(replace(sample, split=split_of.get(sample.path, "test")) for sample in dataset.samples)
    return replace(dataset, samples=samples)


def _require_classes(dataset: DataSet, split: str, called: str, hint: str) -> None:
    labels = {sample.label for sample in dataset.split(split)}
    for label, name in enumerate(dataset.classes):
        if label not in labels:
            raise PmtrainError(f"{dataset.root}: {called} would hold no image of class {name!r}", hint)


def _count(samples: Iterable[Sample]) -> list[int]:
    return [sum(1 for _ in samples)]


def _per_class(samples: Iterable[Sample]) -> list[int]:
    """Images of the negative and of the positive class."""
    counts = [0, 0]
    for sample in samples:
        counts[sample.label] += 1
    return counts


def _draw(
    groups: Mapping[str, list[Sample]],
    wanted: list[int],
    seed: int,
    tally: Callable[[Iterable[Sample]], list[int]] = _per_class,
) -> tuple[list[int], set[str]]:
    """Draw groups whose numbers of images are close to `wanted`; their numbers, and their names.

    Groups come in random order, and each one is taken that brings the numbers closer.
    """
    held, drawn = [0] * len(wanted), set()
    for name in sorted(groups, key=lambda name: _lot(seed, name)):
        more = [have + count for have, count in zip(held, tally(groups[name]), strict=True)]
        if _distance(more, wanted) < _distance(held, wanted):
            held = more
            drawn.add(name)
    return held, drawn


def _distance(these: list[int], those: list[int]) -> int:
    return sum(abs(one - other) for one, other in zip(these, those, strict=True))


def _lot(seed: int, name: str) -> bytes:
    """A group's sort key in the seeded random order: the same on every system and for every version of NumPy."""
    return hashlib.sha256(f"{seed} {name}".encode("utf-8", "surrogateescape")).digest()
