"""`pmtrain train --leakage`: what is done about images on both sides, what the run and its evaluation tell of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.test_train import weights_of
from tests.conftest import QUICK


@pytest.fixture
def leaky_set(small_set, tmp_path) -> Path:
    """Two validation images are training images too, byte for byte: one by name twice, one under the other class."""
    root = Path(shutil.copytree(small_set, tmp_path / "leaky"))
    shutil.copy(root / "train" / "sick" / "1.png", root / "val" / "sick" / "copy.png")
    shutil.copy(root / "train" / "healthy" / "0.png", root / "val" / "sick" / "other.png")
    return root


def record_of(run: str) -> dict:
    return json.loads((Path(run) / "run.json").read_text(encoding="utf-8"))["data"]


def test_warn_is_the_default_and_eval_tells_of_it(run_cli, leaky_set):
    done = run_cli("train", "--data", leaky_set, "--epochs", 1, "--output", "run", *QUICK)
    assert done.exit_code == 0, done.stderr
    assert "2 images are in more than one split, byte for byte" in done.stderr
    assert "train/sick/1.png (train) = val/sick/copy.png (val)" in done.stderr
    leakage = record_of("run")["leakage"]
    assert (leakage["policy"], leakage["exact_duplicates"], leakage["dropped"]) == ("warn", 2, 0)
    assert record_of("run")["images"]["train"] == {"healthy": 6, "sick": 6}
    told = "2 of these 10 images are byte-for-byte copies of training images"
    evaluated = run_cli("eval", "run", "--workers", 0, "--output", "out")
    assert f"EXPLORATORY: {told}, so these results are likely too good" in evaluated.stdout
    report = json.loads(Path("out/metrics.json").read_text(encoding="utf-8"))
    assert report["seen_in_training"] == {"duplicate": 2, "same_patient": 0}
    assert told in report["exploratory_reasons"]


def test_stop_makes_no_run(run_cli, leaky_set):
    for more in ([], ["--dry-run"]):
        done = run_cli("train", "--data", leaky_set, "--leakage", "stop", "--output", "run", *QUICK, *more)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "train/healthy/0.png (train) = val/sick/other.png (val)" in done.stderr
        assert "hint:" in done.stderr
        assert not Path("run").exists()


def test_drop_trains_on_the_rest_and_resumes_with_the_same_images(run_cli, leaky_set):
    arguments = ("train", "--data", leaky_set, "--leakage", "drop", *QUICK)
    whole = run_cli(*arguments, "--epochs", 2, "--output", "whole")
    assert whole.exit_code == 0, whole.stderr
    data = record_of("whole")
    assert data["images"]["train"] == {"healthy": 5, "sick": 5}
    assert data["leakage"]["dropped_files"] == ["train/healthy/0.png", "train/sick/1.png"]

    first = run_cli(*arguments, "--epochs", 1, "--output", "run")
    refused = run_cli("train", "--resume", "run", "--leakage", "warn")
    assert (refused.exit_code, "--leakage warn" in refused.stderr) == (2, True)
    resumed = run_cli("train", "--resume", "run", "--epochs", 2)
    assert resumed.exit_code == 0, resumed.stderr
    assert first.stdout + resumed.stdout == whole.stdout
    assert weights_of(Path("run")) == weights_of(Path("whole"))

    # The dropped ones are no training images to eval, and what was their copy is trained on no more.
    evaluated = run_cli("eval", "run", "--workers", 0, "--split", "all")
    assert "the network was trained on 10 of these 22 images" in evaluated.stdout
    assert "byte for byte" not in evaluated.stdout


def test_nothing_is_left_of_a_class(run_cli, small_set, tmp_path):
    root = Path(shutil.copytree(small_set, tmp_path / "leaky"))
    shutil.rmtree(root / "val" / "sick")
    shutil.copytree(root / "train" / "sick", root / "val" / "sick")
    done = run_cli("train", "--data", root, "--leakage", "drop", "--output", "run", *QUICK)
    assert done.exit_code == 1
    assert "the train split holds no image of class 'sick'" in done.stderr
    assert not Path("run").exists()
