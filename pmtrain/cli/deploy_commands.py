"""`pmtrain export` and `pmtrain serve`: a checkpoint put to use outside pmtrain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pmtrain.cli.flags import shared_threads, use_threads, with_options
from pmtrain.cli.image_commands import Networks
from pmtrain.config import ExportConfig, ServeConfig, load_config

Exported = Annotated[
    Path,
    typer.Argument(
        help="A .pdparams or .safetensors file, or a run folder; several, separated by commas, or the folder of a"
        " cross-validation or of several seeds: exported as one."
    ),
]


@with_options(ExportConfig)
def export(checkpoint: Exported, **flags: Any) -> None:
    """Export a checkpoint for use without pmtrain.

    Writes the model, export.json, which says how to use it, and a model card. The export is run by its own runtime on
    the run's validation images or on DATA, and is only kept if all probabilities are those of the checkpoint.
    """
    checked = load_config(ExportConfig, flags)
    use_threads(checked.threads)
    from pmtrain.evaluation.inference.export import exporting
    from pmtrain.evaluation.report import model_card

    exporting.export(checkpoint, checked, model_card.of_checkpoint)


@with_options(ServeConfig)
def serve(checkpoint: Networks, **flags: Any) -> None:
    """Serve a checkpoint as a web page on this machine.

    A page to drop photographs on, and /predict for programs (described at /docs). Images are decoded in memory and
    never stored. Research software, not a medical device. Ctrl-C ends it.
    """
    checked = load_config(ServeConfig, flags)
    networks, threads = shared_threads(checked.networks, checked.threads)
    use_threads(threads)
    checked = checked.model_copy(update={"networks": networks})
    from pmtrain.evaluation.inference.serving import server

    server.serve(checkpoint, checked)
