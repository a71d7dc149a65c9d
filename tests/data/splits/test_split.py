from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmtrain.data.dataset import DataSet, Sample
from pmtrain.data.layouts.readers import read_dataset
from pmtrain.data.splits.split import folds, given_folds, hold_out, split_into
from pmtrain.system.errors import PmtrainError, UsageError


def dataset_of(labels, patients=None, root="root") -> DataSet:
    patients = patients or [""] * len(labels)
    samples = (
        Sample(Path(root) / f"{index:04}.jpg", int(label), None, patient)
        for index, (label, patient) in enumerate(zip(labels, patients, strict=True))
    )
    return DataSet(Path(root), "csv", ("no", "yes"), tuple(samples))


def held(dataset: DataSet) -> set[str]:
    return {dataset.name_of(sample) for sample in dataset.split("val")}


@given(
    negatives=st.integers(2, 60), positives=st.integers(2, 60), fraction=st.floats(0.05, 0.9), seed=st.integers(0, 99)
)
@settings(max_examples=60, deadline=None)
def test_each_class_gives_its_part(negatives, positives, fraction, seed):
    wanted = [max(1, round(fraction * count)) for count in (negatives, positives)]
    if wanted[0] == negatives or wanted[1] == positives:
        return
    split = hold_out(dataset_of([0] * negatives + [1] * positives), fraction, seed)
    counts = Counter(sample.label for sample in split.split("val"))
    assert [counts[0], counts[1]] == wanted
    assert len(split.split("train")) + len(split.split("val")) == len(split.samples) == negatives + positives


def test_the_seed_and_the_relative_paths_alone_decide():
    labels = np.random.default_rng(0).integers(0, 2, 200)
    dataset = dataset_of(labels)
    first = held(hold_out(dataset, 0.2, 7))
    assert first == held(hold_out(replace(dataset, samples=dataset.samples[::-1]), 0.2, 7))
    assert first == held(hold_out(dataset_of(labels, root="else/where"), 0.2, 7))
    assert first != held(hold_out(dataset, 0.2, 8))
    # Not in the order of the files: a camera's first images would be alike.
    assert first != {dataset.name_of(sample) for sample in dataset.samples[: len(first)]}


@pytest.mark.parametrize("seed", range(5))
def test_a_patient_stays_on_one_side(seed):
    rng = np.random.default_rng(seed)
    patients = [f"p{number}" for number in rng.integers(0, 80, 300)] + [""] * 50
    labels = rng.integers(0, 2, 350)
    split = hold_out(dataset_of(labels, patients), 0.25, seed)
    train, val = ({s.patient for s in split.split(name)} - {""} for name in ("train", "val"))
    assert train and val and not train & val
    for label in (0, 1):
        part = sum(sample.label == label for sample in split.split("val")) / (labels == label).sum()
        assert abs(part - 0.25) < 0.03


def test_test_images_stay_and_a_validation_split_is_left_alone():
    dataset = dataset_of([0, 1] * 10)
    marked = replace(
        dataset, samples=tuple(replace(s, split="test" if i < 4 else "train") for i, s in enumerate(dataset.samples))
    )
    split = hold_out(marked, 0.25, 0)
    assert split.split("test") == marked.split("test")
    assert len(split.split("val")) == 4
    assert hold_out(split, 0.5, 1) is split


def test_too_few_to_hold_out_is_refused():
    for dataset in (dataset_of([0, 0, 0, 1]), dataset_of([0, 1] * 4, ["one"] * 8)):
        with pytest.raises(PmtrainError, match="yes"):
            hold_out(dataset, 0.25, 0)


@pytest.mark.parametrize("fraction", [0, 1, -0.5])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(ValueError, match="fraction"):
        hold_out(dataset_of([0, 1] * 4), fraction, 0)


def test_both_eyes_of_a_real_patient_stay_together(real_data):
    split = hold_out(read_dataset(real_data / "dr-768"), 0.2, 0)
    train, val = ({sample.patient for sample in split.split(name)} for name in ("train", "val"))
    assert not train & val
    assert Counter(sample.label for sample in split.split("val")) == {1: 64, 0: 55}


def sides(dataset: DataSet) -> dict[str, set[str]]:
    """The groups (by patient, or by name where none) on each side."""
    found: dict[str, set[str]] = {}
    for sample in dataset.samples:
        found.setdefault(str(sample.split), set()).add(sample.patient or dataset.name_of(sample))
    return found


# Few patients of many images and many of few, and images that name none.
SETS = st.lists(
    st.tuples(st.integers(0, 1), st.one_of(st.just(""), st.integers(0, 25).map("p{}".format))), min_size=20, max_size=90
)


