"""A network's pooled features: what enters its last layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pmtrain.data.dataset import Sample


class PooledFeatures:
    """Keeps the features of a network's latest forward pass, by Paddle's kernels or the oneDNN engine alike.

    Args:
        model: a network of `pmtrain.models`, whose last layer is `out`.
        first: keep the first pass since `take` instead of the latest.
    """

    def __init__(self, model: Any, first: bool = False) -> None:
        self._first = first
        self._latest: Any = None
        self._hook = model.out.register_forward_pre_hook(self._keep)

    def _keep(self, _layer: Any, inputs: tuple[Any, ...]) -> None:
        if self._latest is None or not self._first:
            self._latest = inputs[0].detach()

    def take(self) -> np.ndarray:
        """The features of the latest forward pass: (N, F) float32."""
        features, self._latest = self._latest, None
        return features.astype("float32").numpy()

    def close(self) -> None:
        """Leave the network as it was."""
        self._hook.remove()


class PassFeatures:
    """The features of some images of a scoring pass, taken as they go by.

    Args:
        model: as of `PooledFeatures`.
        samples: whose features are kept.
    """

    def __init__(self, model: Any, samples: Iterable[Sample]) -> None:
        self._pooled = PooledFeatures(model)
        self._wanted = frozenset(samples)
        self.found: dict[Sample, np.ndarray] = {}  # (F,) each

    def take(self, samples: Sequence[Sample]) -> None:
        """Keep those of the batch just computed; `samples`: its images."""
        rows = self._pooled.take()
        self.found |= {sample: row for sample, row in zip(samples, rows, strict=True) if sample in self._wanted}

    def close(self) -> None:
        """Leave the network as it was."""
        self._pooled.close()
