"""Which labels are the positive class."""

from __future__ import annotations

from pathlib import Path

import pytest

from pmtrain.data.layouts.classes import name_classes
from pmtrain.data.layouts.rows import Row
from pmtrain.system.errors import PmtrainError

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
        ("0 1 2", None, ["3 classes", "2 (1 images, first on line 4)", "--positive '1,2'", "'2,'"]),
        ("0 1 2", "2", ["3 classes", "'2,' for one alone"]),
        ("0 1 2", "2,3", ["'3' is no label", "its labels are 0, 1, 2"]),
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
