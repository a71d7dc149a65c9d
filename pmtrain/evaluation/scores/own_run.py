"""The run that a checkpoint belongs to, and how that run split a data set."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pmtrain.data.dataset import DataSet
from pmtrain.data.splits.record import Record, read_record
from pmtrain.data.splits.split import hold_out
from pmtrain.runs.checkpoint import Networks
from pmtrain.runs.run_folder import RunFolder
from pmtrain.system.errors import PmtrainError


@dataclass(frozen=True)
class OwnRun:
    """A checkpoint's run, its record of images (None in old runs), and the data as split by it (None if other data).

    Of several networks, `parts` are their runs, and an image that any of them held out counts as held out in `data`.
    """

    folder: RunFolder
    record: Record | None
    data: DataSet | None
    parts: tuple[OwnRun, ...] = ()


def record_beside(model: Path) -> Path:
    """Where the record of an exported model's images lies: `model.images.csv` for `model.onnx`."""
    return model.with_suffix(".images.csv")


def record_of(checkpoint: Networks) -> Record | None:
    """The record of the images of the checkpoint's run; outside a run's folder, the one beside it; None without any.

    Raises:
        PmtrainError: the file is damaged.
    """
    folder = RunFolder.around(checkpoint.path)
    path = folder.images if folder else record_beside(checkpoint.path)
    return read_record(path) if path.is_file() else None


def own_run(checkpoint: Networks, listed: DataSet) -> OwnRun | None:
    """The run that the checkpoint lies in, with its split of `listed`; None where it lies in none.

    Raises:
        PmtrainError: a file of the run is damaged.
    """
    if len(checkpoint.members) > 1:
        parts = tuple(run for run in (own_run(member, listed) for member in checkpoint.members) if run)
        return OwnRun(parts[0].folder, None, _joined([run.data for run in parts if run.data]), parts) if parts else None
    folder = RunFolder.around(checkpoint.path)
    if folder is None:
        return None
    record = record_of(checkpoint)
    return OwnRun(folder, record, _as_split_by(folder, record, listed))


def _joined(parts: list[DataSet]) -> DataSet | None:
    """One data set, split in several ways -> the same with the images that any of them holds out held out."""
    if not parts:
        return None
    ways = zip(*(part.samples for part in parts), strict=True)
    samples = tuple(next((sample for sample in same if sample.split == "val"), same[0]) for same in ways)
    return replace(parts[0], samples=samples)


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
