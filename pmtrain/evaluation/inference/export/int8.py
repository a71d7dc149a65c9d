"""`--quantize int8`: static quantization of an ONNX model by training images, and what it costs."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from pmtrain.evaluation.inference.export.onnx_graph import import_onnx
from pmtrain.metrics import Difference, Interval, compare_scores, wilson
from pmtrain.metrics.text import ends, percent
from pmtrain.models.backends.onnx_runtime import INPUT, import_onnxruntime
from pmtrain.system.errors import PmtrainError, missing_extra

MOST_LOSS = 0.005  # of AUC
BATCH = 10  # images per calibration step


@dataclass(frozen=True)
class Int8Loss:
    """What int8 costs on labelled images.

    Args:
        auc: of the checkpoint (a) and the int8 model (b), with the paired interval of the difference.
        agreeing, images: images with the same class from both at the checkpoint's threshold, of all.
        agreement: Wilson's interval of their share.
    """

    auc: Difference
    agreeing: int
    images: int
    agreement: Interval

    def lines(self) -> list[str]:
        """For people."""
        auc, interval = self.auc, self.auc.interval
        within = f" ({percent(interval.level)} CI {ends(interval, 4)})" if interval.low is not None else ""
        return [
            f"AUC: {auc.a.value:.4f} in fp32, {auc.b.value:.4f} in int8; loss {auc.difference:.4f}{within}",
            f"same decision: {self.agreeing} of {self.images} images, {self.agreeing / self.images:.4f}"
            f" ({percent(self.agreement.level)} CI {ends(self.agreement)})",
        ]

    def report(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "auc_fp32": self.auc.a.value,
            "auc_int8": self.auc.b.value,
            "auc_loss": {"value": self.auc.difference, **asdict(self.auc.interval)},
            "same_decision": {"k": self.agreeing, "n": self.images, **asdict(self.agreement)},
        }


def quantized(model: Any, images: np.ndarray) -> Any:
    """The ONNX model with int8 weights and activations, whose ranges are those on the images.

    Weights have 7 bits and one scale per channel: with 8, processors without VNNI add two products of 16 bits with
    saturation. Every value that is passed on is quantized (QDQ), which onnxruntime fuses into int8 convolutions.

    Args:
        images: float32 (N, 3, S, S), normalised.
    """
    try:
        import_onnxruntime()
        from onnxruntime import quantization
    except ImportError:
        raise missing_extra("--quantize int8", "onnxruntime", "onnx") from None

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = ({INPUT: images[start : start + BATCH]} for start in range(0, len(images), BATCH))

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.batches, None)

    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            model,
            path,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        return import_onnx().load(path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without onnxruntime's advice to run a preparation that our graph, folded already, doesn't need."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def loss_of_int8(
    labels: np.ndarray, fp32: np.ndarray, int8: np.ndarray, threshold: float, groups: Sequence[str] | None
) -> Int8Loss:
    """Compare the two models' logits, (N,) each, on labelled images.

    Args:
        groups: the patient of each image, where known.
    Raises:
        PmtrainError: the AUC is undefined, or falls by more than MOST_LOSS.
    """
    before, after = expit(fp32), expit(int8)
    compared = compare_scores(labels, before, after, threshold, threshold, groups)
    auc = compared.differences["auc"]
    if auc.difference is None:
        raise PmtrainError(
            f"--quantize int8: its loss of AUC can't be measured: {auc.a.reason or auc.b.reason}",
            "give labelled images of both classes with --data",
        )
    if auc.difference > MOST_LOSS:
        raise PmtrainError(
            f"--quantize int8: the AUC falls from {auc.a.value:.4f} to {auc.b.value:.4f}, by more than {MOST_LOSS};"
            " nothing was written",
            "leave --quantize out, or give --calibration-images a larger number",
        )
    agreeing = int(((before >= threshold) == (after >= threshold)).sum())
    return Int8Loss(auc, agreeing, len(labels), wilson(agreeing, len(labels), 0.95))
