"""Commands that add to a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pmtrain.cli.flags import use_threads, with_options
from pmtrain.cli.score_commands import ONE
from pmtrain.config import CalibrateConfig, FitDomainConfig, load_config


@with_options(FitDomainConfig)
def fit_domain(
    checkpoint: Annotated[
        Path, typer.Argument(help=f"{ONE}. Of several, or the folder of several trainings, each gets its own.")
    ],
    **flags: Any,
) -> None:
    """Learn which images are like those trained on.

    Writes NAME.domain.safetensors beside the checkpoint; `predict` uses it from then on. `train` does this by itself.
    Give the images that the network was trained on; without DATA, those of the checkpoint's own run are used.
    """
    checked = load_config(FitDomainConfig, flags)
    use_threads(checked.threads)
    from pmtrain.evaluation.domain import fit_domain as fitting

    raise typer.Exit(fitting.fit_domain(checkpoint, checked))


@with_options(CalibrateConfig)
def calibrate(
    checkpoint: Annotated[
        Path, typer.Argument(help=f"{ONE}, or that of a cross-validation or of --seeds, whose mean is calibrated.")
    ],
    **flags: Any,
) -> None:
    """Calibrate a checkpoint's probabilities.

    Fits on validation images a map from the network's logit to a probability that is right as often as it says, and
    keeps it in the checkpoint's side file; the weights stay. Without DATA, it takes the checkpoint's own run's data.
    """
    checked = load_config(CalibrateConfig, flags)
    use_threads(checked.threads)
    from pmtrain.evaluation.calibration import calibrate as calibration

    calibration.calibrate(checkpoint, checked)
