"""pmtrain: train, evaluate and look into classifiers of medical images, on PaddlePaddle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pmtrain.system.version import __version__

if TYPE_CHECKING:
    from pmtrain.evaluation.classifier import Classifier, Prediction, load_classifier

__all__ = ["Classifier", "Prediction", "__version__", "load_classifier"]


def __getattr__(name: str) -> Any:
    """The Python API, imported when first asked for: it brings Paddle, which --help and loader workers do without."""
    if name in __all__:
        from pmtrain.evaluation import classifier

        return getattr(classifier, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
