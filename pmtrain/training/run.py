"""One training run: its network, where it stands, its epochs, validation and saves."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pmtrain import metrics
from pmtrain.config import TrainConfig, dump_yaml
from pmtrain.data.dataset import DataSet, Sample
from pmtrain.data.images.shortcut_features import FeatureTable
from pmtrain.data.loading.cache_folder import open_cache
from pmtrain.data.loading.loader import Batch, Loader, batches_in
from pmtrain.data.preprocessing.augment import Augment
from pmtrain.data.preprocessing.erasing import Erasing
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.data.preprocessing.retina.eye import eyes_stated
from pmtrain.evaluation.calibration.prior import learned_prior
from pmtrain.evaluation.domain.fit_domain import features_of
from pmtrain.evaluation.robustness.baseline import wanted_features
from pmtrain.evaluation.scores.operating_point import threshold_to_store
from pmtrain.evaluation.scores.score import Scores, score
from pmtrain.evaluation.scores.score_table import score_table
from pmtrain.evaluation.scores.scoring import Scored, as_scored, joined
from pmtrain.models import build_model
from pmtrain.models.adapt_bn import estimate
from pmtrain.models.backends.choose import choose_backend, with_synchronised_norms
from pmtrain.runs.background_writer import BackgroundWriter
from pmtrain.runs.calibrator import Calibrator
from pmtrain.runs.records import ALIGNED_FORMAT, FORMAT, CheckpointInfo
from pmtrain.runs.resume_state import ResumeState
from pmtrain.runs.run_folder import RunFolder
from pmtrain.system import console
from pmtrain.system.console import quoted
from pmtrain.system.errors import PmtrainError
from pmtrain.system.framework import paddle
from pmtrain.system.parallel import ALONE, Processes
from pmtrain.system.stop import Stopped, StopSignal
from pmtrain.training.saving import (
    EpochFiles,
    Learned,
    RunState,
    calibration,
    keep_best_domain,
    keep_records,
    save,
)
from pmtrain.training.setup import tell_options, tell_recipes, weights_of_classes
from pmtrain.training.step import NonFiniteLoss, TrainingStep
from pmtrain.training.techniques.averages import average_of
from pmtrain.training.techniques.initialisation import INITIALISATIONS
from pmtrain.training.techniques.mixing import Mixing
from pmtrain.training.techniques.optimizer import make_optimizer
from pmtrain.training.techniques.progressive_size import ProgressiveSize
from pmtrain.training.techniques.schedule import Schedule
from pmtrain.training.techniques.starting_weights import StartingWeights
from pmtrain.training.tracking import TRACKED, Tracking, worst_cases

# Called with a run's folder and, where this process had them, the validation scores of its best weights.
WhenDone = Callable[[Path, Scored | None], None]


class Run:
    """One training run: its model, its position and its folder."""

    folder: RunFolder
    tracking: Tracking
    writer: BackgroundWriter

    def __init__(
        self,
        config: TrainConfig,
        data: DataSet,
        device: str,
        weights: StartingWeights | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.config = config
        self.processes = processes
        self.data = data
        plain = Preprocess(config.preprocess, config.image_size, align_eyes=config.align_eyes)
        self.preprocess = weights.preprocess(config) if weights else plain
        self.class_weights = weights_of_classes(config, data)
        labels = np.array([sample.label for sample in data.split("train")])
        self.prior = learned_prior(labels, self.class_weights, config.sampler)
        self.cache = open_cache(config.cache_limit)
        self.recorded = data  # what images.csv lists: before --leakage drop
        self.at = RunState()
        # Of the validation images that a domain model is cut on: by the latest weights, and by the best ones.
        self.features: dict[Sample, np.ndarray] | None = None
        self.best_features: dict[Sample, np.ndarray] | None = None
        self.best: Scored | None = None  # what the best weights say of the validation images, if found by this process
        self.batches = batches_in(len(data.split("train")), config.batch_size, config.drop_last)
        self.schedule = Schedule.of(config, self.batches)
        self.growing = ProgressiveSize.of(config)
        self.mixing = Mixing(config.mixup, config.cutmix, config.seed)
        paddle.seed(config.seed)
        self.model = build_model(config.layers)
        INITIALISATIONS[config.init](self.model, config.seed)
        if weights:
            weights.apply(self.model)
        if config.sync_bn:
            self.model = with_synchronised_norms(self.model, device)
        self.model.freeze(self.frozen_stages(0))
        self.average = average_of(self.model, config)
        self.optimizer = make_optimizer(self.model, config)
        self.step = TrainingStep(
            self.model,
            self.optimizer,
            choose_backend(self.model, device, config.backend, config.precision),
            self.class_weights,
            config.label_smoothing,
            config.accumulate,
            processes,
        )
        scaler = self.step.scaler if self.step.backend.scales_loss else None
        self.learned = Learned(self.model, self.optimizer, scaler, self.average)

    def loader(self, split: str, features: FeatureTable | None = None) -> Loader:
        """Batches of one split: the training images drawn and changed by epoch, others as they are, in order."""
        config = self.config
        augment = Augment(config.augment, config.seed, config.augment_strength, mirror=not config.align_eyes)
        erased = Erasing(augment, config.erasing) if config.erasing else augment
        changes = self.growing.changes(erased) if self.growing else erased
        return Loader(
            self.data.split(split),
            self.preprocess,
            self.config.batch_size,
            workers=self.config.workers,
            seed=self.config.seed,
            shuffle=split == "train",
            sampler=self.config.sampler,
            augment=changes if split == "train" else None,
            on_bad_image=self.config.on_bad_image,
            name_of=self.data.name_of,
            drop_last=self.config.drop_last and split == "train",
            cache=self.cache,
            patient=True,
            features=features,
            share=(self.processes.rank, self.processes.size),
        )

    def go(self, stop: StopSignal | None = None, when_done: WhenDone | None = None) -> int:
        """Train from the current position to the last epoch; return the exit code.

        `stop`: the signals' receiver where one is in charge already.
        """
        features = wanted_features(self.data, self.config.seed) if self.config.shortcut else None
        first = self.processes.first  # this process alone prints and writes
        with (
            # Paddle names the optimizer's state at the first step, by counters that must begin as in the first process.
            paddle.utils.unique_name.guard(),
            self.folder.held() if first else contextlib.nullcontext(),
            console.logged(self.folder.log) if first else console.silent(),
            StopSignal(says=first) if stop is None else contextlib.nullcontext(stop) as stop,
            BackgroundWriter() as self.writer,
            self.loader("train", features) as train_loader,
            self.loader("val", features) as val_loader,
            Tracking(
                self.config.track if first else [],
                self.folder.path,
                dump_yaml(self.config),
                self.at.epoch * len(train_loader) + self.at.batch,
            ) as self.tracking,
        ):
            if engine := self.step.backend.engine:
                shared = f", in each of {self.processes.size} processes" if self.processes.size > 1 else ""
                console.notice(f"computing with {engine} in {self.step.backend.precision}{shared}")
            tell_options(self.config)
            try:
                if self.preprocess.lacks_statistics:
                    if first:
                        self.measure(train_loader, stop)
                    self.preprocess = self.processes.from_first(self.preprocess)
                    train_loader.preprocess = val_loader.preprocess = self.preprocess
                if self.at.epoch and first:  # a stop came before they were made
                    self.keep_records(features, stop.check)
                while self.at.epoch < self.config.epochs and not self.out_of_patience():
                    self.train_epoch(train_loader, stop)
                    self.average_epoch(train_loader, stop)
                    self.end_epoch(self.validate(val_loader, stop), (self.at.epoch + 1) * len(train_loader))
                    if first:
                        self.keep_records(features, stop.check)
                self.writer.wait()
                if first and self.config.domain and self.at.best:
                    keep_best_domain(self.folder, self.config, train_loader, val_loader, stop.check, self.best_features)
            except Stopped:
                self.save()
                self.writer.wait()
                console.notice(f"saved; go on with: pmtrain train --resume {quoted(self.folder.whole)}")
                return 128 + stop.signum
            bad = {
                self.data.name_of(sample): reason for sample, reason in train_loader.bad_images + val_loader.bad_images
            }
            if bad:
                console.warn(f"{len(bad)} images that can't be decoded were left out:")
                for name, reason in bad.items():
                    console.notice(f"  {name}: {reason}")
            self.say_what_was_reached()
        if when_done and first and self.config.report and self.at.best:
            when_done(self.folder.path, self.best)
        return 0

    def keep_records(self, features: FeatureTable | None, check: Callable[[], None]) -> None:
        keep_records(self.folder, self.recorded, self.data, self.config, check, features, self.cache)

    def measure(self, loader: Loader, stop: StopSignal) -> None:
        """Measure the training images' mean and standard deviation, by which every image is normalised from here on."""

        def shown() -> Iterator[np.ndarray]:
            with console.progress(len(loader.samples), "image", "mean and std") as bar:
                for image in loader.pixels():
                    yield image
                    bar.update()
                    stop.check()

        self.preprocess = loader.preprocess = self.preprocess.measured(shown())
        pixels = {"mean": self.preprocess.mean, "std": self.preprocess.std}
        self.folder.write_info(self.folder.info() | {"pixels": pixels})

    def frozen_stages(self, epoch: int) -> int | None:
        """How many stages are frozen in an epoch, the stem with them; None: nothing."""
        return len(self.model.stages) if epoch < self.config.warmup_head else self.config.freeze

    def train_epoch(self, loader: Loader, stop: StopSignal) -> None:
        """The rest of the current epoch's training batches."""
        at, config = self.at, self.config
        self.model.freeze(self.frozen_stages(at.epoch))
        if self.growing:
            console.notice(f"epoch {at.epoch}: training images of {self.growing.size(at.epoch)} px")
        now = time.perf_counter()
        with console.progress(len(loader), "batch", f"epoch {at.epoch}", initial=at.batch) as bar:
            for batch in loader.epoch(at.epoch, at.batch):
                loss = self.train_batch(batch)
                at.loss_sum += loss * self.step.images
                at.images += self.step.images
                at.batch = batch.index + 1
                before, now = now, time.perf_counter()
                at.seconds += now - before
                if batch.index % config.log_every == 0 and self.step.images:
                    console.result(console.batch_line(at.epoch, batch.index, loss))
                    values = {"train/batch_loss": loss, "train/images_per_second": at.images / at.seconds}
                    self.tracking.scalars(values, at.epoch * len(loader) + at.batch)
                bar.set_postfix({"loss": f"{loss:.4f}", "images/s": f"{at.images / at.seconds:.1f}"}, refresh=False)
                bar.update(at.batch - bar.n)
                self.writer.check()
                self.stop_together(stop)
                if at.batch % config.save_every == 0:
                    self.save()
        at.batch = len(loader)
        if at.epoch == 0 and loader.eyes:
            console.notice(f"training images, {eyes_stated(loader.eyes.values())}")

    def train_batch(self, batch: Batch) -> float:
        step = self.at.epoch * self.batches + batch.index
        if self.schedule.varies:
            self.optimizer.set_lr(self.schedule.rate(step))
        try:
            loss = self.step(*self.mixing(batch.images, batch.labels, self.at.epoch, batch.index))
        except NonFiniteLoss as error:
            names = ", ".join(self.data.name_of(sample) for sample in batch.samples)
            raise NonFiniteLoss(
                f"epoch {self.at.epoch}, batch {batch.index}: {error.message}; its images are {names}",
                "lower --lr or look at these images; the checkpoints saved before are whole, in "
                + str(self.folder.path),
            ) from None
        if self.average:
            self.average.after_step(step + 1)
        return loss

    def average_epoch(self, loader: Loader, stop: StopSignal) -> None:
        """--swa-epochs: take up the epoch's weights, and estimate batch norm statistics for their mean."""
        average = self.average
        if average is None or not average.after_epoch(self.at.epoch):
            return

        def shown() -> Iterator[np.ndarray]:
            with console.progress(len(loader), "batch", "batch norms") as bar:
                for batch in loader.epoch(self.at.epoch):
                    yield from np.array_split(batch.images, self.config.accumulate)
                    bar.update()
                    self.writer.check()
                    self.stop_together(stop)

        with average.in_model():
            estimate(self.model, self.step.backend, shown(), self.processes)
            average.keep_statistics()

    def validate(self, loader: Loader, stop: StopSignal) -> Scored:
        """The score for every validation image, of the averaged weights if there are any."""
        alone = self.processes.size == 1
        with (
            console.progress(len(loader), "batch", "validation") as bar,
            self.average.in_model() if self.average else contextlib.nullcontext(),
            features_of(self.model, loader if self.config.domain and alone else None) as features,
        ):

            def on_batch(batch: Batch) -> None:
                bar.update(batch.index + 1 - bar.n)
                self.writer.check()
                if features:
                    features.take(batch.samples)
                if alone:
                    stop.check()

            scores = score(self.model, loader.epoch(0), self.step.backend, on_batch)
        self.features = features.found if features else None
        self.stop_together(stop)
        return as_scored(joined(scores, loader, self.processes), loader, self.data, self.step.backend)

    def stop_together(self, stop: StopSignal) -> None:
        """Raises: Stopped, once a signal has come to any of the processes; so all stop at the same batch."""
        if self.processes.size > 1:
            stop.signum = self.processes.largest(stop.signum)
        stop.check()

    def end_epoch(self, scored: Scored, step: int) -> None:
        """Print and track the epoch and save it, with its weights as the best ones where they are.

        With --swa-epochs the best are one of the means: epochs before the first of them don't count any more.
        """
        at, scores = self.at, scored.scores
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
        self.tracking.scalars({TRACKED[name]: value for name, value in at.history[-1].items()}, step)
        self.tracking.images(lambda: worst_cases(scores, self.preprocess, self.cache), step)
        best = None
        begun = self.average is not None and at.epoch == self.average.first
        if at.best is None or begun or rank(found) > rank(at.best):
            first = at.best is None
            threshold, rule = threshold_to_store(self.config.threshold_rule, scores, first)
            at.best, self.best = {"epoch": at.epoch, **found}, scored
            self.best_features = self.features
            calibrator = calibration(self.config, self.data, self.prior, scores, first)
            best = self.info(found, threshold, rule, calibrator)
        self.at = RunState(epoch=at.epoch + 1, history=at.history, best=at.best)
        self.save(EpochFiles(best, score_table(scores, self.data.name_of)))

    def out_of_patience(self) -> bool:
        """Whether the run ends early, which it says: the last --patience epochs were no better than one before."""
        patience, best = self.config.patience, self.at.best
        if patience is None or best is None or self.at.epoch - best["epoch"] <= patience:
            return False
        console.notice(f"stopped early: no better epoch since epoch {best['epoch']} (--patience {patience})")
        return True

    def save(self, epoch: EpochFiles | None = None) -> None:
        """Save in the background, after the files of an epoch that ended. Raises: as `saving.save`."""
        if self.processes.first:
            save(self.writer, self.folder, self.learned, self.at, self.info({}), epoch)

    def restore(self, saved: ResumeState) -> None:
        """Continue from what `save` wrote."""
        self.at = RunState.of(saved)
        # As in the epoch of the last step: what was frozen until then has no velocity.
        self.model.freeze(self.frozen_stages(self.at.epoch if self.at.batch else self.at.epoch - 1))
        self.learned.restore(saved)
        self.preprocess = Preprocess.of(saved.checkpoint.info)

    def info(
        self,
        validation: Mapping[str, Any],
        threshold: float = 0.5,
        rule: str = "0.5",
        calibration: Calibrator | None = None,
    ) -> CheckpointInfo:
        """What a checkpoint's side file tells of it; weights that weren't validated have no threshold but 0.5."""
        return CheckpointInfo(
            format=ALIGNED_FORMAT if self.preprocess.align_eyes else FORMAT,
            layers=self.config.layers,
            image_size=self.config.image_size,
            preprocessing=self.preprocess.name,
            pixel_mean=self.preprocess.mean,
            pixel_std=self.preprocess.std,
            align_eyes=self.preprocess.align_eyes,
            class_names=self.data.classes,
            threshold=threshold,
            threshold_rule=rule,
            epoch=self.at.epoch,
            metrics=dict(validation),
            synthetic=self.data.synthetic,
            prior=self.prior,
            calibration=calibration,
        )

    def say_what_was_reached(self) -> None:
        """Three lines: what, where, and what to do next; before them one about recipes, if the run used none.

        One of several trainings leaves out what is said of the whole.
        """
        best = self.at.best
        if best is None:
            return
        alone = self.folder.whole == self.folder.path
        if alone:
            tell_recipes(self.config)
        kind = "SYNTHETIC validation images" if self.data.synthetic else "validation images"
        auc = "undefined" if best["auc"] is None else f"{best['auc']:.4f}"
        console.notice(
            f"best: AUC {auc}, accuracy {best['accuracy']:.4f}, loss {best['loss']:.4f}"
            f" on {len(self.data.split('val'))} {kind}, epoch {best['epoch']}"
        )
        console.notice(
            f"where: {self.folder.path} (weights: {self.folder.best.name}, curves: {self.folder.metrics.name})"
        )
        if alone:
            output = quoted(self.folder.path / "eval")
            console.notice(f"next: pmtrain eval {quoted(self.folder.best)} --output {output}")


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
