"""`pmtrain train --seeds`: what it prints and keeps, and that stopping it changes nothing."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import sem, t
from sklearn.metrics import accuracy_score, roc_auc_score

import pmtrain
from tests.cli.test_train import weights_of
from tests.conftest import QUICK, command, environment

TINY = (*QUICK, "--layers", "18", "--batch-size", "6", "--lr", "0.0005", "--no-domain", "--epochs", "2")


@pytest.fixture(scope="module")
def trained(small_set, tmp_path_factory) -> tuple[Path, list[str]]:
    """Two small networks that nothing stopped: their folder, and what was printed."""
    folder = tmp_path_factory.mktemp("seeds") / "run"
    done = subprocess.run(
        command("train", "--data", small_set, "--seeds", 2, "--seed", 4, "--output", folder, *TINY),
        capture_output=True,
        text=True,
        env=environment({}),
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout.splitlines()


def table(file: Path) -> dict[str, dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as opened:
        return {row["file"]: row for row in csv.DictReader(opened)}


def test_the_members_differ_in_their_seed_alone(trained):
    folder, lines = trained
    assert [line for line in lines if line.startswith("[seed]")] == ["[seed] 1/2", "[seed] 2/2"]
    images = {(folder / f"seed-{seed}" / "images.csv").read_bytes() for seed in (4, 5)}
    assert len(images) == 1
    log = (folder / "train.log").read_text(encoding="utf-8")
    assert log.count("recipes: --recipe robust") == 1 and "next: pmtrain eval" not in log
    configs = [(folder / f"seed-{seed}" / "config.yaml").read_text().splitlines() for seed in (4, 5)]
    differing = {line.split(":")[0] for line in set(configs[0]) ^ set(configs[1])}
    assert differing == {"seed", "output"}
    assert len({(folder / f"seed-{seed}" / "best.pdparams").read_bytes() for seed in (4, 5)}) == 2


def test_mean_and_spread_are_those_of_the_last_epoch(trained):
    folder, lines = trained
    report = json.loads((folder / "seeds.json").read_text(encoding="utf-8"))
    areas, accuracies = [], []
    for seed in (4, 5):
        rows = table(folder / f"seed-{seed}" / "validation.csv").values()
        y, z = (np.array([float(row[key]) for row in rows]) for key in ("label", "logit"))
        areas.append(roc_auc_score(y, z))
        accuracies.append(accuracy_score(y, z >= 0))
    for name, values in (("auc", areas), ("accuracy", accuracies)):
        found = report["last_epoch"][name]
        assert found["mean"] == pytest.approx(np.mean(values))
        assert found["std"] == pytest.approx(np.std(values, ddof=1))
        assert (found["min"], found["max"]) == (min(values), max(values))
        if np.std(values):
            low, high = t.interval(0.95, 1, np.mean(values), sem(values))
            assert (found["low"], found["high"]) == pytest.approx((max(low, 0), min(high, 1)))
    assert [one["seed"] for one in report["seeds"]] == [4, 5]
    assert any(line.startswith("AUC  ") and f"{np.mean(areas):.4f}" in line for line in lines)
    assert report["best_epoch"]["exploratory"] and report["ensemble"]["exploratory"]


def test_the_ensemble_is_the_mean_of_the_best_weights(trained, run_cli, small_set):
    folder = trained[0]
    tables = [table(folder / f"seed-{seed}" / "best-validation.csv") for seed in (4, 5)]
    kept = json.loads((folder / "ensemble.json").read_text(encoding="utf-8"))
    assert (kept["kind"], kept["members"]) == ("seeds", ["seed-4", "seed-5"])
    assert kept["info"]["threshold_rule"] == "youden on 8 validation images"
    rows = table(folder / "ensemble.csv")
    for name, row in rows.items():
        logits = [float(each[name]["logit"]) for each in tables]
        assert float(row["logit"]) == pytest.approx(np.mean(logits))
        assert float(row["spread"]) == pytest.approx(np.std(logits, ddof=1))
        assert row["prediction"] == str(int(expit(np.mean(logits)) >= kept["info"]["threshold"]))
    done = run_cli("eval", folder, "--workers", 0, "--n-boot", 100, "--defer", 0.25, "--output", "all")
    assert done.exit_code == 0, done.stderr
    assert "scores: mean logit of 2 networks" in done.stdout
    assert "EXPLORATORY: the epochs and the stored threshold were chosen on these 8 images" in done.stdout
    found = table(Path("all/predictions.csv"))
    for key in ("logit", "spread"):
        values = {name: float(row[key]) for name, row in rows.items()}
        assert {name: float(row[key]) for name, row in found.items()} == pytest.approx(values, rel=1e-3, abs=1e-4)
    written = json.loads(Path("all/metrics.json").read_text(encoding="utf-8"))
    assert [Path(each["path"]).parent.name for each in written["networks"]] == kept["members"]
    photographs = sorted((small_set / "val" / "sick").iterdir())[:2]
    predictions = pmtrain.load_classifier([folder / "seed-4", folder / "seed-5"]).predict(photographs)
    for photograph, one in zip(photographs, predictions, strict=True):
        row = rows[f"val/sick/{photograph.name}"]
        assert one.probability == pytest.approx(expit(float(row["logit"])), rel=1e-3)
        assert one.spread == pytest.approx(float(row["spread"]), rel=1e-3, abs=1e-4)
        assert one.label == int(row["prediction"])


@pytest.mark.slow
def test_compare_and_python_take_several(trained, run_cli):
    folder = trained[0]
    done = run_cli("compare", folder, folder / "seed-4", "--workers", 0, "--n-boot", 100)
    assert done.exit_code == 0, done.stderr
    assert "A: scores: mean logit of 2 networks" in done.stdout and "B: scores" not in done.stdout
    kept = json.loads((folder / "ensemble.json").read_text(encoding="utf-8"))
    result = pmtrain.evaluate([folder / "seed-4", folder / "seed-5"], workers=0, n_boot=100)
    rows = table(folder / "ensemble.csv")
    for score in result.scores:
        assert score.logit == pytest.approx(float(rows[score.file]["logit"]), rel=1e-3, abs=1e-4)
        assert score.spread == pytest.approx(float(rows[score.file]["spread"]), rel=1e-3, abs=1e-4)
    assert result.threshold == kept["info"]["threshold"]


@pytest.mark.slow
def test_the_mean_is_calibrated_as_one_classifier(trained, run_cli, tmp_path):
    folder = Path(shutil.copytree(trained[0], tmp_path / "copy", ignore=shutil.ignore_patterns("last")))
    done = run_cli("calibrate", folder, "--method", "temperature", "--workers", 0)
    assert done.exit_code == 0, done.stderr
    kept = json.loads((folder / "ensemble.json").read_text(encoding="utf-8"))["info"]
    before = json.loads((trained[0] / "ensemble.json").read_text(encoding="utf-8"))["info"]
    slope, intercept = kept["calibration"]["slope"], kept["calibration"]["intercept"]
    assert all(kept[key] == before[key] for key in ("threshold", "threshold_rule", "weights_sha256"))
    rows = table(folder / "ensemble.csv")
    found = pmtrain.evaluate(folder, workers=0, n_boot=100)
    for score in found.scores:
        expected = expit(slope * float(rows[score.file]["logit"]) + intercept)
        assert score.probability == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert any("the calibration was fitted on these images" in reason for reason in found.exploratory)
    only_named = f"{folder / 'seed-4'},{folder / 'seed-5'}"
    done = run_cli("calibrate", only_named, "--workers", 0)
    assert done.exit_code == 2 and "only named together have no file" in done.stderr


def test_resume_says_the_figures_again_and_refuses_a_part(trained, run_cli):
    folder, lines = trained
    before = {name: (folder / name).read_bytes() for name in ("seeds.json", "ensemble.json", "ensemble.csv")}
    done = run_cli("train", "--resume", folder)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines() == lines[lines.index("") :]
    assert before == {name: (folder / name).read_bytes() for name in before}
    done = run_cli("train", "--resume", folder / "seed-5")
    assert done.exit_code == 2
    assert "is seed 2 of 2 of a training with --seeds" in done.stderr
    done = run_cli("train", "--resume", folder, "--seeds", 3)
    assert (done.exit_code, done.stdout) == (2, "")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--seeds", 1), "--seeds 1"),
        (("--seeds", 2, "--folds", 2), "--seeds 2 with --folds 2"),
        (("--seeds", 2, "--patience", 2), "--patience 2 with --seeds"),
        (("--seeds", 2, "--seed", 2**31 - 1), "seeds must be below"),
    ],
)
def test_what_cannot_be_is_refused(run_cli, small_set, options, said):
    for more in ((), ("--dry-run",)):
        done = run_cli("train", "--data", small_set, *options, "--output", "run", *TINY, *more)
        assert (done.exit_code, done.stdout) == (2, "")
        assert said in done.stderr
    assert not Path("run").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows doesn't send it")
def test_killed_in_the_second_network_it_ends_as_if_never_stopped(trained, small_set, tmp_path):
    expected, lines = trained
    run = tmp_path / "run"
    options = ("--data", small_set, "--seeds", 2, "--seed", 4, "--output", run, "--save-every", 1, *TINY)
    with subprocess.Popen(
        command("train", *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment({})
    ) as process:
        for line in process.stdout:
            if line == "[seed] 2/2\n":
                process.stdout.readline()
                process.send_signal(signal.SIGKILL)
                break
        process.communicate(timeout=300)
    assert not (run / "ensemble.json").exists()
    resumed = subprocess.run(
        command("train", "--resume", run), capture_output=True, text=True, env=environment({}), timeout=300
    )
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.splitlines()[-len(lines[lines.index("") :]) :] == lines[lines.index("") :]
    for name in ("seeds.json", "ensemble.json", "ensemble.csv"):
        assert (run / name).read_bytes() == (expected / name).read_bytes(), name
    for seed in (4, 5):
        assert weights_of(run / f"seed-{seed}") == weights_of(expected / f"seed-{seed}")
