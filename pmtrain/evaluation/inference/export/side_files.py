"""What lies beside an exported model that pmtrain itself can run: its domain model, and digests of its images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pmtrain.data.splits.record import Use, write_digests
from pmtrain.evaluation.domain.domain_file import load_domain, save_domain
from pmtrain.evaluation.scores.own_run import record_beside, record_of
from pmtrain.runs.checkpoint import WEIGHTS_SUFFIXES, Checkpoint, Networks, load_checkpoint
from pmtrain.runs.run_folder import RunFolder

NOT_TAKEN = "not written: pmtrain predict, eval and serve take onnx and safetensors alone"


@dataclass(frozen=True)
class SideFiles:
    """The names of the files beside a model, None where there is none, and what they are or why there are none."""

    domain: str | None
    domain_meaning: str
    images: str | None
    images_meaning: str


def write_beside(model: Path, checkpoint: Networks) -> SideFiles:
    """Write what `pmtrain predict` and `eval` look for beside `model`, a file exported from `checkpoint`.

    Raises:
        PmtrainError: a file of the run is damaged, or one can't be written.
    """
    if model.suffix not in WEIGHTS_SUFFIXES:
        return SideFiles(None, NOT_TAKEN, None, NOT_TAKEN)
    found = [load_domain(member) for member in checkpoint.members]
    judged, reason = None, next((reason for _, reason in found if reason), "")
    if not reason:
        judged = save_domain(load_checkpoint(model), *(domain for domains, _ in found for domain in domains)).name
        reason = "tells whether an image is of the kind trained on; pmtrain predict, eval and serve use it"
    records, listed = [_record(member) for member in checkpoint.members], None
    told = "not known: a checkpoint lies in no run folder, or in an old one without images.csv"
    if None not in records:
        listed = record_beside(model)
        write_digests(listed, [record for record in records if record])
        told = "split, size and SHA-256 of the run's images, without names: pmtrain eval tells which it was trained on"
    return SideFiles(judged, reason, listed.name if listed else None, told)


def _record(member: Checkpoint) -> Use | None:
    """What a network's run used each image for; None if that isn't known."""
    record, folder = record_of(member), RunFolder.around(member.path)
    return record.use(folder.dropped_files() if folder else ()) if record else None
