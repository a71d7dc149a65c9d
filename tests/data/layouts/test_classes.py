"""Which labels are the positive class."""

from __future__ import annotations

from pathlib import Path

import pytest

from pmtrain.data.layouts.classes import classify_rows, merge_spellings, name_classes
from pmtrain.data.layouts.rows import Row
from pmtrain.system.errors import PmtrainError, UsageError

WHERE = Path("eyes")


def rows(*labels: str) -> list[Row]:
    return [Row(Path(f"{n}.jpg"), label, line=n + 2) for n, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("labels", "positive", "classes", "positives"),
    [
        ("0 1 2 3 4", "2,3,4", ("0/1", "2/3/4"), {"2", "3", "4"}),
        ("0 1 2 3 4", " 4 , 2,3, ", ("0/1", "2/3/4"), {"2", "3", "4"}),
        ("0 1 2 3 4", "2/3/4", ("0/1", "2/3/4"), {"2", "3", "4"}),
        ("9 10 1 2", "2,9,10", ("1", "2/9/10"), {"2", "9", "10"}),
        ("normal amd glaucoma", "AMD,Glaucoma", ("normal", "amd/glaucoma"), {"amd", "glaucoma"}),
        ("normal amd glaucoma", "amd,", ("glaucoma/normal", "amd"), {"amd"}),
        ("mild,early none", "mild,early", ("none", "mild,early"), {"mild,early"}),
        ("a/b c", "a/b", ("c", "a/b"), {"a/b"}),
        ("a/b c d", "a/b,c", ("d", "a/b/c"), {"a/b", "c"}),
        ("0 1", "0", ("1", "0"), {"0"}),
        ("BCC MEL NV", "MEL", ("BCC/NV", "MEL"), {"MEL"}),
        ("a A", "A", ("a", "A"), {"A"}),
    ],
)
def test_positive_labels(labels, positive, classes, positives):
    found = name_classes(rows(*labels.split()), positive, WHERE)
    assert (found.negative, found.positive) == classes
    assert found.labels == positives


@pytest.mark.parametrize(
    ("labels", "positive", "said"),
    [
        ("0 1 2", None, ["3 classes", "2 (1 images, first on line 4)", "--positive 1,2"]),
        ("0 1 2", "3,4", ["--positive '3'", "no such label", "its labels are 0, 1, 2"]),
        ("0 1", "0,1", ["no other label"]),
        ("0 1", "", ["--positive ''", "its labels are 0, 1"]),
        ("0 1", ",", ["--positive ','"]),
        ("a b", None, ["'a' and 'b'", "--positive 'a' or --positive 'b'"]),
        ("a", "a", ["1 class,"]),
        ("a", "a,", ["no other label"]),
    ],
)
def test_labels_that_make_no_two_classes(labels, positive, said):
    with pytest.raises(PmtrainError) as caught:
        name_classes(rows(*labels.split()), positive, WHERE)
    assert all(part in str(caught.value) for part in said), str(caught.value)


@pytest.mark.parametrize(
    ("labels", "positive", "classes"),
    [
        ("normal", None, ("normal", "")),
        ("amd", "amd", ("", "amd")),
        ("retina", "", ("retina", "")),
        ("1 2", "1,2", ("", "1/2")),
        ("normal amd", None, ("normal", "amd")),
    ],
)
def test_a_set_among_others_may_lack_a_class(labels, positive, classes):
    found = name_classes(rows(*labels.split()), positive, WHERE, one_will_do=True)
    assert (found.negative, found.positive) == classes


def test_an_only_label_is_never_guessed():
    with pytest.raises(PmtrainError, match=r"is 'retina', its only label, the positive class\?"):
        name_classes(rows("retina"), None, WHERE, one_will_do=True)


@pytest.mark.parametrize(
    ("labels", "classes", "merged"),
    [
        (("Yes", "yes", "yes ", "NO", "no", "no"), ("no", "yes"), ["'Yes', 'yes', 'yes '", "'NO', 'no'"]),
        (("1", "1.0", "01", "0", "0.0", "00"), ("0", "1"), ["'01', '1', '1.0'", "'0', '0.0', '00'"]),
        (("-1", "-1.0", "0"), None, ["'-1', '-1.0'"]),
        (("a b", "A b", "a  b"), None, ["'A b', 'a b'"]),
    ],
)
def test_labels_that_differ_in_case_blanks_or_number_form_are_one(labels, classes, merged):
    found, notes = merge_spellings(rows(*labels))
    assert all(any(part in note for note in notes) for part in merged), notes
    if classes:
        named = name_classes(found, None, WHERE)
        assert (named.negative, named.positive) == classes
        assert sum(row.label == classes[1] for row in found) == 3


def test_labels_that_are_unlike_stay_apart():
    found, notes = merge_spellings(rows("1", "10", "I", "1.5", "l"))
    assert [row.label for row in found] == ["1", "10", "I", "1.5", "l"] and not notes


