"""`pmtrain train`: a run set up, resumed or rehearsed, and the record of what it is on."""

from __future__ import annotations

import itertools
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pmtrain.config import RESUMABLE, TrainConfig, resumed
from pmtrain.data.dataset import SPLITS, DataSet
from pmtrain.data.select import rehearsal, select
from pmtrain.data.splits import leakage
from pmtrain.data.splits.split import hold_out, require_both_classes
from pmtrain.models.backends.device import gpu_names, select_device
from pmtrain.runs.records import STATE
from pmtrain.runs.resume_state import load_resume
from pmtrain.runs.run_folder import RunFolder, require_new
from pmtrain.system import console, environment, parallel
from pmtrain.system.console import quoted
from pmtrain.system.errors import PmtrainError, UsageError
from pmtrain.training.run import Run, WhenDone
from pmtrain.training.setup import tell_options
from pmtrain.training.techniques.progressive_size import ProgressiveSize
from pmtrain.training.techniques.schedule import depends_on_length
from pmtrain.training.techniques.starting_weights import IMAGENET, weights_again, with_weights
from pmtrain.training.tracking import require


def train(config: TrainConfig, when_done: WhenDone | None = None) -> int:
    """Run a training from its first batch; return the exit code, 0, or 128 + the signal that stopped it.

    Args:
        when_done: called after the last epoch, where the config wants a report.
    Raises:
        PmtrainError: as `begin`; a loss that isn't finite.
    """
    return begin(config).go(when_done=when_done)


def begin(config: TrainConfig) -> Run:
    """A run in its new folder, before its first batch.

    Raises:
        PmtrainError: the data, the device or an option doesn't fit.
    """
    require(config.track)
    device = select_device(config.device)
    config, weights = with_weights(config)
    data = with_validation(select(config), config)
    checked = trainable(data, config)
    run = Run(config, checked.data, device, weights, parallel.join())
    run.folder = RunFolder.create(resolved(config, run))
    run.folder.write_info(
        {
            "command": command_line(),
            "device": device,
            "backend": run.step.backend.name,
            "environment": environment.describe(gpu_names()),
            "data": data_record(data, checked),
            "class_weights": run.class_weights and dict(zip(data.classes, run.class_weights, strict=True)),
            "weights": weights and weights.record | {"seen_unlabelled": weights.seen_unlabelled(checked.data)},
        }
    )
    run.recorded = data
    run.processes.from_first((run.folder.path.resolve(), run.folder.config()))
    return run


def follow() -> int:
    """Train as one of several processes that isn't the first, in the run that the first one begins or resumes.

    Raises:
        PmtrainError: the data isn't the first process's.
    """
    with console.silent():
        path, config = parallel.join().from_first(None)
        return opened(RunFolder.open(path), config).go()


def resume(path: Path, flags: Mapping[str, Any], when_done: WhenDone | None = None) -> int:
    """Go on with the run in the folder `path` from the newest complete state; return the exit code as `train` does.

    Raises:
        PmtrainError: it is no run's folder, its data has changed, or a flag would alter its results.
    """
    folder = RunFolder.open(path)
    config = resumed_config(folder, flags)
    for kind, whole in (("fold", "a cross-validation"), ("seed", "a training with --seeds")):
        if of := folder.info().get(kind):
            raise UsageError(
                f"{path} is {kind} {of['number']} of {of[f'n_{kind}s']} of {whole}, which is resumed as a whole",
                f"pmtrain train --resume {quoted(folder.path.resolve().parent)}",
            )
    run = opened(folder, config)
    run.processes.from_first((path.resolve(), config))
    if config.nproc != folder.config().nproc:
        console.notice(
            f"the run goes on with --nproc {config.nproc}, not {folder.config().nproc}: the same batches, but each"
            " process's batch norms see other parts of them"
        )
    if (folder.last / STATE).exists():
        console.notice(f"resuming {path} at epoch {run.at.epoch}, batch {run.at.batch}")
    else:
        console.notice(f"{path} was stopped before its first save: starting it again")
    if run.at.epoch >= config.epochs:
        more = "" if fixed_by_length(config) else ": give a larger --epochs to go on"
        console.notice(f"all {config.epochs} epochs are done{more}")
    return run.go(when_done=when_done)


def opened(folder: RunFolder, config: TrainConfig) -> Run:
    """The run in a folder, at its newest complete state.

    Raises:
        PmtrainError: the data has changed since the run began.
    """
    device = select_device(config.device)
    data = with_validation(select(config), config)
    if data.fingerprint() != folder.info()["data"]["fingerprint"]:
        raise other_data(data)
    saved = load_resume(folder.last) if (folder.last / STATE).exists() else None
    weights = None if saved else weights_again(config, folder.info().get("weights"))
    run = Run(config, leakage.without(data, folder.dropped_files()), device, weights, parallel.join())
    run.folder, run.recorded = folder, data
    if saved:
        run.restore(saved)
    return run


