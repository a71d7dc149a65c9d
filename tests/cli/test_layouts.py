"""A run on a table or on a list of data sets: trained, evaluated and resumed with the options that it was given."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import QUICK
from tests.reading import write

COLUMNS = ("--path-column", "photo no", "--label-column", "grade", "--patient-column", "who", "--split-column", "part")


@pytest.fixture
def graded(small_set, tmp_path) -> Path:
    """A folder with images, and beside it a table: two grades of illness, paths without suffix, odd column names."""
    folder = tmp_path / "graded"
    shutil.copytree(small_set, folder / "images")
    lines = ["photo no;grade;who;part;label;sex"]
    for number, path in enumerate(sorted((folder / "images").rglob("*.png"))):
        name = path.relative_to(folder / "images").with_suffix("")
        grade = 0 if path.parent.name == "healthy" else 1 + number % 2
        lines.append(f"{name};{grade};p{number};{name.parts[0]};x;{'fm'[number % 2]}")
    write(folder / "lists/t.csv", "\r\n".join(lines), "utf-16")
    return folder


def test_a_table_with_columns_by_name(run_cli, graded, tmp_path):
    table, root, run = graded / "lists/t.csv", graded / "images", tmp_path / "run"
    named = ("--data", table, "--root", root, *COLUMNS, "--positive", "1,2")
    trained = run_cli("train", *named, *QUICK, "--epochs", 1, "--output", run)
    assert trained.exit_code == 0, trained.stderr
    assert "20 paths without a suffix" in trained.stderr
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))["data"]
    assert record["classes"] == ["0", "1/2"] and record["images"]["train"] == {"0": 6, "1/2": 6}
    # Without --data, the run's own images, read as it read them.
    done = run_cli("eval", run, "--workers", 0, "--n-boot", 100, "--group-by", "sex", "--output", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert "EXPLORATORY: the epoch and the stored threshold were chosen on these 8 images" in done.stdout
    assert "sex = f" in done.stdout
    with open(tmp_path / "out/predictions.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["patient"] for row in rows] == [f"p{n}" for n in range(12, 20)]
    assert [row["file"] for row in rows[:2]] == ["val/healthy/0.png", "val/healthy/2.png"]
    # The images have moved, and the run goes on all the same.
    refused = run_cli("train", "--resume", run, "--label-column", "label")
    assert refused.exit_code == 2 and "--label-column label" in refused.stderr
    moved = graded.rename(tmp_path / "moved")
    again = ("--data", moved / "lists/t.csv", "--root", moved / "images")
    resumed = run_cli("train", "--resume", run, *again, "--epochs", 2)
    assert resumed.exit_code == 0, resumed.stderr


def test_a_list_of_data_sets(run_cli, graded, small_set, tmp_path):
    shutil.copytree(small_set / "train", tmp_path / "more")
    keys = "\n".join(f"  {flag[2:].replace('-', '_')}: {name}" for flag, name in zip(*[iter(COLUMNS)] * 2, strict=True))
    table = f"  data: graded/lists/t.csv\n  root: graded/images\n  positive: 1,2\n{keys}\n"
    sets = write(tmp_path / "sets.yaml", f"graded:\n{table}more:\n  data: more\n  split: train\n")
    run = tmp_path / "run"
    trained = run_cli("train", "--data", sets, *QUICK, "--epochs", 1, "--output", run)
    assert trained.exit_code == 0, trained.stderr
    assert "more: folder layout, 12 images, sick is positive, healthy negative" in trained.stderr
    done = run_cli("eval", run, "--workers", 0, "--n-boot", 100, "--split", "train", "--group-by", "set")
    assert done.exit_code == 0, done.stderr
    assert "the network was trained on 24 of these 24 images" in done.stdout
    assert "set = graded: 12" in done.stdout and "set = more: 12" in done.stdout
    for path in (tmp_path / "more").rglob("0.png"):
        path.unlink()
    changed = run_cli("train", "--resume", run, "--epochs", 2)
    assert changed.exit_code == 1 and "aren't those that the run began with" in changed.stderr


def test_a_root_without_a_table_is_refused(run_cli, tmp_path):
    done = run_cli("train", "--root", tmp_path)
    assert done.exit_code == 2 and "--data TABLE" in done.stderr
