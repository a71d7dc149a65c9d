from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmtrain.data.readers import read_dataset
from pmtrain.data.samples import DataSet, Sample
from pmtrain.data.split import hold_out
from pmtrain.errors import PmtrainError


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
