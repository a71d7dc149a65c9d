"""The table of checks: each finds one kind of fault in the facts about a data set."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pmtrain.data.audit.facts import DatasetFacts, Photograph
from pmtrain.data.audit.patient_names import eye_pairs, suggestions
from pmtrain.data.audit.slides import overlapping, slides_of
from pmtrain.data.audit.survey import Look
from pmtrain.data.audit.tissue import Tissue, told_by_stain, two_stains
from pmtrain.data.dataset import SPLITS, DataSet, Sample, first_few
from pmtrain.data.images.read import count_pictures

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

SMALLEST = 32  # pixels; the least that images are resized to for training
MOST_STRETCHED = 3.0  # longer side to shorter; training squeezes every image into a square
RARE = 0.1  # share of a class below which a split has too little of it
UNEVEN = 0.25
TISSUE = 0.8  # share of stained images: from there on it is a set of stained tissue
EMPTY = 0.95  # share of an image without tissue
INKED = 0.2  # share of the images that a pen has marked at most; what more of them show is their own colour
STAIN_SHARE = 0.2  # by which the positive class's share differs between two stains
FUNDUS = 0.8  # share of images with a field of view: from there on it is a set of fundus photographs

# The suffixes that each of Pillow's formats goes by. A camera's MPO is a JPEG with another one behind it.
SUFFIXES_OF = {
    "BMP": {".bmp"},
    "JPEG": {".jpg", ".jpeg"},
    "MPO": {".jpg", ".jpeg"},
    "PNG": {".png"},
    "TIFF": {".tif", ".tiff"},
    "WEBP": {".webp"},
}


@dataclass(frozen=True)
class Found:
    """What a check yields: the images concerned and what is wrong with them."""

    samples: tuple[Sample, ...]
    message: str


@dataclass(frozen=True)
class Check:
    """A row of CHECKS: its severity, its title, and the function that finds it."""

    severity: Severity
    title: str
    find: Callable[[DatasetFacts], Iterable[Found]]


# Images that can't be read, or hold nothing


def _unreadable(facts: DatasetFacts) -> Iterator[Found]:
    for sample, look in zip(facts.data.samples, facts.survey.looks, strict=True):
        if look.error:
            yield Found((sample,), look.error)


def _blank(facts: DatasetFacts) -> Iterator[Found]:
    for _, sample, look in facts.survey.seen():
        if look.one_colour:
            yield Found((sample,), f"the whole image is {look.one_colour}")


def _suffix(facts: DatasetFacts) -> Iterator[Found]:
    known = set().union(*SUFFIXES_OF.values())
    for _, sample, look in facts.survey.seen():
        suffix, fits = os.path.splitext(sample.path)[1].lower(), SUFFIXES_OF.get(look.header.format)
        if fits and suffix in known and suffix not in fits:
            yield Found((sample,), f"is a {look.header.format} file")


def _pages(facts: DatasetFacts) -> Iterator[Found]:
    for _, sample, _ in facts.survey.seen():
        if (pages := count_pictures(sample.path)) > 1:
            yield Found((sample,), f"only the first of {pages} pictures is read")


def _tiny(facts: DatasetFacts) -> Iterator[Found]:
    for _, sample, look in facts.survey.seen():
        if min(look.size) < SMALLEST:
            yield Found((sample,), f"{_pixels(look)} pixels")


def _stretched(facts: DatasetFacts) -> Iterator[Found]:
    for _, sample, look in facts.survey.seen():
        if max(look.size) > MOST_STRETCHED * min(look.size):
            yield Found((sample,), f"{_pixels(look)} pixels")


def _fields(facts: DatasetFacts) -> Iterator[Found]:
    """In fundus photographs, images with several fields of view, or with none where the others have one."""
    seen = [(sample, look) for _, sample, look in facts.survey.seen() if not look.one_colour]
    if sum(look.photographs > 0 for _, look in seen) < FUNDUS * len(seen):
        return
    for sample, look in seen:
        if look.photographs > 1:
            yield Found((sample,), f"{look.photographs} photographs in one image; cut it, one file an eye")
        elif not look.photographs:
            yield Found((sample,), "no field of view found; --preprocess fundus uses the whole image")


def _poor(facts: DatasetFacts) -> Iterator[Found]:
    """In a set of fundus photographs, those that are dark, overexposed or out of focus, by reason."""
    seen = [(index, look) for index, _, look in facts.survey.seen() if not look.one_colour]
    if sum(look.fundus for _, look in seen) < FUNDUS * len(seen):
        return
    by_reason: dict[str, list[int]] = {}
    for index, look in seen:
        if look.poor:
            by_reason.setdefault(look.poor, []).append(index)
    for reason, indices in by_reason.items():
        samples = facts.samples(indices)
        yield Found(samples, f"{_in_classes(samples, facts)} {'is' if len(samples) == 1 else 'are'} {reason}")


def _pixels(look: Look) -> str:
    return f"{look.size[0]} x {look.size[1]}"


# One photograph in several files


def _conflicting(photographs: list[Photograph], data: DataSet) -> Iterator[Found]:
    for one in photographs:
        if len({sample.label for sample in one.samples}) > 1:
            yield Found(one.samples, f"{one.alike}, labelled {_by(one.samples, lambda s: data.classes[s.label])}")


def _leaking(photographs: list[Photograph]) -> Iterator[Found]:
    for one in photographs:
        if len(_splits(one.samples)) > 1:
            yield Found(one.samples, f"{one.alike}, in {_by(one.samples, lambda s: s.split)}")


def _repeated(photographs: list[Photograph]) -> Iterator[Found]:
    """Those that neither labels nor splits tell apart."""
    for one in photographs:
        if len({sample.label for sample in one.samples}) == 1 and len(_splits(one.samples)) < 2:
            patients = {sample.patient for sample in one.samples if sample.patient}
            of = f", of patients {' and '.join(sorted(patients))}" if len(patients) > 1 else ""
            yield Found(one.samples, one.alike + of)


def _by(samples: Iterable[Sample], key: Callable[[Sample], str | None]) -> str:
    return " and ".join(dict.fromkeys(key(sample) or "no split" for sample in samples))


def _splits(samples: Iterable[Sample]) -> set[str]:
    return {sample.split for sample in samples if sample.split}


# Patients


def _patients(facts: DatasetFacts) -> Iterator[Found]:
    of_patient = defaultdict(list)
    for sample in facts.data.samples:
        if sample.patient:
            of_patient[sample.patient].append(sample)
    for patient, samples in of_patient.items():
        if len(_splits(samples)) > 1:
            yield Found(tuple(samples), f"patient {patient} is in {_by(samples, lambda s: s.split)}")


def _eyes(facts: DatasetFacts) -> Iterator[Found]:
    """Patients that file names tell, in data without patients: their images look alike, so they must not be in
    different splits."""
    samples = facts.data.samples
    if any(sample.patient for sample in samples):
        return
    if not facts.data.split("val"):  # so that one will be held out
        for theirs, message in suggestions(samples, [one.samples for one in facts.near]):
            yield Found(theirs, message)
    for who, pair in eye_pairs(samples).items():
        if len(_splits(pair)) > 1:
            yield Found(
                pair,
                f"{who} looks like one patient, and is in {_by(pair, lambda s: s.split)};"
                " give --patient-pattern left-right",
            )


# Classes


def _shares(facts: DatasetFacts) -> Iterator[tuple[str, tuple[Sample, ...], list[int], float]]:
    """The name of every split, its samples, their number in each class, and the rarer class's share."""
    for split in (*SPLITS, None):
        samples = facts.data.split(split)
        counts = [sum(sample.label == label for sample in samples) for label in (0, 1)]
        if samples:
            yield split or "the data", samples, counts, min(counts) / len(samples)


