"""Patients that file names tell."""

from __future__ import annotations

from pathlib import Path

import pytest

from pmtrain.data.audit.patient_names import eye_pairs, patients_by_pattern, suggestions
from pmtrain.data.dataset import Sample
from pmtrain.data.layouts.patients import from_names
from pmtrain.data.layouts.rows import Row


def samples(*names: str) -> list[Sample]:
    return [Sample(Path("images") / name, 0) for name in names]


def test_two_eyes_of_one_patient():
    found = eye_pairs(samples("12_left.jpg", "12_right.jpg", "13_left.jpg", "cell_r.png", "cell_od.png", "x.png"))
    assert {who: [s.path.name for s in pair] for who, pair in found.items()} == {"12": ["12_left.jpg", "12_right.jpg"]}


@pytest.mark.parametrize(
    ("names", "pattern", "said"),
    [
        (["12_left.jpg", "12_right.jpg", "7 OD.jpg", "7 OS.jpg", "x.jpg"], "left-right", "12_left, 12_right: 2 pairs"),
        (
            ["SOB_M_DC-14-2523-400-001.png", "SOB_M_DC-14-2523-400-002.png", "SOB_B_TA-14-16184-40-003.png"],
            "breakhis",
            "1 patients have several images",
        ),
        (["person1_bacteria_1.jpeg", "person1_bacteria_2.jpeg", "IM-0115-0001.jpeg"], "chest-xray", "1 patients"),
    ],
)
def test_what_is_suggested_can_be_given(names, pattern, said):
    ((theirs, message),) = suggestions(samples(*names), [])
    assert said in message and f"--patient-pattern {pattern}," in message
    rows, _ = from_names([Row(sample.path, "0") for sample in theirs], pattern)
    assert all(row.patient for row in rows)


def test_near_duplicates_whose_names_begin_alike():
    groups = [samples(f"A{number} 1.png", f"A{number} 2.png") for number in range(3)]
    ((theirs, message),) = suggestions([sample for group in groups for sample in group], groups)
    assert len(theirs) == 6 and "A0 1, A0 2: 3 groups" in message
    pattern = message.split("'")[1]
    rows, _ = from_names([Row(sample.path, "0") for sample in theirs], pattern)
    assert [row.patient for row in rows] == ["A0", "A0", "A1", "A1", "A2", "A2"]


def test_names_that_tell_nothing():
    assert not list(suggestions(samples("1.png", "2.png", "a_b.png"), [samples("1.png", "2.png")]))
    assert not patients_by_pattern(samples("IM-1-1.png", "IM-1-2.png", "a.png", "b.png", "c.png"), "chest-xray")


def test_patches_of_slides():
    given = samples(*(f"s{slide}_x{x}_y0.png" for slide in (1, 2) for x in range(0, 256, 64)))
    ((theirs, message),) = suggestions(given, [])
    assert list(theirs) == given and "patches of 2 slides" in message
    rows, _ = from_names([Row(sample.path, "0") for sample in theirs], message.split("'")[1])
    assert [row.patient for row in rows] == ["s1"] * 4 + ["s2"] * 4
