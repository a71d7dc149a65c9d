"""The measures of a binary classifier, each defined once, for images with weights.

A bootstrap resample is the same images with other integer weights. So every measure takes a `Tally`, B weightings of
one sample, and returns B values; the point estimate has all weights 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from pmtrain.metrics import logistic

N_BINS = 10  # bins of the calibration error and the calibration plot
TINY = 1e-12  # probabilities are clipped to [TINY, 1 - TINY] before taking the logit

Counts = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Value:
    """The value of a measure, or None with the reason; a proportion is `k` of `n` images."""

    value: float | None
    reason: str = ""
    k: int | None = None
    n: int | None = None


class Confusion(NamedTuple):
    """The four counts of the confusion matrix."""

    tp: int
    fp: int
    fn: int
    tn: int


class Sample:
    """Labels and probabilities of N images, checked and sorted by probability; what all weightings share.

    Args:
        labels: (N,) 0 or 1 (or bool); 1 is the positive class.
        probabilities: (N,) P(positive), in [0, 1].
        threshold: an image is called positive if its probability is at least this.
    Raises: ValueError: no images, wrong shapes, different lengths, or values out of range; the message prints them.
    """

    def __init__(self, labels, probabilities, threshold: float = 0.5) -> None:
        y, p = checked(labels, probabilities, low=0.0, high=1.0)
        if not np.isfinite(threshold):
            raise ValueError(f"threshold is {threshold}; it must be a finite number")
        self.order = np.lexsort((y, p))  # by probability, then by label, so that the order of the input doesn't matter
        self.labels, self.probabilities = y[self.order], p[self.order]
        self.threshold = float(threshold)
        self.positive = np.flatnonzero(self.labels)  # positions in the sorted images
        self.negative = np.flatnonzero(self.labels == 0)
        scores = self.probabilities[self.positive]
        # For each positive: the number of images of a class below it, and not above it.
        self.negatives_below = np.searchsorted(self.probabilities[self.negative], scores, side="left")
        self.negatives_upto = np.searchsorted(self.probabilities[self.negative], scores, side="right")
        self.positives_below = np.searchsorted(scores, scores, side="left")

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def logits(self) -> np.ndarray:
        """(N,) the logit of each probability, kept finite."""
        p = np.clip(self.probabilities, TINY, 1 - TINY)
        return np.log(p) - np.log1p(-p)

    @cached_property
    def standardised(self) -> np.ndarray:
        """(N, 2) ones and the standardised logits, regressors of the calibration slope."""
        return np.column_stack([np.ones(len(self)), (self.logits - self.logits.mean()) / self.logits.std()])

    @cached_property
    def slope_fit(self) -> np.ndarray:
        """(2,) the coefficients on `standardised` with all weights 1: the start for other weightings."""
        zeros, once = np.zeros(len(self)), np.ones((1, len(self)))
        return logistic.fit(self.labels, self.standardised, zeros, once, np.zeros(2), tolerance=1e-8)[0]

    @cached_property
    def intercept_fit(self) -> np.ndarray:
        """(1,) the constant to add to the logits with all weights 1."""
        once = np.ones((1, len(self)))
        return logistic.fit(self.labels, once.T, self.logits, once, np.zeros(1), tolerance=1e-8)[0]

    @cached_property
    def columns(self) -> np.ndarray:
        """(N, 5): the values that `Tally` sums over images."""
        y, p = self.labels.astype(float), self.probabilities
        called = p >= self.threshold
        return np.column_stack([y, 1 - y, y * called, (1 - y) * called, (p - y) ** 2])

    @cached_property
    def bin_starts(self) -> np.ndarray:
        """(at most N_BINS,): the first image of each non-empty bin of the calibration error."""
        return np.unique(bin_of(self.probabilities), return_index=True)[1]


class Tally:
    """Sums over B weightings of one sample; attributes are (B,) unless stated otherwise.

    Args:
        weights: (B, N) float, the weight of each of the sorted images.
    """

    def __init__(self, sample: Sample, weights: np.ndarray) -> None:
        self.sample, self.weights = sample, weights
        self.positives, self.negatives, self.tp, self.fp, self.squared_error = (weights @ sample.columns).T
        self.n = self.positives + self.negatives
        self.fn, self.tn = self.positives - self.tp, self.negatives - self.fp

    @classmethod
    def once(cls, sample: Sample) -> Tally:
        """All weights 1: B = 1."""
        return cls(sample, np.ones((1, len(sample))))

    @cached_property
    def on_positives(self) -> np.ndarray:
        """(B, P) the weights of the positives, by increasing probability."""
        return self.weights[:, self.sample.positive]

    @cached_property
    def positives_within(self) -> np.ndarray:
        """(B, P + 1) the total weight of the 0, 1, ..., P lowest positives."""
        return _running_sum(self.on_positives)

    @cached_property
    def negatives_within(self) -> np.ndarray:
        """(B, Q + 1) the total weight of the 0, 1, ..., Q lowest negatives."""
        return _running_sum(self.weights[:, self.sample.negative])

    @cached_property
    def overlap(self) -> np.ndarray:
        """Whether the classes overlap, so that the logistic fit is finite (Albert and Anderson 1984)."""
        x, sample = self.sample.logits, self.sample
        present = self.weights > 0

        def ends(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            there = present[:, columns]
            return x[columns[there.argmax(1)]], x[columns[len(columns) - 1 - there[:, ::-1].argmax(1)]]

        if not len(sample.positive) or not len(sample.negative):
            return np.zeros(len(present), bool)
        (low_positive, high_positive), (low_negative, high_negative) = ends(sample.positive), ends(sample.negative)
        return (low_positive < high_negative) & (low_negative < high_positive)


def auc(t: Tally) -> np.ndarray:
    """P(a positive scores above a negative), with ties counting half: the Mann-Whitney statistic."""
    s = t.sample
    below = t.negatives_within[:, s.negatives_below] + t.negatives_within[:, s.negatives_upto]
    return np.einsum("bp,bp->b", t.on_positives, below) / (2 * t.positives * t.negatives)


def average_precision(t: Tally) -> np.ndarray:
    """The mean over positives of the precision at their probability; not interpolated, as in scikit-learn."""
    s = t.sample
    tp = t.positives[:, None] - t.positives_within[:, s.positives_below]
    fp = t.negatives[:, None] - t.negatives_within[:, s.negatives_below]
    precision = tp / np.maximum(tp + fp, 1)  # 0 where the total weight is 0: that positive's weight is 0 too
    return np.einsum("bp,bp->b", t.on_positives, precision) / t.positives


def balanced_accuracy(t: Tally) -> np.ndarray:
    """The mean of sensitivity and specificity."""
    return (t.tp / t.positives + t.tn / t.negatives) / 2


def f1(t: Tally) -> np.ndarray:
    """The harmonic mean of PPV and sensitivity, 2 TP / (2 TP + FP + FN)."""
    return 2 * t.tp / (2 * t.tp + t.fp + t.fn)


def kappa(t: Tally) -> np.ndarray:
    """Agreement of prediction and label beyond chance (Cohen 1960)."""
    agreed = t.n * (t.tp + t.tn)
    by_chance = (t.tp + t.fp) * t.positives + (t.tn + t.fn) * t.negatives
    return (agreed - by_chance) / (t.n**2 - by_chance)


def mcc(t: Tally) -> np.ndarray:
    """The correlation of prediction and label (Matthews 1975)."""
    margins = np.sqrt(t.positives * t.negatives) * np.sqrt((t.tp + t.fp) * (t.tn + t.fn))
    return (t.tp * t.tn - t.fp * t.fn) / margins


def lr_positive(t: Tally) -> np.ndarray:
    """By how much a positive call multiplies the odds of disease: sensitivity / (1 - specificity)."""
    return (t.tp / t.positives) / (t.fp / t.negatives)


def lr_negative(t: Tally) -> np.ndarray:
    """By how much a negative call multiplies the odds of disease: (1 - sensitivity) / specificity."""
    return (t.fn / t.positives) / (t.tn / t.negatives)


def number_needed_to_screen(t: Tally) -> np.ndarray:
    """Images for each positive that is found: 1 / (prevalence x sensitivity)."""
    return t.n / t.tp


def brier(t: Tally) -> np.ndarray:
    """The mean squared difference of probability and label (Brier 1950)."""
    return t.squared_error / t.n


def ece(t: Tally) -> np.ndarray:
    """|mean probability - observed share| in ten bins of equal width, averaged over images.

    The bins are [0, 0.1), [0.1, 0.2), ..., [0.9, 1]. It uses P(positive), not the confidence of the predicted class. In
    small samples it is biased upwards, because random gaps add up and don't cancel. Source: Naeini et al. 2015.
    """
    errors = np.add.reduceat(t.weights * (t.sample.probabilities - t.sample.labels), t.sample.bin_starts, axis=1)
    return np.abs(errors).sum(1) / t.n


def calibration_slope(t: Tally) -> np.ndarray:
    """b in logit P(label = 1) = a + b logit(probability), fitted to the images; 1 is ideal, below 1 overconfident.

    Source: Cox 1958; Van Calster et al. 2019, who call it weak calibration. Probabilities are clipped to
    [1e-12, 1 - 1e-12].
    """
    x, s = t.sample.logits, t.sample
    return logistic.fit(s.labels, s.standardised, np.zeros_like(x), t.weights, s.slope_fit)[:, 1] / x.std()


def calibration_intercept(t: Tally) -> np.ndarray:
    """a in logit P(label = 1) = a + logit(probability), the slope held at 1: calibration in the large; 0 is ideal.

    If it is above 0, the probabilities are too low on average. Source: Van Calster et al. 2019.
    """
    s = t.sample
    return logistic.fit(s.labels, np.ones((len(s), 1)), s.logits, t.weights, s.intercept_fit)[:, 0]


class Requirement(NamedTuple):
    """A condition for a measure to be defined, and the reason to give if it doesn't hold."""

    holds: Callable[[Tally], np.ndarray]
    otherwise: str