def _missing_class(facts: DatasetFacts) -> Iterator[Found]:
    for split, _, counts, _ in _shares(facts):
        if 0 in counts:
            yield Found((), f"{split} has no image of class {facts.data.classes[counts.index(0)]}")


def _balance(facts: DatasetFacts, least: float, most: float) -> Iterator[Found]:
    """Splits whose rarer class has a share in [least, most); splits without that class don't count."""
    for split, samples, counts, share in _shares(facts):
        if 0 not in counts and least <= share < most:
            rarer = counts.index(min(counts))
            yield Found(
                (), f"{split}: {counts[rarer]} of {len(samples)} images ({share:.1%}) are {facts.data.classes[rarer]}"
            )


def _shortcut(facts: DatasetFacts) -> Iterator[Found]:
    if facts.shortcut.suspicious:
        yield Found((), facts.shortcut.describe())


# Stained tissue


def _stained(facts: DatasetFacts) -> list[tuple[int, Sample, Tissue]]:
    """The images of stained tissue, by index; none where the data set is of other images."""
    seen = list(facts.survey.seen())
    found = [(index, sample, look.tissue) for index, sample, look in seen if look.tissue]
    return found if len(found) >= TISSUE * len(seen) else []


def _tissue_free(facts: DatasetFacts) -> Iterator[Found]:
    free = [index for index, _, tissue in _stained(facts) if tissue.empty >= EMPTY]
    if free:
        samples = facts.samples(free)
        yield Found(samples, f"{_in_classes(samples, facts)} of which {EMPTY:.0%} or more is without tissue")


def _ink(facts: DatasetFacts) -> Iterator[Found]:
    stained, inks = _stained(facts), defaultdict(list)
    for index, _, tissue in stained:
        if tissue.ink:
            inks[tissue.ink].append(index)
    for ink, indices in inks.items():
        samples = facts.samples(indices)
        if len(indices) <= INKED * len(stained):
            yield Found(samples, f"{ink} ink or the like in {_in_classes(samples, facts)}")


def _stains(facts: DatasetFacts) -> Iterator[Found]:
    """Stains that the classes differ in: a network can tell them by the laboratory."""
    stained = [(index, tissue) for index, _, tissue in _stained(facts) if tissue.empty < EMPTY and not tissue.ink]
    second = two_stains(np.array([tissue.stain for _, tissue in stained]).reshape(-1, 3))
    if second is not None:
        groups = [
            facts.samples([index for (index, _), is_second in zip(stained, second, strict=True) if is_second == of])
            for of in (False, True)
        ]
        shares = [sum(sample.label for sample in group) / len(group) for group in groups]
        if abs(shares[0] - shares[1]) >= STAIN_SHARE:
            kinds = " and ".join(_in_classes(group, facts) for group in groups)
            yield Found(min(groups, key=len), f"two stains, which the classes differ in: {kinds}")
            return
    stained = [(index, tissue) for index, tissue in stained if any(tissue.directions)]
    samples = facts.samples([index for index, _ in stained])
    slide_of = {patch.sample: slide for slide, patches in slides_of(samples)[0].items() for patch in patches}
    told = told_by_stain(
        np.array([tissue.directions for _, tissue in stained]),
        np.array([sample.label for sample in samples], np.int64),
        np.array([sample.patient or slide_of.get(sample) or str(sample.path) for sample in samples]),
    )
    if told is not None:
        why = "another laboratory or scanner for one of them, or the disease itself"
        yield Found((), f"the colours of the two stains alone tell the classes, AUC {told:.2f}: {why}")


# Patches of slides


def _slides(facts: DatasetFacts) -> Iterator[Found]:
    """Slides whose patches are in several splits, where patients don't tell that already."""
    slides, pattern = slides_of([sample for sample in facts.data.samples if not sample.patient])
    of_slide = {slide: tuple(patch.sample for patch in patches) for slide, patches in slides.items()}
    parted = {slide: samples for slide, samples in of_slide.items() if len(_splits(samples)) > 1}
    if parted:
        samples = tuple(sample for theirs in parted.values() for sample in theirs)
        within = _by(samples, lambda s: s.split)
        slides_named = f"{len(parted)} of {len(slides)} slides have patches in {within} ({first_few(list(parted))})"
        yield Found(samples, f"{slides_named}; give --patient-pattern '{pattern}'")


def _overlaps(facts: DatasetFacts) -> Iterator[Found]:
    """Patches that share pixels, in several splits or with both labels."""
    sizes = {sample: look.size for _, sample, look in facts.survey.seen()}
    slides, _ = slides_of(list(sizes))
    several: dict[str, list[tuple[Sample, Sample]]] = defaultdict(list)
    for patches in slides.values():
        width, height = Counter(sizes[patch.sample] for patch in patches).most_common(1)[0][0]
        for one, other in overlapping(patches, width, height):
            pair = (one.sample, other.sample)
            if len(_splits(pair)) > 1:
                several["are in several splits"].append(pair)
            elif one.sample.label != other.sample.label:
                several["have both labels"].append(pair)
    for what, pairs in several.items():
        samples = tuple(dict.fromkeys(sample for pair in pairs for sample in pair))
        yield Found(samples, f"{len(pairs)} pairs of patches share pixels, by the places in their names, and {what}")


# Properties that most images share and some don't


def _kinds(facts: DatasetFacts, kind: Callable[[Look], str], usual: Callable[[str], bool]) -> Iterator[Found]:
    """One finding where images are of several kinds, or of one unusual kind.

    Its files are those of every kind but the most common one, and of that too where it is unusual.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for index, _, look in facts.survey.seen():
        if value := kind(look):
            groups[value].append(index)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    noted = sorted(i for place, (value, group) in enumerate(ordered) if place or not usual(value) for i in group)
    if noted:
        kinds = [f"{value}: {_in_classes(facts.samples(group), facts)}" for value, group in ordered]
        yield Found(facts.samples(noted), first_few(kinds))


def _in_classes(samples: tuple[Sample, ...], facts: DatasetFacts) -> str:
    """The number of images, and of each class: a kind that occurs in one class alone gives the class away."""
    counts = Counter(sample.label for sample in samples)
    classes = ", ".join(f"{counts[label]} {name}" for label, name in enumerate(facts.data.classes) if counts[label])
    return f"{len(samples)} image{'s' * (len(samples) != 1)} ({classes})"


def _sizes(facts: DatasetFacts) -> Iterator[Found]:
    yield from _kinds(facts, _pixels, lambda value: True)


def _formats(facts: DatasetFacts) -> Iterator[Found]:
    yield from _kinds(facts, lambda look: look.header.format, lambda value: True)


def _colours(facts: DatasetFacts) -> Iterator[Found]:
    colour = lambda look: "" if look.one_colour else look.header.colour  # noqa: E731
    yield from _kinds(facts, colour, lambda value: value in ("colour", "grey"))


def _depths(facts: DatasetFacts) -> Iterator[Found]:
    bits = lambda look: f"{look.header.bits} bits" if look.header.bits else ""  # noqa: E731
    yield from _kinds(facts, bits, lambda value: value == "8 bits")


def _turns(facts: DatasetFacts) -> Iterator[Found]:
    turned = tuple(sample for _, sample, look in facts.survey.seen() if look.header.orientation != 1)
    if turned:
        yield Found(turned, "pmtrain rotates them when it reads them; other programs may not")


# In the order that findings are printed in.
CHECKS: dict[str, Check] = {
    "unreadable": Check("error", "can't be decoded", _unreadable),
    "blank": Check("error", "blank image", _blank),
    "duplicate-splits": Check("error", "same image in several splits", lambda f: _leaking(f.equal)),
    "duplicate-labels": Check("error", "same image with both labels", lambda f: _conflicting(f.equal, f.data)),
    "near-splits": Check("error", "near-duplicate images in several splits", lambda f: _leaking(f.near)),
    "near-labels": Check("error", "near-duplicate images with both labels", lambda f: _conflicting(f.near, f.data)),
    "patient-splits": Check("error", "same patient in several splits", _patients),
    "slide-splits": Check("error", "patches of one slide in several splits", _slides),
    "missing-class": Check("error", "a split without one of the classes", _missing_class),
    "duplicate": Check("warning", "duplicate images", lambda f: _repeated(f.equal)),
    "near-duplicate": Check("warning", "near-duplicate images", lambda f: _repeated(f.near)),
    "eyes": Check("warning", "images of one patient, by file name", _eyes),
    "imbalance": Check("warning", f"a class below {RARE:.0%} of a split", lambda f: _balance(f, 0, RARE)),
    "overlap": Check("warning", "overlapping patches", _overlaps),
    "stain": Check("warning", "the classes differ in stain", _stains),
    "tissue-free": Check("warning", "hardly any tissue", _tissue_free),
    "ink": Check("warning", "pen marks", _ink),
    "shortcut": Check("warning", "the classes differ in camera or tint", _shortcut),
    "suffix": Check("warning", "file content and suffix differ", _suffix),
    "pages": Check("warning", "several pictures in one file", _pages),
    "tiny": Check("warning", f"smaller than {SMALLEST} pixels", _tiny),
    "stretched": Check("warning", f"one side more than {MOST_STRETCHED:g} times the other", _stretched),
    "field": Check("warning", "not one field of view, unlike the other images", _fields),
    "balance": Check("note", f"a class below {UNEVEN:.0%} of a split", lambda f: _balance(f, RARE, UNEVEN)),
    "sizes": Check("note", "several sizes", _sizes),
    "formats": Check("note", "several file formats", _formats),
    "colours": Check("note", "several colour modes, or an unusual one", _colours),
    "depths": Check("note", "several bit depths, or an unusual one", _depths),
    "turns": Check("note", "rotated by EXIF orientation", _turns),
    "quality": Check("note", "fundus photographs of poor quality", _poor),
}
