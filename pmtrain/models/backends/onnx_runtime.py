"""An exported ONNX model run by onnxruntime, in the place of a Paddle network."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from pmtrain.system.errors import PmtrainError, missing_extra
from pmtrain.system.hardware import thread_count, use_every_core

INPUT, LOGIT, PROBABILITY, FEATURES, SPREAD = "image", "logit", "probability", "features", "spread"
METADATA = "pmtrain"  # the key of the model's metadata that holds the checkpoint's side file

QUIET = 3  # onnxruntime's log: errors only


def import_onnxruntime() -> Any:
    """onnxruntime, told to report nothing: version 1.32 sends its use to Microsoft unless this is set before.

    Raises:
        ImportError: it isn't installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


class OnnxNetwork:
    """An ONNX model that pmtrain exported.

    Args:
        data: the file's bytes.
        path: where they come from, for the messages.
    Raises:
        PmtrainError: onnxruntime isn't installed, or can't read the model.
    """

    def __init__(self, data: bytes, path: Path) -> None:
        try:
            onnxruntime = import_onnxruntime()
        except ImportError:
            raise missing_extra(f"{path}: running an ONNX model", "onnxruntime", "onnx") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = thread_count()
        options.log_severity_level = QUIET
        use_every_core()  # onnxruntime's threads inherit where this one may run
        try:
            self.session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            self.metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        except Exception as error:  # onnxruntime's own exceptions have no common class
            detail = " ".join(str(error).split())[:200]
            raise PmtrainError(
                f"{path} is not an ONNX model that onnxruntime can run: {detail}", "export the checkpoint again"
            ) from None
        self.path = path
        self.out = _LastLayer(self)
        self._outputs = [output.name for output in self.session.get_outputs()]
        self.spread: np.ndarray | None = None  # (N,) of the latest images, where this is a model of several networks

    @property
    def precision(self) -> str:
        """int8 or fp32."""
        return self.metadata.get("precision", "fp32")

    @property
    def takes_bytes(self) -> bool:
        """Whether preprocessing is built in: the input is then uint8 (N, S, S, 3), RGB."""
        return self.session.get_inputs()[0].type == "tensor(uint8)"

    def logits(self, images: np.ndarray) -> np.ndarray:
        """float32 (N, 3, S, S), normalised, or uint8 (N, S, S, 3) where preprocessing is built in -> (N, 1) float32."""
        return self.session.run([LOGIT], {INPUT: images})[0]

    def outputs(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `logits`, and the probabilities that the model itself gives, (N, 1) float32."""
        logits, probabilities = self.session.run([LOGIT, PROBABILITY], {INPUT: images})
        return logits, probabilities

    def has(self, output: str) -> bool:
        """Whether the model gives this output."""
        return output in self._outputs

    def eval(self) -> None:
        """As of a Paddle layer: it is always in evaluation mode."""

    def __call__(self, images: Any) -> Any:
        """As of a Paddle layer: a tensor (N, 3, S, S) -> a tensor (N, 1).

        Where preprocessing is built in, the tensor holds RGB from 0 to 255.
        """
        from pmtrain.system.framework import paddle

        given = images.numpy()
        if self.takes_bytes:
            given = np.ascontiguousarray(given.transpose(0, 2, 3, 1)).astype(np.uint8)
        takes = tuple(self.session.get_inputs()[0].shape[1:])
        if given.shape[1:] != takes:
            raise PmtrainError(
                f"{self.path}: exported for images of {' x '.join(map(str, takes))} values, and these have"
                f" {' x '.join(map(str, given.shape[1:]))}",
                "leave out what changes their size (--tta-views scales), or give the checkpoint that was exported",
            )
        wanted = [LOGIT] + [SPREAD] * self.has(SPREAD) + [FEATURES] * bool(self.out.hooks)
        found = dict(zip(wanted, self.session.run(wanted, {INPUT: given}), strict=True))
        if SPREAD in found:
            self.spread = found[SPREAD].reshape(-1)
        for hook in self.out.hooks:
            hook(self.out, (paddle.to_tensor(found[FEATURES]),))
        return paddle.to_tensor(found[LOGIT])


class _LastLayer:
    """As of a ResNet's last layer: hooks see what enters it."""

    def __init__(self, network: OnnxNetwork) -> None:
        self._network = network
        self.hooks: list[Callable[[Any, tuple[Any]], Any]] = []

    def register_forward_pre_hook(self, hook: Callable[[Any, tuple[Any]], Any]) -> SimpleNamespace:
        """Call the hook in every forward pass, until `remove` of the result is called.

        Raises:
            PmtrainError: the model doesn't give its features.
        """
        if not self._network.has(FEATURES):
            raise PmtrainError(
                f"{self._network.path}: it doesn't give the features that a domain model needs",
                "export the checkpoint again: exports by older versions, and of several networks by them, give none",
            )
        self.hooks.append(hook)
        return SimpleNamespace(remove=partial(self.hooks.remove, hook))
