"""What a run saves: the state it resumes from, its best weights, and records of its data and domain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from pmtrain.config import TrainConfig
from pmtrain.data.dataset import DataSet, Sample
from pmtrain.data.images.shortcut_features import FeatureTable
from pmtrain.data.loading.cache import Cache
from pmtrain.data.loading.loader import Loader
from pmtrain.data.splits.record import write_record
from pmtrain.evaluation.calibration.methods import fit
from pmtrain.evaluation.domain.domain_file import load_domain
from pmtrain.evaluation.domain.fit_domain import keep_domain
from pmtrain.evaluation.robustness.baseline import keep_baseline
from pmtrain.evaluation.scores.chosen_images import patients
from pmtrain.evaluation.scores.score import Scores
from pmtrain.runs.background_writer import BackgroundWriter
from pmtrain.runs.calibrator import Calibrator
from pmtrain.runs.checkpoint import load_checkpoint, save_checkpoint
from pmtrain.runs.formats.state_dict import StateDump, dump_state
from pmtrain.runs.model_state import apply_optimizer_state, apply_state, optimizer_arrays, to_arrays
from pmtrain.runs.records import STATE, CheckpointInfo
from pmtrain.runs.resume_state import ResumeState, save_resume
from pmtrain.runs.run_folder import RunFolder
from pmtrain.system import console
from pmtrain.system.errors import PmtrainError
from pmtrain.system.files import write_atomic
from pmtrain.training.techniques.averages import Average, without_average


@dataclass
class RunState:
    """Where a run stands: all that decides its next batch, its next line and its best checkpoint."""

    epoch: int = 0
    batch: int = 0  # the next one; past the last one, the epoch's validation is due
    loss_sum: float = 0.0  # over this epoch's images so far
    images: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    scaler: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, saved: ResumeState) -> RunState:
        """What was saved with a state to resume from.

        Raises:
            PmtrainError: state.json holds values of other types.
        """
        try:
            return TypeAdapter(cls).validate_python(saved.state)
        except ValidationError as error:
            wrong = error.errors(include_url=False, include_input=False)[0]
            where = saved.checkpoint.path.parents[1] / STATE
            raise PmtrainError(
                f"{where} is not as pmtrain writes it: {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}",
                "bring back the file as it was saved",
            ) from None


@dataclass(frozen=True)
class EpochFiles:
    """What the end of an epoch writes besides the state to resume from.

    Args:
        best: the side file's content, where these are the best weights so far.
        validation: validation.csv.
    """

    best: CheckpointInfo | None
    validation: bytes


@dataclass(frozen=True)
class Learned:
    """What training steps change, and all that a resumed run must have again.

    Args:
        scaler: of the loss; None where the loss isn't scaled.
        average: of the weights; None without --ema and --swa-epochs.
    """

    model: Any
    optimizer: Any
    scaler: Any | None
    average: Average | None

    def weights(self) -> StateDump:
        """A copy of the model's weights, as they are saved.

        Raises:
            PmtrainError: one isn't finite. A loss can still be: Paddle's ReLU turns NaN into 0.
        """
        state, names = to_arrays(self.model.state_dict())
        for name, array in state.items():
            if not np.isfinite(array).all():
                raise PmtrainError(f"{name} isn't finite any more", "lower --lr")
        return dump_state(state, names)

    def averaged_weights(self) -> StateDump | None:
        """A copy of the weights' average, as it is saved; None where there is none, or none yet."""
        averaged = self.average.arrays() if self.average else {}
        return dump_state(averaged, to_arrays(self.model.state_dict())[1]) if averaged else None

    def optimizer_state(self) -> StateDump:
        """A copy of what else an exact resume needs, as it is saved."""
        return dump_state(optimizer_arrays(self.optimizer) | (self.average.saved() if self.average else {}))

    def restore(self, saved: ResumeState) -> None:
        """Put back what was saved. The model's layers must be frozen as they were in the step before the save."""
        where = saved.checkpoint.path
        apply_state(self.model, saved.checkpoint.state, where)
        apply_optimizer_state(self.optimizer, self.model, without_average(saved.optimizer_state), where)
        if self.average:
            self.average.restore(saved.optimizer_state, where)
        if self.scaler and saved.state["scaler"]:
            self.scaler.load_state_dict(saved.state["scaler"])


def save(
    writer: BackgroundWriter,
    folder: RunFolder,
    learned: Learned,
    at: RunState,
    info: CheckpointInfo,
    epoch: EpochFiles | None = None,
) -> None:
    """Copy all that an exact resume needs and write it in the background, after the files of an epoch that ended.

    Args:
        info: side file of the newest weights.

    Raises:
        PmtrainError: a weight isn't finite; or an earlier save failed.
    """
    writer.wait()  # before anything is copied: there is never more than one copy
    at.scaler = learned.scaler.state_dict() if learned.scaler else {}
    try:
        weights = learned.weights()
    except PmtrainError as error:
        raise PmtrainError(
            f"epoch {at.epoch}, batch {at.batch}: {error.message}",
            f"{error.hint}; the checkpoints saved before are whole, in {folder.path}",
        ) from None
    best = epoch and epoch.best and (learned.averaged_weights() or weights)
    optimizer, state = learned.optimizer_state(), vars(at) | {"history": list(at.history)}
    tag = f"epoch{at.epoch}-batch{at.batch}"
    same = folder.best if best is weights else None

    def write() -> None:
        if epoch and epoch.best and best:
            save_checkpoint(folder.best, best, epoch.best)
            write_atomic(folder.best_validation, epoch.validation)
        if epoch:
            write_atomic(folder.validation, epoch.validation)
        save_resume(folder.last, tag, weights, info, optimizer, state, same)
        if epoch:
            folder.write_metrics(state["history"])

    writer.start(write)


def calibration(
    config: TrainConfig, data: DataSet, prior: float | None, scores: Scores, first: bool
) -> Calibrator | None:
    """The calibration to store with the best weights, if there is to be one; `first`: say why there is none."""
    if config.calibrate is None:
        return None
    groups = patients(scores.samples, data.name_of, tell=first)
    fitted_on = replace(data, samples=tuple(data.split("val"))).fingerprint()
    try:
        return fit(config.calibrate, scores.logits, scores.labels, prior, groups, fitted_on, config.seed)
    except PmtrainError as error:
        if first:
            console.warn(f"--calibrate {config.calibrate}: not calibrated: {error.message}")
        return None


def keep_records(
    folder: RunFolder,
    recorded: DataSet,
    data: DataSet,
    config: TrainConfig,
    check: Callable[[], None],
    features: FeatureTable | None,
    cache: Cache | None,
) -> None:
    """Write images.csv, of `recorded`, and the shortcut baseline of `data` unless they are there.

    This is done after an epoch, since then every file has been read and decoded, and hardly anything is left to do.
    """
    if not folder.images.exists():
        write_record(folder.images, recorded)
    if config.shortcut and not folder.shortcut.exists():
        keep_baseline(folder, data, config.seed, check, features, cache)
        check()


def keep_best_domain(
    folder: RunFolder,
    config: TrainConfig,
    training: Loader,
    validation: Loader,
    check: Callable[[], None],
    known: Mapping[Sample, np.ndarray] | None,
) -> None:
    """Fit the domain model of the best weights, unless they have one. An error is a warning: the run is done.

    `known`: as of `keep_domain`.
    """
    try:
        checkpoint = load_checkpoint(folder.best)
        if not load_domain(checkpoint)[0]:
            keep_domain(checkpoint, config, training, validation, config.batch_size, check, known)
    except PmtrainError as error:
        console.warn(f"the domain model is left out: {error.message}")
