"""The parts of the report: charts that lie in a page, the errors chosen, the checklists, and records of other parts."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest

from pmtrain.evaluation.charts import ChartData
from pmtrain.evaluation.report import drawing
from pmtrain.evaluation.report.checklists import AUTHOR, HERE, PART, StudyFacts, checklists
from pmtrain.evaluation.report.page import HEADINGS, leakage_rows, shortcut_rows, text_of
from pmtrain.evaluation.report.worst_cases import worst_rows
from pmtrain.metrics import Bootstrap, assess

LABELS = np.repeat([0, 1], [300, 200])
PROBABILITIES = np.clip(np.random.default_rng(3).normal(0.35 + 0.3 * LABELS, 0.2), 0.01, 0.99)
HISTORY = [
    {"epoch": "0", "train_loss": "0.7", "val_loss": "0.6", "val_accuracy": "0.5", "val_auc": ""},
    {"epoch": "1", "train_loss": "0.5", "val_loss": "0.65", "val_accuracy": "0.75", "val_auc": "0.8125"},
]


def data_of(labels, probabilities, groups=None, **options) -> ChartData:
    found = assess(labels, probabilities, 0.4, groups, bootstrap=Bootstrap(n_boot=100))
    classes = ("well", "<ill> & co")
    return ChartData(
        np.array(labels), np.array(probabilities), groups, classes, found, Bootstrap(n_boot=100), **options
    )


def charts_of(data: ChartData) -> list[drawing.Chart]:
    lines = {"val_accuracy": "accuracy", "val_auc": "AUC"}
    return [
        *(draw(data) for draw in (drawing.roc, drawing.precision_recall, drawing.calibration, drawing.scores)),
        drawing.by_epoch("quality", "Accuracy & AUC", HISTORY, lines, 1, data.marks),
    ]


def test_charts_in_one_page_share_no_id_and_follow_its_colours():
    charts = charts_of(data_of(LABELS, PROBABILITIES, marks=("SYNTHETIC images",)))
    ids = [name for chart in charts for name in re.findall(r'\bid="([^"]+)"', chart.svg)]
    assert len(ids) == len(set(ids)) > 20
    for chart in charts:
        named = set(re.findall(r'\bid="([^"]+)"', chart.svg))
        assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', chart.svg)) <= {
            pair for name in named for pair in ((name, ""), ("", name))
        }
        assert chart.svg.startswith('<svg role="img" aria-label="')
        assert "SYNTHETIC images" in chart.svg
        assert not re.search(r"#000000|#ffffff|#0072b2|#d55e00|#b00000", chart.svg, re.IGNORECASE)
        assert not re.search(r"<script|<style|<metadata|<!|<ill>", chart.svg)
        assert "http" not in re.sub(r'xmlns[:a-z]*="[^"]+"', "", chart.svg)
        assert "var(--" in chart.svg


def test_the_numbers_of_a_chart_are_those_drawn():
    roc, pr, calibration, scores, quality = charts_of(data_of(LABELS, PROBABILITIES))
    for chart in (roc, pr):
        assert len(chart.table.rows) == drawing.MAX_POINTS
        assert "of 4" in chart.table.note or "of 5" in chart.table.note
    assert roc.table.rows[0][:3] == ["above all", "0.0000", "1.0000"]
    assert roc.table.rows[-1][1:3] == ["1.0000", "0.0000"]
    low, high = float(roc.table.rows[50][3]), float(roc.table.rows[50][4])
    assert low <= float(roc.table.rows[50][1]) <= high
    threshold, sensitivity, specificity = map(float, roc.table.rows[30][:3])
    called = PROBABILITIES >= threshold - 5e-5
    assert sensitivity == pytest.approx(called[LABELS == 1].mean(), abs=0.01)
    assert specificity == pytest.approx(1 - called[LABELS == 0].mean(), abs=0.01)
    assert sum(int(row[1]) for row in calibration.table.rows) == 500
    assert [sum(int(row[column]) for row in scores.table.rows) for column in (1, 2)] == [300, 200]
    assert quality.table.rows == [["0", "0.5000", "undefined"], ["1", "0.7500", "0.8125"]]


def test_few_points_are_all_in_the_table():
    roc = drawing.roc(data_of([0, 1, 0, 1], [0.1, 0.3, 0.3, 0.9]))
    assert [row[0] for row in roc.table.rows] == ["above all", "0.9000", "0.3000", "0.1000"]
    assert roc.table.note == ""


@pytest.mark.parametrize(
    ("labels", "probabilities", "groups"),
    [([1, 1, 1], [0.2, 0.6, 0.7], [1, 1, 2]), ([0], [0.3], None), ([0, 1] * 2, [0.5] * 4, [1, 1, 2, 2])],
)
def test_awkward_scores_are_drawn_too(labels, probabilities, groups):
    data = data_of(labels, probabilities, groups)
    roc, pr, *_ = charts_of(data)
    if data.missing:
        for chart in (roc, pr):
            assert data.missing in chart.caption
            assert not chart.table.rows


@pytest.mark.parametrize(
    ("most", "rows"), [(0, []), (1, [2]), (2, [2, 1]), (4, [2, 3, 1, 0]), (5, [2, 3, 5, 1, 0]), (9, [2, 3, 5, 1, 0])]
)
def test_the_surest_errors_of_either_kind_are_chosen(most, rows):
    labels = np.array([0, 0, 1, 1, 1, 1, 0])
    probabilities = np.array([0.6, 0.9, 0.1, 0.2, 0.8, 0.3, 0.1])
    scores = SimpleNamespace(labels=labels, probabilities=probabilities)
    scored, threshold = SimpleNamespace(scores=scores), SimpleNamespace(value=0.5)
    evaluation = SimpleNamespace(scored=scored, threshold=threshold, unit=None)
    assert worst_rows(evaluation, most) == rows


def facts(**changes) -> StudyFacts:
    usual = {
        "network": "ResNet-50", "image_size": 224, "preprocessing": "notes", "epochs": 5, "counts": "4 training images",
        "threshold": "Threshold 0.4", "intervals": "95 % intervals", "left_out": 0, "group_by": "", "patients": False,
        "errors": 8, "leakage": False, "held_out": False, "external": False, "seed": 0,
        "origin": "randomly initialized (seed 0)",
    }  # fmt: skip
    return StudyFacts(**(usual | changes))


def test_the_checklists_hold_every_item_once():
    stard, claim = checklists(facts())
    assert [item.number for item in claim.items] == [str(number) for number in range(1, 45)]
    numbers = [item.number for item in stard.items]
    assert list(dict.fromkeys(re.match(r"\d+", number)[0] for number in numbers)) == [str(n) for n in range(1, 41)]
    assert len(numbers) == len(set(numbers)) == 48
    for item in (*stard.items, *claim.items):
        assert item.answered in (HERE, PART, AUTHOR)
        assert item.section in ("", *HEADINGS)
        assert item.answered == AUTHOR or item.answer, item


def test_the_checklists_claim_no_more_than_was_done():
    def answers(**changes):
        return [{item.number: item for item in each.items} for each in checklists(facts(**changes))]

    stard, claim = answers()
    assert (stard["21"].answered, claim["33"].answered, claim["20"].answered) == (AUTHOR, AUTHOR, PART)
    assert "not checked" in claim["20"].answer
    assert claim["32"].answered == PART
    stard, claim = answers(group_by="sex", patients=True, leakage=True, held_out=True, external=True, errors=0)
    assert (stard["21"].answered, claim["33"].answered, claim["20"].answered) == (PART, PART, HERE)
    assert (claim["31"].answered, claim["32"].answered) == (AUTHOR, HERE)


def test_records_of_checks_are_told_in_words():
    assert leakage_rows(None) is None
    record = {"policy": "drop", "exact_duplicates": 1, "patients": 0, "files": [["a.png", "b.png"]], "dropped": 2}
    assert leakage_rows(record | {"dropped_files": [f"{n}.png" for n in range(7)]}) == [
        ("Identical files in both", "1: a.png, b.png"),
        ("Patients in both", "none"),
        ("Policy", "--leakage drop"),
        ("Training images left out", "2: 0.png, 1.png, 2.png, 3.png, 4.png and 2 more"),
    ]
    assert shortcut_rows(None) is None
    told = shortcut_rows(
        {
            "features": ["size", "colour"],
            "auc": {"value": 0.7, "low": 0.6, "high": 0.8},
            "accuracy": {"value": None},
            "difference": {"auc": {"value": 0.2, "low": 0.1, "high": 0.3, "p": 0.0004}},
            "cross_validated": {"size": {"auc": 0.65}, "colour": {"auc": 0.6, "low": 0.5, "high": 0.75}},
        }
    )
    (row,) = told["rows"]
    assert row["value"] == "0.7000 (0.600 to 0.800)"
    assert (row["difference"], row["p"]) == ("+0.2000 (0.100 to 0.300)", "0.0004")
    assert told["features"] == "size, colour"
    assert told["alone"] == [("size", "0.6500"), ("colour", "0.6000 (0.500 to 0.750)")]
    reason = shortcut_rows({"features": ["size"], "reason": "too few images", "cross_validated": {}})
    assert (reason["rows"], reason["reason"]) == ([], "too few images")


def test_values_of_records_are_told_in_words():
    assert text_of({"a": True, "b": [1, 2.5], "c": None}) == "a: yes, b: 1, 2.5, c: "