POSITIVES = Requirement(lambda t: t.positives > 0, "no positive image")
NEGATIVES = Requirement(lambda t: t.negatives > 0, "no negative image")
CALLED_POSITIVE = Requirement(lambda t: t.tp + t.fp > 0, "no image reaches the threshold")
CALLED_NEGATIVE = Requirement(lambda t: t.tn + t.fn > 0, "every image reaches the threshold")
FOUND = Requirement(lambda t: t.tp > 0, "no positive image reaches the threshold")
FALSE_POSITIVES = Requirement(lambda t: t.fp > 0, "no false positive, so it is infinite")
TRUE_NEGATIVES = Requirement(lambda t: t.tn > 0, "no true negative, so it is infinite")
OVERLAP = Requirement(
    lambda t: t.overlap, "the probabilities separate the classes or are all equal, so there is no finite slope"
)


@dataclass(frozen=True)
class Measure:
    """A row of `MEASURES`.

    Args:
        title: for tables.
        function: `Tally` of B weightings -> (B,) values.
        uses: what it depends on: the order of the scores, the threshold, or the probabilities.
        requires: conditions without which it is undefined. A measure also counts as undefined if a class has no
            images, so that its value wouldn't depend on the scores.
        ideal: its value for a perfect classifier; closer is better. None for one that depends on the prevalence.
        counts: the `k` and `n` of a proportion.
        bootstrap: the kind of interval; `basic` mirrors the resamples about the value, for a non-negative measure with
            an upward bias.
    """

    title: str
    function: Callable[[Tally], np.ndarray]
    uses: Literal["order", "threshold", "probability"]
    requires: tuple[Requirement, ...]
    ideal: float | None = 1.0
    counts: Callable[[Tally], Counts] | None = None
    bootstrap: Literal["percentile", "basic"] = "percentile"

    def values(self, tally: Tally) -> np.ndarray:
        """(B,) float, NaN where undefined."""
        defined = np.ones(len(tally.n), bool)
        for requirement in self.requires:
            defined &= requirement.holds(tally)
        if not defined.any():
            return np.full(len(defined), np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(defined, self.function(tally), np.nan)

    def reason(self, tally: Tally) -> str:
        """The reason why the first weighting has no value; empty if it has one."""
        return next((r.otherwise for r in self.requires if not r.holds(tally)[0]), "")


def _proportion(title: str, counts: Callable[[Tally], Counts], *requires: Requirement) -> Measure:
    return Measure(title, lambda t: np.divide(*counts(t)), "threshold", requires, counts=counts)


BOTH = (POSITIVES, NEGATIVES)

MEASURES: dict[str, Measure] = {
    "auc": Measure("AUC", auc, "order", BOTH),
    "average_precision": Measure("Average precision", average_precision, "order", BOTH),
    "accuracy": _proportion("Accuracy", lambda t: (t.tp + t.tn, t.n)),
    "balanced_accuracy": Measure("Balanced accuracy", balanced_accuracy, "threshold", BOTH),
    "sensitivity": _proportion("Sensitivity", lambda t: (t.tp, t.positives), POSITIVES),
    "specificity": _proportion("Specificity", lambda t: (t.tn, t.negatives), NEGATIVES),
    "ppv": _proportion("PPV", lambda t: (t.tp, t.tp + t.fp), *BOTH, CALLED_POSITIVE),
    "npv": _proportion("NPV", lambda t: (t.tn, t.tn + t.fn), *BOTH, CALLED_NEGATIVE),
    "lr_positive": Measure("LR+", lr_positive, "threshold", (*BOTH, FALSE_POSITIVES), ideal=float("inf")),
    "lr_negative": Measure("LR-", lr_negative, "threshold", (*BOTH, TRUE_NEGATIVES), ideal=0.0),
    "number_needed_to_screen": Measure(
        "Number needed to screen", number_needed_to_screen, "threshold", (*BOTH, FOUND), ideal=None
    ),
    "f1": Measure("F1", f1, "threshold", (POSITIVES,)),
    "kappa": Measure("Cohen's kappa", kappa, "threshold", BOTH),
    "mcc": Measure("MCC", mcc, "threshold", (*BOTH, CALLED_POSITIVE, CALLED_NEGATIVE)),
    "brier": Measure("Brier score", brier, "probability", (), ideal=0.0),
    "ece": Measure("Expected calibration error", ece, "probability", (), ideal=0.0, bootstrap="basic"),
    "calibration_slope": Measure("Calibration slope", calibration_slope, "probability", (*BOTH, OVERLAP)),
    "calibration_intercept": Measure("Calibration intercept", calibration_intercept, "probability", BOTH, ideal=0.0),
}


def evaluate_measures(labels, probabilities, threshold: float) -> dict[str, Value]:
    """Every measure of `MEASURES` on these images.

    Args:
        labels: (N,) int, 1 is the positive class.
        probabilities: (N,) float, P(positive), in [0, 1].
        threshold: an image is called positive if its probability is at least this.
    Raises: ValueError: as `Sample`.
    """
    tally = Tally.once(Sample(labels, probabilities, threshold))
    return {name: _value(measure, tally) for name, measure in MEASURES.items()}


def _value(measure: Measure, tally: Tally) -> Value:
    value = float(measure.values(tally)[0])
    k, n = (int(c[0]) for c in measure.counts(tally)) if measure.counts else (None, None)
    reason = measure.reason(tally)
    if not reason and not np.isfinite(value):
        reason = "the fit found no finite value"
    return Value(None, reason, k, n) if reason else Value(value, "", k, n)


def confusion(labels, probabilities, threshold: float) -> Confusion:
    """The confusion matrix; an image is called positive if its probability is at least `threshold`."""
    t = Tally.once(Sample(labels, probabilities, threshold))
    return Confusion(*(int(count[0]) for count in (t.tp, t.fp, t.fn, t.tn)))


def bce(labels, logits) -> float:
    """Mean binary cross-entropy of sigmoid(logit) over images; finite for any finite logit.

    Args:
        labels: (N,) 0 or 1.
        logits: (N,) float, any finite value.
    Raises: ValueError: as `Sample`.
    """
    y, x = checked(labels, logits)
    return float(np.mean(np.logaddexp(0, x) - y * x))


def checked(labels, scores, low: float = -np.inf, high: float = np.inf) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels as (N,) int and the scores as (N,) float64; ValueError if they are wrong."""
    y, s = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if y.ndim != 1 or s.ndim != 1:
        raise ValueError(f"labels have shape {y.shape} and scores {s.shape}; both must be (N,)")
    if len(y) != len(s):
        raise ValueError(f"{len(y)} labels but {len(s)} scores")
    if not len(y):
        raise ValueError("no images: 0 labels and 0 scores")
    for name, values, wrong, wanted in (
        ("labels", y, (y != 0) & (y != 1), "0 or 1"),
        ("scores", s, ~(np.isfinite(s) & (s >= low) & (s <= high)), f"finite and in [{low:g}, {high:g}]"),
    ):
        if wrong.any():
            first = int(np.argmax(wrong))
            raise ValueError(f"{name}[{first}] is {values[first]}; {int(wrong.sum())} of {len(y)} are not {wanted}")
    return y.astype(np.int64), s


def bin_of(probabilities: np.ndarray) -> np.ndarray:
    """The bin of each probability, of N_BINS of equal width; an edge belongs to the bin above, 1 to the last."""
    edges = np.arange(1, N_BINS) / N_BINS
    return np.searchsorted(edges, probabilities, side="right")


def _running_sum(weights: np.ndarray) -> np.ndarray:
    """(B, M) -> (B, M + 1): the sums of the first 0, 1, ..., M columns."""
    sums = np.zeros((weights.shape[0], weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums
