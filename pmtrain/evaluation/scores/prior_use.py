"""What the checkpoint's own run used the images for: reasons why its metrics on them are too good."""

from __future__ import annotations

from collections import Counter

from pmtrain.data.splits import leakage
from pmtrain.evaluation.scores.chosen_images import Images
from pmtrain.evaluation.scores.own_run import OwnRun, own_run
from pmtrain.runs.checkpoint import Checkpoint
from pmtrain.runs.run_folder import RunFolder


def seen_before(checkpoint: Checkpoint, images: Images) -> str:
    """How the checkpoint's own run used the images, where that makes its metrics too good; empty otherwise."""
    run = _run_of(checkpoint, images)
    if run is None:
        return ""
    own, record, dropped = run.data, run.record, run.folder.dropped_files()
    used: Counter[str | None]
    if own is not None:
        split_of = record.splits if record else {own.name_of(sample): sample.split for sample in own.samples}
        names = (own.name_of(sample) for sample in images.samples)
        used = Counter(split_of.get(name) for name in names if name not in dropped)
    elif record is not None:
        used = record.used(images.samples, dropped)
    else:
        return ""
    if used["train"]:
        same = "" if own else ", byte for byte"
        return f"the network was trained on {used['train']} of these {len(images.samples)} images{same}"
    if used["val"]:
        return f"the epoch and the stored threshold were chosen on {_of(used['val'], len(images.samples))} images"
    return ""


def also_trained_on(checkpoint: Checkpoint, images: Images) -> tuple[int, int]:
    """How many of the images the checkpoint's own run also trained on as other, identical files, and how many more are
    of patients with training images.

    Both are 0 for other data than the run's, whose leaks aren't known.
    """
    run = _run_of(checkpoint, images)
    if run is None or run.data is None:
        return 0, 0
    own_of = {sample.path: sample for sample in run.data.samples}
    return leakage.also_trained_on(run.data, [own_of[sample.path] for sample in images.samples], run.folder.leakage())


def _run_of(checkpoint: Checkpoint, images: Images) -> OwnRun | None:
    """The checkpoint's run: the one read when the images were chosen, or another where they were chosen for another."""
    folder = RunFolder.around(checkpoint.path)
    if images.run and folder and images.run.folder.path == folder.path:
        return images.run
    return own_run(checkpoint, images.listed)


def _of(part: int, whole: int) -> str:
    return f"these {whole}" if part == whole else f"{part} of these {whole}"