def resumed_config(folder: RunFolder, flags: Mapping[str, Any]) -> TrainConfig:
    """The run's options, with those of `flags` that may change.

    Raises:
        UsageError: a flag would alter the run's results, or names a tracker that isn't installed.
    """
    kept = folder.config()
    config = resumed(kept, flags, RESUMABLE)
    depending = fixed_by_length(kept)
    if depending and config.epochs != kept.epochs:
        raise UsageError(
            f"--epochs {config.epochs}: the run has {kept.epochs}, and its {depending} depend on it",
            "leave --epochs out; or start a new run",
        )
    require(config.track)
    return config


def fixed_by_length(config: TrainConfig) -> str | None:
    """What in a run depends on its number of epochs, which a resumed run then can't change; None: nothing."""
    return "learning rates" if depends_on_length(config) else "image sizes" if config.start_size else None


def other_data(data: DataSet) -> PmtrainError:
    """The error to raise where a run's data has changed."""
    return PmtrainError(
        f"{data.root}: the images or labels aren't those that the run began with",
        "put them back as they were, or start a new run",
    )


def dry_run(config: TrainConfig, divided: Callable[[DataSet, TrainConfig], DataSet] | None = None) -> int:
    """Check everything and take one step, and write nothing; `divided` splits the data, as `with_validation` does."""
    require(config.track)
    device = select_device(config.device)
    if config.output is not None:
        require_new(config.output)
    config, weights = with_weights(config, download=False)
    with tempfile.TemporaryDirectory() as scratch:
        data = (divided or with_validation)(rehearsal(config, 2 * config.batch_size, Path(scratch)), config)
        # A drawn set is only as large as one step needs, so that the run's number of steps can't be checked by it.
        unchecked = {"warmup_steps": 0} if data.synthetic else {}
        config = config.model_copy(update={"cache_limit": 0.0, **unchecked})
        ProgressiveSize.of(config)
        # The one step is at full size, which takes the most memory.
        full_size = config.model_copy(update={"start_size": None})
        run = Run(full_size, trainable(data, config).data, device, weights)
        with run.loader("train") as loader:
            if loader.preprocess.lacks_statistics:  # those of a few images do for one step
                loader.preprocess = loader.preprocess.measured(itertools.islice(loader.pixels(), config.batch_size))
            tell_options(config)
            batch = next(iter(loader.epoch(0)))
            loss = run.step(batch.images, batch.labels)
    console.result(console.batch_line(0, 0, loss))
    console.notice(f"dry run: data, options and device ({device}) fit; nothing was written")
    return 0


def with_validation(data: DataSet, config: TrainConfig) -> DataSet:
    """The data with a validation split: its own, or a share held out of the training images.

    Raises:
        PmtrainError: a split lacks a class.
    """
    if not data.split("val"):
        data = hold_out(data, config.val_fraction, config.seed)
        console.notice(
            f"no validation split: {len(data.split('val'))} of {len(data.samples)} images held out for it"
            f" (--val-fraction {config.val_fraction}, --seed {config.seed})"
        )
    require_both_classes(data)
    return data


def trainable(data: DataSet, config: TrainConfig) -> leakage.Enforced:
    """The data after --leakage, with what run.json tells of it.

    Raises:
        PmtrainError: there are leaks and the policy is `stop`; what `drop` left lacks a class.
    """
    checked = leakage.enforce(data, config.leakage)
    require_both_classes(checked.data)
    return checked


def resolved(config: TrainConfig, run: Run) -> TrainConfig:
    """The config with the data, the backend and the precision that were chosen, by paths that hold from any folder."""
    return config.model_copy(
        update={
            "data": (config.data or run.data.root).resolve(),
            "val_data": config.val_data.resolve() if config.val_data else None,
            "root": config.root.resolve() if config.root else None,
            "weights": str(Path(config.weights).resolve())
            if config.weights not in (None, IMAGENET)
            else config.weights,
            "backend": run.step.backend.name,
            "precision": run.step.backend.precision,
        }
    )


def data_record(data: DataSet, checked: leakage.Enforced | None = None) -> dict[str, Any]:
    """What run.json tells of the data: its fingerprint, which tells whether other data is the run's own, is of all
    images; those that `checked` dropped don't count as training images."""
    trained = checked.data if checked else data
    counts = {split: [sum(s.label == label for s in trained.split(split)) for label in (0, 1)] for split in SPLITS}
    return {
        "root": str(data.root.resolve()),
        "layout": data.layout,
        "classes": list(data.classes),
        "images": {split: dict(zip(data.classes, pair, strict=True)) for split, pair in counts.items() if any(pair)},
        "synthetic": data.synthetic,
        "fingerprint": data.fingerprint(),
        "leakage": checked.record if checked else {},
    }


def command_line() -> str:
    """The command as it can be typed again."""
    return quoted(Path("pmtrain"), *sys.argv[1:])
