"""External sets beside the internal images: the words on calibration, and the files' figures."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest

from pmtrain.config import ReportConfig, load_config
from pmtrain.evaluation.report.external.external_section import external_section
from pmtrain.evaluation.report.external.external_sets import SHOWN, auc_sentence, beside, written
from pmtrain.metrics import MEASURES, Bootstrap, assess
from pmtrain.system.errors import UsageError


def evaluation_of(shift: float, scale: float, n: int = 600, seed: int = 0, spread: float = 1.0):
    """Images whose true logit is known; the network says `scale * logit + shift`."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 2 * spread, n)
    labels = (rng.random(n) < 1 / (1 + np.exp(-true))).astype(int)
    probabilities = 1 / (1 + np.exp(-(scale * true + shift)))
    found = assess(labels, probabilities, 0.5, bootstrap=Bootstrap(n_boot=200))
    data = SimpleNamespace(root="a folder", fingerprint=lambda: "f", synthetic=False, classes=("well", "ill"))
    return SimpleNamespace(
        found=found,
        scores=SimpleNamespace(labels=labels, probabilities=probabilities),
        groups=None,
        word="image",
        unit=None,
        domain=None,
        reasons=[],
        threshold=SimpleNamespace(value=0.5, text="as given"),
        config=load_config(ReportConfig, {"n_boot": 200}),
        images=SimpleNamespace(data=data, split="all"),
        scored=SimpleNamespace(left_out={}),
        checkpoint=SimpleNamespace(path="best.pdparams", info=SimpleNamespace(weights_sha256="0")),
        chart_data=SimpleNamespace(missing="", marks=(), titled=lambda name: "AUC"),
    )


@pytest.mark.parametrize(
    ("shift", "scale", "words"),
    [
        (0.0, 1.0, "Nothing speaks against the calibration carrying over"),
        (1.5, 1.0, "does not carry over: the probabilities are on average too high"),
        (-1.5, 1.0, "does not carry over: the probabilities are on average too low"),
        (0.0, 4.0, "too extreme: the high ones too high, the low ones too low"),
        (0.0, 0.3, "too cautious"),
    ],
)
def test_whether_the_calibration_carries_over(shift, scale, words):
    (found,) = beside(evaluation_of(0.0, 1.0, seed=1), {"b": evaluation_of(shift, scale, n=1500, seed=5)})
    assert words in found.calibration
    assert f"share of positive images {found.evaluation.scores.labels.mean():.2f}" in found.calibration
    assert "aren't right on the internal images either" not in found.calibration


def test_few_images_say_nothing_about_calibration():
    internal = evaluation_of(2.0, 1.0, seed=1)
    (found,) = beside(internal, {"b": evaluation_of(0.0, 1.0, n=30, seed=3)})
    assert "can't be told from 30 images" in found.calibration
    (found,) = beside(internal, {"b": evaluation_of(2.0, 1.0)})
    assert "They aren't right on the internal images either" in found.calibration


def test_the_change_is_external_minus_internal():
    worse, internal = evaluation_of(0.0, 1.0, spread=0.3), evaluation_of(0.0, 1.0, seed=1)
    (found,) = beside(internal, {"b": worse})
    for name in SHOWN:
        difference = worse.found.measures[name].value.value - internal.found.measures[name].value.value
        assert found.changes[name].value == pytest.approx(difference)
    assert "lower than on the internal images" in auc_sentence(found.changes["auc"])
    (same,) = beside(internal, {"b": evaluation_of(0.0, 1.0, seed=2)})
    assert "not shown to differ" in auc_sentence(same.changes["auc"])


def test_the_files_hold_every_figure_of_every_set():
    internal, other = evaluation_of(0.0, 1.0, seed=1), evaluation_of(1.5, 1.0)
    sets = beside(internal, {"clinic, b": other})
    files = written(internal, sets)
    record = json.loads(files["json"])
    assert record["external"]["clinic, b"]["metrics"]["auc"]["value"] == other.found.measures["auc"].value.value
    assert record["external"]["clinic, b"]["calibration"] == sets[0].calibration
    curve = record["internal"]["roc"]
    assert (curve["threshold"][0], curve["fpr"][-1], curve["tpr"][-1]) == (None, 1, 1)
    rows = list(csv.DictReader(files["csv"].decode().splitlines()))
    assert [(row["set"], row["metric"]) for row in rows] == [(s, m) for s in ("internal", "clinic, b") for m in SHOWN]
    auc = next(row for row in rows if row["set"] != "internal")
    assert auc["change_method"] == "DeLong, unpaired"
    assert float(auc["change"]) == sets[0].changes["auc"].value
    section = external_section(internal, sets)
    assert section.names == ["internal", "clinic, b"]
    titles = [title for title, _ in section.rows]
    assert all(MEASURES[name].title in titles for name in SHOWN)
    assert external_section(internal, []) is None


@pytest.mark.parametrize(("given", "said"), [("b", "NAME=DATA"), ("=x", "NAME=DATA"), ("internal=x", "of its own")])
def test_names_are_checked(given, said):
    with pytest.raises(UsageError, match=said):
        load_config(ReportConfig, {"external": [given]})
    with pytest.raises(UsageError, match="of its own"):
        load_config(ReportConfig, {"external": ["b=x", "b=y"]})
    config = load_config(ReportConfig, {"external": ["a b=c=d"]})
    assert [(name, str(data)) for name, data in config.external_sets()] == [("a b", "c=d")]
