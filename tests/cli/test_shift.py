"""`pmtrain eval --shift`: its table, files and refusals, against plain evaluations of images changed by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pmtrain.evaluation.robustness.suite import SHIFTS

QUICK = ("--workers", 0, "--n-boot", 100)


@pytest.fixture(scope="module")
def grey_set(small_set, tmp_path_factory) -> Path:
    """`small_set` without colour, by the weights of ITU-R BT.601."""
    root = tmp_path_factory.mktemp("grey") / "set"
    for path in small_set.rglob("*.png"):
        grey = np.rint(cv2.imread(str(path)).astype(float) @ [0.114, 0.587, 0.299]).astype(np.uint8)
        to = root / path.relative_to(small_set)
        to.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(to), np.repeat(grey[..., None], 3, axis=2))
    return root


@pytest.mark.slow
def test_its_figures_are_those_of_a_plain_evaluation_of_changed_images(run_cli, checkpoint, small_set, grey_set):
    arguments = ("--shift", "camera", "--shift-severities", "5", "--output", "out")
    done = run_cli("eval", checkpoint, "--data", small_set, *QUICK, *arguments)
    assert done.exit_code == 0, done.stderr
    plain = run_cli("eval", checkpoint, "--data", small_set, *QUICK)
    assert done.stdout.startswith(plain.stdout)  # the lines of a plain evaluation come first, unchanged
    assert "camera suite: 8 images, 13 changes, the mean over severities 5" in done.stdout
    with open("out/shift.csv", newline="", encoding="utf-8") as file:
        rows = {(row["change"], row["severity"]): row for row in csv.DictReader(file)}
    assert list(rows) == [
        ("clean", "0"),
        *((name, severity) for name in SHIFTS["camera"] for severity in ("5", "mean")),
        ("all", "mean"),
    ]
    written = json.loads(Path("out/metrics.json").read_text(encoding="utf-8"))
    grey = run_cli("eval", checkpoint, "--data", grey_set, *QUICK, "--output", "grey")
    assert grey.exit_code == 0, grey.stderr
    of_grey = json.loads(Path("grey/metrics.json").read_text(encoding="utf-8"))["metrics"]
    for name in ("auc", "sensitivity", "specificity"):
        assert float(rows["clean", "0"][name]) == pytest.approx(written["metrics"][name]["value"], abs=1e-6)
        assert float(rows["clean", "0"][f"{name}_low"]) == pytest.approx(
            written["metrics"][name]["interval"]["low"], abs=1e-6
        )
        assert float(rows["saturation", "5"][name]) == pytest.approx(of_grey[name]["value"], abs=1e-6)
        means = [float(rows[change, "mean"][name]) for change in SHIFTS["camera"]]
        assert float(rows["all", "mean"][name]) == pytest.approx(np.mean(means), abs=1e-5)
        loss = float(rows["clean", "0"][name]) - np.mean(means)
        assert float(rows["all", "mean"][f"{name}_loss"]) == pytest.approx(loss, abs=1e-5)
        assert written["shift"]["loss"][name]["value"] == pytest.approx(loss, abs=1e-5)
    assert written["shift"]["severities"] == [5]
    assert {"shift.svg", "shift.png"} <= {path.name for path in Path("out").iterdir()}


def test_severities_out_of_range_are_refused(run_cli, checkpoint):
    for wrong in ("0,1", "six", ""):
        done = run_cli("eval", checkpoint, "--shift", "camera", "--shift-severities", wrong)
        assert done.exit_code == 2
        assert "give numbers from 1 to 5, such as 1,3,5" in done.stderr


def test_results_are_never_overwritten(run_cli, checkpoint, small_set):
    Path("out").mkdir()
    Path("out/shift.csv").write_text("mine", encoding="utf-8")
    done = run_cli("eval", checkpoint, "--data", small_set, "--shift", "stain", "--output", "out")
    assert done.exit_code == 2
    assert "shift.csv already exists" in done.stderr
