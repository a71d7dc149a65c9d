"""What becomes of several trainings: their best weights as one classifier, kept in `ensemble.json`, and spreads."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pmtrain.data.dataset import DataSet
from pmtrain.evaluation.scores.ensemble import common_info, ensemble_threshold, keep_ensemble, validation_scores
from pmtrain.evaluation.scores.score import Scores
from pmtrain.evaluation.scores.score_table import score_table
from pmtrain.metrics import evaluate_measures
from pmtrain.runs.checkpoint import Checkpoint, load_checkpoint
from pmtrain.runs.records import CheckpointInfo
from pmtrain.system import console
from pmtrain.system.console import quoted
from pmtrain.system.files import write_atomic
from pmtrain.training.saving import calibration
from pmtrain.training.several.members import Member, Whole

SCORES = "ensemble.csv"
MEASURED = {"accuracy": "Accuracy", "auc": "AUC", "loss": "Loss"}
LEVEL, N_BOOT = 0.95, 2000
THRESHOLD = 0.5  # any other threshold would have been chosen on the images that are measured


@dataclass(frozen=True)
class Together:
    """The members' best weights as one classifier.

    Args:
        checkpoints: of the members.
        info: what ensemble.json says of the whole.
        scores: the mean logit of each image that was held out, by the members that held it out.
        data: these images.
    """

    checkpoints: list[Checkpoint]
    info: CheckpointInfo
    scores: Scores
    data: DataSet


def keep_together(whole: Whole) -> Together | None:
    """Write ensemble.json and ensemble.csv; None where a member, trained by an older pmtrain, keeps no scores."""
    checkpoints = [load_checkpoint(member.folder.best) for member in whole.members]
    found = validation_scores(checkpoints)
    if found is None:
        console.notice("the networks keep no scores of their best epochs, so no threshold is stored for their mean")
        return None
    data = held_out(whole.members)
    scores = in_order_of(data, found)
    threshold, rule = ensemble_threshold(whole.config.threshold_rule, scores)
    info = common_info(checkpoints, threshold, rule)
    calibrator = calibration(whole.config, data, info.prior, scores, True)
    measured = evaluate_measures(scores.labels, scores.probabilities, THRESHOLD)["auc"].value
    metrics = {"loss": scores.loss, "accuracy": scores.accuracy, "auc": measured}
    info = info.model_copy(update={"calibration": calibrator, "metrics": metrics})
    scores = replace(scores, calibration=calibrator)
    table = score_table(scores, data.name_of, info.decision_threshold)
    write_atomic(whole.folder.path / SCORES, table)
    kind = f"{whole.members[0].kind}s"
    keep_ensemble(whole.folder.path, kind, [member.folder.path.name for member in whole.members], info)
    return Together(checkpoints, info, scores, data)


def told(whole: Whole, together: Together) -> str:
    """What the networks are together, in a line."""
    info = together.info
    return (
        f"together: the mean of {len(whole.members)} networks, with the threshold {info.decision_threshold:.6g}"
        f" ({info.threshold_rule}): pmtrain predict {quoted(whole.folder.path)} IMAGES"
    )


def held_out(members: Sequence[Member]) -> DataSet:
    """The images that any member held out for validation, in the order of the data."""
    held = {sample.path for member in members for sample in member.data.split("val")}
    data = members[0].data
    samples = (replace(sample, split="val") for sample in data.samples if sample.path in held)
    return replace(data, samples=tuple(samples))


def in_order_of(data: DataSet, scores: Scores) -> Scores:
    """Scores by name, as of `validation_scores`, in the order of the data and with its samples."""
    row_of = {sample.path.as_posix(): row for row, sample in enumerate(scores.samples)}
    samples = [sample for sample in data.samples if Path(data.name_of(sample)).as_posix() in row_of]
    rows = np.array([row_of[Path(data.name_of(sample)).as_posix()] for sample in samples], int)
    assert scores.spread is not None and scores.scored_by is not None
    apart = {"spread": scores.spread[rows], "scored_by": scores.scored_by[rows]}
    return replace(scores, samples=samples, labels=scores.labels[rows], logits=scores.logits[rows], **apart)


def spread(values: Sequence[float | None]) -> dict[str, float | None]:
    """Mean, standard deviation (ddof 1) and range over members; None if a member has no value."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return dict.fromkeys(("mean", "std", "min", "max"))
    return {
        "mean": statistics.fmean(known),
        "std": statistics.stdev(known),
        "min": min(known),
        "max": max(known),
    }


def write_json(path: Path, report: Mapping[str, Any]) -> None:
    """Write results; a file name that isn't UTF-8 comes as it is on disk."""
    content = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomic(path, content.encode("utf-8", errors="surrogateescape"))
