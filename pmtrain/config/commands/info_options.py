"""The options of commands that print what the network and the machine look like."""

from __future__ import annotations

from typing import Annotated

from pmtrain.config.commands.shared_options import BatchSize, ImageSize, Layers, TextFormat
from pmtrain.config.options import OUTPUT, Options, option
from pmtrain.config.values import OneOf


class TraceConfig(Options):
    """Options of `pmtrain trace-shapes`."""

    layers: Layers = 50
    image_size: ImageSize = 224
    batch_size: BatchSize = 10
    format: Annotated[str, OneOf("pmtrain.models.trace:FORMATS")] = option(
        OUTPUT,
        "Format of the output: text as the notes print it, table for people, json for programs.",
        default="text",
    )


class EnvConfig(Options):
    """Options of `pmtrain env`."""

    format: Annotated[TextFormat, OneOf("pmtrain.system.environment:FORMATS")] = "text"
