"""The scores of several trainings, as their folders keep them, and how far the trainings differ."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pmtrain.data.dataset import Sample
from pmtrain.evaluation.scores.chosen_images import patients
from pmtrain.evaluation.scores.operating_point import threshold_to_store
from pmtrain.evaluation.scores.score import Scores
from pmtrain.evaluation.scores.score_table import ScoredRow, read_scores
from pmtrain.evaluation.scores.scoring import averaged
from pmtrain.metrics import BOOTSTRAP, Assessment, Bootstrap, assess
from pmtrain.runs.records import ENSEMBLE, read_ensemble
from pmtrain.runs.run_folder import RunFolder
from pmtrain.system.console import csv_row, quoted
from pmtrain.system.errors import PmtrainError
from pmtrain.system.files import read_json

FOLDS, SEEDS = "folds", "seeds"
FOLDS_FILE = "folds.json"
NEUTRAL = 0.5  # the threshold that was chosen on no image


@dataclass(frozen=True)
class Calls:
    """Sensitivity and specificity at a threshold: counts of the images called rightly, and of all, of each class."""

    threshold: float
    found: int
    positives: int
    ruled_out: int
    negatives: int

    @classmethod
    def at(cls, threshold: float, scores: Scores) -> Calls:
        """Of scored images."""
        called, ill = scores.probabilities >= threshold, scores.labels == 1
        return cls(threshold, int((called & ill).sum()), int(ill.sum()), int((~called & ~ill).sum()), int((~ill).sum()))

    @property
    def pairs(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """k of n for the sensitivity, and for the specificity."""
        return (self.found, self.positives), (self.ruled_out, self.negatives)

    def shares(self) -> list[float | None]:
        """Sensitivity, specificity."""
        return [k / n if n else None for k, n in self.pairs]

    def texts(self) -> list[str]:
        """The same in words: `0.9500 (38/40)`."""
        return [f"{k / n:.4f} ({k}/{n})" if n else "no such image" for k, n in self.pairs]


@dataclass(frozen=True)
class Member:
    """One of the trainings.

    Args:
        name: `fold 1`, `seed 0`.
        scores: its own validation images.
        found: measured at NEUTRAL.
        own: at the threshold that the run's rule chooses on these images.
        others: at the threshold that the rule chooses on all other members' images; None where the images are the same.
        pooled: at the threshold that the rule chooses on all.
    """

    name: str
    scores: Scores
    found: Assessment
    own: Calls
    others: Calls | None
    pooled: Calls


@dataclass(frozen=True)
class Several:
    """The trainings and what they say together.

    Args:
        kind: FOLDS, where each image is scored by the network that never saw it; SEEDS, where all networks score the
            same images and their mean logit counts.
        scores: of all images.
        member_of: (N,) the fold of each image; None for seeds.
        groups: (N,) patients, or None.
        found: measured at NEUTRAL.
        rule: that chooses thresholds.
        chosen: at the threshold that the rule chooses on all these images.
        honest: every image at the threshold that the other folds chose; None for seeds.
        classes, synthetic, left_out: of the data.
    """

    kind: str
    members: list[Member]
    scores: Scores
    member_of: np.ndarray | None
    groups: list[str] | None
    found: Assessment
    rule: str
    chosen: Calls
    honest: Assessment | None
    classes: tuple[str, str]
    synthetic: bool
    left_out: list[str]

    @property
    def exploratory(self) -> bool:
        """Whether epochs were chosen on the images that are measured."""
        return self.kind == SEEDS

    def spread(self) -> dict[str, dict[str, float] | None]:
        """Mean, standard deviation, least and greatest over the members, of what is measured at NEUTRAL."""
        rows = {}
        for name in ("auc", "accuracy", "sensitivity", "specificity", "brier", "ece"):
            values = [each.found.measures[name].value.value for each in self.members]
            known = [value for value in values if value is not None]
            rows[name] = spread_of(known) if len(known) == len(values) else None
        return rows

    def thresholds(self) -> dict[str, float]:
        """The same of the thresholds that the members choose."""
        return spread_of([each.own.threshold for each in self.members])


def spread_of(values: Sequence[float]) -> dict[str, float]:
    """Mean, standard deviation (ddof 1), least and greatest."""
    std = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "std": std, "min": min(values), "max": max(values)}


def kind_of(folder: RunFolder) -> str | None:
    """FOLDS or SEEDS; None for the folder of one run."""
    if (folder.path / ENSEMBLE).is_file():
        return read_ensemble(folder.path / ENSEMBLE).kind
    return FOLDS if folder.config().folds else None


def read_several(folder: RunFolder, bootstrap: Bootstrap = BOOTSTRAP) -> Several:
    """The trainings in a folder.

    Args:
        bootstrap: how the intervals are made.
    Raises:
        PmtrainError: not all are trained, or a table of scores is damaged.
    """
    kind, config = kind_of(folder) or FOLDS, folder.config()
    names = _names(folder, kind)
    runs = [RunFolder(folder.path / name) for name in names]
    tables = [read_scores(run.validation if kind == FOLDS else run.best_validation) for run in runs]
    each = [_scores_of(table) for table in tables]
    member_of = None
    if kind == FOLDS:
        samples = [sample for scores in each for sample in scores.samples]
        labels, logits = (np.concatenate(parts) for parts in zip(*((s.labels, s.logits) for s in each), strict=True))
        scores = Scores(samples, labels, logits)
        member_of = np.repeat(np.arange(len(each)), [len(s.labels) for s in each])
    else:
        rows = {name: row for table in tables for name, row in table.items()}
        logits = np.array([[table[name].logit if name in table else np.nan for name in rows] for table in tables])
        scores = averaged([_sample(name, row) for name, row in rows.items()], logits)
    rule = config.threshold_rule
    pooled = threshold_to_store(rule, scores, first=False)[0]
    members, honest = [], np.zeros(len(scores.labels))
    for place, (name, own) in enumerate(zip(names, each, strict=True)):
        others = None
        if member_of is not None:
            rest = Scores(scores.samples, scores.labels[member_of != place], scores.logits[member_of != place])
            others = Calls.at(threshold_to_store(rule, rest, first=False)[0], own)
            honest[member_of == place] = own.probabilities >= others.threshold
        members.append(
            Member(
                name.replace("-", " "),
                own,
                assess(own.labels, own.probabilities, NEUTRAL, _groups(own), bootstrap),
                Calls.at(threshold_to_store(rule, own, first=False)[0], own),
                others,
                Calls.at(pooled, own),
            )
        )
    groups = _groups(scores)
    about = runs[0].info()["data"]
    measured = assess(scores.labels, scores.probabilities, NEUTRAL, groups, bootstrap)
    decided = None if member_of is None else assess(scores.labels, honest, NEUTRAL, groups, bootstrap)
    return Several(
        kind,
        members,
        scores,
        member_of,
        groups,
        measured,
        rule,
        Calls.at(pooled, scores),
        decided,
        tuple(about["classes"]),
        bool(about["synthetic"]),
        _left_out(folder, kind),
    )


def _names(folder: RunFolder, kind: str) -> list[str]:
    if kind == SEEDS:
        return list(read_ensemble(folder.path / ENSEMBLE).members)
    if not (folder.path / FOLDS_FILE).is_file():
        raise PmtrainError(
            f"{folder.path}: not all of its folds are trained",
            f"finish them: {quoted('pmtrain', 'train', '--resume', folder.path)}",
        )
    return [f"fold-{number}" for number in range(1, (folder.config().folds or 0) + 1)]


def _left_out(folder: RunFolder, kind: str) -> list[str]:
    if kind == SEEDS:
        return []
    return read_json(folder.path / FOLDS_FILE, errors="surrogateescape").get("left_out", [])


def _sample(name: str, row: ScoredRow) -> Sample:
    return Sample(Path(name), row.label, "val", row.patient)


def _scores_of(table: dict[str, ScoredRow]) -> Scores:
    rows = list(table.values())
    samples = [_sample(name, row) for name, row in table.items()]
    return Scores(samples, np.array([row.label for row in rows]), np.array([row.logit for row in rows]))


def _groups(scores: Scores) -> list[str] | None:
    return patients(scores.samples, lambda sample: str(sample.path), tell=False)


def as_table(found: Several) -> Iterator[str]:
    """The figures of each member as CSV lines."""
    yield csv_row(
        "network", "images", "positives", "auc", "auc_low", "auc_high", "sensitivity_at_0.5", "specificity_at_0.5",
        "own_threshold", "threshold_of_the_others", "sensitivity_there", "specificity_there",
        "pooled_threshold", "sensitivity_at_pooled", "specificity_at_pooled",
    )  # fmt: skip
    for each in found.members:
        auc = each.found.measures["auc"]
        interval = auc.second or auc.interval
        neutral = Calls.at(NEUTRAL, each.scores)
        elsewhere = (None,) * 3 if each.others is None else (each.others.threshold, *each.others.shares())
        yield csv_row(
            each.name, each.found.n, each.found.positives, auc.value.value, interval.low, interval.high,
            *neutral.shares(), each.own.threshold, *elsewhere, each.pooled.threshold, *each.pooled.shares(),
        )  # fmt: skip
