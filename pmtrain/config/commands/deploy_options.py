"""The options of commands that let a model run elsewhere: export and serve."""

from __future__ import annotations

from typing import Annotated, Literal

from pmtrain.config.commands.compute_options import ComputeOptions
from pmtrain.config.commands.score_options import ImageOptions
from pmtrain.config.commands.shared_options import BatchSize
from pmtrain.config.options import EVALUATION, MACHINE, NETWORK, OUTPUT, RUN, option
from pmtrain.config.values import AnyPath, Names, OneOf


class ExportConfig(ImageOptions):
    """Options of `pmtrain export`."""

    format: Annotated[str, OneOf("pmtrain.evaluation.inference.export.exporters:EXPORTERS")] = option(
        OUTPUT,
        "Format. onnx, openvino: for those runtimes; paddle: for Paddle Inference; safetensors: the weights under"
        " pmtrain's names; torch: under torchvision's, for torch.load.",
        default="onnx",
    )
    with_preprocessing: bool = option(
        NETWORK,
        "Build the normalization in (onnx, openvino): the input is uint8 RGB of the network's size. Decoding, cropping"
        " and resizing stay outside.",
        default=False,
    )
    quantize: Literal["int8"] | None = option(
        NETWORK,
        "Quantize an ONNX model by training images; refused where the AUC falls by more than 0.005.",
        default=None,
    )
    calibration_images: int = option(
        NETWORK, "With --quantize: number of training images to take the ranges from.", default=100, ge=1, le=10_000
    )
    check_images: int = option(
        EVALUATION, "Number of images that the export is checked on.", default=100, ge=1, le=100_000
    )
    batch_size: BatchSize = 10
    threads: int | None = option(
        MACHINE, "CPU threads.  [default: OMP_NUM_THREADS, or all available cores]", default=None, ge=1, le=1024
    )
    output: AnyPath | None = option(
        OUTPUT, "Folder to create.  [default: export-FORMAT or export-int8, beside the checkpoint]", default=None
    )


class ServeConfig(ComputeOptions):
    """Options of `pmtrain serve`."""

    host: str = option(RUN, "Address to listen on; only this machine reaches the default.", default="127.0.0.1")
    port: int = option(RUN, "Port to listen on; 0 takes a free one.", default=8765, ge=0, le=65535)
    allow_host: Names = option(
        RUN, "Another name under which browsers reach the server; can be given several times.", default=[]
    )
    batch_size: Annotated[int, option(NETWORK, "Most images to compute at once.", ge=1, le=1024)] = 8
    networks: int | None = option(
        NETWORK,
        "Copies of the network that compute side by side, each with its share of the threads.  [default: 2 on a CPU"
        " with several threads, else 1]",
        default=None,
        ge=1,
        le=64,
    )
    heat_maps: bool = option(NETWORK, "Draw Grad-CAM heat maps where they are asked for.", default=True)
    max_mib: float = option(RUN, "Most MiB of a request.", default=50, gt=0, le=1024)
    max_images: int = option(RUN, "Most images of a request.", default=20, ge=1, le=1000)
    max_megapixels: float = option(RUN, "Most million pixels of an image.", default=60, gt=0, le=1000)
    max_uploads: int = option(RUN, "Requests that are received at once; further ones wait.", default=8, ge=1, le=100)
    timeout: float = option(
        RUN, "Seconds for a request to arrive, and again for its result.", default=60, gt=0, le=3600
    )
