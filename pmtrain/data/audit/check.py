"""Is the data fit to train on? Every fault that can be seen from the files, by name."""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pmtrain.config import CheckConfig
from pmtrain.data.audit.shortcut import cross_validate
from pmtrain.data.audit.similar import block_pairs, near_groups
from pmtrain.data.audit.survey import Keeper, Look, Survey, survey
from pmtrain.data.dataset import SPLITS, DataSet, Sample, first_few
from pmtrain.data.images.read import count_pictures
from pmtrain.data.loading.cache import open_cache
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.data.select import select
from pmtrain.system import console
from pmtrain.system.files import new_file

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")

SMALLEST = 32  # pixels; the least that images are resized to for training
MOST_STRETCHED = 3.0  # longer side to shorter; training squeezes every image into a square
RARE = 0.1  # share of a class below which a split has too little of it
UNEVEN = 0.25

# The suffixes that each of Pillow's formats goes by. A camera's MPO is a JPEG with another one behind it.
SUFFIXES_OF = {
    "BMP": {".bmp"},
    "JPEG": {".jpg", ".jpeg"},
    "MPO": {".jpg", ".jpeg"},
    "PNG": {".png"},
    "TIFF": {".tif", ".tiff"},
    "WEBP": {".webp"},
}

# 12_left.jpg and 12_right.jpg, Patient3-L.png, 0007 OD.tif: a name, then the eye.
EYE = re.compile(r"(?P<who>.*\w)[ _.-]+(?P<eye>left|right|l|r|od|os)", re.IGNORECASE)
RIGHT = {"right", "r", "od"}


@dataclass(frozen=True)
class Finding:
    """One thing to look at: `kind` is a row of CHECKS, `files` are named from the data's root."""

    severity: Severity
    kind: str
    files: tuple[str, ...]
    message: str


@dataclass(frozen=True)
class Found:
    """What a check yields: the images that it is about and what is wrong with them."""

    samples: tuple[Sample, ...]
    message: str


@dataclass(frozen=True)
class Photograph:
    """Images that are one photograph, and in what they are alike."""

    samples: tuple[Sample, ...]
    alike: str


@dataclass(frozen=True)
class DatasetFacts:
    """What the checks read: the survey, and the photographs that are there more than once."""

    survey: Survey
    equal: list[Photograph]
    near: list[Photograph]

    @property
    def data(self) -> DataSet:
        return self.survey.data


@dataclass(frozen=True)
class Check:
    """A row of CHECKS: how bad it is, what it says in a line for people, and what finds it."""

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
            yield Found((sample,), f"{look.one_colour} all over")


def _suffix(facts: DatasetFacts) -> Iterator[Found]:
    known = set().union(*SUFFIXES_OF.values())
    for _, sample, look in facts.survey.seen():
        suffix, fits = os.path.splitext(sample.path)[1].lower(), SUFFIXES_OF.get(look.header.format)
        if fits and suffix in known and suffix not in fits:
            yield Found((sample,), f"is a {look.header.format} file")


def _pages(facts: DatasetFacts) -> Iterator[Found]:
    for _, sample, _ in facts.survey.seen():
        if (pages := count_pictures(sample.path)) > 1:
            yield Found((sample,), f"the first of {pages} pictures is read")


def _tiny(facts: DatasetFacts) -> Iterator[Found]:
    for _, sample, look in facts.survey.seen():
        if min(look.size) < SMALLEST:
            yield Found((sample,), f"{_pixels(look)} pixels")


def _stretched(facts: DatasetFacts) -> Iterator[Found]:
    for _, sample, look in facts.survey.seen():
        if max(look.size) > MOST_STRETCHED * min(look.size):
            yield Found((sample,), f"{_pixels(look)} pixels")


def _pixels(look: Look) -> str:
    return f"{look.size[0]} x {look.size[1]}"


# One photograph in several files


def _equal_photographs(found: Survey) -> list[Photograph]:
    """The photographs that several files hold pixel for pixel. Images of one colour are none."""
    groups = defaultdict(list)
    for index, _, look in found.seen():
        if not look.one_colour:
            groups[look.pixels].append(index)
    repeated = [group for group in groups.values() if len(group) > 1]
    alike = ("equal pixel for pixel, in different files", "equal byte for byte")
    return [
        Photograph(_samples(found, group), alike[len({found.looks[index].content for index in group}) == 1])
        for group in repeated
    ]


