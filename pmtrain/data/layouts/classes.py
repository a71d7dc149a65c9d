"""Make two classes of a data set's labels."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from pmtrain.data.dataset import first_few
from pmtrain.data.layouts.rows import Row, parts_of
from pmtrain.system.console import quoted
from pmtrain.system.errors import PmtrainError, UsageError

# Class names that mean "without the disease", in lower case with `_` for `-` and spaces.
NEGATIVE_NAME = re.compile(
    r"0|n|_|\(_\)|no|none|false|neg(ative)?\.?(_.+)?|(?!triple).+_negative|uninfected|unaffected|unremarkable|benign|absent"
    r"|(grade|level|stage|class|label|category|type|grad|stufe|stadium|klasse|dr)_?0"
    r"|((normal|healthy)_?(eyes?|fundus|retinas?|cornea|controls?|subjects?|people|persons?|volunteers?|patients?"
    r"|lungs?|chest|brain|skin|tissues?|images?|cases?|findings?|x_?rays?)?(_group)?)"
    r"|controls?(_group)?|ctrl|hc|no_.+|not_.+|non.*|without_.+|no(dr|tumou?r|glaucoma|disease|findings?)"
    r"|gesund(e.*)?|nein|falsch|kein.*|ohne_.+|o\._?b\.?|negativ|unauff(ä|ae)llig|kontroll(e|en|gruppe)"
    r"|gezond|nee|geen.*|normaal|sain|saine|normale|faux|négatif|négative|sans_.+|aucun.*|bénin"
    r"|san[oa]|falso|negativ[oa]|sin_.+|ningun[oa]?|benign[oa]|saudável|não|não_.+|sem_.+|senza_.+|nessun[oa]?"
    r"|zdrow[ya]|nie|prawidłow.*|sağlıklı|hayır|سليم|طبيعي|لا"
    r"|норма|здоров.*|нет|отрицательн.*|без_.+"
    r"|(正常|健康|健常)(?!眼[压圧壓]).*|阴性|陰性|良性|对照组?|對照組?|否|[无無非未没沒不].*|なし|いいえ|정상|음성|없음|아니오"
)
_INDEX = re.compile(r"\d+[-_.:) ]+(?=\D)")  # 0_normal, "1 - ill"


class Classes(NamedTuple):
    """The names of the two classes, "" for a class without images, and the labels that are positive."""

    negative: str
    positive: str
    labels: frozenset[str]


def same_label(text: str) -> str:
    """A key that is equal for labels that differ only in case, outer blanks, full width or number format.

    `1`, `1.0`, `1,0`, `01` and `１` are one label.
    """
    text = unicodedata.normalize("NFKC", text).strip().casefold()
    number = re.fullmatch(r"([+-]?)0*(\d+)(?:[.,]0*)?", text)
    return f"{number[1].replace('+', '')}{number[2]}" if number else text


def merge_spellings(rows: Sequence[Row]) -> tuple[list[Row], tuple[str, ...]]:
    """The rows with one spelling per label, the simplest or the most frequent one, and notes about it."""
    counts = Counter(row.label for row in rows)
    spellings: dict[str, list[str]] = {}
    for label, _ in counts.most_common():
        spellings.setdefault(same_label(label), []).append(label)
    for plainest, labels in spellings.items():
        labels.sort(key=lambda label: label != plainest)  # `1` has priority over `1.0`, even if it is rarer
    chosen = {label: labels[0] for labels in spellings.values() for label in labels}
    merged = [labels for labels in spellings.values() if len(labels) > 1]
    notes = tuple(f"the labels {', '.join(map(repr, sorted(labels)))} are the same: {labels[0]!r}" for labels in merged)
    return [row._replace(label=chosen[row.label]) for row in rows] if merged else list(rows), notes


def leave_out(
    rows: Sequence[Row], positive: str | None, negative: str | None, exclude: str | None, where: Path
) -> tuple[list[Row], tuple[str, ...]]:
    """The rows to keep, and the number of rows left out for each label.

    Left out are the labels of `exclude` and, if both `positive` and `negative` are given, labels in neither list.

    Raises:
        UsageError: a list contains an unknown label, or a label is in two lists.
    """
    counts = Counter(row.label for row in rows)
    names = sorted(counts, key=_natural)
    lists = {"positive": _chosen(positive, names), "negative": parts_of(negative), "exclude": parts_of(exclude)}
    for flag, parts in lists.items():
        for part in parts:
            if not _matches(part, names) and part and not _absent_grade(part, parts, names):
                raise _no_label(flag, part, where, names)
    absent = [part for parts in lists.values() for part in parts if part and not _matches(part, names)]
    notes = (f"no image is labelled {first_few(absent)}",) * bool(absent)
    sets = {flag: {name for part in parts for name in _matches(part, names)} for flag, parts in lists.items()}
    for one, other in itertools.combinations(sets, 2):
        if both := sets[one] & sets[other]:
            raise UsageError(f"--{one} and --{other}: both contain {sorted(both)[0]!r}", "give it in one of them")
    gone = sets["exclude"]
    if positive is not None and negative is not None:
        gone = set(names) - sets["positive"] - sets["negative"]
    if not gone:
        return list(rows), notes
    told = ", ".join(f"{counts[name]} labelled {name or '(none)'}" for name in names if name in gone)
    return [row for row in rows if row.label not in gone], (*notes, f"left out: {told}")


def classify_rows(
    rows: Sequence[Row],
    where: Path,
    positive: str | None,
    negative: str | None = None,
    exclude: str | None = None,
    one_will_do: bool = False,
) -> tuple[list[Row], Classes, tuple[str, ...]]:
    """The rows to keep, their two classes, and notes; see `name_classes`.

    Args:
        negative: a comma-separated list of the negative labels; without `positive`, all others are positive.
        exclude: a comma-separated list of labels to leave out.
    """
    kept, spelt = merge_spellings(rows)
    kept, left = leave_out(kept, positive, negative, exclude, where)
    if negative is None:
        classes = name_classes(kept, positive, where, one_will_do)
        return kept, classes, spelt + left + _others(kept, classes, positive)
    names = sorted({row.label for row in kept}, key=_natural)
    others = [name for name in names if not any(name in _matches(part, names) for part in parts_of(negative))]
    if len(others) in (0, len(names)) and not one_will_do:
        raise UsageError(f"--negative {negative!r}: {where} has no other label", "leave out the positive ones")
    named = "/".join(name for name in names if name not in others)
    return kept, Classes(named, "/".join(others), frozenset(others)), spelt + left


def _others(rows: Sequence[Row], classes: Classes, positive: str | None) -> tuple[str, ...]:
    """A note on the labels that are negative only because `positive` doesn't list them."""
    others = sorted({row.label for row in rows} - classes.labels, key=_natural)
    if positive is None or len(others) < 2:
        return ()
    told = first_few([name or "(none)" for name in others], 10)
    return (f"not in --positive, so negative: {told}; --negative LABELS leaves out what is in neither list",)


