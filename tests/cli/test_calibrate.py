"""`pmtrain calibrate`, and one calibration everywhere: eval, predict, explain, compare and report."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import brier_score_loss, roc_auc_score

from tests.conftest import QUICK


@pytest.fixture
def own(checkpoint, tmp_path):
    """A checkpoint of this test's own."""
    for suffix in (".pdparams", ".json"):
        shutil.copy(checkpoint.with_suffix(suffix), tmp_path / f"mine{suffix}")
    return tmp_path / "mine.pdparams"


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def evaluated(run_cli, checkpoint, small_set, name, *options):
    done = run_cli("eval", checkpoint, "--data", small_set, "--split", "all", "--workers", 0, "--n-boot", 100,
                   "--output", name, *options)  # fmt: skip
    assert done.exit_code == 0, done.stderr
    with open(f"{name}/predictions.csv", encoding="utf-8") as file:
        return done, list(csv.DictReader(file)), json.loads(Path(name, "metrics.json").read_text("utf-8"))


def test_probabilities_change_everywhere_alike_and_decisions_do_not(run_cli, own, small_set):
    _, before, _ = evaluated(run_cli, own, small_set, "before")
    weights = own.read_bytes()
    done = run_cli("calibrate", own, "--data", small_set, "--split", "all", "--workers", 0, "--method", "platt")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("calibration: platt (logit x ")
    assert "fitted on 20 images at a prevalence of 0.5000" in done.stdout
    assert own.read_bytes() == weights
    shown, after, metrics = evaluated(run_cli, own, small_set, "after")
    kept = json.loads(own.with_suffix(".json").read_text())["calibration"]
    logits = np.array([float(row["logit"]) for row in after])
    assert [row["logit"] for row in before] == [row["logit"] for row in after]
    probabilities = np.array([float(row["probability"]) for row in after])
    assert probabilities == pytest.approx(expit(kept["slope"] * logits + kept["intercept"]))
    assert [row["prediction"] for row in before] == [row["prediction"] for row in after]
    assert np.abs(probabilities - expit(logits)).max() > 0.01
    labels = [int(row["label"]) for row in after]
    assert metrics["metrics"]["brier"]["value"] == pytest.approx(brier_score_loss(labels, probabilities))
    assert metrics["calibration"]["method"] == "platt"
    assert "EXPLORATORY: the calibration was fitted on these images" in shown.stdout
    images = sorted(small_set.rglob("*.png"))
    predicted = rows_of(run_cli("predict", own, small_set, "--workers", 0).stdout)
    of_file = {row["file"]: float(row["probability"]) for row in predicted}
    for row in after:
        assert of_file[str(small_set / row["file"])] == pytest.approx(float(row["probability"]), rel=1e-4)
    explained = rows_of(run_cli("explain", own, images[0]).stdout)
    assert float(explained[0]["probability"]) == pytest.approx(of_file[str(images[0])], rel=1e-3)
    compared = run_cli("compare", own, own, "--data", small_set, "--split", "all", "--workers", 0, "--format", "json")
    found = json.loads(compared.stdout)
    assert found["differences"]["brier"]["a"]["value"] == pytest.approx(metrics["metrics"]["brier"]["value"])
    assert found["a"]["calibration"]["method"] == "platt"
    removed = run_cli("calibrate", own, "--method", "none")
    assert removed.exit_code == 0, removed.stderr
    _, again, _ = evaluated(run_cli, own, small_set, "again")
    assert again == before


def test_a_threshold_can_be_asked_for_on_the_calibrated_probability(run_cli, own, small_set):
    options = ("--data", small_set, "--split", "all", "--workers", 0, "--method", "isotonic")
    done = run_cli("calibrate", own, *options, "--threshold", 0.25)
    assert done.exit_code == 0, done.stderr
    assert "threshold: 0.25 (0.25), which is " in done.stdout
    _, rows, metrics = evaluated(run_cli, own, small_set, "out")
    assert metrics["threshold"]["value"] == pytest.approx(0.25)
    raw = metrics["threshold"]["stored_on_raw_probability"]
    assert [row["prediction"] == "1" for row in rows] == [expit(float(row["logit"])) >= raw for row in rows]


