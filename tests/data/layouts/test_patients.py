"""Patients by file name."""

from __future__ import annotations

from pathlib import Path

import pytest

from pmtrain.data.layouts.patients import PATTERNS, from_names, merge_spellings
from pmtrain.data.layouts.rows import Row
from pmtrain.system.errors import UsageError


def rows(*names: str) -> list[Row]:
    return [Row(Path("somewhere_left") / name, "0") for name in names]


@pytest.mark.parametrize(
    ("pattern", "names", "patients"),
    [
        (r"(?P<patient>\d+)_(left|right)", ["10_left.jpeg", "10_right.jpeg", "12_left.jpeg"], ["10", "10", "12"]),
        (r"^(\w+?)-", ["a-1.png", "b-1.png"], ["a", "b"]),
        ("left-right", ["10_left.jpeg", "Patient001_R.jpg", "x-od.png", "0 OS.tif"], ["10", "Patient001", "x", "0"]),
        (
            "breakhis",
            ["SOB_M_DC-14-2523-400-001.png", "SOB_B_TA-14-16184CD-40-003.png"],
            ["14-2523", "14-16184CD"],
        ),
        ("folder", ["P1/a.png", "P1/b.png", "P2/a.png"], ["P1", "P1", "P2"]),
        (r"(P\d)/", ["P1/a.png", "P2/a.png"], ["P1", "P2"]),
        ("chest-xray", ["person100_bacteria_475.jpeg", "IM-0115-0001.jpeg"], ["person100", "IM-0115"]),
    ],
)
def test_patients_from_names(pattern, names, patients):
    found, notes = from_names(rows(*names), pattern)
    assert [row.patient for row in found] == patients
    assert notes == (f"{len(set(patients))} patients by file name",)


def test_names_that_tell_no_patient_are_named():
    found, notes = from_names(rows("1_left.jpg", "other.jpg"), "left-right")
    assert [row.patient for row in found] == ["1", ""]
    assert notes[1] == "1 file names have no patient: other.jpg"


@pytest.mark.parametrize(
    ("pattern", "said"), [("(", "not a regular expression"), (r"\d+", "no group"), (r"(z)\d", "matches none")]
)
def test_patterns_that_can_not_be_used(pattern, said):
    with pytest.raises(UsageError, match=said):
        from_names(rows("1_left.jpg"), pattern)


def test_numbers_that_are_one():
    found, notes = merge_spellings(
        [Row(Path("a"), "0", patient=text) for text in ("1", "001", "1.0", "P1", "10", "", "0")]
    )
    assert [row.patient for row in found] == ["1", "1", "1", "P1", "10", "", "0"]
    assert len(notes) == 1 and "001 and 1 and 1.0" in notes[0]


def test_other_spellings_of_a_patient():
    texts = ("P001", "p1", "P-1", "Patient 2", "patient_02", "P10", "1,0", "1")
    found, notes = merge_spellings([Row(Path("a"), "0", patient=text) for text in texts])
    assert [row.patient for row in found] == ["p1", "p1", "p1", "Patient 2", "Patient 2", "P10", "1", "1"]
    assert "P-1 and P001 and p1" in notes[0]


def test_numbers_of_one_spelling_stay_as_they_are():
    found, notes = merge_spellings([Row(Path("a"), "0", patient=text) for text in ("001", "002", "001")])
    assert [row.patient for row in found] == ["001", "002", "001"] and not notes


def test_every_known_pattern_has_a_patient():
    assert all("?P<patient>" in pattern for pattern in PATTERNS.values())
