"""Units: their scores by hand, their labels, names and groups, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.special import logit

from pmtrain.data.dataset import DataSet, Sample
from pmtrain.evaluation.scores.chosen_images import Images
from pmtrain.evaluation.scores.score import Scores
from pmtrain.evaluation.scores.score_table import unit_table
from pmtrain.evaluation.scores.units import AGGREGATES, by_unit, names_of_units
from pmtrain.runs.records import UnitRecord, notes_info
from pmtrain.system.errors import UsageError

# file, patient, eye, label, P(positive)
ROWS = [
    ("a.png", "1", "1L", 0, 0.1),
    ("b.png", "2", "2L", 1, 0.9),
    ("c.png", "1", "1R", 1, 0.4),
    ("d.png", "1", "1R", 0, 0.6),
    ("e.png", "1", "1L", 0, 0.3),
    ("f.png", "3", "3L", 0, 0.2),
]


@pytest.fixture
def scored() -> tuple[Scores, Images]:
    samples = tuple(Sample(Path(name), label, "val", patient, (("eye", eye),)) for name, patient, eye, label, _ in ROWS)
    data = DataSet(Path("."), "table", ("well", "ill"), samples)
    labels = np.array([row[3] for row in ROWS])
    return Scores(list(samples), labels, logit([row[4] for row in ROWS])), Images(data, data, samples, "val")


@pytest.mark.parametrize(
    ("aggregate", "of_patient_1"),
    [
        ("mean", (0.1 + 0.4 + 0.6 + 0.3) / 4),
        ("max", 0.6),
        ("noisy-or", 1 - 0.9 * 0.6 * 0.4 * 0.7),
        ("top-3", (0.6 + 0.4 + 0.3) / 3),
        ("share", 2 / 4),  # at or above 0.35
    ],
)
def test_scores_worked_by_hand(scored, aggregate, of_patient_1):
    info = notes_info(50).model_copy(update={"threshold": 0.35})
    unit = by_unit(*scored, "patient", info, aggregate, "any")
    assert unit.names == ["1", "2", "3"]
    assert unit.counts.tolist() == [4, 1, 1]
    assert unit.scores.probabilities[0] == pytest.approx(of_patient_1)
    alone = {"share": [1.0, 0.0]}.get(aggregate, [0.9, 0.2])
    assert unit.scores.probabilities[1:] == pytest.approx(alone, abs=1e-9)


def test_every_aggregate_of_one_image_keeps_its_order():
    for name, function in AGGREGATES.items():
        low, high = (function(np.array([p]), 0.5) for p in (0.2, 0.7))
        assert low < high, name


@pytest.mark.parametrize(("rule", "labels"), [("any", [1, 1, 0]), ("all", [0, 1, 0]), ("majority", [0, 1, 0])])
def test_unlike_labels_follow_the_rule(scored, rule, labels):
    unit = by_unit(*scored, "patient", notes_info(50), "mean", rule)
    assert unit.scores.labels.tolist() == labels
    assert unit.unlike == 1
    assert f"1 with unlike labels are positive if {rule} of their images are" in unit.told()


def test_eyes_are_resampled_by_patient_and_patients_by_themselves(scored):
    eyes = by_unit(*scored, "eye", notes_info(50), "mean", "any")
    assert (eyes.names, eyes.groups()) == (["1L", "2L", "1R", "3L"], ["1", "2", "1", "3"])
    assert by_unit(*scored, "patient", notes_info(50), "mean", "any").groups() == ["1", "2", "3"]


def test_what_was_chosen_is_taken_and_what_was_not_is_told(scored, capsys):
    record = UnitRecord(
        unit="patient", aggregate="max", image_threshold=0.5, threshold=0.7, threshold_rule="youden", units=3, images=6
    )
    info = notes_info(50).model_copy(update={"unit": record})
    kept = by_unit(*scored, "patient", info, None, "any")
    assert (kept.record, kept.chosen, kept.scores.probabilities[0]) == (record, True, pytest.approx(0.6))
    other = by_unit(*scored, "eye", info, None, "any")
    assert (other.record.aggregate, other.record.threshold, other.chosen) == ("mean", 0.5, False)
    assert "pmtrain calibrate --unit eye" in capsys.readouterr().err


def test_a_unit_that_is_not_there_is_refused(scored):
    scores, images = scored
    with pytest.raises(UsageError, match="has no such column") as caught:
        names_of_units(images, scores.samples, "slide")
    assert caught.value.hint == "it has patient, eye"
    unknown = [Sample(Path("x.png"), 0), *scores.samples]
    with pytest.raises(UsageError, match="1 of 7 images have no patient"):
        names_of_units(images, unknown, "patient")


def test_the_table_has_a_row_a_unit(scored):
    unit = by_unit(*scored, "patient", notes_info(50), "max", "any")
    rows = [line.split(",") for line in unit_table(unit, 0.5, np.array([0.01, 0.02, 0.03])).decode().splitlines()]
    assert rows[0] == ["patient", "images", "label", "logit", "probability", "prediction", "posterior"]
    assert [row[:3] + row[5:] for row in rows[1:]] == [
        ["1", "4", "1", "1", "0.01"],
        ["2", "1", "1", "1", "0.02"],
        ["3", "1", "0", "0", "0.03"],
    ]
