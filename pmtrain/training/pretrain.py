"""`pmtrain pretrain`: a network that learns from images without labels, as weights for `pmtrain train --weights`.

Its folder:

options.yaml        every option
pretraining.json    versions, device, command, how many images and their digest
images.csv          every image: its size and the SHA-256 of its bytes
loss.csv            one line an epoch
train.log           everything printed, with the time
pretrained.pdparams the network without a classifier, pretrained.json beside it
last/               the state to resume from
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pmtrain.config import PretrainConfig, load_config, resumed
from pmtrain.data.dataset import DataSet, Sample
from pmtrain.data.images.find import find_images
from pmtrain.data.loading.cache_folder import open_cache
from pmtrain.data.loading.loader import Loader, batches_in
from pmtrain.data.preprocessing.augment import Augment
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.data.splits.record import contents, write_record
from pmtrain.models import build_model
from pmtrain.models.backends.choose import choose_backend
from pmtrain.models.backends.device import gpu_names, select_device
from pmtrain.runs.checkpoint import PRETRAINED, save_checkpoint
from pmtrain.runs.formats.state_dict import dump_state
from pmtrain.runs.model_state import apply_optimizer_state, apply_state, optimizer_arrays, to_arrays
from pmtrain.runs.records import STATE, CheckpointInfo, notes_info
from pmtrain.runs.resume_state import load_resume, save_resume
from pmtrain.runs.run_folder import RunFolder
from pmtrain.system import console, environment
from pmtrain.system.console import quoted
from pmtrain.system.errors import PmtrainError, UsageError
from pmtrain.system.framework import paddle
from pmtrain.system.stop import Stopped, StopSignal
from pmtrain.training.step import NonFiniteLoss
from pmtrain.training.techniques.initialisation import he
from pmtrain.training.techniques.schedule import Schedule
from pmtrain.training.techniques.simsiam import SimSiam
from pmtrain.training.train import command_line

OF_THE_SECOND = 1 << 32  # added to the seed for the second version of an image: the seed of no run
HEADS = "simsiam."  # of the heads' names in the state to resume from
# Options that may change when a pre-training is resumed.
RESUMABLE = {"data", "on_bad_image", "workers", "device", "backend", "threads", "log_every", "cache_limit"}


class PretrainingFolder(RunFolder):
    """The files of one pre-training."""

    command, kind, prefix = "pretrain", "pre-training", "pretrain-"
    columns = ("epoch", "loss", "spread", "lr")

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.config_file = path / "options.yaml"
        self.info_file = path / "pretraining.json"
        self.metrics = path / "loss.csv"
        self.pretrained = path / PRETRAINED


@dataclass
class Position:
    """Where a pre-training stands."""

    epoch: int = 0
    batch: int = 0  # the next one
    loss_sum: float = 0.0  # over this epoch's batches so far
    spread_sum: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)


def pretrain(config: PretrainConfig) -> int:
    """Pre-train from the first batch; return the exit code, 0, or 128 + the signal that stopped it.

    Raises:
        PmtrainError: the images, the device or an option doesn't fit; a loss that isn't finite.
    """
    device = select_device(config.device)
    data = unlabelled(config)
    made = Pretraining(config, data, device)
    resolved = config.model_copy(update={"data": data.root.resolve(), "backend": made.backend.name})
    folder = PretrainingFolder.create(resolved)
    known = contents(data.samples)
    digest = hashlib.sha256("\n".join(sorted(content.sha256 for content in known.values())).encode()).hexdigest()
    write_record(folder.images, data, known)
    folder.write_info(
        {
            "command": command_line(),
            "method": "SimSiam",
            "device": device,
            "backend": made.backend.name,
            "environment": environment.describe(gpu_names()),
            "data": {"root": str(data.root.resolve()), "images": len(data.samples), "contents_sha256": digest},
            "fingerprint": data.fingerprint(),
        }
    )
    return made.go(folder)


def resume(path: Path, flags: Mapping[str, Any]) -> int:
    """Go on with the pre-training in the folder `path`; return the exit code as `pretrain` does.

    Raises:
        PmtrainError: it is none, its images have changed, or a flag would alter its result.
    """
    folder = PretrainingFolder.open(path)
    config = resumed(load_config(PretrainConfig, {}, folder.config_file), flags, RESUMABLE, folder.kind)
    data = unlabelled(config)
    made = Pretraining(config, data, select_device(config.device))
    if data.fingerprint() != folder.info()["fingerprint"]:
        raise PmtrainError(
            f"{data.root}: the images aren't those that the pre-training began with", "put them back as they were"
        )
    made.restore(folder)
    return made.go(folder)


def unlabelled(config: PretrainConfig) -> DataSet:
    """All images of --data, whatever folders they are in.

    Raises:
        UsageError: there is no --data, or it has fewer than two images.
    """
    if config.data is None:
        raise UsageError("no images are given", "give a folder or an archive of images: --data FOLDER")
    samples = tuple(Sample(path, 0) for path in find_images([str(config.data)]))
    if len(samples) < 2:
        raise UsageError(f"{config.data}: one image is too few to learn from", "give a folder of images")
    return DataSet(config.data, "unlabelled", ("unlabelled", "unlabelled"), samples)


class Pretraining:
    """One pre-training: its network and its position."""

    def __init__(self, config: PretrainConfig, data: DataSet, device: str) -> None:
        self.config, self.data = config, data
        self.preprocess = Preprocess(config.preprocess, config.image_size)
        self.at = Position()
        self.batches = batches_in(len(data.samples), config.batch_size, drop_last=True)
        steps = self.batches * config.epochs
        self.schedule = Schedule("cosine", config.lr, steps, warmup_steps=min(3 * self.batches, steps // 2))
        paddle.seed(config.seed)
        body = build_model(config.layers)
        he(body, config.seed)
        self.model = SimSiam(body)
        self.backend = choose_backend(body, device, config.backend, config.precision)
        if self.backend.scales_loss:
            raise UsageError("--precision fp16: pre-training has no loss scaling", "give --precision bf16 or fp32")
        self.optimizer = paddle.optimizer.Momentum(
            learning_rate=config.lr,
            momentum=config.momentum,
            parameters=self.model.parameters(),
            weight_decay=config.weight_decay,
        )

    def loader(self) -> Loader:
        """Two versions of all images, in the order of the seed."""
        first, second = (
            Augment(self.config.augment, seed, self.config.augment_strength)
            for seed in (self.config.seed, self.config.seed + OF_THE_SECOND)
        )
        return Loader(
            self.data.samples,
            self.preprocess,
            self.config.batch_size,
            workers=self.config.workers,
            seed=self.config.seed,
            shuffle=True,
            augment=first,
            again=second,
            on_bad_image=self.config.on_bad_image,
            name_of=self.data.name_of,
            drop_last=True,
            cache=open_cache(self.config.cache_limit),
            patient=True,
        )

    def go(self, folder: PretrainingFolder) -> int:
        """Train from the current position to the last epoch; return the exit code."""
        with (
            paddle.utils.unique_name.guard(),  # Paddle numbers the optimizer's state at the first step
            folder.held(),
            console.logged(folder.log),
            StopSignal() as stop,
            self.loader() as loader,
        ):
            console.notice(f"{self.data.root}: {len(self.data.samples)} images, used without labels")
            try:
                if self.preprocess.lacks_statistics:
                    self.preprocess = self.preprocess.measured(loader.pixels())
                loader.preprocess = self.preprocess
                while self.at.epoch < self.config.epochs:
                    self.epoch(loader, stop)
                    self.save(folder)
            except Stopped:
                self.save(folder)
                console.notice(f"saved; go on with: {quoted('pmtrain', 'pretrain', '--resume', folder.path)}")
                return 128 + stop.signum
        save_checkpoint(folder.pretrained, dump_state(*to_arrays(self.model.body.state_dict())), self.info())
        for sample, reason in loader.bad_images:
            console.warn(f"left out: {self.data.name_of(sample)}: {reason}")
        last = self.at.history[-1]
        console.notice(f"pre-trained: loss {last['loss']:.4f} (-1 is best), spread {last['spread']:.2f} (0: collapsed)")
        console.notice(f"next: {quoted('pmtrain', 'train', '--weights', folder.path)} --data ...")
        return 0

    def epoch(self, loader: Loader, stop: StopSignal) -> None:
        """The rest of the current epoch."""
        at = self.at
        self.model.train()
        with console.progress(len(loader), "batch", f"epoch {at.epoch}", initial=at.batch) as bar:
            for batch in loader.epoch(at.epoch, at.batch):
                loss, spread = self.step(batch.images, batch.index)
                at.loss_sum, at.spread_sum, at.batch = at.loss_sum + loss, at.spread_sum + spread, batch.index + 1
                if batch.index % self.config.log_every == 0:
                    console.result(console.batch_line(at.epoch, batch.index, loss))
                bar.update(at.batch - bar.n)
                stop.check()
        found = {"loss": at.loss_sum / len(loader), "spread": at.spread_sum / len(loader)}
        last = self.schedule.rate((at.epoch + 1) * self.batches - 1)
        history = [*at.history, {"epoch": at.epoch, **found, "lr": last}]
        self.at = Position(epoch=at.epoch + 1, history=history)

    def step(self, images: np.ndarray, batch: int) -> tuple[float, float]:
        """Learn from (2 N, 3, S, S); return the loss before the step and the spread.

        Raises:
            NonFiniteLoss: nothing was learned from this batch.
        """
        self.optimizer.set_lr(self.schedule.rate(self.at.epoch * self.batches + batch))
        loss, spread = self.model(paddle.to_tensor(images), self.backend)
        value = loss.item()
        if not math.isfinite(value):
            raise NonFiniteLoss(f"epoch {self.at.epoch}, batch {batch}: the loss is {value}", "lower --lr")
        loss.backward()
        self.optimizer.step()
        self.optimizer.clear_grad(set_to_zero=False)
        return value, spread.item()

    def info(self) -> CheckpointInfo:
        """The side file: what the weights expect of an image; they have no classifier, and so no threshold."""
        return notes_info(self.config.layers).model_copy(
            update={
                "image_size": self.config.image_size,
                "preprocessing": self.preprocess.name,
                "pixel_mean": self.preprocess.mean,
                "pixel_std": self.preprocess.std,
                "class_names": self.data.classes,
                "threshold_rule": "none: pre-trained without labels",
                "epoch": self.at.epoch,
            }
        )

    def save(self, folder: PretrainingFolder) -> None:
        """Write all that an exact resume needs, and loss.csv."""
        arrays, names = to_arrays(self.model.state_dict())
        body = {name.removeprefix("body."): array for name, array in arrays.items() if name.startswith("body.")}
        heads = {HEADS + name: array for name, array in arrays.items() if not name.startswith("body.")}
        weights = dump_state(body, {name: names["body." + name] for name in body})
        optimizer = dump_state(optimizer_arrays(self.optimizer) | heads)
        tag = f"epoch{self.at.epoch}-batch{self.at.batch}"
        save_resume(folder.last, tag, weights, self.info(), optimizer, vars(self.at))
        folder.write_metrics(self.at.history)

    def restore(self, folder: PretrainingFolder) -> None:
        """Continue from what `save` wrote; from the start, where it was stopped before that."""
        if not (folder.last / STATE).exists():
            console.notice(f"{folder.path} was stopped before its first save: starting it again")
            return
        saved = load_resume(folder.last)
        where = saved.checkpoint.path
        rest = saved.optimizer_state
        heads = {name.removeprefix(HEADS): rest[name] for name in rest if name.startswith(HEADS)}
        body = {f"body.{name}": array for name, array in saved.checkpoint.state.items()}
        apply_state(self.model, body | heads, where)
        velocities = {name: value for name, value in rest.items() if not name.startswith(HEADS)}
        apply_optimizer_state(self.optimizer, self.model, velocities, where)
        self.preprocess = Preprocess.of(saved.checkpoint.info)
        self.at = Position(**saved.state)
        console.notice(f"resuming {folder.path} at epoch {self.at.epoch}, batch {self.at.batch}")
