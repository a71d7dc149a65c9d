"""What lies beside an exported model that pmtrain itself can run: its domain model, and digests of its images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pmtrain.data.splits.record import write_digests
from pmtrain.evaluation.domain.domain_file import load_domain, save_domain
from pmtrain.evaluation.scores.own_run import record_beside, record_of
from pmtrain.runs.checkpoint import WEIGHTS_SUFFIXES, Checkpoint, load_checkpoint
from pmtrain.runs.run_folder import RunFolder

NOT_TAKEN = "not written: pmtrain predict, eval and serve take onnx and safetensors alone"


@dataclass(frozen=True)
class SideFiles:
    """The names of the files beside a model, None where there is none, and what they are or why there are none."""

    domain: str | None
    domain_meaning: str
    images: str | None
    images_meaning: str


def write_beside(model: Path, checkpoint: Checkpoint) -> SideFiles:
    """Write what `pmtrain predict` and `eval` look for beside `model`, a file exported from `checkpoint`.

    Raises:
        PmtrainError: a file of the run is damaged, or one can't be written.
    """
    if model.suffix not in WEIGHTS_SUFFIXES:
        return SideFiles(None, NOT_TAKEN, None, NOT_TAKEN)
    domain, reason = load_domain(checkpoint)
    judged = None
    if domain is not None:
        judged = save_domain(load_checkpoint(model), domain).name
        reason = "tells whether an image is of the kind trained on; pmtrain predict, eval and serve use it"
    record, listed = record_of(checkpoint), None
    told = "not known: the checkpoint lies in no run folder, or in an old one without images.csv"
    if record is not None:
        folder = RunFolder.around(checkpoint.path)
        listed = record_beside(model)
        write_digests(listed, record, folder.dropped_files() if folder else ())
        told = "split, size and SHA-256 of the run's images, without names: pmtrain eval tells which it was trained on"
    return SideFiles(judged, reason, listed.name if listed else None, told)