def test_prevalence_shifts_posteriors_and_gives_calls(run_cli, own, small_set):
    refused = run_cli("predict", own, small_set, "--prevalence", 0.02)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "pmtrain calibrate" in refused.stderr
    run_cli("calibrate", own, "--data", small_set, "--split", "all", "--workers", 0)
    done, rows, metrics = evaluated(run_cli, own, small_set, "out", "--prevalence", 0.02)
    assert "at a prevalence of 0.02 (of these images: 0.5000), at the same threshold:" in done.stdout
    p = np.array([float(row["probability"]) for row in rows])
    odds = p / (1 - p) * 0.02 / 0.98  # the calibration's images were half and half
    assert [float(row["posterior"]) for row in rows] == pytest.approx(odds / (1 + odds))
    called = np.array([row["prediction"] == "1" for row in rows])
    labels = np.array([row["label"] == "1" for row in rows])
    tpr, fpr = called[labels].mean(), called[~labels].mean()
    calls = metrics["at_prevalence"]["calls"]
    assert calls["called_positive"]["value"]["value"] == pytest.approx(1000 * (0.02 * tpr + 0.98 * fpr))
    assert metrics["decision_curve"]["prevalence"] == 0.02
    predicted = rows_of(run_cli("predict", own, small_set, "--workers", 0, "--prevalence", 0.02).stdout)
    assert {row["file"]: float(row["posterior"]) for row in predicted} == pytest.approx(
        {str(small_set / row["file"]): float(row["posterior"]) for row in rows}, rel=1e-3
    )
    options = ("--data", small_set, "--split", "all", "--workers", 0, "--prevalence", 0.02)
    compared = run_cli("compare", own, own, *options)
    assert "at a prevalence of 0.02 (of these images: 0.5000):" in compared.stdout
    found = json.loads(run_cli("compare", own, own, *options, "--format", "json").stdout)["at_prevalence"]
    of_eval = metrics["at_prevalence"]["measures"]
    assert {name: each["a"]["value"] for name, each in found.items()} == pytest.approx(
        {name: each["value"]["value"] for name, each in of_eval.items()}
    )


@pytest.mark.slow
def test_training_calibrates_and_its_report_shows_it(run_cli, small_set, tmp_path):
    options = ["--data", small_set, "--epochs", 2, "--calibrate", "temperature", "--class-weight", 4]
    done = run_cli("train", *options, "--output", "run", *QUICK)
    assert done.exit_code == 0, done.stderr
    info = json.loads((tmp_path / "run/best.json").read_text())
    assert info["prior"] == pytest.approx(0.8)
    assert info["calibration"]["intercept"] == pytest.approx(-np.log(4))  # half of the validation images are positive
    assert info["calibration"]["method"] == "temperature"
    page = run_cli("report", "run", "--prevalence", 0.1, "--errors", 0)
    assert page.exit_code == 0, page.stderr
    text = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "Calibration before and after" in text
    assert "At a prevalence of 0.1" in text
    assert "In 1,000 patients: missed" in text


def test_what_cannot_be_calibrated_is_refused(run_cli, own, small_set, tmp_path):
    shutil.copytree(small_set / "val", tmp_path / "one")
    for file in (tmp_path / "one/sick").iterdir():
        file.unlink()
    wrong = run_cli("calibrate", own, "--data", small_set, "--method", "beta")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "temperature, platt, isotonic" in wrong.stderr


def test_by_patient_everything_counts_patients(run_cli, own, small_set, tmp_path):
    files = sorted(small_set.rglob("*.png"))  # healthy ones before sick ones, in each split
    rows = [f"{file},{file.parent.name},p{number // 2}\n" for number, file in enumerate(files)]
    (tmp_path / "labels.csv").write_text("path,label,patient\n" + "".join(rows))
    options = ("--data", tmp_path / "labels.csv", "--positive", "sick", "--split", "all", "--workers", 0,
               "--n-boot", 100, "--unit", "patient")  # fmt: skip
    done = run_cli("calibrate", own, *options, "--method", "temperature")
    assert done.exit_code == 0, done.stderr
    kept = json.loads(own.with_suffix(".json").read_text())["unit"]
    assert (kept["unit"], kept["units"], kept["images"]) == ("patient", 10, 20)
    assert kept["aucs"][kept["aggregate"]] == max(kept["aucs"].values())
    shown = run_cli("eval", own, *options, "--output", "out")
    assert shown.exit_code == 0, shown.stderr
    assert f"by patient: {kept['aggregate']} of 20 images' probabilities" in shown.stdout
    assert "patients: 10 of 10 patients (5 sick, 5 healthy)" in shown.stdout
    assert "bootstrap by patient (10)" in shown.stdout
    assert "independent positive patients" in shown.stdout
    table = rows_of(Path("out/predictions.csv").read_text("utf-8"))
    assert [row["patient"] for row in table] == [f"p{number}" for number in range(10)]
    assert {row["images"] for row in table} == {"2"}
    metrics = json.loads(Path("out/metrics.json").read_text("utf-8"))
    assert metrics["unit"]["chosen_on_validation"] is True
    labels, scores = ([float(row[name]) for row in table] for name in ("label", "probability"))
    assert metrics["metrics"]["auc"]["value"] == pytest.approx(roc_auc_score(labels, scores))
    assert b"10 patients, 5 sick" in Path("out/roc.svg").read_bytes()
    found = json.loads(run_cli("compare", own, own, *options, "--format", "json").stdout)
    assert (found["images"], found["patients"]) == (10, 10)
    assert found["differences"]["auc"]["a"]["value"] == pytest.approx(metrics["metrics"]["auc"]["value"])
