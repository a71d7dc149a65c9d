"""`pmtrain compare`: the figures that eval gives of each, their differences, and what it refuses."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from pmtrain.metrics import MEASURES


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> tuple[Path, Path]:
    """Two untrained networks with thresholds of their own, their logits small enough that probabilities differ."""
    from pmtrain.models import build_model
    from pmtrain.runs.checkpoint import save_checkpoint
    from pmtrain.runs.formats.state_dict import dump_state
    from pmtrain.runs.model_state import to_arrays
    from pmtrain.runs.records import CheckpointInfo
    from pmtrain.system.framework import paddle

    folder = tmp_path_factory.mktemp("two")
    for name, seed in (("a", 1), ("b", 2)):
        paddle.seed(seed)
        state, names = to_arrays(build_model(50).state_dict())
        state = {
            key: array * 1e-3 if array.shape[-1] == 1 and array.ndim == 2 else array for key, array in state.items()
        }
        info = CheckpointInfo(
            layers=50, image_size=32, preprocessing="notes", class_names=("healthy", "sick"),
            threshold={"a": 0.5, "b": 0.45}[name], threshold_rule=f"rule of {name}",
            epoch=0, metrics={}, synthetic=False,
        )  # fmt: skip
        save_checkpoint(folder / f"{name}.pdparams", dump_state(state, names), info)
    return folder / "a.pdparams", folder / "b.pdparams"


def options(small_set) -> tuple:
    return "--data", small_set, "--split", "all", "--workers", 0, "--n-boot", 200


def test_its_figures_are_those_of_eval_and_of_other_libraries(run_cli, checkpoints, small_set):
    done = run_cli("compare", *checkpoints, *options(small_set), "--format", "json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found["differences"]) == list(MEASURES)
    probabilities, called, labels = {}, {}, None
    for name, path in zip("ab", checkpoints, strict=True):
        assert run_cli("eval", path, *options(small_set), "--output", name).exit_code == 0
        measures = json.loads(Path(name, "metrics.json").read_text())["metrics"]
        for measure, difference in found["differences"].items():
            assert difference[name]["value"] == measures[measure]["value"]
        with open(Path(name, "predictions.csv"), newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        labels = np.array([int(row["label"]) for row in rows])
        probabilities[name] = np.array([float(row["probability"]) for row in rows])
        called[name] = np.array([row["prediction"] == "1" for row in rows])
    auc = {name: roc_auc_score(labels, values) for name, values in probabilities.items()}
    assert auc["a"] != auc["b"]
    difference = found["differences"]["auc"]
    assert difference["difference"] == pytest.approx(auc["a"] - auc["b"])
    assert difference["interval"]["low"] <= difference["difference"] <= difference["interval"]["high"]
    right = {name: values == (labels == 1) for name, values in called.items()}
    alone = [int((right["a"] & ~right["b"]).sum()), int((right["b"] & ~right["a"]).sum())]
    assert found["mcnemar"]["counts"] == alone
    assert found["mcnemar"]["p"] == pytest.approx(binomtest(alone[0], sum(alone)).pvalue if sum(alone) else 1)
    assert 0 <= found["delong"]["p"] <= 1
    assert (found["a"]["threshold"]["value"], found["b"]["threshold"]["value"]) == (0.5, 0.45)
    assert (found["images"], found["positives"], found["seed"], found["n_boot"]) == (20, 10, 0, 200)


def test_its_text_has_a_line_a_measure_and_both_tests(run_cli, checkpoints, small_set):
    done = run_cli("compare", *checkpoints, *options(small_set))
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].endswith("a.pdparams, threshold 0.5 (stored: rule of a)")
    assert lines[1].endswith("b.pdparams, threshold 0.45 (stored: rule of b)")
    assert lines[2] == "images: 20 (10 sick, 10 healthy), prevalence 0.5000"
    number = r" +-?\d\.\d{4}"
    assert re.search(rf"^AUC{number * 3} \(95 % CI -?\d\.\d{{3}} to -?\d\.\d{{3}}\)", done.stdout, re.MULTILINE)
    assert [line for line in lines for measure in MEASURES.values() if line.startswith(f"{measure.title} ")]
    assert re.search(r"^AUC: paired DeLong: z = ", done.stdout, re.MULTILINE)
    assert re.search(r"^Accuracy: McNemar, exact: p ", done.stdout, re.MULTILINE)
    assert "paired percentile bootstrap by image, 200 resamples, seed 0" in lines[-1]
    assert run_cli("compare", *checkpoints, *options(small_set)).stdout == done.stdout


def test_a_checkpoint_against_itself_differs_in_nothing(run_cli, checkpoints, small_set):
    done = run_cli("compare", checkpoints[0], checkpoints[0], *options(small_set), "--format", "json")
    found = json.loads(done.stdout)
    assert {difference["difference"] for difference in found["differences"].values()} <= {0.0, None}
    assert found["delong"]["p"] is None
    assert "zero variance" in found["delong"]["note"]
    assert (found["mcnemar"]["p"], found["mcnemar"]["counts"]) == (1.0, [0, 0])


def test_a_threshold_tuned_on_the_images_is_told_of_both(run_cli, checkpoints, small_set):
    done = run_cli("compare", *checkpoints, *options(small_set), "--threshold", "youden")
    for name in "AB":
        assert f"EXPLORATORY: {name}: its threshold was chosen on these images" in done.stdout


def test_patients_are_drawn_whole(run_cli, checkpoints, small_set, tmp_path):
    files = sorted((small_set / "val").glob("*/*.png"))
    rows = [f"{file},{file.parent.name},{number // 2}\n" for number, file in enumerate(files)]
    (tmp_path / "labels.csv").write_text("path,label,patient\n" + "".join(rows))
    done = run_cli("compare", *checkpoints, "--data", tmp_path / "labels.csv", "--workers", 0)
    assert done.exit_code == 0, done.stderr
    assert "images: 8 of 4 patients" in done.stdout
    assert "paired percentile bootstrap by patient (4)" in done.stdout
    assert "assumes that the images of a patient are independent" in done.stdout


def test_checkpoints_of_other_classes_are_refused(run_cli, checkpoints, small_set, tmp_path):
    side = json.loads(checkpoints[1].with_suffix(".json").read_text())
    shutil.copy(checkpoints[1], tmp_path / "c.pdparams")
    (tmp_path / "c.json").write_text(json.dumps(side | {"class_names": ["sick", "healthy"]}))
    done = run_cli("compare", checkpoints[0], tmp_path / "c.pdparams", *options(small_set))
    assert (done.exit_code, done.stdout) == (1, "")
    assert "c.pdparams" in done.stderr
    missing = run_cli("compare", checkpoints[0], tmp_path / "d.pdparams", *options(small_set))
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "d.pdparams" in missing.stderr