def _near_photographs(found: Survey) -> list[Photograph]:
    """The photographs that several files hold nearly: compressed again, resized, or made brighter or darker."""
    same = defaultdict(list)
    for index, _, look in found.seen():
        if not look.one_colour:
            same[look.pixels].append(index)
    first = [group[0] for group in same.values()]
    with console.progress(block_pairs(len(first)), "block", "comparing images") as bar:
        groups = near_groups(found.hashes[first], found.textures[first], lambda done: bar.update(done - bar.n))
    # Beside each image stand those that are equal to it.
    whole = [sorted(i for place in group for i in same[found.looks[first[place]].pixels]) for group in groups]
    return [Photograph(_samples(found, group), "nearly equal") for group in whole]


def _samples(found: Survey, indices: Iterable[int]) -> tuple[Sample, ...]:
    return tuple(found.data.samples[index] for index in indices)


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
            yield Found(one.samples, one.alike)


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
    """Names that pair as two eyes, where the data tells of no patients: one eye may teach what tests the other."""
    if any(sample.patient for sample in facts.data.samples):
        return
    pairs: dict[str, list[tuple[bool, Sample]]] = defaultdict(list)
    for sample in facts.data.samples:
        if name := EYE.fullmatch(sample.path.stem):
            pairs[name["who"].lower()].append((name["eye"].lower() in RIGHT, sample))
    both = {who: pair for who, pair in pairs.items() if len(pair) == 2 and pair[0][0] != pair[1][0]}
    if not both:
        return
    if not facts.data.split("val"):  # so that one will be held out
        samples = tuple(sample for pair in both.values() for _, sample in pair)
        yield Found(
            samples,
            f"{len(both)} pairs of names look like two eyes of one patient; a split that knows no patients parts them",
        )
    for who, pair in both.items():
        samples = tuple(sample for _, sample in pair)
        if len(_splits(samples)) > 1:
            yield Found(samples, f"{who} looks like one patient, and is in {_by(samples, lambda s: s.split)}")


# Classes


def _shares(facts: DatasetFacts) -> Iterator[tuple[str, tuple[Sample, ...], list[int], float]]:
    """Every split in words, its samples, their number in each class, and the rarer class's share."""
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
    """Splits whose rarer class has a share in [least, most), but for those that lack it."""
    for split, samples, counts, share in _shares(facts):
        if 0 not in counts and least <= share < most:
            rarer = counts.index(min(counts))
            yield Found(
                (), f"{split}: {counts[rarer]} of {len(samples)} images ({share:.1%}) are {facts.data.classes[rarer]}"
            )


def _shortcut(facts: DatasetFacts) -> Iterator[Found]:
    found = cross_validate(facts.data)
    if found.suspicious:
        yield Found((), found.describe())


# What most images share and some don't


