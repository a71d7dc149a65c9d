"""Selective prediction: the most doubtful images go to a person, and the rest is measured.

An image is the more doubtful the nearer its logit lies to the threshold's (Geifman and El-Yaniv 2017, "Selective
classification for deep neural networks", for one logit and any threshold). Refused images are the most doubtful of all.
Where several networks answer, that distance is divided by sqrt(1 + pi s^2 / 8) with the standard deviation s of their
logits, as for the mean of a sigmoid over a normal logit (MacKay 1992, "The evidence framework applied to classification
networks").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logit

from pmtrain.evaluation.domain.domain_model import REFUSED, Familiarity
from pmtrain.metrics import wilson
from pmtrain.metrics.text import ends

COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
TINY = 1e-12  # keeps logits finite


@dataclass(frozen=True)
class Share:
    """A proportion k of n."""

    k: int
    n: int

    @property
    def value(self) -> float | None:
        return self.k / self.n if self.n else None

    def text(self, level: float) -> str:
        """`0.9750 (0.955 to 0.986)`"""
        return "undefined" if self.value is None else f"{self.value:.4f} ({ends(wilson(self.k, self.n, level))})"


@dataclass(frozen=True)
class Kept:
    """What is measured on the images that a network decides at a coverage."""

    coverage: float
    accuracy: Share
    sensitivity: Share
    specificity: Share

    def report(self) -> dict[str, Any]:
        """For metrics.json."""
        shares = {name: getattr(self, name) for name in ("accuracy", "sensitivity", "specificity")}
        values = {name: {"value": share.value, "k": share.k, "n": share.n} for name, share in shares.items()}
        return {"coverage": self.coverage, "images": self.accuracy.n, **values}


@dataclass(frozen=True)
class Selective:
    """Images by doubt, and what is measured without the most doubtful.

    Args:
        order: places of the images, the most doubtful first.
        curve: a row for each of COVERAGES.
        deferred: the share asked for, and what is measured without it; None where none was asked for.
    """

    order: np.ndarray
    curve: list[Kept]
    deferred: Kept | None
    level: float

    @property
    def to_a_person(self) -> np.ndarray:
        """Places of the images that go to a person, the most doubtful first."""
        return self.order[: len(self.order) - self.deferred.accuracy.n] if self.deferred else self.order[:0]

    def lines(self) -> list[str]:
        """What is printed; nothing unless images are deferred."""
        if self.deferred is None:
            return []
        kept = self.deferred
        return [
            "",
            f"left to a person (--defer {1 - kept.coverage:.4g}): the {len(self.to_a_person)} most doubtful of"
            f" {len(self.order)} images",
            f"on the other {kept.accuracy.n}: accuracy {kept.accuracy.text(self.level)}, sensitivity"
            f" {kept.sensitivity.text(self.level)}, specificity {kept.specificity.text(self.level)}",
        ]


def selective(
    labels: np.ndarray,
    probabilities: np.ndarray,
    threshold: float,
    defer: float = 0.0,
    familiar: Sequence[Familiarity] | None = None,
    level: float = 0.95,
    spread: np.ndarray | None = None,
) -> Selective:
    """Order images by doubt and measure those that are kept.

    Args:
        labels, probabilities: (N,) each.
        defer: share of the images that goes to a person, in [0, 1); rounded up to whole images.
        familiar: what a domain model says of each image.
        level: of the intervals.
        spread: (N,) standard deviation of several networks' logits; NaN where only one scored the image.
    """
    p = np.clip(probabilities, TINY, 1 - TINY)
    certainty = np.abs(logit(p) - logit(np.clip(threshold, TINY, 1 - TINY)))
    if spread is not None:
        certainty = certainty / np.sqrt(1 + np.pi / 8 * np.nan_to_num(spread) ** 2)
    if familiar is not None:
        certainty = np.where([each.verdict == REFUSED for each in familiar], -1.0, certainty)
    order = np.argsort(certainty, kind="stable")
    right = (probabilities >= threshold) == (labels == 1)

    def at(coverage: float) -> Kept:
        kept = order[int(np.ceil(round((1 - coverage) * len(order), 9))) :]
        shares = [
            Share(int(right[rows].sum()), len(rows))
            for rows in (kept, kept[labels[kept] == 1], kept[labels[kept] == 0])
        ]
        return Kept(coverage, *shares)

    return Selective(order, [at(coverage) for coverage in COVERAGES], at(1 - defer) if defer else None, level)
