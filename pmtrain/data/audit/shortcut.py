"""The shortcut baseline: a classifier that sees camera and tint, and nothing of the disease.

It is a logistic regression on a few features of each image: file size, width and height, colours, and a thumbnail too
coarse for any lesion. If its metrics come near a network's, the two classes may differ by who took the photographs, and
the network may have learned that instead. The model is scikit-learn's; one weight per feature is kept, so that images
can be scored years later without scikit-learn and without unpickling anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit

from pmtrain.data.dataset import DataSet, Sample
from pmtrain.data.images.file_table import FILES
from pmtrain.data.images.read import BadImage, ImageFile
from pmtrain.data.images.shortcut_features import (
    DARK,
    FEATURES_KIND,
    GROUPS,
    THUMBNAIL,
    TOGETHER,
    FeatureTable,
    columns_of,
    features_of,
)
from pmtrain.data.loading.cache import Cache
from pmtrain.data.loading.slots import Look
from pmtrain.metrics import Interval, delong, delong_interval
from pmtrain.system import console
from pmtrain.system.hardware import available_cpus, use_every_core

FOLDS = 5
WARN_ABOVE = 0.80  # cross-validated AUC
MOST_IMAGES = 3000  # to fit on; of more, a sample is drawn
STRENGTH = 0.1  # scikit-learn's C, on standardised features; fixed, so that nothing is chosen on the images
AT_A_TIME = 64  # images handed to the threads
METHOD = (
    f"logistic regression (L2, C = {STRENGTH}) on standardised features: size is the logarithms of file size, height"
    f" and width; colour is mean and standard deviation of each channel where one is above {DARK};"
    f" thumbnail is {THUMBNAIL} x {THUMBNAIL} pixels in colour"
)


@dataclass(frozen=True)
class Features:
    """The features of N images, float32 (N, F), and which images had to be left out and why.

    `drawn_from` is how many images the sample was drawn from, N where all were taken.
    """

    samples: tuple[Sample, ...]
    values: np.ndarray
    left_out: dict[Sample, str]
    drawn_from: int

    @property
    def labels(self) -> np.ndarray:
        """(N,) int."""
        return np.array([sample.label for sample in self.samples], int)

    @property
    def patients(self) -> list[str] | None:
        """(N,) whose each image is; None where no patient is known."""
        return [unit_of(sample) for sample in self.samples] if any(s.patient for s in self.samples) else None


def unit_of(sample: Sample) -> str:
    """What stays on one side of a fold: the patient, the file where the patient isn't known."""
    return f"p {sample.patient}" if sample.patient else f"f {sample.path}"


def measure(
    samples: Sequence[Sample],
    on_image: Callable[[], None] = lambda: None,
    drawn_from: int = 0,
    known: FeatureTable | None = None,
    cache: Cache | None = None,
) -> Features:
    """The features of every image that can be decoded, on as many threads as there are cores.

    Args:
        on_image: called after every image; what it raises ends the measuring.
        known: features that have been computed already; the others are looked up in the cache, or else computed.
        cache: where features are kept for later commands.
    """
    values = np.empty((len(samples), columns_of(TOGETHER).stop), np.float32)
    kept: list[Sample] = []
    left_out: dict[Sample, str] = {}

    def find(sample: Sample) -> np.ndarray | str | _Computed:
        if known is not None and (row := known.rows.get(sample.path)) is not None:
            return row
        if cache and (place := cache.find(sample.path, FEATURES_KIND)) and (data := cache.read(place)) is not None:
            return data.view(np.float32)
        try:
            return _compute(sample)
        except BadImage as bad:
            return bad.reason

    with (
        ThreadPoolExecutor(available_cpus(), "features", use_every_core) as threads,
        console.progress(len(samples), "image", "shortcut baseline") as bar,
    ):
        rest = iter(samples)
        while some := list(islice(rest, AT_A_TIME)):
            new: list[tuple[Look, np.ndarray]] = []
            for sample, found in zip(some, threads.map(find, some), strict=True):
                if isinstance(found, str):
                    left_out[sample] = found
                else:
                    if isinstance(found, _Computed):
                        new += [(found.look, found.row)] if found.look else []
                        found = found.row
                    values[len(kept)] = found
                    kept.append(sample)
                bar.update()
                on_image()
            if cache and new:
                cache.store(FEATURES_KIND, new)
    return Features(tuple(kept), values[: len(kept)], left_out, drawn_from or len(samples))


