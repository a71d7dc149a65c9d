"""`pmtrain train --seeds`: the same training several times, with other random numbers, and all networks as one.

The members have the same data and split; their seeds, and with them the initial weights, the order of the images and
the augmentation, are `seed`, `seed + 1`, ... What differs between their results is therefore chance alone. The main
results are those of the last epoch, as in `crossval`.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from pmtrain.config import TrainConfig
from pmtrain.data.dataset import DataSet
from pmtrain.evaluation.evaluate.results import metrics_of
from pmtrain.evaluation.scores.chosen_images import patients
from pmtrain.evaluation.scores.score_table import read_scores
from pmtrain.metrics import MEASURES, Assessment, Bootstrap, assess, bce, evaluate_measures
from pmtrain.metrics.text import SYNTHETIC, TITLE_WIDTH, Notes, confusion_lines, counts_text, measure_lines, percent
from pmtrain.runs.calibrator import probabilities_of
from pmtrain.system import console
from pmtrain.system.errors import PmtrainError, UsageError
from pmtrain.training.saving import RunState
from pmtrain.training.several.members import Part, Prepared, Whole
from pmtrain.training.several.together import (
    LEVEL,
    MEASURED,
    N_BOOT,
    THRESHOLD,
    keep_together,
    spread,
    told,
    write_json,
)
from pmtrain.training.train import with_validation

METRICS_FILE = "seeds.json"
MOST = 2**31  # seeds are below
# Within which a measure lies, where that isn't 0 to 1: an interval of its mean ends there.
BOUNDS = {
    **dict.fromkeys(("kappa", "mcc"), (-1.0, 1.0)),
    **dict.fromkeys(("loss", "lr_positive", "lr_negative", "number_needed_to_screen"), (0.0, inf)),
    **dict.fromkeys(("calibration_slope", "calibration_intercept"), (-inf, inf)),
}


def check(config: TrainConfig) -> None:
    """Raises: UsageError, where an option doesn't go with several seeds."""
    if config.folds:
        raise UsageError(
            f"--seeds {config.seeds} with --folds {config.folds}: a cross-validation has a network per fold already",
            "leave one of them out; the recipe accurate is robust with --seeds 3",
        )
    if config.patience is not None:
        raise UsageError(
            f"--patience {config.patience} with --seeds: all networks are trained for the same number of epochs",
            "leave --patience out, and give --epochs",
        )
    if seeds_of(config)[-1] >= MOST:
        raise UsageError(
            f"--seed {config.seed} with --seeds {config.seeds}: seeds must be below {MOST}", "give a smaller --seed"
        )


def seeds_of(config: TrainConfig) -> list[int]:
    """The members' seeds."""
    return list(range(config.seed, config.seed + (config.seeds or 0)))


def parts_of(config: TrainConfig) -> list[Part]:
    """The members' folders and options; the shortcut baseline has no seed of its own, so the first one's is enough."""
    return [
        Part(f"seed-{seed}", {"seed": seed, "shortcut": config.shortcut and seed == config.seed})
        for seed in seeds_of(config)
    ]


def prepared(data: DataSet, config: TrainConfig) -> Prepared:
    """The same data for every network.

    Raises:
        PmtrainError: as `with_validation`.
    """
    data, seeds = with_validation(data, config), seeds_of(config)
    return Prepared([data] * len(seeds), data, {"seeds": {"n_seeds": len(seeds), "seeds": seeds}})


def conclude(whole: Whole, reached: list[RunState]) -> None:
    """Print and write the results of the networks and of their mean, and keep them as one.

    Raises:
        PmtrainError: they weren't trained for the same number of epochs, or a table of scores is damaged.
    """
    if len(epochs := {at.epoch for at in reached}) > 1:
        raise PmtrainError(f"{whole.folder.path}: its networks were trained for unlike numbers of epochs")
    together = keep_together(whole)
    assert together is not None  # there was no --seeds before runs kept the scores that it needs
    data, info, scores = whole.members[0].data, together.info, together.scores
    groups = patients(scores.samples, data.name_of)
    seed = whole.config.seed
    found = assess(scores.labels, scores.probabilities, info.decision_threshold, groups, Bootstrap(LEVEL, N_BOOT, seed))
    last = [measured(member.folder.validation, THRESHOLD) for member in whole.members]
    best = [
        measured(member.folder.best_validation, checkpoint.info.threshold)
        for member, checkpoint in zip(whole.members, together.checkpoints, strict=True)
    ]
    assert scores.spread is not None
    report = {
        "epochs": epochs.pop(),
        "data": str(data.root),
        "data_fingerprint": whole.folder.info()["data"]["fingerprint"],
        "synthetic": data.synthetic,
        "classes": list(data.classes),
        "confidence_level": LEVEL,
        "seeds": [
            {
                "seed": member.config.seed,
                "threshold": checkpoint.info.threshold,
                "best_epoch": checkpoint.info.epoch,
                "last": one,
                "best": other,
            }
            for member, checkpoint, one, other in zip(whole.members, together.checkpoints, last, best, strict=True)
        ],
        "last_epoch": {"threshold": THRESHOLD, **over_seeds(last)},
        "best_epoch": {
            **over_seeds(best),
            "exploratory": True,
            "exploratory_reasons": ["each network's epoch and threshold were chosen on the images that are measured"],
        },
        "ensemble": {
            "threshold": info.decision_threshold,
            "threshold_rule": info.threshold_rule,
            "calibration": info.calibration and info.calibration.model_dump(),
            "n_boot": N_BOOT,
            "seed": seed,
            "loss": scores.loss,
            "spread": {"mean": float(scores.spread.mean()), "max": float(scores.spread.max())},
            "exploratory": True,
            "exploratory_reasons": ["the epochs and the threshold were chosen on the images that are measured"],
            **metrics_of(found),
        },
    }
    write_json(whole.folder.path / METRICS_FILE, report)
    for line in as_lines(report, found, data):
        console.result(line)
    console.notice(told(whole, together))
    names = f"{whole.members[0].folder.path.name} to {whole.members[-1].folder.path.name}"
    console.notice(f"where: {whole.folder.path} (metrics: {METRICS_FILE}, scores: ensemble.csv, networks: {names})")


