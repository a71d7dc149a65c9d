"""The training run: set up, epochs, validation, checkpoints; stopped and resumed at any batch."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pmtrain import console, environment, metrics
from pmtrain.backend import choose_backend
from pmtrain.checkpoint import (
    CheckpointInfo,
    ResumeState,
    apply_optimizer_state,
    apply_state,
    load_resume,
    optimizer_arrays,
    save_checkpoint,
    save_resume,
    to_arrays,
)
from pmtrain.config import RESUMABLE, TrainConfig, flag_of, load_config
from pmtrain.data.cache import open_cache
from pmtrain.data.loader import Batch, Loader
from pmtrain.data.samples import SPLITS, DataSet
from pmtrain.data.select import rehearsal, select
from pmtrain.data.split import hold_out, require_both_classes
from pmtrain.data.transforms import Preprocess
from pmtrain.device import select_device
from pmtrain.engine import NonFiniteLoss, Scores, TrainingStep, score
from pmtrain.errors import PmtrainError, UsageError
from pmtrain.framework import paddle
from pmtrain.models import build_model
from pmtrain.run_folder import RunFolder, require_new
from pmtrain.stop import Stopped, StopSignal


def train(config: TrainConfig) -> int:
    """Run a training from its first batch; return the exit code, 0, or 128 + the signal that stopped it.

    Raises:
        PmtrainError: the data, the device or an option doesn't fit; a loss that isn't finite.
    """
    device = select_device(config.device)
    data = with_validation(select(config), config)
    run = Run(config, data, device)
    run.folder = RunFolder.create(resolved(config, run))
    run.folder.write_info(
        {
            "command": command_line(),
            "device": device,
            "backend": run.step.backend.name,
            "environment": environment.describe(),
            "data": data_record(data),
        }
    )
    return run.go()


def resume(path: Path, flags: Mapping[str, Any]) -> int:
    """Go on with the run in the folder `path` from the newest complete state; return the exit code as `train` does.

    Raises:
        PmtrainError: it is no run's folder, its data has changed, or a flag would alter its results.
    """
    folder = RunFolder.open(path)
    config = folder.config()
    for key, value in flags.items():
        if value is not None and key not in RESUMABLE and value != getattr(config, key):
            raise UsageError(
                f"{flag_of(key)} {value}: the run has {getattr(config, key)}, and a resumed run keeps it",
                f"only {', '.join(flag_of(name) for name in sorted(RESUMABLE))} can change; or start a new run",
            )
    config = load_config(TrainConfig, config.model_dump() | {k: v for k, v in flags.items() if v is not None})
    device = select_device(config.device)
    data = with_validation(select(config), config)
    before = folder.info()["data"]["fingerprint"]
    if data.fingerprint() != before:
        raise PmtrainError(
            f"{data.root}: the images or labels aren't those that the run began with",
            "put them back as they were, or start a new run",
        )
    run = Run(config, data, device)
    run.folder = folder
    if folder.last.exists():
        saved = load_resume(folder.last)
        run.restore(saved)
        console.notice(f"resuming {path} at epoch {run.at.epoch}, batch {run.at.batch}")
    else:
        console.notice(f"{path} was stopped before its first save: starting it again")
    if run.at.epoch >= config.epochs:
        console.notice(f"all {config.epochs} epochs are done: give a larger --epochs to go on")
    return run.go()


def dry_run(config: TrainConfig) -> int:
    """Check everything and take one step, and write nothing."""
    device = select_device(config.device)
    if config.output is not None:
        require_new(config.output)
    with tempfile.TemporaryDirectory() as scratch:
        data = with_validation(rehearsal(config, 2 * config.batch_size, Path(scratch)), config)
        run = Run(config.model_copy(update={"cache_limit": 0.0}), data, device)
        with run.loader("train") as loader:
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


@dataclass
class Position:
    """Where a run stands: all that decides its next batch, its next line and its best checkpoint."""

    epoch: int = 0
    batch: int = 0  # the next one; past the last one, the epoch's validation is due
    loss_sum: float = 0.0  # over this epoch's images so far
    images: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    scaler: dict[str, Any] = field(default_factory=dict)


class Run:
    """One training run: its model, its position and its folder."""

    folder: RunFolder

    def __init__(self, config: TrainConfig, data: DataSet, device: str) -> None:
        self.config = config
        self.data = data
        self.preprocess = Preprocess(size=config.image_size)
        self.cache = open_cache(config.cache_limit)
        self.at = Position()
        paddle.seed(config.seed)
        self.model = build_model(config.layers)
        self.optimizer = paddle.optimizer.Momentum(
            learning_rate=config.lr,
            momentum=config.momentum,
            parameters=self.model.parameters(),
            weight_decay=config.weight_decay,
        )
        self.step = TrainingStep(self.model, self.optimizer, choose_backend(self.model, device, config))

    def loader(self, split: str) -> Loader:
        """Batches of one split: the training images shuffled by epoch, others in the order of the data."""
        return Loader(
            self.data.split(split),
            self.preprocess,
            self.config.batch_size,
            workers=self.config.workers,
            seed=self.config.seed,
            shuffle=split == "train",
            on_bad_image=self.config.on_bad_image,
            name_of=self.data.name_of,
            cache=self.cache,
            patient=True,
        )

    def go(self) -> int:
        """Train from the current position to the last epoch; return the exit code."""
        with (
            # Paddle names the optimizer's state at the first step, by counters that must begin as in the first process.
            paddle.utils.unique_name.guard(),
            console.logged(self.folder.log),
            StopSignal() as stop,
            self.loader("train") as train_loader,
            self.loader("val") as val_loader,
        ):
            try:
                while self.at.epoch < self.config.epochs:
                    self.train_epoch(train_loader, stop)
                    self.end_epoch(self.validate(val_loader, stop))
            except Stopped:
                self.save_last()
                console.notice(f"saved; go on with: pmtrain train --resume {quoted(self.folder.path)}")
                return 128 + stop.signum
            bad = {
                self.data.name_of(sample): reason for sample, reason in train_loader.bad_images + val_loader.bad_images
            }
            if bad:
                console.warn(f"{len(bad)} images that can't be decoded were left out:")
                for name, reason in bad.items():
                    console.notice(f"  {name}: {reason}")
            self.say_what_was_reached()
        return 0

    def train_epoch(self, loader: Loader, stop: StopSignal) -> None:
        """The rest of the current epoch's training batches."""
        at, config = self.at, self.config
        now = time.perf_counter()
        with console.progress(len(loader), "batch", f"epoch {at.epoch}", initial=at.batch) as bar:
            for batch in loader.epoch(at.epoch, at.batch):
                loss = self.train_batch(batch)
                at.loss_sum += loss * len(batch.samples)
                at.images += len(batch.samples)
                at.batch = batch.index + 1
                before, now = now, time.perf_counter()
                at.seconds += now - before
                if batch.index % config.log_every == 0:
                    console.result(console.batch_line(at.epoch, batch.index, loss))
                bar.set_postfix({"loss": f"{loss:.4f}", "images/s": f"{at.images / at.seconds:.1f}"}, refresh=False)
                bar.update(at.batch - bar.n)
                stop.check()
                if at.batch % config.save_every == 0:
                    self.save_last()
        at.batch = len(loader)

    def train_batch(self, batch: Batch) -> float:
        try:
            return self.step(batch.images, batch.labels)
        except NonFiniteLoss as error:
            names = ", ".join(self.data.name_of(sample) for sample in batch.samples)
            raise NonFiniteLoss(
                f"epoch {self.at.epoch}, batch {batch.index}: {error.message}; its images are {names}",
                "lower --lr or look at these images; the checkpoints saved before are whole, in "
                + str(self.folder.path),
            ) from None

    def validate(self, loader: Loader, stop: StopSignal) -> Scores:
        """The model's score for every validation image."""
        with console.progress(len(loader), "batch", "validation") as bar:

            def on_batch(batch: Batch) -> None:
                bar.update(batch.index + 1 - bar.n)
                stop.check()

            return score(self.model, loader.epoch(0), self.step.backend, on_batch)

    def end_epoch(self, scores: Scores) -> None:
        """Print and record the epoch, keep the weights if they are the best yet, and save."""
        at = self.at
        found = validation_figures(scores)
        console.result(console.validation_line(found["accuracy"], found["loss"]))
        if not at.images:
            raise PmtrainError("no training image could be decoded", "look at the files, or give other --data")
        at.history.append(
            {
                "epoch": at.epoch,
                "train_loss": at.loss_sum / at.images,
                "val_loss": found["loss"],
                "val_accuracy": found["accuracy"],
                "val_auc": found["auc"],
                "lr": self.optimizer.get_lr(),
                "images_per_second": round(at.images / at.seconds, 2),
            }
        )
        if at.best is None or rank(found) > rank(at.best):
            threshold, rule = self.choose_threshold(scores, first=at.best is None)
            at.best = {"epoch": at.epoch, **found}
            save_checkpoint(self.folder.best, *self.weights(), self.info(found, threshold, rule))
        self.at = at = Position(epoch=at.epoch + 1, history=at.history, best=at.best)
        self.save_last()
        self.folder.write_metrics(at.history)

    def choose_threshold(self, scores: Scores, first: bool) -> tuple[float, str]:
        """The threshold to store with these weights and how it was chosen; `first`: say what is wrong with it."""
        rule, n = metrics.parse_threshold_rule(self.config.threshold_rule), len(scores.labels)
        positives = int(scores.labels.sum())
        if rule.kind != "fixed" and not 0 < positives < n:  # images of a class were all left out
            if first:
                console.warn(f"--threshold-rule {rule} needs validation images of both classes: 0.5 is stored instead")
            return 0.5, f"0.5, since validation lacked a class for {rule}"
        chosen = metrics.choose_threshold(scores.labels, scores.probabilities, rule)
        if first and chosen.warning:
            console.warn(chosen.warning)
        return chosen.value, str(rule) if rule.kind == "fixed" else f"{rule} on {n} validation images"

    def save_last(self) -> None:
        """Save all that an exact resume needs."""
        self.at.scaler = self.step.scaler.state_dict() if self.step.backend.scales_loss else {}
        save_resume(
            self.folder.last,
            f"epoch{self.at.epoch}-batch{self.at.batch}",
            *self.weights(),
            self.info({}),
            optimizer_arrays(self.optimizer),
            asdict(self.at),
        )

    def weights(self) -> tuple[dict[str, Any], dict[str, str]]:
        """The model's arrays and parameter names, as they are saved.

        Raises:
            PmtrainError: one isn't finite. A loss can still be: Paddle's ReLU turns NaN into 0.
        """
        state, names = to_arrays(self.model.state_dict())
        for name, array in state.items():
            if not np.isfinite(array).all():
                raise PmtrainError(
                    f"epoch {self.at.epoch}, batch {self.at.batch}: {name} isn't finite any more",
                    f"lower --lr; the checkpoints saved before are whole, in {self.folder.path}",
                )
        return state, names

    def restore(self, saved: ResumeState) -> None:
        """Take up what `save_last` saved."""
        where = saved.checkpoint.path
        apply_state(self.model, saved.checkpoint.state, where)
        apply_optimizer_state(self.optimizer, self.model, saved.optimizer_state, where)
        self.at = Position(**saved.state)
        if self.at.scaler:
            self.step.scaler.load_state_dict(self.at.scaler)

    def info(self, scores: Mapping[str, Any], threshold: float = 0.5, rule: str = "0.5") -> CheckpointInfo:
        """What a checkpoint's side file tells of it; weights that weren't validated have no threshold but 0.5."""
        return CheckpointInfo(
            layers=self.config.layers,
            image_size=self.config.image_size,
            preprocessing=self.preprocess.name,
            class_names=self.data.classes,
            threshold=threshold,
            threshold_rule=rule,
            epoch=self.at.epoch,
            scores=dict(scores),
            synthetic=self.data.synthetic,
        )

    def say_what_was_reached(self) -> None:
        """Three lines: what, where, and what to do next."""
        best = self.at.best
        if best is None:
            return
        kind = "SYNTHETIC validation images" if self.data.synthetic else "validation images"
        auc = "undefined" if best["auc"] is None else f"{best['auc']:.4f}"
        console.notice(
            f"best: AUC {auc}, accuracy {best['accuracy']:.4f}, loss {best['loss']:.4f}"
            f" on {len(self.data.split('val'))} {kind}, epoch {best['epoch']}"
        )
        console.notice(
            f"where: {self.folder.path} (weights: {self.folder.best.name}, curves: {self.folder.metrics.name})"
        )
        console.notice(f"next: pmtrain eval {quoted(self.folder.best)} --output {quoted(self.folder.path / 'eval')}")


