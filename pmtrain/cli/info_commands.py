"""`pmtrain trace-shapes` and `pmtrain env`: what the network and the machine look like."""

from __future__ import annotations

from typing import Any

from pmtrain.cli.flags import with_options
from pmtrain.config import EnvConfig, TraceConfig, load_config
from pmtrain.system import console


@with_options(TraceConfig)
def trace_shapes(**flags: Any) -> None:
    """Print the output shape of every layer, from a forward pass."""
    checked = load_config(TraceConfig, flags)
    from pmtrain.models import trace

    console.result(trace.FORMATS[checked.format](trace.trace(checked.layers, checked.batch_size, checked.image_size)))


@with_options(EnvConfig)
def env(**flags: Any) -> None:
    """Print versions and hardware, for a bug report."""
    checked = load_config(EnvConfig, flags)
    from pmtrain.models.backends.device import gpu_names
    from pmtrain.system import environment

    console.result(environment.FORMATS[checked.format](environment.describe(gpu_names())))
