"""The shortcut baseline of a run: fitted once, kept in its folder, and compared with the network in evaluations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmtrain.config import ScoringOptions
from pmtrain.data.audit.shortcut import (
    METHOD,
    WARN_ABOVE,
    CrossValidated,
    Shortcut,
    cross_fit,
    cross_validate_features,
    draw,
    measure,
    training_samples,
)
from pmtrain.data.dataset import DataSet
from pmtrain.data.images.shortcut_features import GROUPS, TOGETHER, FeatureTable
from pmtrain.data.loading.cache import Cache
from pmtrain.data.loading.cache_folder import open_cache
from pmtrain.evaluation.scores.scoring import Scored
from pmtrain.metrics import (
    Assessed,
    Assessment,
    Bootstrap,
    Comparison,
    Interval,
    PairedTest,
    WithinStrata,
    assess,
    auc_within_strata,
    compare_scores,
)
from pmtrain.metrics.text import ends, percent
from pmtrain.runs.checkpoint import Checkpoint
from pmtrain.runs.run_folder import RunFolder
from pmtrain.system import console
from pmtrain.system.errors import PmtrainError
from pmtrain.system.stop import Stopped

THRESHOLD = 0.5  # of the baseline and of the network compared with it: neither was chosen on images
NAME = f"shortcut baseline ({', '.join(GROUPS)}; no network)"
SHOWN = ("auc", "accuracy")
WITHIN = "network's AUC within equal shortcut score"
N_BOOT = 500  # resamples for the validation figures of a run


def wanted_features(data: DataSet, seed: int) -> FeatureTable:
    """A table for the features that the baseline is fitted and scored on, to be filled while images are decoded."""
    samples = [*draw(training_samples(data), seed), *data.split("val")]
    return FeatureTable(sample.path for sample in samples)


def keep_baseline(
    folder: RunFolder,
    data: DataSet,
    seed: int,
    check: Callable[[], None] = lambda: None,
    known: FeatureTable | None = None,
    cache: Cache | None = None,
) -> None:
    """Fit the baseline on the training images, score the validation images, and keep it in the run's folder.

    A run that has one keeps it. An error is a warning: the training goes on.

    Args:
        check: called after every image; raises Stopped where a stop was requested: then a resumed run makes it.
        known, cache: as of `measure`.
    """
    if folder.shortcut.exists():
        return
    try:
        report = make_baseline(data, seed, check, known, cache)
        folder.write_shortcut(report)
    except Stopped:
        return
    except Exception as error:
        console.warn(f"the shortcut baseline is left out: {type(error).__name__}: {error}")


def make_baseline(
    data: DataSet,
    seed: int,
    check: Callable[[], None] = lambda: None,
    known: FeatureTable | None = None,
    cache: Cache | None = None,
) -> dict[str, Any]:
    """Print the baseline's metrics; return the content of shortcut.json: metrics, and the model for other images."""
    samples, validation = training_samples(data), data.split("val")
    fit_on = measure(draw(samples, seed), check, len(samples), known, cache)
    score_on = measure(draw(validation, seed), check, len(validation), known, cache)
    found = cross_validate_features(fit_on, data.classes, seed)
    (console.warn if found.suspicious else console.notice)(found.describe())
    report = {
        "method": METHOD,
        "features": list(GROUPS),
        "synthetic": data.synthetic,
        "seed": seed,
        "training": _counts(fit_on.labels, fit_on.drawn_from),
        "cross_validated": _areas(found),
        "cross_validated_reason": found.reason,
        "suspicious": found.suspicious,
        "warn_above": WARN_ABOVE,
        "validation": None,
        "reason": "",
        "model": None,
        "left_out": {data.name_of(sample): reason for sample, reason in (fit_on.left_out | score_on.left_out).items()},
    }
    if len(set(fit_on.labels)) < 2:
        return report | {"reason": "a class has no training image that can be decoded"}
    model = Shortcut.fit(fit_on.values, fit_on.labels)
    report["model"] = model.as_json()
    if len(score_on.samples):
        scores = model.probabilities(score_on.values)
        reached = assess(
            score_on.labels, scores, THRESHOLD, score_on.patients, bootstrap=Bootstrap(n_boot=N_BOOT, seed=seed)
        )
        report["validation"] = _counts(score_on.labels, score_on.drawn_from) | _metrics(reached)
        console.notice(f"shortcut baseline on {len(scores)} validation images: {_metrics_text(reached)}")
    return report


