"""The check of an export: its own runtime against the checkpoint on real images, and the speed of both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from pmtrain.evaluation.inference.classifier import Classifier
from pmtrain.evaluation.inference.export.exporters import Run, Source
from pmtrain.system.errors import PmtrainError

LIMIT = 1e-4  # of the difference of a probability
MOST_SECONDS = 3.0  # that the speed of one model is measured for


@dataclass(frozen=True)
class Parity:
    """The logits of both models, (N,) float64, and their speed in images per second.

    Args:
        probabilities: (N,) that the export gives, calibrated where the checkpoint is.
        expected: (N,) of its own logits by the checkpoint's calibration.
    """

    ours: np.ndarray
    theirs: np.ndarray
    probabilities: np.ndarray
    expected: np.ndarray
    our_speed: float
    their_speed: float

    @property
    def difference(self) -> float:
        """The largest difference of a probability; infinite where the export's isn't a number.

        The network is compared before the calibration, and the calibration on the export's own logits: a steep
        calibration would enlarge the rounding of every runtime.
        """
        pairs = (expit(self.ours), expit(self.theirs)), (self.expected, self.probabilities)
        largest = float(np.max([np.abs(a - b) for a, b in pairs]))
        return largest if np.isfinite(largest) else float("inf")

    def refuse_difference(self) -> None:
        """Refuse an export that isn't the checkpoint's network.

        Raises:
            PmtrainError: a probability differs by more than LIMIT.
        """
        if self.difference > LIMIT:
            raise PmtrainError(
                f"the exported model's probabilities differ from the checkpoint's by up to {self.difference:.2g} on"
                f" {len(self.ours)} images, more than {LIMIT:g}; nothing was written",
                "this is a bug in pmtrain or in the runtime: please report it with the output of `pmtrain env`",
            )


def compare_with_checkpoint(
    classifier: Classifier, run: Run, source: Source, pixels: np.ndarray, batch_size: int
) -> Parity:
    """Run both on the same images.

    Args:
        pixels: uint8 (N, S, S, 3), BGR, of training size.
    """
    batches = [pixels[start : start + batch_size] for start in range(0, len(pixels), batch_size)]
    inputs = [source.inputs(batch) for batch in batches]

    def mean_logits(images: np.ndarray) -> np.ndarray:
        return np.mean([network.logits(images) for network in classifier.networks], axis=0)

    with classifier.fixed_weights():
        ours, our_speed = timed(mean_logits, [classifier.preprocess.normalise(each) for each in batches])
    results, their_speed = timed(run, inputs)
    theirs, probabilities = results.T
    return Parity(ours, theirs, probabilities, classifier.info.probabilities(theirs), our_speed, their_speed)


def timed(run: Callable[[np.ndarray], np.ndarray], batches: Sequence[np.ndarray]) -> tuple[np.ndarray, float]:
    """The results, and images per second: the median over batches of the full size, after one to warm up."""
    results = [run(batch) for batch in batches]
    times: list[float] = []
    full = batches[0]
    started = time.perf_counter()
    while len(times) < 3 or (len(times) < 10 and time.perf_counter() - started < MOST_SECONDS):
        before = time.perf_counter()
        run(full)
        times.append(time.perf_counter() - before)
    return np.concatenate(results), len(full) / statistics.median(times)
