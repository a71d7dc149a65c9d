"""Trainings that belong together, such as the folds of a cross-validation: each is a run in the whole's folder.

They are trained one after the other, or side by side with --nproc, with the same records in their `run.json`, and
resumed as a whole.
Once all are trained, their best weights become one classifier, kept in `ensemble.json`.
"""

from __future__ import annotations

import functools
import gc
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import stdtrit

from pmtrain.config import TrainConfig
from pmtrain.data.dataset import DataSet, Sample
from pmtrain.data.images.shortcut_features import FeatureTable
from pmtrain.data.loading.cache_folder import open_cache
from pmtrain.data.loading.loader import Loader
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.data.select import select
from pmtrain.data.splits import leakage
from pmtrain.data.splits.record import contents, read_record, write_record
from pmtrain.evaluation.scores.ensemble import common_info, ensemble_threshold, keep_ensemble, validation_scores
from pmtrain.evaluation.scores.score import Scores
from pmtrain.evaluation.scores.score_table import score_table
from pmtrain.metrics import evaluate_measures
from pmtrain.models.backends.device import gpu_count, gpu_names, select_device
from pmtrain.runs.checkpoint import Checkpoint, load_checkpoint
from pmtrain.runs.records import STATE, CheckpointInfo
from pmtrain.runs.resume_state import load_resume
from pmtrain.runs.run_folder import RunFolder
from pmtrain.system import console, environment
from pmtrain.system.console import quoted
from pmtrain.system.errors import PmtrainError
from pmtrain.system.files import write_atomic
from pmtrain.system.framework import paddle
from pmtrain.system.parallel.side_by_side import side_by_side
from pmtrain.system.stop import StopSignal
from pmtrain.training.run import Run, WhenDone
from pmtrain.training.saving import RunState, calibration
from pmtrain.training.techniques.starting_weights import weights_again, with_weights
from pmtrain.training.tracking import require
from pmtrain.training.train import command_line, data_record, other_data, resolved, resumed_config, trainable

SCORES = "ensemble.csv"
MEASURED = {"accuracy": "Accuracy", "auc": "AUC", "loss": "Loss"}
LEVEL, N_BOOT = 0.95, 2000
THRESHOLD = 0.5  # any other threshold would have been chosen on the images that are measured


@dataclass(frozen=True)
class Part:
    """How one of several trainings differs from the others: the name of its folder, and its own options."""

    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Member:
    """One of several trainings: all that starts it, without anything that can't be sent to another process.

    Args:
        kind: `fold` or `seed`.
        number: from 1.
        count: of all members.
        config: its own options.
        data: split for it, with the images that --leakage drops.
        folder: its run folder.
    """

    kind: str
    number: int
    count: int
    config: TrainConfig
    data: DataSet
    folder: RunFolder


@dataclass(frozen=True)
class Whole:
    """Several trainings: their folder, the options that they have in common, the members, and their device."""

    folder: RunFolder
    config: TrainConfig
    members: list[Member]
    device: str


def begin(
    config: TrainConfig,
    kind: str,
    parts: Sequence[Part],
    splits: Sequence[DataSet],
    data: DataSet,
    about: Mapping[str, Any],
) -> Whole:
    """Make the folder of the whole and the members' folders in it, before the first batch.

    Args:
        splits: the data of each member.
        data: what run.json of the whole tells of.
        about: what else run.json of the whole tells.
    Raises:
        PmtrainError: as `train.begin`.
    """
    device = select_device(config.device)
    require(config.track)
    config, weights = with_weights(config)
    checked: dict[int, leakage.Enforced] = {}  # members that share their data are looked at once
    for split in splits:
        if id(split) not in checked:
            checked[id(split)] = trainable(split, config)
    with paddle.utils.unique_name.guard():
        config = resolved(config, Run(config, checked[id(splits[0])].data, device, weights))
    folder = RunFolder.create(config)
    folder.write_info({})  # the whole is there once this is filled
    record = {
        "command": command_line(),
        "device": device,
        "backend": config.backend,
        "environment": environment.describe(gpu_names()),
        "weights": weights and weights.record,
    }
    known = contents(splits[0].samples)
    members = [
        _member(folder, config, kind, number, part, split, len(parts))
        for number, (part, split) in enumerate(zip(parts, splits, strict=True), 1)
    ]
    for member in members:
        RunFolder.create(member.config)
        of = {"number": member.number, f"n_{kind}s": len(parts)}
        of_data = data_record(member.data, checked[id(member.data)])
        member.folder.write_info({**record, "data": of_data, kind: of})
        write_record(member.folder.images, member.data, known)
    folder.write_info({**record, "data": data_record(data, checked.get(id(data))), **about})
    return Whole(folder, config, members, device)


