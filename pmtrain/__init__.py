"""pmtrain: train and evaluate classifiers of medical images, on PaddlePaddle."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pmtrain.system.version import __version__

if TYPE_CHECKING:
    from pmtrain.evaluation.inference.classifier import Classifier, Prediction, load_classifier
    from pmtrain.system.errors import PmtrainError
    from pmtrain.training.notebook import (
        EpochMetrics,
        EvaluationResult,
        ImageScore,
        TrainingResult,
        evaluate,
        train,
    )

__all__ = [
    "Classifier",
    "EpochMetrics",
    "EvaluationResult",
    "ImageScore",
    "PmtrainError",
    "Prediction",
    "TrainingResult",
    "__version__",
    "evaluate",
    "load_classifier",
    "train",
]

# Imported when a name is first asked for: they load NumPy and Paddle, which --help and loader workers do without.
_MODULES = {
    "pmtrain.evaluation.inference.classifier": ("Classifier", "Prediction", "load_classifier"),
    "pmtrain.system.errors": ("PmtrainError",),
    "pmtrain.training.notebook": (
        *("EpochMetrics", "EvaluationResult", "ImageScore", "TrainingResult", "evaluate", "train"),
    ),
}


def __getattr__(name: str) -> Any:
    """A name of the Python interface."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
