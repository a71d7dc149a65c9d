from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pmtrain.data.dataset import DataSet, Sample, first_few
from pmtrain.system.errors import PmtrainError


@pytest.fixture
def dataset(tmp_path) -> DataSet:
    (tmp_path / "一 二").mkdir()
    samples = []
    for name, label, split in (("b.jpg", 1, "train"), ("一 二/a.jpg", 0, "val"), ("c.jpg", 0, None)):
        (tmp_path / name).write_bytes(name.encode())
        samples.append(Sample(tmp_path / name, label, split))
    return DataSet(tmp_path, "folder", ("healthy", "ill"), tuple(samples))


def test_splits_and_names(dataset):
    assert [dataset.name_of(sample) for sample in dataset.split("val")] == ["一 二/a.jpg"]
    assert dataset.split("test") == ()
    assert dataset.name_of(Sample(dataset.root.parent / "x" / "y.jpg", 0)) == "../x/y.jpg"


def test_names_from_a_relative_root(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    here = DataSet(Path("."), "folder", ("a", "b"), ())
    assert here.name_of(Sample(Path("x/y.jpg"), 0)) == "x/y.jpg"
    assert here.name_of(Sample(tmp_path / "x" / "y.jpg", 0)) == "x/y.jpg"


def test_the_description_counts_by_split_and_class(dataset):
    lines = dataset.describe().splitlines()
    assert str(dataset.root) in lines[0] and "3 images" in lines[0] and "SYNTHETIC" not in lines[0]
    assert lines[1].split() == "train: 1 ill (positive), 0 healthy (negative)".split()
    assert lines[2].split() == "val: 0 ill (positive), 1 healthy (negative)".split()
    assert "SYNTHETIC" in replace(dataset, synthetic=True).describe()


def test_the_fingerprint_is_of_path_size_label_and_split(dataset):
    expected = "b.jpg\0005\0001\0train\nc.jpg\0005\0000\0\n一 二/a.jpg\00013\0000\0val\n"
    assert dataset.fingerprint() == hashlib.sha256(expected.encode()).hexdigest()
    assert replace(dataset, samples=dataset.samples[::-1]).fingerprint() == dataset.fingerprint()
    moved = (replace(dataset.samples[0], split="test"), *dataset.samples[1:])
    assert replace(dataset, samples=moved).fingerprint() != dataset.fingerprint()
    os.truncate(dataset.samples[0].path, 1)
    assert hashlib.sha256(expected.encode()).hexdigest() != dataset.fingerprint()
    dataset.samples[0].path.unlink()
    with pytest.raises(PmtrainError, match=r"b\.jpg"):
        dataset.fingerprint()


def test_the_first_few():
    assert first_few([1, 2]) == "1, 2"
    assert first_few("abcdefgh", 3) == "a, b, c and 5 more"
