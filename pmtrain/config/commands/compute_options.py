"""Compute device and precision."""

from __future__ import annotations

from pmtrain.config.options import MACHINE, Options, option
from pmtrain.models.backends import BackendName, Precision


class ComputeOptions(Options):
    """Compute device and precision."""

    device: str = option(
        MACHINE, "Device: auto, cpu, gpu or gpu:N.", default="auto", pattern=r"^(auto|cpu|gpu|gpu:\d+)$"
    )
    backend: BackendName = option(
        MACHINE,
        "Kernels to use on a CPU: the oneDNN engine's or Paddle's own; auto: oneDNN where it supports the network.",
        default="auto",
    )
    precision: Precision = option(
        MACHINE, "Number format to compute in; auto: bf16 where the device supports it, else fp32.", default="fp32"
    )
    threads: int | None = option(
        MACHINE, "CPU threads.  [default: OMP_NUM_THREADS, or all available cores]", default=None, ge=1, le=1024
    )