def measured(table: Path, threshold: float) -> dict[str, float | None]:
    """Every measure and the loss on a network's own scores of the validation images, in a file of `score_table`."""
    rows = read_scores(table).values()
    labels, logits = np.array([row.label for row in rows]), np.array([row.logit for row in rows])
    values = evaluate_measures(labels, probabilities_of(logits, None), threshold)
    return {"loss": bce(labels, logits), **{name: value.value for name, value in values.items()}}


def over_seeds(values: list[dict[str, float | None]]) -> dict[str, dict[str, float | None]]:
    """Mean, standard deviation, range, and interval of the mean, of each measure."""
    found = {}
    for key in values[0]:
        summary = spread([one[key] for one in values])
        low, high = mean_interval(summary, len(values), BOUNDS.get(key, (0.0, 1.0)))
        found[key] = {**summary, "low": low, "high": high}
    return found


def mean_interval(
    found: Mapping[str, float | None], count: int, bounds: tuple[float, float]
) -> tuple[float | None, float | None]:
    """Student's interval of the mean that `spread` found over `count` independent trainings, at LEVEL, in `bounds`."""
    mean, std = found["mean"], found["std"]
    if mean is None or std is None:
        return None, None
    half = float(stdtrit(count - 1, (1 + LEVEL) / 2)) * std / count**0.5
    return max(mean - half, bounds[0]), min(mean + half, bounds[1])


def as_lines(report: dict[str, Any], found: Assessment, data: DataSet) -> list[str]:
    """The lines to print after the last network."""
    notes, n = Notes(), len(report["seeds"])
    titles = {name: measure.title for name, measure in MEASURES.items()} | {"loss": "Loss"}
    columns = ("mean", "std", "min", "max")
    head = "".join(f"{column:>9}" for column in columns)
    head = f"{'':<{TITLE_WIDTH}}{head}   {percent(LEVEL)} CI of the mean"

    def row(name: str, of_it: Mapping[str, float | None]) -> str:
        cells = "".join(f"{'-' if of_it[key] is None else f'{of_it[key]:.4f}':>9}" for key in columns)
        interval = "" if of_it["low"] is None else f"   {of_it['low']:.4f} to {of_it['high']:.4f}"
        return f"{titles[name]:<{TITLE_WIDTH}}{cells}{interval}"

    last, best, epochs = report["last_epoch"], report["best_epoch"], report["epochs"]
    return [
        "",
        *[SYNTHETIC] * data.synthetic,
        f"{n} networks that differ in their seed; last epoch, {epochs} of {epochs}, at {THRESHOLD}:",
        head,
        *(row(name, last[name]) for name in titles),
        "EXPLORATORY: each network's best epoch, chosen on the images that are measured, at its own threshold:",
        head,
        *(row(name, best[name]) for name in MEASURED),
        f"intervals: Student's t over {n} trainings: how far chance in training reaches; the images are held fixed",
        "",
        "EXPLORATORY: the mean logit of the networks, whose epochs and threshold were chosen on these images:",
        f"images: {counts_text(found, data.classes)}",
        f"threshold: {report['ensemble']['threshold']:.6g} ({report['ensemble']['threshold_rule']})",
        "",
        *measure_lines(found, notes),
        "",
        *confusion_lines(found, data.classes),
        "",
        *notes.lines(),
        f"standard deviation of the networks' logits: {report['ensemble']['spread']['mean']:.4f} on average",
    ]