@dataclass(frozen=True)
class ShortcutComparison:
    """The baseline on the images of an evaluation, and the network's metrics minus its; or why there is none.

    `within` is the network's AUC among images of about the same shortcut score: that score is fitted anew on these
    images, cross-validated. Where that can't be done, it is None and `not_within` says why.
    """

    reason: str
    cross_validated: dict[str, Any]
    baseline: Assessment | None = None
    minus: Comparison | None = None
    within: WithinStrata | None = None
    not_within: str = ""

    def lines(self) -> list[str]:
        """What is printed."""
        if self.baseline is None or self.minus is None:
            return ["", f"{NAME}: undefined: {self.reason}"]
        parts = []
        for name, test in self._tests().items():
            found = self.minus.differences[name]
            value = "undefined" if found.difference is None else f"{found.difference:.4f}"
            parts.append(f"{_title(name)} {value} ({_interval_text(found.interval)}; {_test_text(test)})")
        return [
            "",
            f"{NAME}: {_metrics_text(self.baseline)}",
            f"network minus baseline: {', '.join(parts)}",
            f"  on the same {self.baseline.n} images, both accuracies at {THRESHOLD};"
            f" {self.minus.differences['auc'].interval.method}",
            *self._within_lines(),
        ]

    def _within_lines(self) -> list[str]:
        within = self.within
        if within is None or within.value is None:
            reason = self.not_within if within is None else within.interval.note
            return [f"{WITHIN}: undefined: {reason}"]
        return [
            f"{WITHIN}: {within.value:.4f} ({_interval_text(within.interval)}); the shortcut score itself there:"
            f" {within.stratifier:.4f}",
            f"  on {within.pairs} of {within.of_pairs} pairs of a positive and a negative image, those of one stratum;"
            f" {within.mixed} of {within.strata} strata have both classes; {within.interval.method}",
        ]

    def report(self) -> dict[str, Any]:
        """The same for metrics.json."""
        report: dict[str, Any] = {"features": list(GROUPS), "method": METHOD, "reason": self.reason}
        if self.baseline is not None and self.minus is not None:
            report |= {"images": self.baseline.n, "threshold": THRESHOLD, **_metrics(self.baseline)}
            report["difference"] = {}
            for name, test in self._tests().items():
                found = self.minus.differences[name]
                report["difference"][name] = {
                    "value": found.difference,
                    "network": found.a.value,
                    **_interval(found.interval),
                    "p": test.p,
                    "test": test.method,
                    "test_note": test.note,
                }
            report["within_equal_score"] = _within(self.within, self.not_within)
        return report | {"cross_validated": self.cross_validated}

    def _tests(self) -> dict[str, PairedTest]:
        return {"auc": self.minus.delong, "accuracy": self.minus.mcnemar} if self.minus else {}


def has_baseline(checkpoint: Checkpoint) -> bool:
    """Whether the checkpoint's own run has a shortcut baseline."""
    folder = RunFolder.around(checkpoint.path)
    return folder is not None and folder.shortcut.exists()


