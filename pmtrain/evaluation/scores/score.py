"""The scoring pass: a network's logit for every image, and what follows from logits alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pmtrain import metrics
from pmtrain.data.dataset import Sample
from pmtrain.data.loading.loader import Batch
from pmtrain.evaluation.scores.views import as_it_is
from pmtrain.models.backends.choose import Backend
from pmtrain.runs.calibrator import Calibrator, probabilities_of
from pmtrain.system.framework import paddle


@dataclass(frozen=True)
class Scores:
    """One row an image, in the order of the data: everything measured of a model is measured on these."""

    samples: list[Sample]
    labels: np.ndarray  # (N,) int, 1 is the positive class
    logits: np.ndarray  # (N,) float64, the network's own
    calibration: Calibrator | None = None
    # Of several networks' mean logits alone:
    spread: np.ndarray | None = None  # (N,) standard deviation of their logits; NaN where one network scored the image
    scored_by: np.ndarray | None = None  # (N,) int, how many networks scored the image

    @property
    def probabilities(self) -> np.ndarray:
        """(N,) float64, P(positive), calibrated where there is a calibration."""
        return probabilities_of(self.logits, self.calibration)

    @property
    def loss(self) -> float:
        """The notes' validation loss: BCE of the network's own logits, every image weighing the same."""
        return metrics.bce(self.labels, self.logits)

    @property
    def accuracy(self) -> float:
        """The notes' accuracy: an image is called positive where the network's own logit is not negative."""
        return float(np.mean((self.logits >= 0) == (self.labels == 1)))


def score(
    model,
    batches: Iterable[Batch],
    backend: Backend,
    on_batch: Callable[[Batch], None] = lambda batch: None,
    views: Sequence[Callable[[np.ndarray], np.ndarray]] = (as_it_is,),
) -> Scores:
    """The model's logit for every image, the mean over its views, each a change of (N, 3, S, S).

    `on_batch` is called after each batch and may raise to stop.
    """
    model.eval()
    samples: list[Sample] = []
    logits: list[np.ndarray] = []
    with paddle.no_grad(), backend.fixed_weights():
        for batch in batches:
            total = np.zeros(len(batch.samples))
            for view in views:
                with backend.autocast():
                    output = model(paddle.to_tensor(view(batch.images)))  # (N, 1)
                total += output.astype("float32").numpy().reshape(-1)
            logits.append(total / len(views))
            samples += batch.samples
            on_batch(batch)
    labels = np.array([sample.label for sample in samples], dtype=np.int64)
    return Scores(samples, labels, np.concatenate([*logits, np.empty(0)]))
