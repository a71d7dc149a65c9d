"""How far a set of images lies from the training images: a two-sample test by classifiers.

A logistic regression is trained to tell the two sets apart; its cross-validated AUC is 0.5 for sets of one origin and 1
for sets without overlap (Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample tests").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmtrain.data.audit.shortcut import fit_pipeline
from pmtrain.data.loading.loader import Batch
from pmtrain.evaluation.domain.domain_model import VERDICTS, DomainModel, Familiarity, unit
from pmtrain.evaluation.domain.image_statistics import LEAST, STATISTICS, image_statistics
from pmtrain.evaluation.domain.pooled_features import PooledFeatures
from pmtrain.metrics import Interval, delong, delong_interval
from pmtrain.metrics.text import ends
from pmtrain.system.parallel import ALONE, Processes

FOLDS = 5
COMPONENTS = 16  # principal components of the features
FEWEST = 20  # images of either set
FAR, NEAR = 0.8, 0.6  # AUC: from where on it is another origin, and up to where there is no sign of one
NETWORK = "the network's features"
NAMED = 3  # statistics that are named

OTHER = "these images come from another camera or population; the calibration does not carry over"
SOMEWHAT = "these images differ somewhat from the training images; check the calibration on them"
SAME = "no sign of another camera or population"


class Watcher:
    """Collects what a domain model needs of the images of a scoring pass.

    Args:
        model: the network that scores; of several views of an image, the first one's features are taken.
    """

    def __init__(self, model: Any) -> None:
        self._pooled = PooledFeatures(model, first=True)
        self._batches: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # by their place in the pass

    def __call__(self, batch: Batch) -> None:
        assert batch.pixels is not None
        statistics = np.array([image_statistics(image) for image in batch.pixels])
        self._batches[batch.index] = self._pooled.take(), statistics

    def collected(self, processes: Processes = ALONE) -> tuple[np.ndarray, np.ndarray]:
        """Features (N, F) and statistics (N, K) of all processes' batches, in the order of the data."""
        self._pooled.close()
        found = [batch for part in processes.gathered(self._batches) for batch in part.items()]
        features, statistics = zip(*(batch for _, batch in sorted(found, key=lambda each: each[0])), strict=True)
        return np.concatenate(features), np.concatenate(statistics)


@dataclass(frozen=True)
class Apart:
    """A cross-validated AUC of telling two sets apart, with DeLong's interval."""

    auc: float
    interval: Interval

    def text(self, by: str) -> str:
        """`0.982 (0.975 to 0.988) by ...`; an AUC of 1 by patient has no interval."""
        known = "" if self.interval.low is None else f" ({ends(self.interval)})"
        return f"{self.auc:.3f}{known} by {by}"


@dataclass(frozen=True)
class SetComparison:
    """An evaluated set beside the training images.

    Args:
        familiar: of each image, in the order of the data.
        statistics, features: how well the two tell the sets apart; None, with the `reason`, where it can't be tested.
        named: the statistics that tell them apart best, each alone, with their AUC.
    """

    familiar: list[Familiarity]
    statistics: Apart | None
    features: Apart | None
    named: dict[str, float]
    reason: str = ""

    @property
    def verdict(self) -> str:
        """In words; empty where it can't be tested. By the statistics: features also tell seen images from new ones."""
        if self.statistics is None:
            return ""
        auc = max(self.statistics.auc, self.features.auc if self.features else 0)
        return OTHER if auc >= FAR else SOMEWHAT if auc > NEAR else SAME

    def lines(self) -> list[str]:
        """What is printed."""
        counts = Counter(each.verdict for each in self.familiar)
        shares = ", ".join(f"{counts[name] / len(self.familiar):.1%} {name}" for name in VERDICTS)
        lines = ["", f"images of the kind trained on: {shares}"]
        if self.statistics is None or self.features is None:
            return [*lines, f"set beside the training images: not tested: {self.reason}"]
        lines.append(
            f"set beside the training images: {self.verdict} (told apart with AUC"
            f" {self.statistics.text('image statistics')}, {self.features.text(NETWORK)})"
        )
        if self.named and self.verdict != SAME:
            lines.append(f"  most by: {', '.join(f'{name} (AUC {auc:.3f})' for name, auc in self.named.items())}")
        return lines

    def report(self) -> dict[str, Any]:
        """The same for metrics.json."""
        counts = Counter(each.verdict for each in self.familiar)
        return {
            "verdicts": {name: counts[name] for name in VERDICTS},
            "set": self.verdict,
            "reason": self.reason,
            "statistics": _record(self.statistics),
            "features": _record(self.features),
            "most_by": self.named,
        }


def _record(apart: Apart | None) -> dict[str, Any] | None:
    if apart is None:
        return None
    return {"auc": apart.auc, "low": apart.interval.low, "high": apart.interval.high, "method": apart.interval.method}


def compare_sets(
    model: DomainModel, features: np.ndarray, statistics: np.ndarray, groups: Sequence[str] | None, seed: int
) -> SetComparison:
    """Set N images beside those of a domain model.

    Statistics are compared with the training images', features with the validation images', which the network hasn't
    seen either.

    Args:
        features, statistics: (N, F) and (N, K) of the images.
        groups: (N,) the patient of each image, who stays in one fold; None where none is known.
    """
    familiar = model.judge(features, statistics)
    counts = len(statistics), len(model.training), len(model.unseen)
    if min(counts) < FEWEST:
        return SetComparison(familiar, None, None, {}, f"it needs {FEWEST} images, and there are {min(counts)}")
    # In steps of what means nothing: another JPEG quality of black corners is no other camera.
    one, other = np.round(model.training / LEAST), np.round(statistics / LEAST)
    both = np.concatenate([unit(model.unseen), unit(features)])
    centred = both - both.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:COMPONENTS]  # of both sets together: no label is used
    return SetComparison(
        familiar,
        tell_apart(one, other, groups, seed),
        tell_apart(centred[: len(model.unseen)] @ axes.T, centred[len(model.unseen) :] @ axes.T, groups, seed),
        most_telling(one, other),
    )


def tell_apart(one: np.ndarray, other: np.ndarray, groups: Sequence[str] | None, seed: int) -> Apart:
    """How well a logistic regression tells (N, K) from (M, K), cross-validated; `groups`: (M,) of the other."""
    from sklearn.model_selection import StratifiedGroupKFold

    values = np.concatenate([one, other])
    labels = np.repeat([0, 1], [len(one), len(other)])
    own = [f"own {place}" for place in range(len(one))]
    units = np.array([*own, *(groups or [f"other {place}" for place in range(len(other))])], dtype=object)
    logits = np.zeros(len(labels))
    for fit_on, score_on in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(values, labels, units):
        logits[score_on] = fit_pipeline(values[fit_on], labels[fit_on]).decision_function(values[score_on])
    kept = None if groups is None else list(units)
    return Apart(float(delong(labels, logits, kept)[0][0]), delong_interval(labels, logits, kept))


def most_telling(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """The statistics that alone tell (N, K) from (M, K) best, with their AUC in whichever direction."""
    labels = np.repeat([0, 1], [len(one), len(other)])
    areas = {}
    for name, column in zip(STATISTICS, np.concatenate([one, other]).T, strict=True):
        area = float(delong(labels, column)[0][0])
        areas[name] = max(area, 1 - area)
    return dict(sorted(areas.items(), key=lambda item: -item[1])[:NAMED])
