"""`pmtrain data split`: what it prints, writes and refuses."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from pmtrain.data.layouts.readers import read_dataset


@pytest.fixture
def listed(tmp_path) -> Path:
    """A table of 40 files (nothing opens them) of 20 patients, one of them named nowhere."""
    folder = tmp_path / "eyes"
    folder.mkdir()
    rows = []
    for number in range(40):
        (folder / f"{number:02}.png").write_bytes(b"x")
        whose = f"p{number // 2}" if number > 1 else ""
        rows.append((f"{number:02}.png", ["healthy", "ill"][number // 2 % 2], whose, "ab"[number % 2]))
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "diagnosis", "subject", "camera"), *rows])
    return folder


def test_a_table_is_printed_and_written(run_cli, listed):
    done = run_cli("data", "split", "eyes", "--val", 0.2, "--test", 0.3, "--output", "tables/split.csv")
    assert done.exit_code == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["images/patients", "all", "healthy", "ill"]
    assert [line[0] for line in lines[1:]] == ["train", "val", "test"]
    assert lines[2:] == [["val", "8/4", "4/2", "4/2"], ["test", "12/7", "6/4", "6/3"]]
    assert "2 of 40 images have no patient: each counts as one of its own" in done.stderr
    assert done.stderr.splitlines()[-1] == (
        f"wrote {Path('tables/split.csv')}; next: pmtrain train --data {Path('tables/split.csv')}"
    )
    data = read_dataset(Path("tables/split.csv"))
    assert [len(data.split(name)) for name in ("train", "val", "test")] == [20, 8, 12]
    again = run_cli("data", "split", "eyes", "--val", 0.2, "--test", 0.3, "--output", "tables/split.csv")
    assert (again.exit_code, again.stdout) == (2, "")
    assert "exists already" in again.stderr


def test_the_default_holds_a_fifth_out_and_the_seed_decides(run_cli, listed):
    for name, options in (("a", ()), ("b", ("--val", 0.2, "--seed", 0)), ("c", ("--seed", 1))):
        assert run_cli("data", "split", "eyes", "--output", name, *options).exit_code == 0
    assert Path("a").read_bytes() == Path("b").read_bytes() != Path("c").read_bytes()


def test_folds_and_a_test_split(run_cli, listed):
    done = run_cli("data", "split", "eyes", "--folds", 4, "--test", 0.2, "--output", "folds.csv")
    assert done.exit_code == 0, done.stderr
    assert [line.split("  ")[0] for line in done.stdout.splitlines()[1:]] == [*(f"fold {n}" for n in "1234"), "test"]
    assert done.stderr.splitlines()[-1].endswith("pmtrain train --data folds.csv --folds 4")
    with open("folds.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "label", "patient", "split", "fold", "camera"]
    assert all((row["split"] == "test") == (row["fold"] == "") for row in rows)
    assert {row["fold"] for row in rows} == {"", "1", "2", "3", "4"}


def test_a_column_groups_and_positive_is_carried_on(run_cli, listed):
    options = ("--group-by", "camera", "--val", 0.5, "--no-stratify", "--positive", "ill", "--output", "x.csv")
    done = run_cli("data", "split", "eyes", *options)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[1:] == [
        "train          20/1  10/1     10/1",
        "val            20/1  10/1     10/1",
    ]
    assert done.stderr.splitlines()[-1].endswith("--positive ill")


def test_folders_without_patients(run_cli, small_set):
    root = shutil.copytree(small_set / "train", "classes")
    done = run_cli("data", "split", root, "--val", 0.34, "--group-by", "none", "--output", "x.csv")
    assert done.stdout.splitlines() == [
        "images  all  healthy  sick",
        "train   8    4        4",
        "val     4    2        2",
    ]
    assert "name no" not in done.stderr


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--folds", 3, "--val", 0.2), 2, "--val 0.2 with --folds 3"),
        (("--folds", 12), 1, "'healthy' has 11 groups (by patient), too few for 12 folds"),
        (("--val", 0.6, "--test", 0.4), 2, "nothing is left to train on"),
        (("--val", 1), 2, "--val"),
        (("--group-by", "sex"), 2, "--group-by 'sex'"),
        (("--group-by", "camera"), 1, "would hold no image of class"),
    ],
)
def test_what_cannot_be_is_refused(run_cli, listed, options, code, said):
    done = run_cli("data", "split", "eyes", *options)
    assert (done.exit_code, done.stdout) == (code, "")
    assert said in done.stderr
    assert not Path("split.csv").exists()
