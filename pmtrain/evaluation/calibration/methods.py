"""Ways to calibrate: fitted on validation images, from logits and labels to a map of logits.

A network's logit may be overconfident, and it holds for the share of positives that the network learned (`prior`),
which --class-weight and --sampler balanced change. Every map's probabilities hold for the images that it was fitted on:
what Platt scaling and isotonic regression fit, temperature scaling gets by exchanging the prior.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logit

from pmtrain.metrics import bce, evaluate_measures
from pmtrain.runs.calibrator import Calibrator, probabilities_of
from pmtrain.system.errors import PmtrainError

FOLDS = 5
SHOWN = ("ece", "brier", "calibration_slope", "calibration_intercept")
STEEPEST = 100.0  # slope or its inverse, at most


def temperature(logits: np.ndarray, labels: np.ndarray, prior: float | None) -> dict[str, Any]:
    """One number to divide logits by (Guo et al. 2017), and the exchange of the prior (Saerens et al. 2002).

    Args:
        logits: (N,) the network's.
        labels: (N,) 0 or 1, both among them.
        prior: the share of positives that the network learned; None if unknown, and then it isn't exchanged.
    Returns: fields of a Calibrator.
    """
    intercept = 0.0 if prior is None else float(logit(labels.mean()) - logit(prior))
    targets = _targets(logits, labels)

    def loss(log_slope: float) -> float:
        z = np.exp(log_slope) * logits + intercept
        return float(np.mean(np.logaddexp(0, z) - targets * z))

    bound = np.log(STEEPEST)
    found = minimize_scalar(loss, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-8})
    return {"slope": float(np.exp(found.x)), "intercept": intercept}


def platt(logits: np.ndarray, labels: np.ndarray, prior: float | None) -> dict[str, Any]:
    """A logistic regression on the logit.

    Args, returns: as `temperature`; the prior is fitted.
    Raises: PmtrainError: higher scores don't mean more disease.
    Source: Platt 1999.
    """
    from sklearn.linear_model import LogisticRegression

    targets, scale = _targets(logits, labels), max(float(logits.std()), 1e-12)
    model = LogisticRegression(C=1e10, tol=1e-10, max_iter=1000)
    x = np.concatenate([logits, logits])[:, None] / scale
    model.fit(x, np.repeat([1, 0], len(labels)), np.concatenate([targets, 1 - targets]))
    slope = float(model.coef_[0, 0]) / scale
    if not slope > 0:
        raise PmtrainError(
            f"platt: of these {len(labels)} images, those with higher scores are less often positive",
            "check the labels and which class is positive; or use --method temperature",
        )
    return {"slope": slope, "intercept": float(model.intercept_[0])}


def isotonic(logits: np.ndarray, labels: np.ndarray, prior: float | None) -> dict[str, Any]:
    """Isotonic regression, joined at the centres of its steps, so that it increases strictly.

    A step of only negatives or positives, at the ends, has the share (k + 0.5) / (m + 1): never 0 or 1.

    Args, returns: as `temperature`; the prior is fitted.
    Source: Zadrozny and Elkan 2002; centred as in Oron and Flournoy 2017.
    """
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(y_min=0, y_max=1).fit_transform(logits, labels)
    shares, steps = np.unique(fitted, return_inverse=True)
    sizes = np.bincount(steps)
    centres = np.bincount(steps, logits) / sizes
    if shares[0] == 0 and len(shares) > 1:
        shares[0] = min(0.5 / (sizes[0] + 1), shares[1] / 2)
    if shares[-1] == 1:
        shares[-1] = max(1 - 0.5 / (sizes[-1] + 1), (1 + shares[-2]) / 2)
    knots = zip(centres.tolist(), logit(shares).tolist(), strict=True)
    return {"knots": tuple(knots)}


METHODS: dict[str, Callable[[np.ndarray, np.ndarray, float | None], dict[str, Any]]] = {
    "temperature": temperature,
    "platt": platt,
    "isotonic": isotonic,
}


AUTO = "auto"  # the simplest method whose cross-fitted loss is no worse than the lowest by more than chance


def fit(
    method: str,
    logits: np.ndarray,
    labels: np.ndarray,
    prior: float | None,
    groups: Sequence | None = None,
    data: str = "",
    seed: int = 0,
) -> Calibrator:
    """The calibration, with its measures before and after.

    Args:
        method: a row of METHODS, or AUTO.
        logits: (N,) the network's.
        labels: (N,) 0 or 1.
        prior: the share of positives that the network learned; None if unknown.
        groups: (N,) the patient of each image: a patient is in one fold of the cross-fitting.
        data: fingerprint of the data set.
    Raises:
        PmtrainError: a class has no images, or as the method.
    """
    positives = int(labels.sum())
    if not 0 < positives < len(labels):
        raise PmtrainError(
            f"a calibration needs images of both classes: there are {positives} positive ones and"
            f" {len(labels) - positives} negative ones",
            "give data with both classes",
        )
    crossed, folds = cross_fitted(method, logits, labels, prior, groups, seed)
    tried: dict[str, np.ndarray] = {}
    if method == AUTO:
        tried = crossed_losses(logits, labels, prior, groups, seed)
        method = simplest(tried)
    return Calibrator(
        method=method,
        **METHODS[method](logits, labels, prior),
        prevalence=positives / len(labels),
        images=len(labels),
        positives=positives,
        data=data,
        before=measured(labels, logits),
        after={} if crossed is None else measured(labels, crossed),
        folds=folds,
        tried={name: float(losses.mean()) for name, losses in tried.items()},
    )


def crossed_losses(
    logits: np.ndarray, labels: np.ndarray, prior: float | None, groups: Sequence | None = None, seed: int = 0
) -> dict[str, np.ndarray]:
    """The cross-fitted loss of each image, (N,), by each of METHODS that can be cross-fitted.

    Args: as `fit`.
    """
    crossed = {method: cross_fitted(method, logits, labels, prior, groups, seed)[0] for method in METHODS}
    return {
        method: np.logaddexp(0, values) - labels * values for method, values in crossed.items() if values is not None
    }


def simplest(losses: dict[str, np.ndarray]) -> str:
    """The first method, in the order of METHODS, whose mean loss exceeds the lowest by one standard error at most.

    The error is that of the mean difference over the images. The first method of all where none is known.

    Source: the rule of one standard error (Breiman et al. 1984, "Classification and regression trees"), with paired
    differences.
    """
    best = min(losses, key=lambda method: losses[method].mean(), default="")
    for method in METHODS:
        if method in losses:
            more = losses[method] - losses[best]
            if more.mean() <= more.std(ddof=1) / len(more) ** 0.5:
                return method
    return next(iter(METHODS))


def cross_fitted(
    method: str,
    logits: np.ndarray,
    labels: np.ndarray,
    prior: float | None,
    groups: Sequence | None = None,
    seed: int = 0,
) -> tuple[np.ndarray | None, int]:
    """Each image's calibrated logit by a map fitted without it (and its patient), and the number of folds.

    With AUTO, the method is chosen without it, too.

    None and 0 if a class has fewer than two images, or patients, or if a fold's map can't be fitted.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    units = range(len(labels)) if groups is None else groups
    fewest = min(len({unit for unit, y in zip(units, labels, strict=True) if y == label}) for label in (0, 1))
    folds = min(FOLDS, fewest)
    if folds < 2:
        return None, 0
    kind = StratifiedKFold if groups is None else StratifiedGroupKFold
    calibrated = np.empty(len(labels))
    for fitted_on, held_out in kind(folds, shuffle=True, random_state=seed).split(logits[:, None], labels, groups):
        if len(set(labels[fitted_on])) < 2:  # patients of both classes may leave a fold with one
            return None, 0
        inside = logits[fitted_on], labels[fitted_on], prior
        chosen = method
        if method == AUTO:
            of_them = None if groups is None else [groups[row] for row in fitted_on]
            chosen = simplest(crossed_losses(*inside, of_them, seed))
        try:
            part = METHODS[chosen](*inside)
        except PmtrainError:  # so few images, or scores so poor, that one fold's turn about
            return None, 0
        share = float(labels[fitted_on].mean())
        calibrator = Calibrator(method=chosen, **part, prevalence=share, images=len(fitted_on), positives=0)
        calibrated[held_out] = calibrator.logits(logits[held_out])
    return calibrated, folds


def measured(labels: np.ndarray, logits: np.ndarray) -> dict[str, float | None]:
    """SHOWN and the loss (mean binary cross-entropy)."""
    values = evaluate_measures(labels, probabilities_of(logits, None), 0.5)
    return {name: values[name].value for name in SHOWN} | {"loss": bce(labels, logits)}


def _targets(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The labels; or if a logit separates the classes, so that no finite slope is best, Platt's softer targets.

    These are (n1 + 1) / (n1 + 2) and 1 / (n0 + 2) in place of 1 and 0. They are not used otherwise: on 400 images of
    iChallenge-PM they made the cross-fitted slope 1.29, which without them was 0.95.
    """
    of_negatives, of_positives = logits[labels == 0], logits[labels == 1]
    if of_negatives.max() > of_positives.min() and of_positives.max() > of_negatives.min():
        return labels.astype(float)
    positives = labels.sum()
    return np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (len(labels) - positives + 2))
