"""Choose the backend and the precision of a model: Paddle's own kernels or the oneDNN engine."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

from pmtrain.models.backends import BackendName, Precision
from pmtrain.models.backends.onednn import Engine, attach, unavailable_reason
from pmtrain.system import console
from pmtrain.system.errors import UsageError
from pmtrain.system.framework import paddle

AMP_TYPES = {"bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True)
class Backend:
    """The backend of one model: `device` is `cpu` or `gpu:N`; `engine` is None where other `kernels` compute."""

    device: str
    precision: str
    engine: Engine | None
    kernels: str = "paddle"

    @property
    def name(self) -> str:
        return self.kernels if self.engine is None else "onednn"

    @property
    def scales_loss(self) -> bool:
        """Whether to scale the loss so that small gradients don't underflow in half precision."""
        return self.precision == "fp16"

    def autocast(self) -> AbstractContextManager:
        """The context of a forward pass: automatic mixed precision on a GPU; other kernels than Paddle's need none."""
        if self.name != "paddle" or self.precision == "fp32":
            return nullcontext()
        return paddle.amp.auto_cast(dtype=AMP_TYPES[self.precision])

    def fixed_weights(self) -> AbstractContextManager:
        """The context of several forward passes without changes of weights in between."""
        return nullcontext() if self.engine is None else self.engine.fixed_weights()


def choose_backend(model, device: str, backend: BackendName = "auto", precision: Precision = "fp32") -> Backend:
    """Attach the chosen backend to the model; `auto` uses the oneDNN engine on a CPU if possible.

    Args:
        model: one of `pmtrain.models`.
        device: `cpu` or `gpu:N`, as `select_device` returns it.
        backend: auto, onednn or paddle.
        precision: auto, fp32, bf16 or fp16.

    Raises:
        UsageError: the device doesn't support the precision, or `--backend onednn` is unavailable; with the reason.
    """
    return _on_cpu(model, backend, precision) if device == "cpu" else _on_gpu(device, backend, precision)


def with_synchronised_norms(model, device: str):
    """The model with batch norms over the images of all processes.

    Raises:
        UsageError: the device is a CPU, for which Paddle has no such batch norm.
    """
    if device == "cpu":
        raise UsageError(
            "--sync-bn: Paddle has synchronised batch norm for GPUs alone (no kernel sync_batch_norm for the CPU)",
            "leave it out: each process then normalises its share of a batch by itself",
        )
    return paddle.nn.SyncBatchNorm.convert_sync_batchnorm(model)


def _on_gpu(device: str, backend: BackendName, precision: Precision) -> Backend:
    if backend == "onednn":
        raise UsageError(f"--backend onednn: needs the CPU, but the device is {device}", "give --device cpu")
    supported = {"bf16": paddle.amp.is_bfloat16_supported, "fp16": paddle.amp.is_float16_supported}
    if precision == "auto":
        precision = _say_precision(None if supported["bf16"](device) else f"{device} has no bf16 arithmetic")
    if precision != "fp32" and not supported[precision](device):
        raise UsageError(f"--precision {precision}: {device} has no {precision} arithmetic", "give --precision fp32")
    return Backend(device, precision, None)


def _on_cpu(model, backend: BackendName, precision: Precision) -> Backend:
    paddles = backend == "paddle"
    if precision == "auto":
        paddles_reason = "Paddle's own kernels have no bf16 on a CPU"
        precision = _say_precision(paddles_reason if paddles else unavailable_reason(model, "bf16"))
    if precision == "fp16":
        raise UsageError("--precision fp16: needs a GPU, but the device is the CPU", "give --precision bf16 or fp32")
    if paddles and precision == "bf16":
        raise UsageError(
            "--precision bf16: on a CPU it needs the oneDNN engine, not Paddle's own kernels (--backend onednn)",
            "give --precision fp32",
        )
    if paddles:
        return Backend("cpu", precision, None)
    reason = unavailable_reason(model, precision)
    if reason is None:
        required = backend == "onednn" or precision == "bf16"
        return Backend("cpu", precision, attach(model, precision, required))
    if precision == "bf16":
        raise UsageError(f"--precision bf16: {reason}", "give --precision fp32")
    if backend == "onednn":
        raise UsageError(f"--backend onednn: {reason}", "give --backend auto")
    console.notice(f"computing with Paddle's own kernels, since {reason}")
    return Backend("cpu", precision, None)


def _say_precision(not_bf16: str | None) -> Literal["bf16", "fp32"]:
    """Resolve `--precision auto` and print the result, with the reason if it isn't bf16."""
    if not_bf16 is None:
        console.notice("computing in bf16")
        return "bf16"
    console.notice(f"computing in fp32, since {not_bf16}")
    return "fp32"
