"""The shortcut baseline of a run: kept once, never in the way, and set beside the network by `pmtrain eval`."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from pmtrain.data.audit.shortcut import measure
from pmtrain.data.images.shortcut_features import GROUPS, columns_of
from pmtrain.data.layouts.readers import read_dataset
from pmtrain.evaluation.robustness import baseline
from pmtrain.runs.run_folder import RunFolder
from pmtrain.system.stop import Stopped
from tests.conftest import QUICK, command, environment

WITH = tuple(option for option in QUICK if option != "--no-shortcut")


@pytest.fixture(scope="module")
def run(small_set, tmp_path_factory) -> tuple[Path, str]:
    """A run of one epoch with its baseline: the folder, and what was said on stderr."""
    folder = tmp_path_factory.mktemp("with baseline") / "run"
    arguments = ("train", "--data", small_set, "--epochs", 1, "--output", folder, *WITH)
    done = subprocess.run(command(*arguments), capture_output=True, text=True, env=environment({}), timeout=600)
    assert done.returncode == 0, done.stderr
    return folder, done.stderr


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    (tmp_path / "run").mkdir()
    return RunFolder(tmp_path / "run")


def test_a_run_keeps_what_scores_the_validation_images_by_hand(run, small_set):
    kept = json.loads((run[0] / "shortcut.json").read_text(encoding="utf-8"))
    assert kept["features"] == list(GROUPS)
    assert (kept["training"]["images"], kept["validation"]["images"], kept["seed"]) == (12, 8, 0)
    assert list(kept["cross_validated"]) == [*GROUPS, "all"]
    assert kept["cross_validated"]["thumbnail"]["auc"] > 0.8  # bright centres against dark ones
    figures = measure(read_dataset(small_set).split("val"))
    logits = kept["model"]["intercept"] + sum(
        figures.values[:, columns_of(name)].astype(float) @ weights
        for name, weights in kept["model"]["weights"].items()
    )
    assert kept["validation"]["auc"]["value"] == pytest.approx(roc_auc_score(figures.labels, logits))
    assert kept["validation"]["accuracy"]["value"] == pytest.approx(accuracy_score(figures.labels, logits > 0))
    assert re.search(r"warning: shortcut baseline .* cross-validated AUC [01]\.\d{3}.* in place of the disease", run[1])
    assert "shortcut baseline on 8 validation images: AUC " in run[1]
    assert "shortcut baseline on 8 validation images" in (run[0] / "train.log").read_text(encoding="utf-8")


def test_eval_sets_it_beside_the_network_on_the_same_images(run_cli, run, small_set):
    done = run_cli("eval", run[0], "--workers", 0, "--output", "out")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(
        r"shortcut baseline \(size, colour, thumbnail; no network\): "
        r"AUC [01]\.\d{4} \(.*\), accuracy [01]\.\d{4} \(.*\)",
        lines[-4],
    )
    assert lines[-3].startswith("network minus baseline: AUC ")
    assert "both accuracies at 0.5" in lines[-2]
    assert lines[-1].startswith("network's AUC within equal shortcut score: undefined: ")  # 4 images of a class
    assert "4 images, and 5 folds need 5" in lines[-1]
    written = json.loads(Path("out/metrics.json").read_text(encoding="utf-8"))
    rows = Path("out/predictions.csv").read_text(encoding="utf-8").splitlines()[1:]
    labels, network = (np.array([float(row.split(",")[place]) for row in rows]) for place in (2, 4))
    kept = json.loads((run[0] / "shortcut.json").read_text(encoding="utf-8"))["validation"]
    found = written["shortcut"]
    for name, expected in (
        ("auc", roc_auc_score(labels, network)),
        ("accuracy", accuracy_score(labels, network >= 0.5)),
    ):
        assert found[name]["value"] == pytest.approx(kept[name]["value"])
        assert found["difference"][name]["value"] == pytest.approx(expected - kept[name]["value"])
        assert {"low", "high", "p"} <= found["difference"][name].keys()
    assert found["cross_validated"]["all"].keys() >= {"auc", "low", "high"}
    assert (found["images"], found["reason"]) == (8, "")


def test_other_images_are_scored_too_and_intervals_follow_patients(run_cli, run, small_set, tmp_path):
    files = sorted((small_set / "val").glob("*/*.png"))
    rows = [f"{file},{file.parent.name},{number // 2}\n" for number, file in enumerate(files)]
    (tmp_path / "labels.csv").write_text("path,label,patient\n" + "".join(rows))
    done = run_cli("eval", run[0], "--data", tmp_path / "labels.csv", "--workers", 0)
    assert "paired percentile bootstrap by patient (4)" in done.stdout.splitlines()[-2]


def test_a_run_without_a_baseline_says_nothing_and_a_damaged_one_says_why(run_cli, run, tmp_path):
    shutil.copytree(run[0], tmp_path / "run")
    kept = tmp_path / "run" / "shortcut.json"
    kept.write_text("{}", encoding="utf-8")
    done = run_cli("eval", "run", "--workers", 0, "--output", "out")
    assert done.exit_code == 0, done.stderr
    assert "no network): undefined: " in done.stdout.splitlines()[-1]
    assert "shortcut.json" in json.loads(Path("out/metrics.json").read_text(encoding="utf-8"))["shortcut"]["reason"]
    kept.unlink()
    done = run_cli("eval", "run", "--workers", 0, "--output", "without")
    assert "shortcut" not in done.stdout
    assert json.loads(Path("without/metrics.json").read_text(encoding="utf-8"))["shortcut"] is None


@pytest.mark.slow
def test_it_can_be_left_out_and_a_resumed_run_keeps_its_own(run_cli, run, small_set, tmp_path):
    done = run_cli("train", "--data", small_set, "--epochs", 1, "--output", "without", *WITH, "--no-shortcut")
    assert done.exit_code == 0, done.stderr
    assert not Path("without/shortcut.json").exists()
    assert "shortcut: false" in Path("without/config.yaml").read_text()
    shutil.copytree(run[0], tmp_path / "more")
    (tmp_path / "more/shortcut.json").write_text('{"kept": true}', encoding="utf-8")
    done = run_cli("train", "--resume", "more", "--epochs", 2)
    assert done.exit_code == 0, done.stderr
    assert "shortcut baseline" not in done.stderr
    assert json.loads(Path("more/shortcut.json").read_text()) == {"kept": True}


def test_a_failure_is_one_warning(folder, small_set, monkeypatch, capsys):
    def fail(*_: object) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(baseline, "measure", fail)
    baseline.keep_baseline(folder, read_dataset(small_set), 0)
    assert capsys.readouterr().err == "warning: the shortcut baseline is left out: RuntimeError: no such luck\n"
    assert not folder.shortcut.exists()


def test_a_stop_that_is_asked_for_leaves_it_for_later(folder, small_set, capsys):
    def stop() -> None:
        raise Stopped

    baseline.keep_baseline(folder, read_dataset(small_set), 0, stop)
    assert (folder.shortcut.exists(), capsys.readouterr().err) == (False, "")
    baseline.keep_baseline(folder, read_dataset(small_set), 0)
    assert folder.shortcut.exists()


def test_too_few_images_keep_the_reason(folder, small_set, tmp_path, capsys):
    for split in ("train", "val"):
        for kind in ("healthy", "sick"):
            for file in sorted((small_set / split / kind).glob("*.png"))[:2]:
                (tmp_path / "few" / split / kind).mkdir(parents=True, exist_ok=True)
                shutil.copy(file, tmp_path / "few" / split / kind)
    baseline.keep_baseline(folder, read_dataset(tmp_path / "few"), 0)
    kept = folder.read_shortcut()
    assert kept["cross_validated"] == {}
    assert "2 images, and 5 folds need 5" in kept["cross_validated_reason"]
    assert kept["validation"]["auc"]["value"] is not None
    assert "warning" not in capsys.readouterr().err


def test_images_that_cannot_be_decoded_are_listed(folder, small_set, tmp_path):
    shutil.copytree(small_set, tmp_path / "some")
    (tmp_path / "some/train/sick/1.png").write_bytes(b"no image")
    for file in (tmp_path / "some/val/sick").glob("*.png"):
        file.write_bytes(b"")
    report = baseline.make_baseline(read_dataset(tmp_path / "some"), 0)
    assert len(report["left_out"]) == 5
    assert report["left_out"]["val/sick/1.png"] == "the file is empty"
    assert (report["training"]["images"], report["validation"]["images"]) == (11, 4)
    assert report["validation"]["auc"]["value"] is None
    assert report["validation"]["auc"]["reason"]
    for file in (tmp_path / "some/train/sick").glob("*.png"):
        file.write_bytes(b"")
    report = baseline.make_baseline(read_dataset(tmp_path / "some"), 0)
    assert (report["model"], report["validation"]) == (None, None)
    assert "no training image that can be decoded" in report["reason"]
