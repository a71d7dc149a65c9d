"""Which of a data set's labels are the positive class."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from pmtrain.data.dataset import first_few
from pmtrain.data.layouts.rows import Row
from pmtrain.system.errors import PmtrainError, UsageError

# Class names that say "without the disease", in lower case with `_` for `-` and spaces.
NEGATIVE_NAME = re.compile(
    r"0|0\.0|no|false|normal|healthy|negative|neg|uninfected|unaffected|benign|control|controls|no_.+|not_.+|non.*"
)


class Classes(NamedTuple):
    """The two classes' names, "" for one that no image is of, and the labels that count as positive."""

    negative: str
    positive: str
    labels: frozenset[str]


def name_classes(rows: Sequence[Row], positive: str | None, where: Path, one_will_do: bool = False) -> Classes:
    """The two classes that the rows' labels make.

    Several labels are one class where `positive` is a list, `2,3,4`: these are positive, all others negative, and the
    classes are named `2/3/4` and `0/1`.

    Args:
        positive: the positive label or a comma-separated list of them; None: the one of two that isn't called normal,
            healthy, no_..., 0 and the like.
        one_will_do: a set that lacks a class is no error; `positive` may be "" for one without positive images.
    Raises:
        PmtrainError: the labels make no two classes.
        UsageError: `positive` names no label, or is needed to tell.
    """
    counts = Counter(row.label for row in rows)
    names = sorted(counts, key=_natural)
    if positive == "" and one_will_do:
        return Classes("/".join(names), "", frozenset())
    listed = _listed(positive, names)
    if not listed and len(names) != 2 and not (one_will_do and len(names) == 1):
        raise _not_two(rows, counts, names, where)
    if positive is not None:
        chosen = listed or [positive]
        labels = frozenset(label for text in chosen for label in _matches(text, names))
        unknown = [text for text in chosen if len(_matches(text, names)) != 1]
        if unknown:
            raise UsageError(
                f"--positive {positive!r}: {unknown[0]!r} is no label of {where}",
                f"its labels are {first_few(names, 20)}",
            )
        if len(labels) == len(names) and not one_will_do:
            raise UsageError(
                f"--positive {positive!r}: {where} has no other label", "leave out those that are negative"
            )
    else:
        negatives = [name for name in names if NEGATIVE_NAME.fullmatch(re.sub(r"[-\s]+", "_", name.lower()))]
        if len(negatives) != 1:
            raise UsageError(
                f"{where}: which of {' and '.join(map(repr, names))} is the positive class?"
                if len(names) == 2
                else f"{where}: is {names[0]!r}, its only label, the positive class?",
                " or ".join(f"--positive {name!r}" for name in names) + ' or --positive ""' * (len(names) == 1),
            )
        labels = frozenset(names) - set(negatives)
    negative, positive = ("/".join(name for name in names if (name in labels) is kind) for kind in (False, True))
    return Classes(negative, positive, labels)


def _listed(positive: str | None, names: Iterable[str]) -> list[str]:
    """The parts of a list of labels; none where it is no list, since a label may have a comma itself."""
    if not positive or _matches(positive, names):
        return []
    # A class that was merged before is named with slashes, and can be given by that name.
    for mark in ",/":
        parts = [part.strip() for part in positive.split(mark) if part.strip()]
        if mark in positive and (mark == "," or all(_matches(part, names) for part in parts)):
            return parts
    return []


def _matches(text: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name == text] or [name for name in names if name.lower() == text.lower()]


def _not_two(rows: Sequence[Row], counts: Counter[str], names: list[str], where: Path) -> PmtrainError:
    first = {row.label: row.line for row in reversed(rows)}
    told = []
    for name in names:
        at = f", first on line {first[name]}" if len(names) > 2 and first[name] else ""
        told.append(f"{name} ({counts[name]} images{at})")
    return PmtrainError(
        f"{where}: the labels make {len(names)} class{'es' * (len(names) != 1)}, two are needed: {first_few(told, 10)}",
        "mend what is misspelt, or list the positive ones, all others being negative:"
        f" --positive {','.join(names[1:])!r} say, or {names[-1] + ','!r} for one alone"
        if len(names) > 2
        else "add images of another class",
    )


def _natural(name: str) -> tuple[tuple[bool, float, str], ...]:
    """A key under which `10` comes after `9`."""
    parts = re.split(r"(\d+)", name)
    return tuple((not part.isdecimal(), float(part) if part.isdecimal() else 0.0, part) for part in parts if part)