def validation_figures(scores: Scores) -> dict[str, Any]:
    """Loss, accuracy at 0.5 and AUC; every image weighs the same. AUC is None where one class is absent.

    Raises:
        PmtrainError: no image is left, or a logit isn't finite.
    """
    if not len(scores.labels):
        raise PmtrainError("no validation image could be decoded", "look at the files, or give other --val-data")
    if not np.isfinite(scores.logits).all():
        raise PmtrainError("the network's output on validation images isn't finite", "lower --lr")
    auc = metrics.evaluate_measures(scores.labels, scores.probabilities, threshold=0.5)["auc"]
    return {"loss": scores.loss, "accuracy": scores.accuracy, "auc": auc.value}


def rank(found: Mapping[str, Any]) -> tuple[float, float]:
    """Order of checkpoints: by AUC, ties by the lower loss."""
    return (-1.0 if found["auc"] is None else found["auc"], -found["loss"])


def resolved(config: TrainConfig, run: Run) -> TrainConfig:
    """The config with the data and the backend that were chosen, by paths that hold from any folder."""
    return config.model_copy(
        update={
            "data": (config.data or run.data.root).resolve(),
            "val_data": config.val_data.resolve() if config.val_data else None,
            "backend": run.step.backend.name,
        }
    )


def data_record(data: DataSet) -> dict[str, Any]:
    """What run.json tells of the data."""
    counts = {split: [sum(s.label == label for s in data.split(split)) for label in (0, 1)] for split in SPLITS}
    return {
        "root": str(data.root.resolve()),
        "layout": data.layout,
        "classes": list(data.classes),
        "images": {split: dict(zip(data.classes, pair, strict=True)) for split, pair in counts.items() if any(pair)},
        "synthetic": data.synthetic,
        "fingerprint": data.fingerprint(),
    }


def command_line() -> str:
    """The command as it can be typed again."""
    return quoted(Path("pmtrain"), *sys.argv[1:])


def quoted(*parts: Path | str) -> str:
    """Arguments as this system's shell takes them."""
    texts = [str(part) for part in parts]
    return subprocess.list2cmdline(texts) if os.name == "nt" else shlex.join(texts)
