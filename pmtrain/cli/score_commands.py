"""`pmtrain eval` and `pmtrain compare`: checkpoints on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pmtrain.cli.flags import use_processes, use_threads, with_options
from pmtrain.config import CompareConfig, EvalConfig, load_config

ONE = "A .pdparams, .safetensors or exported .onnx file, or a run folder"
SEVERAL = "Of several, joined by commas, or the folder of a cross-validation or of --seeds, logits are averaged."


@with_options(EvalConfig)
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help=f"{ONE}. {SEVERAL}")],
    **flags: Any,
) -> None:
    """Evaluate a checkpoint on labelled images.

    Without DATA, the data of the checkpoint's own run is used; otherwise data/ is searched. Of several networks, each
    image is scored by those that were not trained on it.
    """
    checked = load_config(EvalConfig, flags)
    here = use_processes(checked.nproc, checked.threads)
    from pmtrain.evaluation import evaluate as evaluation

    (evaluation.evaluate if here.first else evaluation.follow)(checkpoint, checked)


@with_options(CompareConfig)
def compare(
    a: Annotated[Path, typer.Argument(help=f"{ONE}. {SEVERAL}")],
    b: Annotated[Path, typer.Argument(help="Another, or several others.")],
    **flags: Any,
) -> None:
    """Compare two checkpoints on the same images.

    Prints the difference of each metric with its confidence interval. Without DATA, the data of the first
    checkpoint's own run is used; otherwise data/ is searched.
    """
    checked = load_config(CompareConfig, flags)
    use_threads(checked.threads)
    from pmtrain.evaluation import compare as comparison

    comparison.compare(a, b, checked)
