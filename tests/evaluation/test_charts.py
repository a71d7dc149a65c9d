"""The charts: what stands on them, in both formats, for scores of every kind."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import cv2
import numpy as np
import pytest

from pmtrain.evaluation.charts import CHARTS, FILES, ChartData, draw, write_charts
from pmtrain.metrics import Bootstrap, assess
from tests.conftest import environment

LABELS = np.repeat([0, 1], [30, 20])
PROBABILITIES = np.clip(np.random.default_rng(3).normal(0.35 + 0.3 * LABELS, 0.2), 0.01, 0.99)


def data_of(labels, probabilities, groups=None, **options) -> ChartData:
    found = assess(labels, probabilities, 0.4, groups, bootstrap=Bootstrap(n_boot=100))
    return ChartData(
        np.array(labels), np.array(probabilities), groups, ("well", "ill"), found, Bootstrap(n_boot=100), **options
    )


def text_of(svg: bytes) -> str:
    return " ".join(" ".join(ElementTree.fromstring(svg).itertext()).split())


def test_every_chart_is_a_whole_file_in_both_formats(tmp_path):
    write_charts(tmp_path, data_of(LABELS, PROBABILITIES))
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(FILES)
    for name in CHARTS:
        image = cv2.imread(str(tmp_path / f"{name}.png"))
        assert min(image.shape[:2]) > 600
        assert image.std() > 5
        text = text_of((tmp_path / f"{name}.svg").read_bytes())
        assert "50 images, 20 ill" in text
        assert "SYNTHETIC" not in text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("roc", ["AUC {auc:.3f} (95 % CI", "Sensitivity", "1 − specificity", "threshold 0.4", "{sensitivity:.3f}"]),
        ("precision_recall", ["Average precision {average_precision:.3f} (95 % CI", "Recall", "Precision"]),
        ("calibration", ["Expected calibration error {ece:.3f} (95 % CI", "Calibration slope", "Wilson's 95 %"]),
        ("decision", ["Net benefit", "treat all", "treat none", "treat by the network", "95 % pointwise"]),
        ("scores", ["well (30)", "ill (20)", "threshold 0.4", "Predicted probability of ill"]),
        (
            "confusion",
            ["Confusion matrix at threshold 0.4", "Accuracy {accuracy:.3f} (95 % CI", "Predicted class", "True class"],
        ),
    ],
)
def test_a_chart_states_its_figures(name, said):
    data = data_of(LABELS, PROBABILITIES, marks=("SYNTHETIC images", "EXPLORATORY"))
    svg = draw(name, data)
    values = {key: measured.value.value for key, measured in data.assessment.measures.items()}
    for part in ["SYNTHETIC images · EXPLORATORY", *said]:
        assert part.format(**values) in text_of(svg)
    assert svg == draw(name, data)  # to the byte: no date, no random name


def test_the_confusion_counts_stand_in_their_rows():
    text = text_of(draw("confusion", data_of([0, 0, 0, 1, 1], [0.1, 0.2, 0.9, 0.8, 0.3])))
    assert all(part in text for part in ("66.7% of class", "33.3% of class", "50.0% of class"))


@pytest.mark.parametrize("name", CHARTS)
def test_awkward_scores_are_drawn_too(name):
    for labels, probabilities, groups in (
        ([1, 1, 1], [0.2, 0.6, 0.7], [1, 1, 2]),
        ([0], [0.3], None),
        ([0, 1, 0, 1], [0.0, 1.0, 0.0, 1.0], None),
        ([0, 1, 0, 1], [0.5] * 4, [1, 1, 2, 2]),
    ):
        svg = draw(name, data_of(labels, probabilities, groups))
        assert draw(name, data_of(labels, probabilities, groups), "png").startswith(b"\x89PNG")
    assert b"nan" not in svg.lower()
    one_class = text_of(draw(name, data_of([1, 1, 1], [0.2, 0.6, 0.7])))
    assert name not in ("roc", "precision_recall") or "undefined: no negative image" in one_class


def test_a_class_name_never_breaks_inside_a_word():
    found = assess(LABELS, PROBABILITIES, 0.4, bootstrap=Bootstrap(n_boot=100))
    names = ("non-pathological", "hypertensive-retinopathologically severe")
    svg = draw("confusion", ChartData(LABELS, PROBABILITIES, None, names, found, Bootstrap(n_boot=100)))
    pieces = {piece.strip() for piece in ElementTree.fromstring(svg).itertext()}
    assert {word for name in names for word in name.split()} <= pieces


def test_names_of_any_script_are_text_in_the_svg():
    found = assess(LABELS, PROBABILITIES, 0.4, bootstrap=Bootstrap(n_boot=100))
    data = ChartData(LABELS, PROBABILITIES, None, ("健康", "病理性近视"), found, Bootstrap(n_boot=100))
    assert "病理性近视 (20)" in text_of(draw("scores", data))
    assert draw("scores", data, "png").startswith(b"\x89PNG")


def test_importing_the_module_imports_no_matplotlib():
    code = "import sys, pmtrain.evaluation.charts; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=environment({})).returncode == 0
