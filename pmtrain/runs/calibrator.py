"""A calibration, kept in a checkpoint's side file: from the network's logit to a calibrated one."""

from __future__ import annotations

import itertools
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy.special import expit, logit

END_SLOPE = 1e-3  # of the piecewise map beyond its knots: nearly flat, yet no two scores become equal


class Calibrator(BaseModel):
    """A strictly increasing map of logits, so that no two images change their order, and what it was fitted on.

    Args:
        method: a row of evaluation.calibration.methods.METHODS.
        slope, intercept: of the line that it is, where there are no knots.
        knots: (logit, calibrated logit), both increasing: the map is linear between them, and nearly flat beyond.
        prevalence: the share of positives that the probabilities hold for, in (0, 1).
        images, positives: numbers that it was fitted on.
        data: fingerprint of the data set with these images.
        before, after: calibration measures by name; `after` is cross-fitted: each image by a map fitted without it.
        folds: of the cross-fitting; 0 if there were too few images for it.
        tried: cross-fitted loss of each method that `auto` chose from; empty where the method was given.
    """

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    method: str
    slope: float = Field(default=1.0, gt=0)
    intercept: float = 0.0
    knots: tuple[tuple[float, float], ...] = ()
    prevalence: Annotated[float, Field(gt=0, lt=1)]
    images: int
    positives: int
    data: str = ""
    before: dict[str, float | None] = {}
    after: dict[str, float | None] = {}
    folds: int = 0
    tried: dict[str, float] = {}

    @model_validator(mode="after")
    def _increasing(self) -> Calibrator:
        if any(not low < high for ends in zip(*self.knots, strict=True) for low, high in itertools.pairwise(ends)):
            raise ValueError("knots must increase")
        return self

    def logits(self, logits) -> np.ndarray:
        """The network's logits, (N,) -> calibrated logits, (N,); plus and minus infinity stay."""
        return self._line(logits) if not self.knots else _piecewise(np.asarray(logits, float), *self._axes())

    def inverse(self, logits) -> np.ndarray:
        """Calibrated logits, (N,) -> the network's, (N,)."""
        if not self.knots:
            return (np.asarray(logits, float) - self.intercept) / self.slope
        x, y = self._axes()
        return _piecewise(np.asarray(logits, float), y, x, 1 / END_SLOPE)

    def _line(self, logits) -> np.ndarray:
        return self.slope * np.asarray(logits, float) + self.intercept

    def _axes(self) -> tuple[np.ndarray, np.ndarray]:
        x, y = np.array(self.knots).T
        return x, y


def probabilities_of(logits, calibrator: Calibrator | None) -> np.ndarray:
    """P(positive) of the network's logits, (N,), calibrated where there is a calibration."""
    return expit(logits if calibrator is None else calibrator.logits(logits))


def calibrated_threshold(threshold: float, calibrator: Calibrator | None) -> float:
    """The threshold on calibrated probabilities that decides as `threshold` does on the network's own."""
    if calibrator is None or not 0 < threshold < 1:
        return threshold
    return float(expit(calibrator.logits(logit(threshold))))


def raw_threshold(threshold: float, calibrator: Calibrator | None) -> float:
    """The threshold on the network's own probabilities that decides as `threshold` does on calibrated ones."""
    if calibrator is None or not 0 < threshold < 1:
        return threshold
    return float(expit(calibrator.inverse(logit(threshold))))


def _piecewise(values: np.ndarray, x: np.ndarray, y: np.ndarray, end_slope: float = END_SLOPE) -> np.ndarray:
    """Linear between the points (x, y), and with `end_slope` beyond the first and the last."""
    beyond = np.minimum(values - x[0], 0) + np.maximum(values - x[-1], 0)
    return np.interp(values, x, y) + end_slope * beyond
