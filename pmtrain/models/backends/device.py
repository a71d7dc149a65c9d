"""Select the device that a command computes on."""

from __future__ import annotations

from pmtrain.system import parallel
from pmtrain.system.errors import UsageError
from pmtrain.system.framework import paddle


def gpu_count() -> int:
    """The number of GPUs that this Paddle can use: 0 for the CPU wheel or if the driver finds none."""
    return paddle.device.cuda.device_count() if paddle.is_compiled_with_cuda() else 0


def gpu_names() -> list[str]:
    """The names of the GPUs, by number."""
    return [paddle.device.cuda.get_device_name(index) for index in range(gpu_count())]


def select_device(wanted: str) -> str:
    """Make `wanted` (auto, cpu, gpu, gpu:N) Paddle's device; return its name, `cpu` or `gpu:N`.

    With several processes, each takes a GPU of its own unless one is named.

    Raises:
        UsageError: the GPU isn't available; the message says why.
    """
    count = gpu_count()
    if wanted == "auto":
        wanted = "gpu" if count else "cpu"
    if wanted == "gpu" and parallel.here().size > 1:
        wanted = f"gpu:{parallel.local_rank()}"
    if wanted != "cpu":
        index = int(wanted.partition(":")[2] or 0)
        if not paddle.is_compiled_with_cuda():
            raise UsageError(
                f"--device {wanted}: the installed Paddle is the CPU build",
                'run `pip uninstall -y paddlepaddle`, then `pip install "pmtrain[gpu]"`; or give --device cpu',
            )
        if index >= count:
            found = "finds no GPU" if not count else f"finds {count}, numbered from 0"
            raise UsageError(f"--device {wanted}: Paddle {found}", "give --device auto, or check `nvidia-smi`")
        wanted = f"gpu:{index}"
    paddle.device.set_device(wanted)
    return wanted
