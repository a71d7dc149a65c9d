"""The report of several trainings, made from the tables that their folders keep, against NumPy and scikit-learn."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pmtrain.config import ReportConfig, TrainConfig, dump_yaml, load_config
from pmtrain.data.dataset import Sample
from pmtrain.evaluation.report import report
from pmtrain.evaluation.report.several.several_runs import FOLDS, SEEDS, kind_of, read_several
from pmtrain.evaluation.scores.score import Scores
from pmtrain.evaluation.scores.score_table import score_table
from pmtrain.metrics import Bootstrap
from pmtrain.runs.records import EnsembleRecord, notes_info
from pmtrain.runs.run_folder import RunFolder
from pmtrain.system.errors import PmtrainError, UsageError

RULE = "sensitivity=0.9"
DATA = {"classes": ["well", "ill"], "synthetic": False, "fingerprint": "f"}


def trainings(folder: Path, names: list[str], same_images: bool, **options) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A folder as training leaves it, with scores drawn at random; returns labels and logits of each network."""
    folder.mkdir()
    config = load_config(TrainConfig, {"threshold_rule": RULE, "data": "nowhere", **options})
    (folder / "config.yaml").write_text(dump_yaml(config))
    (folder / "run.json").write_text(json.dumps({"data": DATA, "command": "pmtrain train", "environment": {}}))
    rng, drawn = np.random.default_rng(0), {}
    labels = rng.integers(0, 2, 60)
    for place, name in enumerate(names):
        labels = labels if same_images else rng.integers(0, 2, 50 + place)
        logits = rng.normal(2 * labels - 1, 1.5)
        prefix = "" if same_images else f"{name}/"
        samples = [Sample(Path(f"{prefix}{n}.png"), int(y), "val", f"{prefix}{n // 2}") for n, y in enumerate(labels)]
        own = RunFolder(folder / name)
        own.path.mkdir()
        own.info_file.write_text(json.dumps({"data": DATA}))
        table = score_table(Scores(samples, labels, logits), lambda sample: str(sample.path))
        (own.best_validation if same_images else own.validation).write_bytes(table)
        drawn[name] = labels, logits
    return drawn


@pytest.fixture
def folds(tmp_path) -> tuple[Path, dict]:
    drawn = trainings(tmp_path / "folds", ["fold-1", "fold-2", "fold-3"], same_images=False, folds=3)
    (tmp_path / "folds" / "folds.json").write_text(json.dumps({"left_out": ["bad.png"]}))
    return tmp_path / "folds", drawn


def best_with_sensitivity(labels, probabilities, wanted=0.9):
    """Of the scores at which so many of the positives are found: the most specific, then the most sensitive one."""

    def rates(t):
        return (probabilities[labels == 0] < t).mean(), (probabilities[labels == 1] >= t).mean()

    return max((t for t in probabilities if rates(t)[1] >= wanted), key=rates)


def test_every_fold_is_measured_on_its_own_images_and_all_of_them_together(folds):
    folder, drawn = folds
    found = read_several(RunFolder(folder), Bootstrap(n_boot=200))
    assert kind_of(RunFolder(folder)) == FOLDS and not found.exploratory
    areas = [roc_auc_score(*each) for each in drawn.values()]
    assert [each.found.measures["auc"].value.value for each in found.members] == pytest.approx(areas)
    labels, logits = (np.concatenate(parts) for parts in zip(*drawn.values(), strict=True))
    assert found.found.measures["auc"].value.value == pytest.approx(roc_auc_score(labels, logits))
    assert found.found.patients == 25 + 26 + 26  # two images of each, and none in two folds
    assert "by patient (77)" in found.found.measures["auc"].interval.method
    spread = found.spread()["auc"]
    assert [spread[key] for key in ("mean", "std", "min", "max")] == pytest.approx(
        [np.mean(areas), np.std(areas, ddof=1), min(areas), max(areas)]
    )
    assert found.left_out == ["bad.png"]


def test_a_folds_threshold_from_the_others_is_chosen_without_its_images(folds):
    folder, drawn = folds
    found = read_several(RunFolder(folder), Bootstrap(n_boot=100))
    caught = 0
    for place, member in enumerate(found.members):
        parts = list(drawn.values())
        labels, logits = parts.pop(place)
        rest = [np.concatenate(part) for part in zip(*parts, strict=True)]
        of_rest, threshold = 1 / (1 + np.exp(-rest[1])), member.others.threshold
        best = best_with_sensitivity(rest[0], of_rest)
        assert ((of_rest >= threshold) == (of_rest >= best)).all()  # it lies in the middle between two scores
        called = 1 / (1 + np.exp(-logits)) >= threshold
        assert member.others.shares() == pytest.approx([called[labels == 1].mean(), 1 - called[labels == 0].mean()])
        caught += int(called[labels == 1].sum())
    assert found.honest.measures["sensitivity"].value.k == caught


def test_the_report_of_a_cross_validation(folds):
    folder, drawn = folds
    file = report(folder, load_config(ReportConfig, {"n_boot": 100}))
    page = file.read_text(encoding="utf-8")
    assert file == folder / "report.html"
    for text in ("fold 1", "fold 3", "bad.png", "Is the threshold stable?", "Not exploratory"):
        assert text in page
    assert "EXPLORATORY" not in page.replace("Not exploratory", "")
    with open(folder / "report-networks.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    assert [float(row["auc"]) for row in rows] == pytest.approx([roc_auc_score(*each) for each in drawn.values()])
    with pytest.raises(UsageError, match="--prevalence"):
        report(folder, load_config(ReportConfig, {"prevalence": 0.1}))
    (folder / "folds.json").unlink()
    with pytest.raises(PmtrainError, match="not all of its folds"):
        report(folder, load_config(ReportConfig, {}))


def test_the_report_of_several_seeds(tmp_path):
    folder = tmp_path / "seeds"
    drawn = trainings(folder, ["seed-0", "seed-1"], same_images=True)
    record = EnsembleRecord(kind=SEEDS, members=("seed-0", "seed-1"), info=notes_info(50))
    (folder / "ensemble.json").write_text(record.model_dump_json())
    found = read_several(RunFolder(folder), Bootstrap(n_boot=100))
    labels = drawn["seed-0"][0]
    mean = (drawn["seed-0"][1] + drawn["seed-1"][1]) / 2
    assert found.found.measures["auc"].value.value == pytest.approx(roc_auc_score(labels, mean))
    assert found.honest is None and found.exploratory
    page = report(folder, load_config(ReportConfig, {"n_boot": 100})).read_text(encoding="utf-8")
    assert "EXPLORATORY" in page and "seed 1" in page and "mean logit of all" in page
