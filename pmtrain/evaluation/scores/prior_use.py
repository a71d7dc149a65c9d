"""What the networks' own runs used the images for: reasons why metrics on them are too good, and who may score them."""

from __future__ import annotations

import numpy as np

from pmtrain.data.splits import leakage
from pmtrain.evaluation.scores.chosen_images import Images
from pmtrain.evaluation.scores.own_run import OwnRun, own_run, record_beside, record_of
from pmtrain.runs.checkpoint import Checkpoint, Networks
from pmtrain.runs.run_folder import RunFolder
from pmtrain.system import console


def seen_before(checkpoint: Networks, images: Images) -> list[str]:
    """How the checkpoint's own run used the images, where that makes its metrics too good; none otherwise.

    Of several networks, an image counts as trained on only if all were: otherwise those that were don't score it.
    Where it isn't known which images a network was trained on, a notice says so.
    """
    runs = [_run_of(member, images) for member in checkpoint.members]
    for member, run in zip(checkpoint.members, runs, strict=True):
        if run is None and record_of(member) is None:
            console.notice(
                f"{member.path}: it isn't known which images it was trained on, so nothing tells whether these were"
                f" among them: it lies in no run folder, and has no {record_beside(member.path).name} beside it"
            )
    uses = [used(*each, images) for each in zip(checkpoint.members, runs, strict=True)]
    several, told = len(runs) > 1, []
    if trained := sum(all("train" in splits for splits in of_image) for of_image in zip(*uses, strict=True)):
        same = "" if any(run and run.data for run in runs) else ", byte for byte"
        subject = "the networks were" if several else "the network was"
        told.append(f"{subject} trained on {trained} of these {len(images.samples)} images{same}")
    if held := sum(any("val" in splits for splits in of_image) for of_image in zip(*uses, strict=True)):
        chosen = "the epochs" if several else "the epoch"
        told.append(f"{chosen} and the stored threshold were chosen on {_of(held, len(images.samples))} images")
    return told


def scorers(checkpoint: Networks, images: Images) -> np.ndarray:
    """(M, N) bool: which of the M networks score which image: those not trained on it; if all were, all of them."""
    uses = [used(member, _run_of(member, images), images) for member in checkpoint.members]
    trained = np.array([["train" in splits for splits in of_images] for of_images in uses], bool)
    return ~trained | trained.all(axis=0)


def used(checkpoint: Checkpoint, run: OwnRun | None, images: Images) -> list[set[str | None]]:
    """(N,) in which splits of a network's run each image is; none where it wasn't used or that isn't known."""
    if run is None:
        record = record_of(checkpoint)
        return record.used(images.samples) if record else [set() for _ in images.samples]
    if run.data is None and run.record is None:
        return [set() for _ in images.samples]
    own, record, dropped = run.data, run.record, set(run.folder.dropped_files())
    if own is None:
        assert record is not None
        return record.used(images.samples, dropped)
    split_of = record.splits if record else {own.name_of(sample): sample.split for sample in own.samples}
    names = (own.name_of(sample) for sample in images.samples)
    return [{split_of.get(name)} if name not in dropped else set() for name in names]


def also_trained_on(checkpoint: Networks, images: Images) -> tuple[int, int]:
    """How many of the images the checkpoint's own run also trained on as other, identical files, and how many more are
    of patients with training images.

    Both are 0 for other data than the run's, whose leaks aren't known. Of several networks, each is asked for the
    images that it held out.
    """
    copies, related = set(), set()
    for member in checkpoint.members:
        run = _run_of(member, images)
        if run is None or run.data is None:
            continue
        own_of = {sample.path: sample for sample in run.data.samples}
        found = leakage.also_trained_on(
            run.data, [own_of[sample.path] for sample in images.samples], run.folder.leakage()
        )
        copies |= {sample.path for sample in found[0]}
        related |= {sample.path for sample in found[1]}
    return len(copies), len(related - copies)


def _run_of(checkpoint: Checkpoint, images: Images) -> OwnRun | None:
    """The checkpoint's run: one read when the images were chosen, or another where they were chosen for another."""
    folder = RunFolder.around(checkpoint.path)
    known = (images.run.parts or (images.run,)) if images.run else ()
    same = (run for run in known if folder and run.folder.path == folder.path)
    return next(same, None) or own_run(checkpoint, images.listed)


def _of(part: int, whole: int) -> str:
    return f"these {whole}" if part == whole else f"{part} of these {whole}"
