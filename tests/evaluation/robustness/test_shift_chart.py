"""The curves by severity: whole files, a panel for each change, marks, and the values drawn."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import cv2
import pytest

from pmtrain.evaluation.charts import new_axes
from pmtrain.evaluation.robustness.shift_chart import FILES, draw, panel, write_shift
from pmtrain.evaluation.robustness.suite import SHIFTS


def test_files_are_whole_and_name_every_change(shift_result, tmp_path):
    write_shift(tmp_path, shift_result, ("EXPLORATORY",))
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(FILES)
    image = cv2.imread(str(tmp_path / "shift.png"))
    assert min(image.shape[:2]) > 600 and image.std() > 5
    svg = (tmp_path / "shift.svg").read_bytes()
    words = " ".join(" ".join(ElementTree.fromstring(svg).itertext()).split())
    mean = shift_result.reached.mean["auc"].value.value
    for part in (*SHIFTS["stain"], "EXPLORATORY", f"Stain suite: mean AUC {mean:.3f}", "40 images, threshold 0.5"):
        assert part in words
    assert draw(shift_result, ("EXPLORATORY",)) == svg  # the same chart is the same file


def test_a_panel_draws_the_metrics_by_severity(shift_result):
    with new_axes((3, 2)) as axes:
        panel(axes, shift_result, "eosin")
        drawn = {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}
    for name, label in (("auc", "AUC"), ("sensitivity", "sensitivity"), ("specificity", "specificity")):
        values = [shift_result.reached.clean[name].value.value]
        values += [shift_result.reached.cells["eosin", severity][name].value.value for severity in (1, 5)]
        assert [x for x, _ in drawn[label]] == [0, 1, 5]
        assert [y for _, y in drawn[label]] == pytest.approx(values)