class _Computed(NamedTuple):
    """Features computed just now, and of which file; None where that was being written."""

    row: np.ndarray
    look: Look | None


def _compute(sample: Sample) -> _Computed:
    """
    Raises:
        BadImage: the image can't be decoded.
    """
    try:
        content = FILES.read(sample.path)
    except OSError:  # reading it again raises the error that names the file
        content = None
    if content is None:
        return _Computed(features_of(ImageFile(sample.path)), None)
    row = features_of(ImageFile(sample.path, content.data))
    return _Computed(row, Look(sample.path, content.state, content.digest, None))


def draw(samples: Sequence[Sample], seed: int, most: int = MOST_IMAGES) -> Sequence[Sample]:
    """The samples, or about `most` of them: whole patients by lot, the same share of those with a positive image."""
    if len(samples) <= most:
        return samples
    images: dict[str, list[Sample]] = {}
    for sample in samples:
        images.setdefault(unit_of(sample), []).append(sample)
    rng, drawn = np.random.default_rng(seed), set[str]()
    for kind in (0, 1):
        units = [unit for unit, theirs in images.items() if max(sample.label for sample in theirs) == kind]
        wanted = sum(len(images[unit]) for unit in units) * most / len(samples)
        for place in rng.permutation(len(units)):
            if wanted <= 0:
                break
            drawn.add(units[place])
            wanted -= len(images[units[place]])
    return [sample for sample in samples if unit_of(sample) in drawn]


@dataclass(frozen=True)
class Shortcut:
    """A fitted baseline: P(positive) = sigmoid(intercept + features @ weights).

    Args:
        weights: (F,) float64, in the features' own units.
    """

    weights: np.ndarray
    intercept: float

    @classmethod
    def fit(cls, values: np.ndarray, labels: np.ndarray) -> Shortcut:
        """Fit (N, F) features to (N,) labels of both classes."""
        scaler, regression = fit_pipeline(values, labels)
        weights = regression.coef_[0] / scaler.scale_
        return cls(weights, float(regression.intercept_[0] - scaler.mean_ @ weights))

    def logits(self, values: np.ndarray) -> np.ndarray:
        """(N, F) -> (N,) float64."""
        return values.astype(np.float64) @ self.weights + self.intercept

    def probabilities(self, values: np.ndarray) -> np.ndarray:
        """(N, F) -> (N,) P(positive)."""
        return expit(self.logits(values))

    def as_json(self) -> dict[str, Any]:
        """Numbers alone, by group."""
        return {
            "intercept": self.intercept,
            "weights": {name: self.weights[columns_of(name)].tolist() for name in GROUPS},
        }

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Shortcut:
        """What `as_json` gave.

        Raises: ValueError, KeyError, TypeError: it is something else.
        """
        weights = np.concatenate([np.asarray(kept["weights"][name], float) for name in GROUPS])
        if weights.shape != (columns_of(TOGETHER).stop,) or not np.isfinite([*weights, kept["intercept"]]).all():
            raise ValueError(f"{weights.shape} weights, where {columns_of(TOGETHER).stop} finite ones are wanted")
        return cls(weights, float(kept["intercept"]))


def fit_pipeline(values: np.ndarray, labels: np.ndarray) -> Any:
    """scikit-learn's StandardScaler and LogisticRegression, fitted.

    On one BLAS thread: for so little more are slower, and the last bits would hang on how many there are.
    """
    from sklearn.linear_model import LogisticRegression  # here: a second to import, and workers never fit
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import ThreadpoolController  # which scikit-learn brings along

    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=5000, random_state=0))
    with ThreadpoolController().select(internal_api="openblas").limit(limits=1):
        return pipeline.fit(values.astype(np.float64), labels)


class Area(NamedTuple):
    """An AUC with DeLong's interval."""

    auc: float
    interval: Interval


