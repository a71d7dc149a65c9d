"""Trainings that belong together, such as the folds of a cross-validation: each is a run in the whole's folder.

They are trained one after the other, or side by side with --nproc, with the same records in their `run.json`, and
resumed as a whole.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pmtrain.config import TrainConfig
from pmtrain.data.dataset import DataSet, Sample
from pmtrain.data.images.shortcut_features import FeatureTable
from pmtrain.data.loading.cache_folder import open_cache
from pmtrain.data.loading.loader import Loader
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.data.select import select
from pmtrain.data.splits import leakage
from pmtrain.data.splits.record import contents, read_record, write_record
from pmtrain.models.backends.device import gpu_count, gpu_names, select_device
from pmtrain.runs.records import STATE
from pmtrain.runs.resume_state import load_resume
from pmtrain.runs.run_folder import RunFolder
from pmtrain.system import console, environment
from pmtrain.system.console import quoted
from pmtrain.system.errors import PmtrainError
from pmtrain.system.framework import paddle
from pmtrain.system.parallel.side_by_side import side_by_side
from pmtrain.system.stop import StopSignal
from pmtrain.training.run import Run, WhenDone
from pmtrain.training.saving import RunState
from pmtrain.training.setup import tell_recipes
from pmtrain.training.techniques.starting_weights import weights_again, with_weights
from pmtrain.training.tracking import require
from pmtrain.training.train import command_line, data_record, other_data, resolved, resumed_config, trainable


@dataclass(frozen=True)
class Part:
    """How one of several trainings differs from the others: the name of its folder, and its own options."""

    name: str
    options: Mapping[str, Any]


class Prepared(NamedTuple):
    """The data of each member, the data that run.json of the whole tells of, and what else that tells."""

    splits: Sequence[DataSet]
    data: DataSet
    about: Mapping[str, Any]


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


def begin(config: TrainConfig, kind: str, parts: Sequence[Part], prepared: Prepared) -> Whole:
    """Make the folder of the whole and the members' folders in it, before the first batch.

    Raises:
        PmtrainError: as `train.begin`.
    """
    splits, data, about = prepared
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
        tell_recipes(whole.config)
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
