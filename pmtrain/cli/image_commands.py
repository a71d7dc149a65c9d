"""`pmtrain predict` and `pmtrain explain`: a checkpoint on images without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pmtrain.cli.flags import use_processes, use_threads, with_options
from pmtrain.cli.score_commands import ONE, SEVERAL
from pmtrain.config import ExplainConfig, PredictConfig, load_config

Checkpoint = Annotated[Path, typer.Argument(help="A .pdparams or .safetensors file, or a run folder.")]
Networks = Annotated[Path, typer.Argument(help=f"{ONE}. {SEVERAL}")]
Images = Annotated[list[str], typer.Argument(help="Images, folders, archives, or patterns like 'photos/*.jpg'.")]


@with_options(PredictConfig)
def predict(checkpoint: Networks, images: Images, **flags: Any) -> None:
    """Predict the class of images.

    Prints the probability and the class of each image, at the checkpoint's threshold. An image that can't be read
    gets a row with its error; the others are predicted, and the exit code is 1.
    """
    checked = load_config(PredictConfig, flags)
    here = use_processes(checked.nproc, checked.threads)
    from pmtrain.evaluation.inference import predict as prediction

    if not here.first:
        return prediction.follow(checkpoint, checked)
    raise typer.Exit(prediction.predict(checkpoint, images, checked))


@with_options(ExplainConfig)
def explain(checkpoint: Checkpoint, images: Images, **flags: Any) -> None:
    """Show which parts of an image led to its score (Grad-CAM).

    Writes NAME.gradcam.png, the map over the image beside the original, and NAME.gradcam.npy, the map itself:
    float32, not scaled, in units of the logit.
    """
    checked = load_config(ExplainConfig, flags)
    use_threads(checked.threads)
    from pmtrain.evaluation.inference import explain as explanation

    raise typer.Exit(explanation.explain(checkpoint, images, checked))
