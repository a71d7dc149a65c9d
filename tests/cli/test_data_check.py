"""`pmtrain data check`: what it prints, where, and its exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from pmtrain.data.loading.cache_folder import open_cache
from pmtrain.data.preprocessing.preprocess import Preprocess


@pytest.fixture(scope="session")
def clean_set(tmp_path_factory) -> Path:
    """12 + 8 images of noise, of which nothing tells the class."""
    root, rng = tmp_path_factory.mktemp("clean") / "eyes", np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 8)):
        for number in range(count):
            path = root / split / ("healthy", "sick")[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = rng.integers(60, 160, (36, 40, 3), np.uint8)
            path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    return root


@pytest.fixture
def own_set(clean_set, tmp_path) -> Path:
    """A copy of the clean set, to spoil."""
    return Path(shutil.copytree(clean_set, tmp_path / "own set"))


def test_a_clean_set_exits_with_0(run_cli, clean_set):
    done = run_cli("data", "check", clean_set)
    assert (done.exit_code, done.stdout) == (0, "20 images: no errors, no warnings, no notes\n")
    assert "20 images" in done.stderr  # the listing
    assert run_cli("data", "check", "--data", clean_set, "--strict").exit_code == 0


def test_a_warning_fails_a_strict_check_alone(run_cli, own_set):
    shutil.copy(own_set / "train" / "sick" / "1.png", own_set / "train" / "sick" / "again.png")
    done = run_cli("data", "check", own_set)
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "warning: duplicate images (duplicate): 1",
        "  train/sick/1.png, train/sick/again.png: equal byte for byte",
        "21 images: no errors, 1 warning, no notes",
    ]
    assert run_cli("data", "check", own_set, "--strict").exit_code == 1


def test_an_error_exits_with_1(run_cli, own_set):
    (own_set / "train" / "sick" / "1.png").write_bytes(b"")
    done = run_cli("data", "check", own_set)
    assert done.exit_code == 1
    assert "  train/sick/1.png: the file is empty" in done.stdout.splitlines()
    skipped = run_cli("data", "check", own_set, "--on-bad-image", "skip")
    assert (skipped.exit_code, skipped.stdout[:8]) == (0, "warning:")


def test_json_is_all_of_stdout_and_can_go_to_a_file(run_cli, own_set):
    shutil.copy(own_set / "train" / "sick" / "1.png", own_set / "val" / "healthy" / "图.png")
    done = run_cli("data", "check", own_set, "--format", "json")
    report = json.loads(done.stdout)
    assert done.exit_code == 1
    assert (report["errors"], report["warnings"], report["notes"]) == (2, 0, 0)
    assert [(finding["severity"], finding["kind"]) for finding in report["findings"]] == [
        ("error", "duplicate-splits"),
        ("error", "duplicate-labels"),
    ]
    assert report["findings"][0]["files"] == ["train/sick/1.png", "val/healthy/图.png"]
    filed = run_cli("data", "check", own_set, "--format", "json", "--output", "report.json")
    assert (filed.exit_code, filed.stdout) == (1, "")
    assert json.loads(Path("report.json").read_text(encoding="utf-8")) == report
    assert "21 images: 2 errors, no warnings, no notes; wrote report.json" in filed.stderr
    assert run_cli("data", "check", own_set, "--output", "report.json").exit_code == 1
    assert json.loads(Path("report.json").read_text(encoding="utf-8")) == report


def test_without_a_name_data_is_searched(run_cli, clean_set):
    none = run_cli("data", "check")
    assert none.exit_code == 1
    assert "no data set in" in none.stderr
    assert not Path("data").exists()
    shutil.copytree(clean_set, "data/eyes")
    assert run_cli("data", "check").stdout == "20 images: no errors, no warnings, no notes\n"


def test_what_was_decoded_is_kept_for_training(run_cli, clean_set, monkeypatch, tmp_path):
    monkeypatch.setenv("PMTRAIN_CACHE", str(tmp_path / "cache"))
    for preprocess in ("notes", "fundus"):
        assert run_cli("data", "check", clean_set, "--image-size", 32, "--preprocess", preprocess).exit_code == 0
        cache, wanted = open_cache(), Preprocess(preprocess, 32)
        for path in clean_set.rglob("*.png"):
            place = cache.look(path, wanted.pixels_key).place
            assert (cache.read(place).reshape(32, 32, 3) == wanted.read(path)).all()
        cache.close()
    monkeypatch.setenv("PMTRAIN_CACHE", str(tmp_path / "other"))
    assert run_cli("data", "check", clean_set, "--cache-limit", 0).exit_code == 0
    assert not (tmp_path / "other").exists()
