"""A data set written as a table reads back as itself."""

from __future__ import annotations

import csv
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pmtrain.data.dataset import SYNTHETIC_NOTE, DataSet, Sample
from pmtrain.data.layouts.readers import read_dataset
from pmtrain.data.splits.manifest import write_manifest
from pmtrain.data.splits.split import folds, given_folds, split_into
from pmtrain.system.errors import PmtrainError


@pytest.fixture
def dataset(tmp_path) -> DataSet:
    """Forty files (not images: nothing opens them) of twenty patients, in a folder with spaces and two scripts."""
    root = tmp_path / "眼底 photographs"
    samples = []
    for number in range(40):
        path = root / f"{number % 3}" / f"{number:02}, ok.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * number)
        columns = (("Fold", "9"), ("class", f'"{number}"; a, b'), ("sex", "fm"[number % 2]))
        samples.append(Sample(path, number // 2 % 2, None, f"p{number // 2}", columns))
    return DataSet(root, "csv", ("healthy", "ill"), tuple(samples))


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def told(dataset: DataSet) -> set[tuple]:
    return {(os.path.abspath(s.path), dataset.classes[s.label], s.patient, s.split) for s in dataset.samples}


@pytest.mark.parametrize("where", [".", "眼底 photographs", "tables/of mine"])
def test_a_split_reads_back(dataset, tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    split = split_into(dataset, 0.25, 0.25)
    table = Path(where) / "split.csv"
    write_manifest(table, split)
    back = read_dataset(table)
    assert told(back) == told(split) and back.classes == split.classes
    rows = rows_of(table)
    assert list(rows[0]) == ["path", "label", "patient", "split", "Fold", "class (data)", "sex"]
    assert all("\\" not in row["path"] and not os.path.isabs(row["path"]) for row in rows)
    assert [row["path"] for row in rows] == sorted(row["path"] for row in rows)
    cells = {os.path.abspath(s.path): dict(s.columns) for s in dataset.samples}
    for row in rows:
        own = cells[os.path.abspath(table.parent / row["path"])]
        assert (row["class (data)"], row["sex"]) == (own["class"], own["sex"])
    turned = tmp_path / "turned" / "split.csv"
    write_manifest(turned, replace(split, samples=split.samples[::-1]))
    again = tmp_path / "again" / "split.csv"
    write_manifest(again, split)
    assert turned.read_bytes() == again.read_bytes()


def test_cells_that_a_spreadsheet_would_run_read_back_and_are_none(dataset, tmp_path):
    samples = tuple(replace(s, patient=f"=p{i // 2}", columns=(("note", "@x"),)) for i, s in enumerate(dataset.samples))
    split = split_into(replace(dataset, samples=samples), 0.25, 0.25)
    write_manifest(tmp_path / "split.csv", split)
    assert {row["note"] for row in rows_of(tmp_path / "split.csv")} == {"'@x"}
    back = read_dataset(tmp_path / "split.csv")
    assert told(back) == told(split) and {sample.columns for sample in back.samples} == {(("note", "@x"),)}


@pytest.mark.parametrize("test", [0, 0.25])
def test_folds_read_back(dataset, tmp_path, test):
    data = split_into(dataset, 0, test) if test else dataset
    parts = folds(data, 3, 0)
    fold_of = {sample.path: n for n, part in enumerate(parts, 1) for sample in part.split("val")}
    write_manifest(tmp_path / "folds.csv", data, fold_of)
    back = given_folds(read_dataset(tmp_path / "folds.csv"), 3)
    assert [told(part) for part in back] == [told(part) for part in parts]
    header = list(rows_of(tmp_path / "folds.csv")[0])
    assert header == ["path", "label", "patient", *["split"] * bool(test), "fold", "class (data)", "sex"]


def test_nothing_is_overwritten(dataset, tmp_path):
    (tmp_path / "mine.csv").write_text("precious")
    with pytest.raises(PmtrainError, match="exists already"):
        write_manifest(tmp_path / "mine.csv", dataset)
    assert (tmp_path / "mine.csv").read_text() == "precious"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
@pytest.mark.parametrize("name", ["a\\b.png", "a.png ", os.fsdecode(b"\xff.png")])
def test_a_name_that_no_table_can_hold_is_refused(dataset, tmp_path, name):
    odd = replace(dataset, samples=(replace(dataset.samples[0], path=dataset.root / name), *dataset.samples[1:]))
    with pytest.raises(PmtrainError, match="can't be written to a table"):
        write_manifest(tmp_path / "split.csv", odd)
    assert not (tmp_path / "split.csv").exists()


def test_a_table_far_from_synthetic_images_calls_them_synthetic(dataset, tmp_path):
    write_manifest(tmp_path / "far" / "one.csv", dataset)
    assert not read_dataset(tmp_path / "far" / "one.csv").synthetic
    (dataset.root / SYNTHETIC_NOTE).write_text("drawn")
    assert read_dataset(tmp_path / "far" / "one.csv").synthetic