@dataclass(frozen=True)
class CrossValidated:
    """What each group of features gives away, by images that the regression wasn't fitted on.

    `areas` has a row for each of `GROUPS` and one for all; it is empty, with the reason, where there can be no folds.
    """

    areas: dict[str, Area]
    reason: str
    n: int
    patients: int | None
    drawn_from: int
    left_out: int
    seed: int

    @property
    def auc(self) -> float | None:
        """With all features."""
        return self.areas[TOGETHER].auc if self.areas else None

    @property
    def suspicious(self) -> bool:
        """Whether a person should look at what the classes differ by."""
        return self.auc is not None and max(area.auc for area in self.areas.values()) > WARN_ABOVE

    def describe(self) -> str:
        """One line in words."""
        of = f" drawn from {self.drawn_from}" if self.drawn_from > self.n + self.left_out else ""
        images = f"{self.n} training images{of}" + (f", {self.left_out} left out" if self.left_out else "")
        if not self.areas:
            return f"shortcut baseline: undefined on {images}: {self.reason}"
        low, high = self.areas[TOGETHER].interval.low, self.areas[TOGETHER].interval.high
        interval = "no interval" if low is None else f"95 % CI {low:.3f} to {high:.3f}"
        groups = ", ".join(f"{name} {self.areas[name].auc:.3f}" for name in GROUPS)
        by = "image" if self.patients is None else f"patient ({self.patients})"
        text = (
            f"shortcut baseline ({', '.join(GROUPS)}; no network): cross-validated AUC {self.auc:.3f} ({interval}) on"
            f" {images}, {FOLDS} folds by {by}; alone: {groups}"
        )
        if self.suspicious:
            text += f". Above {WARN_ABOVE:.2f}, the camera or the tint can be learned in place of the disease"
        return text


def training_samples(dataset: DataSet) -> Sequence[Sample]:
    """The images to fit on: the training split, all but the test split where there is none."""
    return dataset.split("train") or [sample for sample in dataset.samples if sample.split is None]


def cross_validate(dataset: DataSet, seed: int = 0, known: FeatureTable | None = None) -> CrossValidated:
    """The baseline of the training images, cross-validated: see `cross_validate_features`.

    Args:
        known: as of `measure`.
    """
    samples = training_samples(dataset)
    features = measure(draw(samples, seed), drawn_from=len(samples), known=known)
    return cross_validate_features(features, dataset.classes, seed)


def cross_validate_features(features: Features, classes: tuple[str, str], seed: int = 0) -> CrossValidated:
    """The AUC of each group of features and of all: FOLDS stratified folds, a patient never on both sides.

    Every image is scored by the regression of the folds without it; the scores are pooled, and the interval is
    DeLong's (by patient where patients are known).
    """
    labels, patients, areas = features.labels, features.patients, {}
    logits, reason = cross_fit(features, classes, seed, (*GROUPS, TOGETHER))
    for name, of_group in logits.items():
        area = float(delong(labels, of_group, patients)[0][0])
        areas[name] = Area(area, delong_interval(labels, of_group, patients))
    return CrossValidated(
        areas,
        reason,
        len(labels),
        None if patients is None else len(set(patients)),
        features.drawn_from,
        len(features.left_out),
        seed,
    )


def cross_fit(
    features: Features, classes: tuple[str, str], seed: int = 0, groups: Sequence[str] = (TOGETHER,)
) -> tuple[dict[str, np.ndarray], str]:
    """(N,) logits by group of features, of each image by a regression that was fitted on the other folds' images.

    More than MOST_IMAGES are never fitted on: of more, a sample is drawn. Empty, with the reason, where there can be no
    folds.
    """
    labels = features.labels
    units = np.array([unit_of(sample) for sample in features.samples], dtype=object)
    if reason := _no_folds(labels, units, classes, features.patients is not None):
        return {}, reason
    rng, folds = np.random.default_rng(seed), list(_folds(labels, units, seed))
    folds = [(np.sort(rng.permutation(fit_on)[:MOST_IMAGES]), score_on) for fit_on, score_on in folds]
    if any(len(set(labels[fit_on])) < 2 for fit_on, _ in folds):
        return {}, "the patients of a class can't be spread over the folds"
    logits = {name: np.empty(len(labels)) for name in groups}
    for name, of_group in logits.items():
        values = features.values[:, columns_of(name)]
        for fit_on, score_on in folds:
            of_group[score_on] = Shortcut.fit(values[fit_on], labels[fit_on]).logits(values[score_on])
    return logits, ""


def _no_folds(labels: np.ndarray, units: Iterable[str], classes: tuple[str, str], by_patient: bool) -> str:
    """Why there can be no folds; empty where there can."""
    pairs = set(zip(labels.tolist(), units, strict=True))
    for label, name in enumerate(classes):
        if (count := sum(of == label for of, _ in pairs)) < FOLDS:
            kind = "patients" if by_patient else "images"
            return f"{name!r} has {count} {kind}, and {FOLDS} folds need {FOLDS}"
    return ""


def _folds(labels: np.ndarray, units: np.ndarray, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(indices to fit on, indices to score), FOLDS times."""
    from sklearn.model_selection import StratifiedGroupKFold

    return StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(units, labels, units)