def _kinds(facts: DatasetFacts, kind: Callable[[Look], str], usual: Callable[[str], bool]) -> Iterator[Found]:
    """One line where images are of several kinds, or of one that is unusual.

    Its files are all but the commonest kind, and those too where it is unusual.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for index, _, look in facts.survey.seen():
        if value := kind(look):
            groups[value].append(index)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    noted = sorted(i for place, (value, group) in enumerate(ordered) if place or not usual(value) for i in group)
    if noted:
        kinds = [f"{value}: {_in_classes(_samples(facts.survey, group), facts)}" for value, group in ordered]
        yield Found(_samples(facts.survey, noted), first_few(kinds))


def _in_classes(samples: tuple[Sample, ...], facts: DatasetFacts) -> str:
    """The number of images and, since a kind that goes with a class gives that away, of each class."""
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
        yield Found(turned, "they are turned as they are read; other programs may not turn them")


# In the order that findings are printed in.
CHECKS: dict[str, Check] = {
    "unreadable": Check("error", "can't be decoded", _unreadable),
    "blank": Check("error", "nothing is in the image", _blank),
    "duplicate-splits": Check("error", "one photograph in several splits", lambda f: _leaking(f.equal)),
    "duplicate-labels": Check("error", "one photograph with both labels", lambda f: _conflicting(f.equal, f.data)),
    "near-splits": Check("error", "nearly one photograph in several splits", lambda f: _leaking(f.near)),
    "near-labels": Check("error", "nearly one photograph with both labels", lambda f: _conflicting(f.near, f.data)),
    "patient-splits": Check("error", "one patient in several splits", _patients),
    "missing-class": Check("error", "a split without one of the classes", _missing_class),
    "duplicate": Check("warning", "one photograph several times", lambda f: _repeated(f.equal)),
    "near-duplicate": Check("warning", "nearly one photograph several times", lambda f: _repeated(f.near)),
    "eyes": Check("warning", "the two eyes of a patient, by their names", _eyes),
    "imbalance": Check("warning", f"a class below {RARE:.0%} of a split", lambda f: _balance(f, 0, RARE)),
    "shortcut": Check("warning", "the classes can be told apart without looking for the disease", _shortcut),
    "suffix": Check("warning", "the content isn't what the suffix says", _suffix),
    "pages": Check("warning", "several pictures in one file", _pages),
    "tiny": Check("warning", f"smaller than {SMALLEST} pixels", _tiny),
    "stretched": Check("warning", f"one side over {MOST_STRETCHED:g} times the other", _stretched),
    "balance": Check("note", f"a class below {UNEVEN:.0%} of a split", lambda f: _balance(f, RARE, UNEVEN)),
    "sizes": Check("note", "several sizes", _sizes),
    "formats": Check("note", "several file formats", _formats),
    "colours": Check("note", "several kinds of colour, or an unusual one", _colours),
    "depths": Check("note", "several bit depths, or an unusual one", _depths),
    "turns": Check("note", "turned by EXIF orientation", _turns),
}


def examine(data: DataSet, threads: int = 1, keeper: Keeper | None = None) -> list[Finding]:
    """Every finding about `data`, in the order of CHECKS; no file is changed."""
    found = survey(data, threads, keeper)
    facts = DatasetFacts(found, _equal_photographs(found), _near_photographs(found))
    return [
        Finding(row.severity, kind, tuple(data.name_of(sample) for sample in it.samples), it.message)
        for kind, row in CHECKS.items()
        for it in row.find(facts)
    ]


def check(config: CheckConfig) -> int:
    """Print the findings about the data that the options name; 1 if one is an error (`strict`: or a warning), else 0.

    Raises:
        PmtrainError: the data can't be read, or `config.output` exists.
    """
    data = select(config, make_synthetic_set=False)
    cache = open_cache(config.cache_limit)
    keeper = Keeper(cache, Preprocess(config.preprocess, config.image_size)) if cache else None
    findings = examine(data, config.workers, keeper)
    if cache:
        cache.close()
    if config.on_bad_image == "skip":
        findings = [replace(f, severity="warning") if f.kind == "unreadable" else f for f in findings]
    text = FORMATS[config.format](data, findings)
    if config.output:
        with new_file(config.output) as file:
            file.write(f"{text}\n".encode("utf-8", "surrogateescape"))
        console.notice(f"{summary(data, findings)}; wrote {config.output}")
    else:
        console.result(text)
    failing = SEVERITIES[: 1 + config.strict]
    return int(any(finding.severity in failing for finding in findings))


def summary(data: DataSet, findings: list[Finding]) -> str:
    """The last line: `800 images: 2 errors, 1 warning, no notes`."""
    counts = Counter(finding.severity for finding in findings)
    parts = [f"{counts[name] or 'no'} {name}{'s' * (counts[name] != 1)}" for name in SEVERITIES]
    return f"{len(data.samples)} images: {', '.join(parts)}"


FEW = 5  # findings of a kind, and files of a finding, that are printed


def as_text(data: DataSet, findings: list[Finding]) -> str:
    """For people: by severity and kind, the first few of each; the summary ends it."""
    lines = ["SYNTHETIC images, drawn by a program"] * data.synthetic
    for severity in SEVERITIES:
        for kind, row in CHECKS.items():
            these = [finding for finding in findings if (finding.kind, finding.severity) == (kind, severity)]
            if these:
                lines.append(f"{severity}: {row.title} ({kind}): {len(these)}")
                lines += [f"  {_line(finding)}" for finding in these[:FEW]]
                lines += [f"  and {len(these) - FEW} more (--format json has all)"] * (len(these) > FEW)
    return "\n".join([*lines, summary(data, findings)])


def _line(finding: Finding) -> str:
    if not finding.files:
        return finding.message
    files = first_few(finding.files, FEW)
    return f"{files}: {finding.message}" if finding.severity != "note" else f"{finding.message}; files: {files}"


def as_json(data: DataSet, findings: list[Finding]) -> str:
    """For programs: everything."""
    counts = Counter(finding.severity for finding in findings)
    report: dict[str, Any] = {
        "data": str(data.root),
        "layout": data.layout,
        "synthetic": data.synthetic,
        "classes": list(data.classes),
        "images": len(data.samples),
        "errors": counts["error"],
        "warnings": counts["warning"],
        "notes": counts["note"],
        "findings": [asdict(finding) for finding in findings],
    }
    return json.dumps(report, indent=2, ensure_ascii=False)


FORMATS: dict[str, Callable[[DataSet, list[Finding]], str]] = {"text": as_text, "json": as_json}