@pytest.mark.parametrize(
    ("options", "kept", "classes", "note"),
    [
        ({"positive": "2,3", "negative": "0"}, "0 2 3", ("0", "2/3"), "1 labelled 1, 1 labelled -1, 1 labelled bad"),
        ({"positive": "3", "negative": "0,1"}, "0 1 3", ("0/1", "3"), "1 labelled 2, 1 labelled -1, 1 labelled bad"),
        ({"positive": "2,3", "exclude": "-1,BAD"}, "0 1 2 3", ("0/1", "2/3"), "1 labelled -1, 1 labelled bad"),
        ({"negative": "0,1", "exclude": "-1,bad"}, "0 1 2 3", ("0/1", "2/3"), "1 labelled -1, 1 labelled bad"),
    ],
)
def test_labels_that_are_left_out(options, kept, classes, note):
    found, named, notes = classify_rows(
        rows("0", "1", "2", "3", "-1", "bad"), WHERE, options.get("positive"), options.get("negative"),
        options.get("exclude"),
    )  # fmt: skip
    assert [row.label for row in found] == kept.split()
    assert (named.negative, named.positive) == classes
    assert notes[0] == f"left out: {note}"
    assert len(notes) == 1 + ("negative" not in options)  # labels that are negative by default are told


def test_images_without_a_label_are_left_out():
    found, named, notes = classify_rows(rows("0", "", "1"), WHERE, None, None, "")
    assert [row.label for row in found] == ["0", "1"] and named.positive == "1"
    assert notes == ("left out: 1 labelled (none)",)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"positive": "1", "negative": "9"}, "--negative '9'"),
        ({"positive": "1", "exclude": "9"}, "--exclude '9'"),
        ({"positive": "1", "negative": "0,1"}, "both contain '1'"),
        ({"positive": None, "negative": "0,1,2"}, "no other label"),
        ({"positive": None, "negative": "0", "exclude": "0"}, "both contain '0'"),
    ],
)
def test_lists_of_labels_that_do_not_fit(options, said):
    with pytest.raises(UsageError, match=said):
        classify_rows(rows("0", "1", "2"), WHERE, options["positive"], options.get("negative"), options.get("exclude"))


@pytest.mark.parametrize(
    ("labels", "hint"),
    [
        ("0 1 2 3 4", "--positive 1,2,3,4"),
        ("0 1 2 -1 ungradable", "--positive 1,2 --negative 0"),
        ("normal glaucoma amd", "--positive amd,glaucoma"),
    ],
)
def test_the_hint_is_a_command_that_a_person_would_want(labels, hint):
    with pytest.raises(PmtrainError) as caught:
        name_classes(rows(*labels.split()), None, WHERE)
    assert f"for example {hint}" in caught.value.hint.splitlines()


def test_a_list_of_grades_may_have_one_without_images():
    kept, classes, notes = classify_rows(rows("0", "1", "2", "4"), WHERE, "2,3,4", "0")
    assert classes.labels == {"2", "4"} and [row.label for row in kept] == ["0", "2", "4"]
    assert notes == ("no image is labelled 3", "left out: 1 labelled 1")
    assert name_classes(rows("0", "1", "2", "4"), "2,3,4", WHERE).labels == {"2", "4"}
    for wrong in ("7", "7,8", "2,x"):
        with pytest.raises(UsageError, match="no such label"):
            classify_rows(rows("0", "1", "2", "4"), WHERE, wrong)


@pytest.mark.parametrize(
    ("positive", "negative"),
    [
        ("AMD", "no finding"), ("+", "-"), ("y", "n"), ("malade", "sain"), ("glaucoma", "sano"), ("doente", "saudável"),
        ("緑内障", "正常"), ("녹내장", "정상"), ("глаукома", "норма"), ("chory", "zdrowy"), ("hasta", "sağlıklı"),
        ("مريض", "سليم"), ("glaucoom", "geen glaucoom"), ("retinopathy", "without retinopathy"),
        ("DR", "NoDR"), ("1_pm", "0_normal"), ("PM", "kein PM"), ("WAHR", "FALSCH"), ("auffällig", "o.B."),
        ("1,0", "0,0"), ("１", "０"), ("grade 1", "grade 0"), ("病变", "未见异常"), ("正常眼压性青光眼", "正常"),
        ("covid", "COVID negative"),
        ("normal tension glaucoma", "normal fundus"), ("AD", "healthy controls"),
    ],
)  # fmt: skip
def test_the_negative_class_in_other_words_and_languages(positive, negative):
    for labels in ((positive, negative), (negative, positive)):
        found = name_classes(rows(*labels), None, WHERE)
        assert (found.negative, found.positive) == (negative, positive)


def test_labels_that_only_are_not_listed_are_told():
    _, classes, notes = classify_rows(rows("PM", "HM", "normal"), WHERE, "PM")
    assert classes.negative == "HM/normal"
    assert notes == (
        "not in --positive, so negative: HM, normal; --negative LABELS leaves out what is in neither list",
    )
    assert classify_rows(rows("PM", "normal"), WHERE, "PM")[2] == ()