def name_classes(rows: Sequence[Row], positive: str | None, where: Path, one_will_do: bool = False) -> Classes:
    """Make two classes of the rows' labels.

    If `positive` is a list, `2,3,4`, these labels are positive and all others negative; the classes are named `2/3/4`
    and `0/1`.

    Args:
        positive: the positive label or a comma-separated list of them, against all others; None: of two labels, the
            one that isn't called normal, healthy, no_..., 0 and so on.
        one_will_do: a set with a single class is not an error; `positive` may be "" for one without positive images.
    Raises:
        PmtrainError: the labels don't make two classes.
        UsageError: `positive` contains an unknown label, or must be given.
    """
    counts = Counter(row.label for row in rows)
    names = sorted(counts, key=_natural)
    if positive == "" and one_will_do:
        return Classes("/".join(names), "", frozenset())
    listed = _listed(positive, names)
    too_many = len(names) > 2 and positive is None
    if not listed and (too_many or len(names) < 2) and not (one_will_do and len(names) == 1):
        raise _not_two(rows, counts, names, where)
    if positive is not None:
        chosen = listed or [positive]
        labels = frozenset(label for text in chosen for label in _matches(text, names))
        unknown = [text for text in chosen if len(_matches(text, names)) != 1]
        unknown = [text for text in unknown if not _absent_grade(text, chosen, names)]
        if unknown:
            raise _no_label("positive", unknown[0], where, names)
        if len(labels) == len(names) and not one_will_do:
            raise UsageError(
                f"--positive {positive!r}: {where} has no other label", "leave out those that are negative"
            )
    else:
        negatives = [name for name in names if says_negative(name)]
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


