"""The options of commands that let a model run elsewhere: export and serve."""

from __future__ import annotations

from typing import Annotated

from pmtrain.config.commands.score_options import ImageOptions
from pmtrain.config.commands.shared_options import BatchSize
from pmtrain.config.options import EVALUATION, MACHINE, NETWORK, OUTPUT, option
from pmtrain.config.values import AnyPath, OneOf


class ExportConfig(ImageOptions):
    """Options of `pmtrain export`."""

    format: Annotated[str, OneOf("pmtrain.evaluation.inference.export.exporters:EXPORTERS")] = option(
        OUTPUT,
        "Format. onnx, openvino: for those runtimes; paddle: for Paddle Inference; safetensors: the weights under"
        " pmtrain's names.",
        default="onnx",
    )
    with_preprocessing: bool = option(
        NETWORK,
        "Build the normalization in (onnx, openvino): the input is uint8 RGB of the network's size. Decoding, cropping"
        " and resizing stay outside.",
        default=False,
    )
    check_images: int = option(
        EVALUATION, "Number of images that the export is checked on.", default=100, ge=1, le=100_000
    )
    batch_size: BatchSize = 10
    threads: int | None = option(
        MACHINE, "CPU threads.  [default: OMP_NUM_THREADS, or all available cores]", default=None, ge=1, le=1024
    )
    output: AnyPath | None = option(
        OUTPUT, "Folder to create.  [default: export-FORMAT beside the checkpoint]", default=None
    )
