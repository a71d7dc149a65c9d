"""`pmtrain eval`: the figures that training printed, the files it writes, and what it refuses."""

from __future__ import annotations

import csv
import json
import pickle
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss, recall_score, roc_auc_score

from tests.conftest import QUICK, command, environment


@pytest.fixture(scope="module")
def run(small_set, tmp_path_factory) -> tuple[Path, str]:
    """A finished run, long enough for its running statistics: its folder and its best epoch's validation line."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    arguments = ("train", "--data", small_set, "--epochs", 20, "--output", folder, *QUICK)
    done = subprocess.run(command(*arguments), capture_output=True, text=True, env=environment({}), timeout=600)
    assert done.returncode == 0, done.stderr
    printed = [line for line in done.stdout.splitlines() if line.startswith("[validation]")]
    return folder, printed[json.loads((folder / "best.json").read_text())["epoch"]]


def test_it_gives_the_figures_that_training_printed(run_cli, run, small_set):
    folder, printed = run
    for options in ((folder,), (folder / "best.pdparams", "--data", small_set), (folder, "--batch-size", 3)):
        done = run_cli("eval", *options, "--workers", 0)
        assert done.exit_code == 0, done.stderr
        assert done.stdout.splitlines()[0] == printed


def test_its_figures_are_those_of_scikit_learn_on_its_predictions(run_cli, run, tmp_path):
    done = run_cli("eval", run[0], "--workers", 0, "--output", tmp_path / "结果")
    with open(tmp_path / "结果" / "predictions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "label", "probability"]
    assert [row["file"] for row in rows] == sorted(row["file"] for row in rows)
    labels = np.array([int(row["label"]) for row in rows])
    assert [("sick" in row["file"]) == (label == 1) for row, label in zip(rows, labels, strict=True)] == [True] * 8
    probabilities = np.array([float(row["probability"]) for row in rows])
    called = probabilities >= 0.5
    expected = {
        "accuracy": accuracy_score(labels, called),
        "AUC": roc_auc_score(labels, probabilities),
        "sensitivity": recall_score(labels, called),
        "specificity": recall_score(labels, called, pos_label=0),
    }
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines()[1:])
    assert {name: lines[name].split()[0] for name in expected} == {name: f"{v:.4f}" for name, v in expected.items()}
    assert lines["images"] == "8 (4 sick, 4 healthy)"
    assert lines["threshold"].startswith("0.5")
    written = json.loads((tmp_path / "结果" / "metrics.json").read_text(encoding="utf-8"))
    assert written["measures"]["auc"]["value"] == pytest.approx(expected["AUC"])
    assert written["loss"] == pytest.approx(log_loss(labels, probabilities))
    assert written["split"] == "val"


def test_results_are_never_overwritten(run_cli, run, tmp_path):
    (tmp_path / "metrics.json").write_text("mine")
    done = run_cli("eval", run[0], "--output", tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert (tmp_path / "metrics.json").read_text() == "mine"


def test_a_plain_notes_checkpoint_needs_no_side_file(run_cli, run, small_set, tmp_path):
    shutil.copy(run[0] / "best.pdparams", tmp_path / "notes.pdparams")
    done = run_cli("eval", tmp_path / "notes.pdparams", "--data", small_set, "--workers", 0)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("[validation] accuracy/loss: ")
    assert "threshold: 0.5 (rule the notes' own)" in done.stdout


def test_safetensors_evaluate_alike(run_cli, run, small_set, tmp_path):
    from safetensors.numpy import save_file

    from pmtrain.serialization import load_state

    state = {name: np.ascontiguousarray(array) for name, array in load_state(run[0] / "best.pdparams").items()}
    save_file(state, tmp_path / "a.safetensors")
    shutil.copy(run[0] / "best.pdparams", tmp_path / "b.pdparams")
    first, second = (
        run_cli("eval", tmp_path / name, "--data", small_set, "--workers", 0)
        for name in ("a.safetensors", "b.pdparams")
    )
    assert first.exit_code == 0, first.stderr
    assert first.stdout == second.stdout


def test_one_class_alone_leaves_measures_undefined_with_the_reason(run_cli, run, small_set, tmp_path):
    table = tmp_path / "labels.csv"
    files = sorted((small_set / "val/sick").iterdir())
    table.write_text(
        "path,label,split\n"
        + "".join(f"{file},sick,val\n" for file in files)
        + f"{small_set}/val/healthy/0.png,healthy,test\n"
    )
    done = run_cli("eval", run[0], "--data", table, "--positive", "sick", "--split", "val", "--workers", 0)
    assert done.exit_code == 0, done.stderr
    assert "AUC: undefined (" in done.stdout
    assert "specificity: undefined (" in done.stdout
    assert "nan" not in done.stdout.lower()


def test_classes_the_other_way_round_are_refused(run_cli, run, small_set):
    done = run_cli("eval", run[0] / "best.pdparams", "--data", small_set, "--positive", "healthy")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "--positive 'sick'" in done.stderr


def test_a_split_that_is_not_there_is_refused(run_cli, run):
    done = run_cli("eval", run[0], "--split", "test")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "train, val" in done.stderr


@pytest.mark.parametrize("content", [b"", b"not weights", pickle.dumps({"a": print})])
def test_what_is_no_checkpoint_is_refused_by_name(run_cli, small_set, tmp_path, content):
    file = tmp_path / "坏.pdparams"
    file.write_bytes(content)
    done = run_cli("eval", file, "--data", small_set)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "坏.pdparams" in done.stderr
    assert "this is a fault in pmtrain" not in done.stderr


def test_a_missing_checkpoint_names_those_beside_it(run_cli, run):
    done = run_cli("eval", run[0] / "bset.pdparams")
    assert done.exit_code == 1
    assert "best.pdparams" in done.stderr


def test_without_data_and_without_a_run_it_asks_for_data(run_cli, run, tmp_path):
    shutil.copy(run[0] / "best.pdparams", tmp_path / "notes.pdparams")
    done = run_cli("eval", tmp_path / "notes.pdparams")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "--data" in done.stderr