def _chosen(positive: str | None, names: Iterable[str]) -> list[str]:
    """The labels that `positive` lists."""
    return _listed(positive, names) or ([positive] if positive else [])


def _absent_grade(text: str, parts: Sequence[str], names: Sequence[str]) -> bool:
    """Whether a list of grades, `2,3,4`, may have this one: other parts are in the data, but it has no image of it."""
    grades = text.isdecimal() and all(part.isdecimal() for part in parts)
    return grades and not _matches(text, names) and any(_matches(part, names) for part in parts)


def _no_label(flag: str, text: str, where: Path, names: Sequence[str]) -> UsageError:
    return UsageError(
        f"--{flag} {text!r}: {where} has no such label",
        f"its labels are {first_few([name or '(none)' for name in names], 20)}",
    )


def _listed(positive: str | None, names: Iterable[str]) -> list[str]:
    """The parts of a list of labels; empty if it is a single label, which may contain a comma."""
    if not positive or _matches(positive, names):
        return []
    # Merged classes are named with slashes; such a name is accepted too.
    for mark in ",/":
        parts = [part.strip() for part in positive.split(mark) if part.strip()]
        if mark in positive and (mark == "," or all(_matches(part, names) for part in parts)):
            return parts
    return []


def _matches(text: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name == text] or [name for name in names if same_label(name) == same_label(text)]


def _not_two(rows: Sequence[Row], counts: Counter[str], names: list[str], where: Path) -> PmtrainError:
    first = {row.label: row.line for row in reversed(rows)}
    told = []
    for name in names:
        at = f", first on line {first[name]}" if len(names) > 2 and first[name] else ""
        told.append(f"{name} ({counts[name]} images{at})")
    return PmtrainError(
        f"{where}: the labels make {len(names)} class{'es' * (len(names) != 1)}, not two: {first_few(told, 10)}",
        _hint(names) if len(names) > 2 else "add images of another class",
    )


def _hint(names: list[str]) -> str:
    """The hint for more than two labels."""
    negatives = [name for name in names if says_negative(name)]
    others = [name for name in names if name not in negatives]
    grades = [name for name in others if name.isdecimal()]
    lines = [
        "--positive LABELS makes these positive and all others negative; with --negative LABELS, the rest is left out"
    ]
    if len(negatives) == 1 and not any("," in name for name in names):
        # Among grades, a label that isn't a grade (-1, ungradable) is hardly the disease.
        rest = f" --negative {quoted(negatives[0])}" if grades and grades != others else ""
        lines.append(f"for example --positive {quoted(','.join(grades or others))}{rest}")
    return "\n".join(lines)


def says_negative(name: str) -> bool:
    """Whether a label means "without the disease", in one of several languages."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name) if name[:1].isupper() else name  # NoDR, NonPM
    name = same_label(name)
    name = _INDEX.sub("", name, 1) if name[:1].isdecimal() else name
    return NEGATIVE_NAME.fullmatch(re.sub(r"[-\s]+", "_", name)) is not None


def _natural(name: str) -> tuple[tuple[bool, float, str], ...]:
    """A sort key that puts `10` after `9`."""
    parts = re.split(r"(\d+)", name)
    return tuple((not part.isdecimal(), float(part) if part.isdecimal() else 0.0, part) for part in parts if part)
