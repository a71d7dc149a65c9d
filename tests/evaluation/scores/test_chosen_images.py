"""Patients that resamples are drawn by, and columns that metrics are reported by."""

from __future__ import annotations

from pathlib import Path

import pytest

from pmtrain.data.dataset import DataSet, Sample
from pmtrain.evaluation.scores.chosen_images import MAX_GROUPS, Images, by_column, patients
from pmtrain.system.errors import UsageError


def test_an_image_without_a_patient_is_one_of_its_own(capsys):
    samples = [Sample(Path(f"{n}"), 0, None, patient) for n, patient in enumerate(["x", "x", "", "2", ""])]
    groups = patients(samples, lambda sample: str(sample.path))
    assert [groups.index(group) for group in groups] == [0, 0, 2, 3, 4]
    assert "2 of 5 images have no patient" in capsys.readouterr().err
    assert patients(samples[2:3], str) is None


def test_a_column_of_names_is_no_column_of_kinds():
    samples = tuple(Sample(Path(f"{n}"), 0, columns=(("age", str(n)), ("sex", "fm"[n % 2]))) for n in range(30))
    data = all_of(samples)
    assert set(by_column(data, "sex").values()) == {"f", "m"}
    with pytest.raises(UsageError, match=f"30 values, more than {MAX_GROUPS}"):
        by_column(data, "age")
    with pytest.raises(UsageError, match="it has age, sex"):
        by_column(data, "Sex")


def all_of(samples: tuple[Sample, ...]) -> Images:
    data = DataSet(Path("."), "csv", ("well", "ill"), samples)
    return Images(data, data, samples, "all")
