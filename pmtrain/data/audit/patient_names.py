"""Patients that file names tell, where none are known: what to give as --patient-pattern."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from pmtrain.data.audit.slides import slides_of
from pmtrain.data.dataset import Sample, first_few
from pmtrain.data.layouts.patients import PATTERNS

# 12_left.jpg and 12_right.jpg, Patient3-L.png, 0007 OD.tif: a name, then the eye.
EYE = re.compile(r"(?P<who>.*\w)[ _.-]+(?P<eye>left|right|l|r|od|os)", re.IGNORECASE)
RIGHT = {"right", "r", "od"}
MATCHING = 0.5  # share of the file names that a pattern matches at least
SEPARATOR = re.compile(r"[ _-]+")
MANY, FEW = 6, 20  # folders, and images in one, that may be patients' rather than a grade's or a part's
PAIRS = 3  # near duplicates whose names begin alike, from which on that is no chance


def eye_pairs(samples: Sequence[Sample]) -> dict[str, tuple[Sample, Sample]]:
    """The images whose names differ in the eye alone, by what they share."""
    named: dict[str, list[tuple[bool, Sample]]] = defaultdict(list)
    for sample in samples:
        if name := EYE.fullmatch(sample.path.stem):
            named[name["who"].lower()].append((name["eye"].lower() in RIGHT, sample))
    return {who: (pair[0][1], pair[1][1]) for who, pair in named.items() if len(pair) == 2 and pair[0][0] != pair[1][0]}


def patients_by_pattern(samples: Sequence[Sample], pattern: str) -> dict[str, list[Sample]]:
    """The patients with several images, by a row of PATTERNS; none where it matches few of the names."""
    found: dict[str, list[Sample]] = defaultdict(list)
    expression = re.compile(PATTERNS[pattern], re.IGNORECASE)
    for sample in samples:
        if match := expression.search(sample.path.as_posix() if "/" in expression.pattern else sample.path.name):
            found[match["patient"]].append(sample)
    if pattern == "folder" and not _are_patients(found):
        return {}
    if sum(map(len, found.values())) < MATCHING * len(samples):
        return {}
    return {patient: theirs for patient, theirs in found.items() if len(theirs) > 1}


def _are_patients(folders: dict[str, list[Sample]]) -> bool:
    """Whether folders are hardly classes or parts of a set: many, with a number in the name and few images each."""
    sizes = sorted(map(len, folders.values()))
    numbered = sum(any(map(str.isdecimal, name)) for name in folders)
    return len(folders) >= MANY and numbered == len(folders) and sizes[len(sizes) // 2] <= FEW


def suggestions(
    samples: Sequence[Sample], alike: Sequence[Sequence[Sample]]
) -> Iterator[tuple[tuple[Sample, ...], str]]:
    """Images of patients that the names tell, and what to give, in words.

    Args:
        alike: the images of each photograph that is there more than once, with changes.
    """
    slides, pattern = slides_of(samples)
    if slides:
        shown = first_few([patch.sample.path.stem for patch in next(iter(slides.values()))], 2)
        yield (
            tuple(patch.sample for patches in slides.values() for patch in patches),
            f"{shown}: patches of {len(slides)} slides, by their names; give --patient-pattern '{pattern}', or a split"
            " may separate those of one slide",
        )
        return
    for pattern in PATTERNS:
        if pattern == "left-right":
            patients = {who: list(pair) for who, pair in eye_pairs(samples).items()}
            what = f"{len(patients)} pairs of names look like two eyes of one patient"
        else:
            patients = patients_by_pattern(samples, pattern)
            what = f"{len(patients)} patients have several images, by their names"
        if patients:
            shown = first_few([sample.path.stem for sample in next(iter(patients.values()))], 3)
            yield (
                tuple(sample for theirs in patients.values() for sample in theirs),
                f"{shown}: {what}; give --patient-pattern {pattern}, or a split may separate them",
            )
            return
    if pairs := [group for group in alike if _begin_alike(group)]:
        if len(pairs) >= max(PAIRS, MATCHING * len(alike)):
            shown = first_few([sample.path.stem for sample in pairs[0]], 3)
            yield (
                tuple(sample for group in pairs for sample in group),
                f"{shown}: {len(pairs)} groups of near-duplicate images have names that begin alike; if that is the"
                r" patient, give --patient-pattern '^(.+)[ _-]', or a split may separate them",
            )


def _begin_alike(group: Sequence[Sample]) -> bool:
    """Whether the names are equal up to the last separator."""
    parts = [SEPARATOR.split(sample.path.stem) for sample in group]
    return len({tuple(part[:-1]) for part in parts}) == 1 and len(parts[0]) > 1