def compare_with_shortcut(
    checkpoint: Checkpoint,
    scored: Scored,
    groups: list[str] | None,
    options: ScoringOptions,
    classes: tuple[str, str],
) -> ShortcutComparison | None:
    """Score the baseline of the checkpoint's own run on the same images as `scored`; None where the run has none.

    Args:
        groups: (N,) the patient of each image; None where none is known.
        classes: names, negative and positive.
    """
    folder = RunFolder.around(checkpoint.path)
    if folder is None or not folder.shortcut.exists():
        return None
    try:
        kept = folder.read_shortcut()
        crossed = dict(kept["cross_validated"])
        if kept["model"] is None:
            return ShortcutComparison(str(kept["reason"]), crossed)
        model = Shortcut.from_json(kept["model"])
    except PmtrainError as error:
        return ShortcutComparison(error.message, {})
    except (ValueError, KeyError, TypeError) as error:
        return ShortcutComparison(f"{folder.shortcut}: isn't a shortcut baseline ({type(error).__name__}: {error})", {})
    scores, cache = scored.scores, open_cache(options.cache_limit)
    features = measure(scores.samples, known=scored.features, cache=cache)
    if cache:
        cache.close()
    if features.left_out:
        sample, reason = next(iter(features.left_out.items()))
        return ShortcutComparison(
            f"{len(features.left_out)} images can't be read again, the first: {sample.path}: {reason}", crossed
        )
    baseline = model.probabilities(features.values)
    how = (groups, options.bootstrap)
    crossed_fit, not_within = cross_fit(features, classes, options.seed)
    within = None
    if not not_within:
        within = auc_within_strata(scores.labels, scores.probabilities, crossed_fit[TOGETHER], *how)
    return ShortcutComparison(
        "",
        crossed,
        assess(scores.labels, baseline, THRESHOLD, *how),
        compare_scores(scores.labels, scores.probabilities, baseline, THRESHOLD, THRESHOLD, *how),
        within,
        not_within,
    )


def _best_interval(measured: Assessed) -> Interval:
    """DeLong's of an AUC and Wilson's of a proportion, where there is one; else the bootstrap's."""
    return measured.second if measured.second is not None and measured.second.low is not None else measured.interval


def _metrics_text(found: Assessment) -> str:
    parts = []
    for name in SHOWN:
        measured = found.measures[name]
        if measured.value.value is None:
            parts.append(f"{_title(name)} undefined: {measured.value.reason}")
        else:
            parts.append(f"{_title(name)} {measured.value.value:.4f} ({_interval_text(_best_interval(measured))})")
    return ", ".join(parts)


def _title(name: str) -> str:
    return "AUC" if name == "auc" else name


def _interval_text(interval: Interval) -> str:
    return f"no interval: {interval.note}" if interval.low is None else f"{percent(interval.level)} CI {ends(interval)}"


def _test_text(test: PairedTest) -> str:
    if test.p is None:
        return f"{test.method}: can't be tested: {test.note}"
    p = "p < 0.0001" if test.p < 0.0001 else f"p = {test.p:.4f}"
    return f"{test.method}: {p}" + (f"; {test.note}" if test.note else "")


def _metrics(found: Assessment) -> dict[str, Any]:
    return {
        name: {
            "value": found.measures[name].value.value,
            "reason": found.measures[name].value.reason,
            **_interval(_best_interval(found.measures[name])),
        }
        for name in SHOWN
    }


def _areas(found: CrossValidated) -> dict[str, Any]:
    return {name: {"auc": area.auc, **_interval(area.interval)} for name, area in found.areas.items()}


def _interval(interval: Interval) -> dict[str, Any]:
    return {"low": interval.low, "high": interval.high, "method": interval.method, "note": interval.note}


def _within(within: WithinStrata | None, reason: str) -> dict[str, Any]:
    if within is None:
        return {"auc": None, "reason": reason}
    return {
        "auc": within.value,
        "reason": "" if within.value is not None else within.interval.note,
        **_interval(within.interval),
        "pairs": within.pairs,
        "of_pairs": within.of_pairs,
        "strata": within.strata,
        "strata_of_both_classes": within.mixed,
        "shortcut_auc": within.stratifier,
    }


def _counts(labels: np.ndarray, drawn_from: int) -> dict[str, int]:
    return {"images": len(labels), "positives": int(labels.sum()), "drawn_from": drawn_from}