@given(rows=SETS, val=st.floats(0.1, 0.4), test=st.floats(0, 0.4), seed=st.integers(0, 99), stratify=st.booleans())
@settings(max_examples=80, deadline=None)
def test_no_patient_is_on_two_sides_of_a_split(rows, val, test, seed, stratify):
    dataset = dataset_of(*zip(*rows, strict=True))
    try:
        split = split_into(dataset, val, test, stratify=stratify, seed=seed)
    except PmtrainError as error:
        assert "would hold no image" in error.message
        return
    found = list(sides(split).values())
    assert len(found) == 2 + (test > 0)
    assert sum(map(len, found)) == len(set.union(*found))
    assert [replace(sample, split=None) for sample in split.samples] == list(dataset.samples)


@given(rows=SETS, k=st.integers(2, 6), seed=st.integers(0, 99), stratify=st.booleans())
@settings(max_examples=60, deadline=None)
def test_no_patient_is_in_two_folds_and_every_image_is_validated_on_once(rows, k, seed, stratify):
    dataset = dataset_of(*zip(*rows, strict=True))
    try:
        parts = folds(dataset, k, seed, stratify=stratify)
    except PmtrainError as error:
        assert "too few for" in error.message or "would hold no image" in error.message
        return
    assert len(parts) == k
    for part in parts:
        found = sides(part)
        assert found.keys() == {"train", "val"} and not found["train"] & found["val"]
        assert len(part.samples) == len(dataset.samples)
    validated = [sample.path for part in parts for sample in part.split("val")]
    assert sorted(validated) == sorted(sample.path for sample in dataset.samples)


def grouped(count: int = 300, patients: int = 120, seed: int = 0) -> DataSet:
    """Images whose patient has one label, about a third positive."""
    rng = np.random.default_rng(seed)
    whose = rng.integers(0, patients, count)
    ill = rng.random(patients) < 0.35
    return dataset_of(ill[whose], [f"p{number}" for number in whose])


def test_shares_are_met_class_by_class():
    dataset = grouped()
    split = split_into(dataset, 0.2, 0.25, seed=3)
    total = Counter(sample.label for sample in dataset.samples)
    for name, share in (("val", 0.2), ("test", 0.25)):
        for label, count in Counter(sample.label for sample in split.split(name)).items():
            assert abs(count / total[label] - share) < 0.02
    prevalence = total[1] / 300
    for part in folds(dataset, 5, 0):
        labels = [sample.label for sample in part.split("val")]
        assert abs(len(labels) - 60) <= 6 and abs(np.mean(labels) - prevalence) < 0.06


def test_order_of_listing_and_place_do_not_matter():
    dataset = grouped()
    turned = replace(dataset, samples=dataset.samples[::-1])
    moved = replace(
        dataset,
        root=Path("else/where"),
        samples=tuple(replace(s, path=Path("else/where") / s.path.name) for s in dataset.samples),
    )
    assert (
        held(split_into(dataset, 0.2, 0.1)) == held(split_into(turned, 0.2, 0.1)) == held(split_into(moved, 0.2, 0.1))
    )
    assert held(split_into(dataset, 0.2, 0)) != held(split_into(dataset, 0.2, 0, seed=1))
    first = [held(part) for part in folds(dataset, 4, 0)]
    assert first == [held(part) for part in folds(turned, 4, 0)] == [held(part) for part in folds(moved, 4, 0)]
    assert first != [held(part) for part in folds(dataset, 4, 1)]


def test_what_was_drawn_once_is_drawn_again():
    """Splits that people have printed don't change with a release."""
    assert sorted(held(hold_out(grouped(60, 30), 0.2, 5)))[:3] == ["0003.jpg", "0009.jpg", "0014.jpg"]
    assert sorted(held(split_into(grouped(60, 30), 0.2, 0.2, seed=5)))[:3] == ["0000.jpg", "0001.jpg", "0004.jpg"]


def test_any_column_keeps_together_and_an_empty_cell_is_alone():
    samples = tuple(
        Sample(Path(f"root/{n:03}.jpg"), n % 2, columns=(("clinic", "abcdef"[n % 6] if n < 60 else ""),))
        for n in range(90)
    )
    dataset = DataSet(Path("root"), "csv", ("no", "yes"), samples)
    split = split_into(dataset, 0.3, 0, group_by="clinic", stratify=False)
    clinics = {side: {s.columns[0][1] for s in split.samples if s.split == side} - {""} for side in ("train", "val")}
    assert clinics["train"] and clinics["val"] and not clinics["train"] & clinics["val"]
    assert {s.split for s in split.samples[60:]} == {"train", "val"}
    with pytest.raises(UsageError, match="no such column") as error:
        split_into(dataset, 0.3, 0, group_by="camera")
    assert "patient, clinic; or none" in error.value.hint


