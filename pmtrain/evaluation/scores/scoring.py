"""A checkpoint's score for every image that the options name, and where to cut: what every report of it rests on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmtrain.config import ListingOptions, ScoringOptions
from pmtrain.data.dataset import DataSet, Sample
from pmtrain.data.loading.cache import open_cache
from pmtrain.data.loading.loader import Batch, Loader
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.data.select import select
from pmtrain.data.splits import leakage
from pmtrain.data.splits.record import read_record
from pmtrain.data.splits.split import hold_out
from pmtrain.evaluation.scores.score import FLIPS, Scores, score
from pmtrain.metrics import choose_threshold, parse_threshold_rule
from pmtrain.models import build_model
from pmtrain.models.backends.choose import Backend, choose_backend
from pmtrain.runs.checkpoint import Checkpoint
from pmtrain.runs.model_state import apply_state
from pmtrain.runs.run_folder import RunFolder
from pmtrain.system import console
from pmtrain.system.errors import PmtrainError, UsageError
from pmtrain.system.framework import paddle
from pmtrain.system.version import __version__


@dataclass(frozen=True)
class Images:
    """The samples to score, of one split (or `all`) of a data set; `listed` is the data set before any hold-out."""

    listed: DataSet
    data: DataSet
    samples: tuple[Sample, ...]
    split: str


@dataclass(frozen=True)
class Scored:
    """A checkpoint's scores, the images left out with the reason, and what computed them, ready for JSON."""

    scores: Scores
    left_out: dict[str, str]
    computed: dict[str, Any]


@dataclass(frozen=True)
class OperatingPoint:
    """The threshold, how it was had, and `tuned`: whether it was chosen on the very images that are reported."""

    value: float
    rule: str
    text: str
    tuned: bool


def choose_images(checkpoint: Checkpoint, options: ScoringOptions) -> Images:
    """The images that the options name.

    Without --data they are those of the checkpoint's own run. Images that a run held out for validation are held
    out again, so that its training images are never taken for validation images.

    Raises:
        PmtrainError: the data can't be read, or holds no such split.
    """
    run = RunFolder.around(checkpoint.path)
    if run and options.data is None:
        kept = run.config()
        fields = ListingOptions.model_fields
        unsaid = [name for name in fields if getattr(options, name) == fields[name].default]
        options = options.model_copy(update={name: getattr(kept, name) for name in unsaid})
    listed = select(options, make_synthetic_set=False)
    compare_classes(checkpoint, listed)
    data = _as_split_by(run, listed) or listed
    if data is not listed:
        console.notice("these are the images of the checkpoint's own run: those that it held out are evaluated")
    split = options.split or ("val" if data.split("val") else "all")
    samples = data.samples if split == "all" else data.split(split)
    if not samples:
        there = sorted({sample.split for sample in data.samples if sample.split})
        raise UsageError(
            f"--split {split}: {data.root} has no such split",
            f"it has {', '.join(there) or 'none'}; or give --split all",
        )
    console.notice(f"evaluating {len(samples)} images, split: {split}")
    return Images(listed, data, samples, split)


def compare_classes(checkpoint: Checkpoint, data: DataSet) -> None:
    """Refuse data with the checkpoint's classes the other way round; warn of other names.

    Raises:
        PmtrainError: they are the other way round.
    """
    known = checkpoint.info.class_names
    if set(data.classes) != set(known) and checkpoint.side_file is not None:
        pairs = " and ".join(f"{ours!r} for {theirs!r}" for ours, theirs in zip(data.classes, known, strict=True))
        console.warn(f"{checkpoint.path} was trained on other classes than {data.root} has: {pairs}")
    if set(data.classes) == set(known) and data.classes != known:
        raise PmtrainError(
            f"{data.root}: {data.classes[1]!r} is its positive class, yet the checkpoint's ({checkpoint.path}) is"
            f" {known[1]!r}",
            f"give --positive {known[1]!r}",
        )


def _as_split_by(run: RunFolder | None, listed: DataSet) -> DataSet | None:
    """The data as the run split it; None where it is other data."""
    if run is None:
        return None
    kept, fingerprint = run.config(), run.info()["data"]["fingerprint"]
    if run.images.is_file():
        return read_record(run.images).applied(listed, fingerprint)
    if listed.split("val"):
        return listed if listed.fingerprint() == fingerprint else None
    try:
        held = hold_out(listed, kept.val_fraction, kept.seed)
    except PmtrainError:  # too few for a hold-out, so that no run made one
        return None
    return held if held.fingerprint() == fingerprint else None


