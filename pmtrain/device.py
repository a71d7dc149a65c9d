"""The device and the number format that a command computes with."""

from __future__ import annotations

from contextlib import AbstractContextManager

from pmtrain.errors import UsageError
from pmtrain.framework import paddle

AMP_TYPES = {"bf16": "bfloat16", "fp16": "float16"}


def gpu_count() -> int:
    """GPUs that this Paddle can use: 0 for the CPU wheel and where the driver finds none."""
    return paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0


def select_device(wanted: str) -> str:
    """Make `wanted` (auto, cpu, gpu, gpu:N) Paddle's device; return its name, `cpu` or `gpu:N`.

    Raises:
        UsageError: a GPU that isn't there; the message says why.
    """
    count = gpu_count()
    if wanted == "auto":
        wanted = "gpu" if count else "cpu"
    if wanted != "cpu":
        index = int(wanted.partition(":")[2] or 0)
        if not paddle.is_compiled_with_cuda():
            raise UsageError(
                f"--device {wanted}: the installed Paddle is the CPU build",
                'run `pip uninstall -y paddlepaddle`, then `pip install "pmtrain[gpu]"`; or give --device cpu',
            )
        if index >= count:
            found = "finds no GPU" if not count else f"finds {count}, numbered from 0"
            raise UsageError(f"--device {wanted}: Paddle {found}", "give --device auto, or look at `nvidia-smi`")
        wanted = f"gpu:{index}"
    paddle.device.set_device(wanted)
    return wanted


def require_precision(precision: str, device: str) -> None:
    """Refuse a precision that the device hasn't got.

    Raises:
        UsageError: with the reason.
    """
    if precision == "fp32":
        return
    if device == "cpu":
        raise UsageError(
            f"--precision {precision}: Paddle's automatic mixed precision needs a GPU, and the device is the CPU",
            "give --precision fp32",
        )
    supported = {"bf16": paddle.amp.is_bfloat16_supported, "fp16": paddle.amp.is_float16_supported}
    if not supported[precision](device):
        raise UsageError(f"--precision {precision}: {device} has no {precision} arithmetic", "give --precision fp32")


def autocast(precision: str) -> AbstractContextManager:
    """The context in which a forward pass computes in `precision`."""
    return paddle.amp.auto_cast(enable=precision != "fp32", dtype=AMP_TYPES.get(precision, "float16"))