def test_a_test_split_stays_and_takes_no_part_in_folds():
    dataset = grouped()
    drawn = split_into(dataset, 0.2, 0.2)
    again = split_into(drawn, 0.3, 0)
    assert again.split("test") == drawn.split("test")
    for part in folds(drawn, 3, 0):
        assert part.split("test") == drawn.split("test")
    with pytest.raises(UsageError, match="a test split of"):
        split_into(drawn, 0.2, 0.1)


def test_a_patient_in_the_test_split_and_outside_is_refused():
    dataset = dataset_of([0, 1] * 20, [f"p{n // 2}" for n in range(40)])
    torn = replace(dataset, samples=(replace(dataset.samples[0], split="test"), *dataset.samples[1:]))
    for drawing in (lambda: split_into(torn, 0.2, 0), lambda: folds(torn, 2, 0)):
        with pytest.raises(PmtrainError, match=r"1 groups \(by patient\) lie in the test split and outside of it: p0"):
            drawing()
    assert len(folds(torn, 2, 0, group_by="none")) == 2


@pytest.mark.parametrize(("val", "test"), [(0, 0), (0.5, 0.5), (0.7, 0.4)])
def test_shares_that_leave_nothing_are_refused(val, test):
    with pytest.raises(UsageError, match="nothing is left"):
        split_into(dataset_of([0, 1] * 10), val, test)


def test_too_few_patients_for_the_folds_is_refused():
    few = dataset_of([0] * 20 + [1] * 20, [f"p{n % 10}" for n in range(20)] + [f"q{n % 3}" for n in range(20)])
    with pytest.raises(PmtrainError, match=r"'yes' has 3 groups \(by patient\), too few for 4 folds") as error:
        folds(few, 4, 0)
    assert error.value.hint == "give --folds 3"
    with pytest.raises(PmtrainError, match="'yes' has 2 images, too few for 5 folds"):
        folds(dataset_of([0] * 20 + [1] * 2), 5, 0)


def with_folds(cells) -> DataSet:
    dataset = dataset_of([0, 1] * (len(cells) // 2), [f"p{n}" for n in range(len(cells))])
    samples = (replace(s, columns=(("Fold", cell),)) for s, cell in zip(dataset.samples, cells, strict=True))
    return replace(dataset, samples=tuple(samples))


def test_the_column_fold_decides():
    cells = ["2", "1", "1", "3.0", "3", "2"]
    parts = given_folds(with_folds(cells), 3)
    assert [sorted(held(part)) for part in parts] == [
        ["0001.jpg", "0002.jpg"],
        ["0000.jpg", "0005.jpg"],
        ["0003.jpg", "0004.jpg"],
    ]
    assert given_folds(dataset_of([0, 1] * 3), 3) is None


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["1", "1", "2", "2", "x", "3"], "0004.jpg: its fold is 'x'"),
        (["1", "1", "2", "2", "", "3"], "0004.jpg: its fold is ''"),
        (["1", "1", "2", "2", "2", "2"], "the column fold of root has 1, 2"),
        (["1", "1", "2", "2", "4", "4"], "the column fold of root has 1, 2, 4"),
        (["1", "2", "1", "2", "3", "3"], "fold 1 would hold no image of class 'yes'"),
    ],
)
def test_a_column_fold_that_does_not_fit_is_refused(cells, said):
    with pytest.raises(PmtrainError, match=said):
        given_folds(with_folds(cells), 3)


def test_a_column_fold_that_tears_a_patient_apart_is_refused():
    dataset = with_folds(["1", "1", "2", "2", "3", "3"])
    samples = tuple(replace(s, patient="p1" if n == 4 else s.patient) for n, s in enumerate(dataset.samples))
    with pytest.raises(PmtrainError, match="more than one fold: p1"):
        given_folds(replace(dataset, samples=samples), 3)


def test_folds_of_real_patients(real_data):
    parts = folds(read_dataset(real_data / "dr-768"), 5, 0)
    for part in parts:
        found = sides(part)
        assert not found["train"] & found["val"]
        labels = [sample.label for sample in part.split("val")]
        assert 110 <= len(labels) <= 130 and abs(np.mean(labels) - 0.53) < 0.05