def seen_before(checkpoint: Checkpoint, images: Images) -> str:
    """How the checkpoint's own run used the images, where that flatters it; empty where it didn't or isn't known."""
    run = RunFolder.around(checkpoint.path)
    own = _as_split_by(run, images.listed)
    if run is None:
        return ""
    record = read_record(run.images) if run.images.is_file() else None
    dropped = run.dropped_files()
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
    """How many of the images the checkpoint's own run trained on as other files, and how many more of its patients.

    Both are 0 for other data than the run's, whose leaks aren't known.
    """
    run = RunFolder.around(checkpoint.path)
    own = _as_split_by(run, images.listed)
    if run is None or own is None:
        return 0, 0
    own_of = {sample.path: sample for sample in own.samples}
    return leakage.also_trained_on(own, [own_of[sample.path] for sample in images.samples], run.leakage())


def _of(part: int, whole: int) -> str:
    return f"these {whole}" if part == whole else f"{part} of these {whole}"


def score_checkpoint(checkpoint: Checkpoint, images: Images, options: ScoringOptions, device: str) -> Scored:
    """The checkpoint's logit for every image that can be decoded.

    Raises:
        PmtrainError: an image is bad and the options say `stop`; none is left; the weights don't fit the network.
    """
    model = build_model(checkpoint.info.layers)
    apply_state(model, checkpoint.state, checkpoint.path)
    backend = choose_backend(model, device, options.backend, options.precision)
    data, samples = images.data, images.samples
    with Loader(
        samples,
        Preprocess.of(checkpoint.info),
        options.batch_size,
        workers=options.workers,
        seed=0,
        shuffle=False,
        on_bad_image=options.on_bad_image,
        name_of=data.name_of,
        cache=open_cache(options.cache_limit),
        patient=True,
    ) as loader:
        with console.progress(len(samples), "image", "evaluation") as bar:

            def on_batch(batch: Batch) -> None:
                bar.update(len(batch.samples))

            scores = score(model, loader.epoch(0), backend, on_batch, FLIPS if options.tta else FLIPS[:1])
        scored = as_scored(scores, loader, data, backend, options.tta)
    for name, reason in scored.left_out.items():
        console.warn(f"left out: {name}: {reason}")
    if not np.isfinite(scores.logits).all():
        raise PmtrainError(
            f"{checkpoint.path}: the network's output isn't finite on"
            f" {int((~np.isfinite(scores.logits)).sum())} of {len(scores.logits)} images",
            "evaluate an earlier checkpoint, or give --precision fp32",
        )
    return scored


def as_scored(scores: Scores, loader: Loader, data: DataSet, backend: Backend, tta: bool = False) -> Scored:
    """The scores of a loader's images with the record of what they were computed from and by."""
    left_out = {data.name_of(sample): reason for sample, reason in loader.bad_images}
    computed = {
        "device": backend.device,
        "backend": backend.name,
        "precision": backend.precision,
        "views": ["as it is", "mirrored"][: 1 + tta],
        "versions": {"pmtrain": __version__, "paddle": paddle.__version__, "numpy": np.__version__},
    }
    return Scored(scores, left_out, computed)


def patients(samples: list[Sample], name_of) -> list[str] | None:
    """(N,) the patient of each image, to resample by; None where none is known."""
    if not any(sample.patient for sample in samples):
        return None
    unknown = sum(not sample.patient for sample in samples)
    if unknown:
        console.warn(f"{unknown} of {len(samples)} images name no patient: each counts as one of its own")
    # The leading letter keeps a patient and a file of one name apart.
    return [f"p {sample.patient}" if sample.patient else f"f {name_of(sample)}" for sample in samples]


MAX_GROUPS = 20  # of a column to report by; more is a number or a name, not a kind


def by_column(images: Images, column: str) -> dict[Sample, str]:
    """The cell of each image in a column of the data's table.

    Raises:
        UsageError: there is no such column, or it has more than MAX_GROUPS values.
    """
    names = dict.fromkeys(name for sample in images.samples for name, _ in sample.columns)
    if column not in names:
        raise UsageError(
            f"--group-by {column!r}: {images.data.root} has no such column",
            f"it has {', '.join(names)}" if names else "it has none; only a .csv table's other columns can be had",
        )
    cells = {sample: dict(sample.columns).get(column, "") for sample in images.samples}
    if (count := len(set(cells.values()))) > MAX_GROUPS:
        raise UsageError(
            f"--group-by {column!r}: it has {count} values, more than {MAX_GROUPS}",
            "give a column of kinds, such as sex or camera; put numbers into ranges first",
        )
    return cells


def operating_point(text: str, checkpoint: Checkpoint, scores: Scores) -> OperatingPoint:
    """The threshold that --threshold asks for.

    Raises:
        PmtrainError: the rule can't choose on these images.
    """
    rule, info = parse_threshold_rule(text), checkpoint.info
    if rule.kind == "stored":
        return OperatingPoint(info.threshold, "stored", f"stored: {info.threshold_rule}", False)
    chosen = choose_threshold(scores.labels, scores.probabilities, rule)
    if rule.kind == "fixed":
        return OperatingPoint(chosen.value, str(rule), "as given", False)
    if chosen.warning:
        console.warn(chosen.warning)
    return OperatingPoint(chosen.value, str(rule), f"{rule}, chosen on these images", True)
