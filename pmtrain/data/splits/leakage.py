"""The quick check before a training: images and patients in more than one split."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pmtrain.data.dataset import DataSet, Sample, first_few
from pmtrain.data.images import source
from pmtrain.data.images.file_table import FILES
from pmtrain.system import console
from pmtrain.system.errors import PmtrainError

GLANCE = 1 << 16  # bytes from a large file's middle that are compared before all of it is read


@dataclass(frozen=True)
class Leaks:
    """What more than one split holds: files that are equal byte for byte, and patients with their images."""

    copies: tuple[tuple[Sample, ...], ...]
    patients: dict[str, tuple[Sample, ...]]

    def in_training(self) -> list[Sample]:
        """The training images that are validation or test images as well, or of a patient who has such images."""
        groups = (*self.copies, *self.patients.values())
        found = (s for group in groups for s in group if s.split == "train" and any(o.split != "train" for o in group))
        return list(dict.fromkeys(found))


def find_leaks(data: DataSet) -> Leaks:
    """The files and patients that more than one split of `data` holds.

    Equal files have equal sizes, and equal bytes in their middle: only files that share both with one of another split
    are hashed. A file that can't be read is equal to none.
    """
    groups = [tuple(sample for sample in data.samples if sample.split)]
    for key in (source.size, _glance, FILES.digest):
        groups = [part for group in groups for part in _parts(group, partial(_of_file, key))]
    of_patients = _parts([sample for sample in data.samples if sample.split], lambda sample: sample.patient or None)
    return Leaks(tuple(groups), {part[0].patient: part for part in of_patients})


def _parts(samples: Iterable[Sample], key: Callable[[Sample], Hashable]) -> list[tuple[Sample, ...]]:
    """The samples by equal key, only those groups that more than one split holds; a key of None equals none."""
    parts = defaultdict(list)
    for sample in samples:
        if (value := key(sample)) is not None:
            parts[value].append(sample)
    return [tuple(part) for part in parts.values() if len({sample.split for sample in part}) > 1]


def _of_file(key: Callable[[Path], Hashable], sample: Sample) -> Hashable:
    try:
        return key(sample.path)
    except OSError:
        return None


def _glance(path: Path) -> bytes:
    """A digest of the file's middle; empty where the file is so small that all of it is read at once."""
    size = source.size(path)
    if size <= 2 * GLANCE:
        return b""
    with source.open_file(path) as file:
        file.seek(size // 2)
        return hashlib.sha256(file.read(GLANCE)).digest()


@dataclass(frozen=True)
class Enforced:
    """The data to train on, and what run.json says about its leaks."""

    data: DataSet
    record: dict[str, Any]


def enforce(data: DataSet, policy: str) -> Enforced:
    """Look for leaks and do what `--leakage` says: warn, stop, or leave out the training images concerned.

    Raises:
        PmtrainError: there are some and the policy is `stop`; the message counts and names them.
    """
    leaks = find_leaks(data)
    lines = _in_words(leaks, data)
    dropped = [data.name_of(sample) for sample in leaks.in_training()] if policy == "drop" else []
    if lines and policy == "stop":
        raise PmtrainError(
            f"{data.root}: " + "\n".join(lines),
            "leave those training images out: --leakage drop; or train on them nevertheless: --leakage warn",
        )
    for line in lines:
        console.warn(line)
    if dropped:
        console.notice(f"left out of training (--leakage drop): {len(dropped)}: {first_few(dropped)}")
    elif lines:
        console.notice("hint: --leakage drop leaves such training images out; `pmtrain data check` looks further")
    return Enforced(
        without(data, dropped),
        {
            "policy": policy,
            "exact_duplicates": len(leaks.copies),
            "patients": len(leaks.patients),
            "dropped": len(dropped),
            "files": [[data.name_of(sample) for sample in group] for group in leaks.copies],
            "patient_names": sorted(leaks.patients),
            "dropped_files": dropped,
        },
    )


def without(data: DataSet, names: Collection[str]) -> DataSet:
    """The data without the training images of these names."""
    gone = set(names)
    return replace(data, samples=tuple(s for s in data.samples if not (s.split == "train" and data.name_of(s) in gone)))


def _in_words(leaks: Leaks, data: DataSet) -> list[str]:
    """A line about the files and a line about the patients, where there are some."""
    lines = []
    if leaks.copies:
        pairs = [" = ".join(f"{data.name_of(s)} ({s.split})" for s in group) for group in leaks.copies]
        many = "image is" if len(pairs) == 1 else "images are"
        lines.append(f"{len(pairs)} {many} in more than one split, byte for byte: {first_few(pairs)}")
    if leaks.patients:
        many = "patient has" if len(leaks.patients) == 1 else "patients have"
        names = first_few(sorted(leaks.patients))
        lines.append(f"{len(leaks.patients)} {many} images in more than one split: {names}")
    return lines


def also_trained_on(
    data: DataSet, samples: Iterable[Sample], record: dict[str, Any]
) -> tuple[list[Sample], list[Sample]]:
    """Those of a run's images that it also trained on as another, identical file, and others that show patients of its
    training images.

    Args:
        data: the run's data, split as the run split it, with the images that it dropped.
        record: what `enforce` recorded; empty where leaks weren't looked for.
    """
    trained = without(data, record.get("dropped_files", ())).split("train")
    trained_names = {data.name_of(sample) for sample in trained}
    copied = {name for group in record.get("files", ()) if trained_names.intersection(group) for name in group}
    patients = {sample.patient for sample in trained if sample.patient}
    others = [sample for sample in samples if sample.split != "train"]
    copies = [sample for sample in others if data.name_of(sample) in copied]
    related = [sample for sample in others if sample.patient in patients and data.name_of(sample) not in copied]
    return copies, related