def reopen(path: Path, flags: Mapping[str, Any], kind: str, parts_of: Callable[[TrainConfig], list[Part]]) -> Whole:
    """The trainings in the folder `path`, to go on with them.

    Args:
        flags: options that may change.
        parts_of: the members' names and options from the options of the whole; their data is that of their records.
    Raises:
        PmtrainError: as `train.resume`.
    """
    folder = RunFolder.open(path)
    config = resumed_config(folder, flags)
    device = select_device(config.device)
    if not folder.info():
        raise PmtrainError(f"{path} was stopped during set-up, before training", "start a new run")
    listed, parts = select(config), parts_of(config)
    members = []
    for number, part in enumerate(parts, 1):
        own = RunFolder(path / part.name)
        record = read_record(own.images)
        data = record.applied(listed, own.info()["data"]["fingerprint"])
        if data is None or len(data.samples) != len(record.splits):
            raise other_data(listed)
        members.append(_member(folder, config, kind, number, part, data, len(parts)))
    return Whole(folder, config, members, device)


def _member(
    folder: RunFolder, config: TrainConfig, kind: str, number: int, part: Part, data: DataSet, count: int
) -> Member:
    own = RunFolder(folder.path / part.name)
    own.whole = folder.path
    options = {"folds": None, "seeds": None, "nproc": 1, "output": own.path, **part.options}
    return Member(kind, number, count, config.model_copy(update=options), data, own)


def go(whole: Whole, conclude: Callable[[Whole, list[RunState]], None], when_done: WhenDone | None = None) -> int:
    """Train the remaining members, then call `conclude` with where each stands; return the exit code.

    Args:
        when_done: called last, where the config wants a report.
    """
    with console.logged(whole.folder.log), StopSignal() as stop:
        if whole.config.nproc > 1:
            reached = trained_side_by_side(whole, stop)
        else:
            reached = [train_member(member, whole.device, stop) for member in whole.members if not stop.signum]
        if stop.signum:
            if all(at is None or at.epoch >= whole.config.epochs for at in reached):  # no member has said it
                console.notice(f"stopped; go on with: pmtrain train --resume {quoted(whole.folder.path)}")
            return 128 + stop.signum
        conclude(whole, reached)
    if when_done and whole.config.report:
        when_done(whole.folder.path, None)
    return 0


def trained_side_by_side(whole: Whole, stop: StopSignal) -> list[RunState]:
    """As `train_member` for all members, --nproc at a time, each in a process of its own."""
    fill_cache(whole, stop)
    if stop.signum:
        return []
    count = min(whole.config.nproc, len(whole.members))
    gpus = gpu_count() if whole.device != "cpu" else 0
    jobs = {
        f"{member.kind} {member.number} of {member.count}": functools.partial(
            train_elsewhere, member, f"gpu:{number % gpus}" if gpus else whole.device
        )
        for number, member in enumerate(whole.members)
    }
    return side_by_side(jobs, count, stop)


def train_elsewhere(member: Member, device: str, stop: StopSignal) -> RunState:
    """As `train_member`, in a process that hasn't chosen a device yet."""
    return train_member(member, select_device(device), stop)


def fill_cache(whole: Whole, stop: StopSignal) -> None:
    """Decode the images that the cache on disk lacks, once for all members."""
    config = whole.config
    cache = open_cache(config.cache_limit)
    if cache is None:
        return
    samples = list(dict.fromkeys(sample.path for member in whole.members for sample in member.data.samples))
    paths = [Sample(path, 0) for path in samples]
    with Loader(
        paths,
        Preprocess(config.preprocess, config.image_size),
        config.batch_size,
        workers=config.workers,
        on_bad_image="skip",
        cache=cache,
        patient=True,
        features=FeatureTable(samples) if config.shortcut else None,
        cache_limit_bytes=0,
    ) as loader:
        with console.progress(len(paths), "image", "cache") as bar:
            for _ in loader.pixels():
                bar.update()
                if stop.signum:
                    return


def train_member(member: Member, device: str, stop: StopSignal) -> RunState:
    """Train one network to the end or to a stop, from its latest state if there is one; return its position."""
    folder, config, kind = member.folder, member.config, member.kind
    saved = load_resume(folder.last) if (folder.last / STATE).exists() else None
    if saved and saved.state["epoch"] >= config.epochs:
        folder.write_metrics(saved.state["history"])  # the process may have been killed just before
        return RunState.of(saved)
    # Paddle numbers names per process; with the guard, every member starts from 0 again.
    with paddle.utils.unique_name.guard():
        weights = None if saved else weights_again(config, folder.info().get("weights"))
        run = Run(config, leakage.without(member.data, folder.dropped_files()), device, weights)
        run.folder = folder
        if saved:
            run.restore(saved)
            where = f"epoch {run.at.epoch}, batch {run.at.batch}"
            console.notice(f"resuming {kind} {member.number} of {member.count} at {where}")
        else:
            console.result(f"[{kind}] {member.number}/{member.count}")
        run.go(stop)
        at = run.at
    del run, saved
    gc.collect()  # free the network's memory before the next one is built
    return at


