"""The run that a checkpoint belongs to, and how that run split a data set."""

from __future__ import annotations

from dataclasses import dataclass

from pmtrain.data.dataset import DataSet
from pmtrain.data.splits.record import Record, read_record
from pmtrain.data.splits.split import hold_out
from pmtrain.runs.checkpoint import Checkpoint
from pmtrain.runs.run_folder import RunFolder
from pmtrain.system.errors import PmtrainError


@dataclass(frozen=True)
class OwnRun:
    """A checkpoint's run, its record of images (None in old runs), and the data as split by it (None if other data)."""

    folder: RunFolder
    record: Record | None
    data: DataSet | None


def own_run(checkpoint: Checkpoint, listed: DataSet) -> OwnRun | None:
    """The run that the checkpoint lies in, with its split of `listed`; None where it lies in none.

    Raises:
        PmtrainError: a file of the run is damaged.
    """
    folder = RunFolder.around(checkpoint.path)
    if folder is None:
        return None
    record = read_record(folder.images) if folder.images.is_file() else None
    return OwnRun(folder, record, _as_split_by(folder, record, listed))


def _as_split_by(folder: RunFolder, record: Record | None, listed: DataSet) -> DataSet | None:
    kept, fingerprint = folder.config(), folder.info()["data"]["fingerprint"]
    if record is not None:
        return record.applied(listed, fingerprint)
    if listed.split("val"):
        return listed if listed.fingerprint() == fingerprint else None
    try:
        held = hold_out(listed, kept.val_fraction, kept.seed)
    except PmtrainError:  # too few images for a hold-out, so the run can't have made one
        return None
    return held if held.fingerprint() == fingerprint else None
