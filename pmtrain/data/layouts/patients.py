"""Find patients in file names, and merge different spellings of a patient's number."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

from pmtrain.data.dataset import first_few
from pmtrain.data.layouts.rows import Row
from pmtrain.system.errors import UsageError

# Names for --patient-pattern; the group `patient` is the patient.
PATTERNS = {
    "left-right": r"(?P<patient>.+?)[ _.-]+(?:left|right|l|r|od|os)\b",  # EyePACS, ODIR-5K: 10_left.jpeg
    "breakhis": r"SOB_[BM]_[A-Z]+-(?P<patient>\d+-\w+?)-",  # SOB_M_DC-14-2523-400-001.png
    "chest-xray": r"(?P<patient>person\d+|IM-\d+)",  # person100_bacteria_475.jpeg, IM-0115-0001.jpeg
    "folder": r"(?P<patient>[^/]+)/[^/]+$",  # normal/P001/1.png
}


_NUMBERED = re.compile(r"^([^\W\d_]*)[ \t_.#-]*0*(\d+)(?:[.,]0+)?$", re.MULTILINE)  # P001, Patient 2, 12.0


def from_names(rows: Sequence[Row], pattern: str) -> tuple[list[Row], tuple[str, ...]]:
    """The rows with the patients found in the file names, and notes.

    Args:
        pattern: a name of PATTERNS, or a regular expression searched for in the file name, or, if it has a `/`, in the
            whole path; its group `patient`, or else its first group, is the patient.
    Raises:
        UsageError: it is not a regular expression, has no group, or matches no file name.
    """
    try:
        expression = re.compile(PATTERNS.get(pattern, pattern), re.IGNORECASE)
    except re.error as error:
        raise UsageError(
            f"--patient-pattern {pattern!r}: is not a regular expression: {error}", f"or one of {', '.join(PATTERNS)}"
        ) from None
    if not expression.groups:
        raise UsageError(
            f"--patient-pattern {pattern!r}: has no group for the patient",
            r"put the patient's part of the name in parentheses: '(\d+)_(left|right)'",
        )
    group: str | int = "patient" if "patient" in expression.groupindex else 1
    whole = "/" in expression.pattern
    found, unknown = [], []
    for row in rows:
        match = expression.search(row.path.as_posix() if whole else row.path.name)
        if not match:
            unknown.append(row.path.name)
        found.append(row._replace(patient=(match[group] or "") if match else ""))
    if len(unknown) == len(rows):
        raise UsageError(
            f"--patient-pattern {pattern!r}: matches none of the file names, such as {first_few(unknown, 3)}",
            f"one of {', '.join(PATTERNS)}, or a regular expression such as '(\\d+)_(left|right)'",
        )
    notes = [f"{len({row.patient for row in found if row.patient})} patients by file name"]
    if unknown:
        notes.append(f"{len(unknown)} file names have no patient: {first_few(unknown)}")
    return found, tuple(notes)


def merge_spellings(rows: Sequence[Row]) -> tuple[list[Row], tuple[str, ...]]:
    """The rows with one spelling per patient, `1` for `001` and `1.0`, `P1` for `p001` and `P-1`, and notes."""
    texts = list({row.patient for row in rows})
    keys = _same_patients(texts)
    if len(set(keys)) == len(texts):
        return list(rows), ()
    spellings: dict[str, set[str]] = defaultdict(set)
    for text, key in zip(texts, keys, strict=True):
        spellings[key].add(text)
    merged: dict[str, str] = {}
    for number, spelt in spellings.items():
        if len(spelt) > 1:
            plainest = number if number.isdecimal() else min(spelt, key=lambda text: (len(text), text))
            merged |= dict.fromkeys(spelt, plainest)
    shown = [" and ".join(sorted(texts)) for texts in spellings.values() if len(texts) > 1]
    note = f"patients that are written differently are merged: {first_few(sorted(shown), 3)}"
    return [row._replace(patient=merged.get(row.patient, row.patient)) for row in rows], (note,)


def _same_patients(texts: Sequence[str]) -> list[str]:
    """Keys that are equal for spellings of one patient: in case, full width, zeros, or what is before the number."""
    joined = "\n".join([text.replace("\n", " ") for text in texts])  # at once, which is quicker
    joined = (joined if joined.isascii() else unicodedata.normalize("NFKC", joined)).casefold()
    return _NUMBERED.sub(r"\1\2", joined).split("\n")