@dataclass(frozen=True)
class Together:
    """The members' best weights as one classifier.

    Args:
        checkpoints: of the members.
        info: what ensemble.json says of the whole.
        scores: the mean logit of each image that was held out, by the members that held it out.
        data: these images.
    """

    checkpoints: list[Checkpoint]
    info: CheckpointInfo
    scores: Scores
    data: DataSet


def keep_together(whole: Whole) -> Together | None:
    """Write ensemble.json and ensemble.csv; None where a member, trained by an older pmtrain, keeps no scores."""
    checkpoints = [load_checkpoint(member.folder.best) for member in whole.members]
    found = validation_scores(checkpoints)
    if found is None:
        console.notice("the networks keep no scores of their best epochs, so no threshold is stored for their mean")
        return None
    data = held_out(whole.members)
    scores = in_order_of(data, found)
    threshold, rule = ensemble_threshold(whole.config.threshold_rule, scores)
    info = common_info(checkpoints, threshold, rule)
    calibrator = calibration(whole.config, data, info.prior, scores, True)
    measured = evaluate_measures(scores.labels, scores.probabilities, THRESHOLD)["auc"].value
    metrics = {"loss": scores.loss, "accuracy": scores.accuracy, "auc": measured}
    info = info.model_copy(update={"calibration": calibrator, "metrics": metrics})
    scores = replace(scores, calibration=calibrator)
    table = score_table(scores, data.name_of, info.decision_threshold)
    write_atomic(whole.folder.path / SCORES, table)
    kind = f"{whole.members[0].kind}s"
    keep_ensemble(whole.folder.path, kind, [member.folder.path.name for member in whole.members], info)
    return Together(checkpoints, info, scores, data)


def told(whole: Whole, together: Together) -> str:
    """What the networks are together, in a line."""
    info = together.info
    return (
        f"together: the mean of {len(whole.members)} networks, with the threshold {info.decision_threshold:.6g}"
        f" ({info.threshold_rule}): pmtrain predict {quoted(whole.folder.path)} IMAGES"
    )


def held_out(members: Sequence[Member]) -> DataSet:
    """The images that any member held out for validation, in the order of the data."""
    held = {sample.path for member in members for sample in member.data.split("val")}
    data = members[0].data
    samples = (replace(sample, split="val") for sample in data.samples if sample.path in held)
    return replace(data, samples=tuple(samples))


def in_order_of(data: DataSet, scores: Scores) -> Scores:
    """Scores by name, as of `validation_scores`, in the order of the data and with its samples."""
    row_of = {sample.path.as_posix(): row for row, sample in enumerate(scores.samples)}
    samples = [sample for sample in data.samples if Path(data.name_of(sample)).as_posix() in row_of]
    rows = np.array([row_of[Path(data.name_of(sample)).as_posix()] for sample in samples], int)
    assert scores.spread is not None and scores.scored_by is not None
    apart = {"spread": scores.spread[rows], "scored_by": scores.scored_by[rows]}
    return replace(scores, samples=samples, labels=scores.labels[rows], logits=scores.logits[rows], **apart)


def spread(values: Sequence[float | None]) -> dict[str, float | None]:
    """Mean, standard deviation (ddof 1) and range over members; None if a member has no value."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return dict.fromkeys(("mean", "std", "min", "max"))
    return {
        "mean": statistics.fmean(known),
        "std": statistics.stdev(known),
        "min": min(known),
        "max": max(known),
    }


def mean_interval(
    found: Mapping[str, float | None], count: int, bounds: tuple[float, float]
) -> tuple[float | None, float | None]:
    """Student's interval of the mean that `spread` found over `count` independent trainings, at LEVEL, in `bounds`."""
    mean, std = found["mean"], found["std"]
    if mean is None or std is None:
        return None, None
    half = float(stdtrit(count - 1, (1 + LEVEL) / 2)) * std / count**0.5
    return max(mean - half, bounds[0]), min(mean + half, bounds[1])


def write_json(path: Path, report: Mapping[str, Any]) -> None:
    """Write results; a file name that isn't UTF-8 comes as it is on disk."""
    content = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomic(path, content.encode("utf-8", errors="surrogateescape"))
