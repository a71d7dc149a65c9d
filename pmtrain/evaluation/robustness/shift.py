"""`--shift`: a network's metrics on the same images, changed as other cameras or laboratories would."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pmtrain.config import MeasuringOptions
from pmtrain.data.dataset import Sample
from pmtrain.data.images.file_table import FILES
from pmtrain.data.images.read import ImageFile
from pmtrain.data.loading.loader import Batch
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.data.preprocessing.retina.eye import aligned
from pmtrain.evaluation.robustness.changes import Scene
from pmtrain.evaluation.robustness.conditions import Condition, Metrics, Reached, over_conditions
from pmtrain.evaluation.robustness.suite import SHIFTS, Change
from pmtrain.evaluation.scores.score import Scores, score
from pmtrain.evaluation.scores.scoring import check_finite
from pmtrain.evaluation.scores.views import by_size, views_of
from pmtrain.metrics import Assessed
from pmtrain.metrics.text import ends, percent
from pmtrain.models.adapt_bn import adapt, even_batches
from pmtrain.runs.checkpoint import Networks
from pmtrain.runs.network import load_network
from pmtrain.system import console
from pmtrain.system.hardware import use_every_core
from pmtrain.system.parallel import ALONE, Processes

SHOWN = {"auc": "AUC", "sensitivity": "sensitivity", "specificity": "specificity"}


@dataclass(frozen=True)
class Shifted:
    """A network on a suite.

    Args:
        logits: (N, C) float64: of each image under each condition, change by change.
        reached: AUC, sensitivity and specificity, of the images as they are and under each condition, and means.
    """

    suite: str
    severities: tuple[int, ...]
    threshold: float
    n: int
    logits: np.ndarray
    reached: Reached

    @property
    def changes(self) -> dict[str, Change]:
        """The rows of the suite."""
        return SHIFTS[self.suite]

    def lines(self) -> list[str]:
        """The printed table: a row for each change, the mean over its severities."""
        severities = ", ".join(map(str, self.severities))
        width = max(len("loss against clean"), *map(len, self.changes))
        rows = {"clean": self.reached.clean, **self.reached.by_change}
        rows |= {"mean": self.reached.mean, "loss against clean": self.reached.loss}
        level = percent(self.reached.clean["auc"].interval.level)
        cells = {row: [cell_text(metrics[name]) for name in SHOWN] for row, metrics in rows.items()}
        columns = [
            max(len(title), *(len(cell[at]) for cell in cells.values())) for at, title in enumerate(SHOWN.values())
        ]
        return [
            "",
            f"{self.suite} suite: {self.n} images, {len(self.changes)} changes, the mean over severities {severities}",
            f"{'':{width}}  " + "  ".join(f"{t:{w}}" for t, w in zip(SHOWN.values(), columns, strict=True)).rstrip(),
            *(
                f"{row:{width}}  " + "  ".join(f"{c:{w}}" for c, w in zip(cell, columns, strict=True)).rstrip()
                for row, cell in cells.items()
            ),
            f"  at the threshold {self.threshold:.6g}, with {level} intervals:"
            f" {self.reached.clean['auc'].interval.method}; the same resamples in each row",
        ]

    def report(self) -> dict[str, Any]:
        """The same for metrics.json, with each severity."""
        reached = self.reached
        return {
            "suite": self.suite,
            "severities": list(self.severities),
            "images": self.n,
            "threshold": self.threshold,
            "clean": _as_json(reached.clean),
            "mean": _as_json(reached.mean),
            "loss": _as_json(reached.loss),
            "changes": {
                name: {
                    "source": change.source,
                    "mean": _as_json(reached.by_change[name]),
                    "loss": _as_json(reached.loss_by_change[name]),
                    "by_severity": {
                        str(severity): {
                            "amount": change.amounts[severity - 1],
                            **_as_json(reached.cells[name, severity]),
                        }
                        for severity in self.severities
                    },
                }
                for name, change in self.changes.items()
            },
        }

    def table(self) -> str:
        """shift.csv: clean, each change at each severity, its mean, the mean of all; losses are clean minus changed."""
        reached = self.reached
        parts = [f"{name}{of}{end}" for of in ("", "_loss") for name in SHOWN for end in ("", "_low", "_high")]
        lines = [console.csv_row("change", "severity", "amount", *parts)]

        def add(change: str, severity: object, amount: str | None, metrics: Metrics, loss: Metrics | None) -> None:
            both = [each[name] for each in (metrics, loss) if each for name in SHOWN]
            numbers = [number for measured in both for number in _numbers(measured)]
            lines.append(console.csv_row(change, severity, amount, *numbers, *[None] * (len(parts) - len(numbers))))

        add("clean", 0, None, reached.clean, None)
        for name, change in self.changes.items():
            for severity in self.severities:
                add(name, severity, f"{change.amounts[severity - 1]:.6g}", reached.cells[name, severity], None)
            add(name, "mean", None, reached.by_change[name], reached.loss_by_change[name])
        add("all", "mean", None, reached.mean, reached.loss)
        return "\n".join(lines) + "\n"


def conditions_of(config: MeasuringOptions) -> list[Condition]:
    """The changes and severities that `config.shift` asks for, in order."""
    assert config.shift
    return [(name, int(severity)) for name in SHIFTS[config.shift] for severity in config.shift_severities.split(",")]


def shift_logits(
    checkpoint: Networks,
    samples: Sequence[Sample],
    config: MeasuringOptions,
    device: str,
    processes: Processes = ALONE,
) -> np.ndarray:
    """(N, C) the network's logit for each of N images under each of the C conditions of `config`.

    Args:
        processes: those that share the work, each a run of whole batches; each gets all logits.
    Raises:
        PmtrainError: an image can no longer be read, or the network's output isn't finite.
    """
    assert config.shift
    suite, conditions, size = SHIFTS[config.shift], conditions_of(config), config.batch_size
    # Each condition is a camera of its own, whose images are adapted to together.
    together = [[condition] for condition in conditions] if config.adapt_bn else [conditions]
    views = views_of(config)
    ways = [by_size(views, Preprocess.of(member.info)) for member in checkpoint.members]
    logits = np.zeros((len(samples), len(conditions)))
    passes = sum(map(len, ways))
    with console.progress(len(samples) * len(conditions) * passes, "image", f"{config.shift} suite") as bar:

        def on_batch(batch: Batch) -> None:
            bar.update(len(batch.samples) * processes.size)

        def batches(of: Sequence[Sample], preprocess: Preprocess, size: int, rows: range) -> Iterator[Batch]:
            return _ahead(_batches(of, preprocess, suite, part, rows, config.seed, size))

        for member, changes_at in zip(checkpoint.members, ways, strict=True):
            model, backend = load_network(member, device, config.backend, config.precision)
            trained = Preprocess.of(member.info)
            for first, part in enumerate(together):
                rows = len(samples) * len(part)
                if config.adapt_bn:
                    even = even_batches(len(samples), size)
                    mixed = batches(_mixed(samples), trained, even, range(rows))
                    adapt(model, backend, (batch.images for batch in mixed))
                ends = [-(-rows // size) * rank // processes.size * size for rank in range(processes.size + 1)]
                own = range(rows)[slice(*ends[processes.rank :][:2])]
                for way, changes in changes_at.items():
                    scores = score(model, batches(samples, way, size, own), backend, on_batch, changes)
                    found = np.concatenate(processes.gathered(scores.logits))
                    check_finite(found, member)
                    share = len(changes) / len(views) / len(checkpoint.members)
                    logits[:, first : first + len(part)] += found.reshape(len(samples), len(part)) * share
    return logits


def shifted(
    checkpoint: Networks,
    clean: Scores,
    logits: np.ndarray,
    threshold: float,
    groups: Sequence[str] | None,
    config: MeasuringOptions,
) -> Shifted:
    """The checkpoint on the suite that `config.shift` names.

    Args:
        clean: its scores of the N images as they are.
        logits: (N, C) as `shift_logits` gives them.
        groups: (N,) the patient of each image; None where none is known.
    """
    assert config.shift
    conditions, severities = conditions_of(config), tuple(map(int, config.shift_severities.split(",")))
    reached = over_conditions(
        clean.labels,
        clean.probabilities,
        {
            condition: checkpoint.info.probabilities(column)
            for condition, column in zip(conditions, logits.T, strict=True)
        },
        threshold,
        groups,
        config.bootstrap,
    )
    return Shifted(config.shift, severities, threshold, len(clean.samples), logits, reached)


def changed_images(
    path: Path,
    preprocess: Preprocess,
    suite: dict[str, Change],
    conditions: Sequence[Condition],
    seed: int,
    columns: Sequence[tuple[str, str]] = (),
) -> Iterator[np.ndarray]:
    """One image under each condition, uint8 (S, S, 3); the file is decoded once.

    What is random is drawn from the seed, the file's content, the change's name and the severity: so it doesn't depend
    on the other images, conditions and rows, nor on batches and threads.

    Args:
        columns: (name, cell) of a table, which may say which eye it is.
    Raises:
        BadImage: it can't be read.
    """
    try:
        content = FILES.read(path)
    except OSError:
        content = None  # reading it again raises the error that names the file
    file = ImageFile(path, content.data if content else None)
    digest = content.digest if content else hashlib.sha256(file.data).digest()
    reduced = preprocess.reduced(file)
    # Before any change: a strong one could hide the optic disc.
    eye = preprocess.eye(preprocess.resize_reduced(reduced), path, columns) if preprocess.align_eyes else None
    scene = Scene(reduced)
    for name, severity in conditions:
        change = suite[name]
        key = (int.from_bytes(digest[:8], "little"), zlib.crc32(name.encode()), severity)
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(7, *key)))
        image = preprocess.resize_reduced(change.apply(scene, change.amounts[severity - 1], rng))
        yield aligned(image, eye) if eye else image


def _batches(
    samples: Sequence[Sample],
    preprocess: Preprocess,
    suite: dict[str, Change],
    conditions: Sequence[Condition],
    rows: range,
    seed: int,
    batch_size: int,
) -> Iterator[Batch]:
    """Every sample under every condition, those of the `rows`, image by image: one batch at a time is in memory."""
    waiting: list[tuple[Sample, np.ndarray]] = []
    index = 0

    def batch() -> Batch:
        of, pixels = zip(*waiting, strict=True)
        labels = np.array([[sample.label] for sample in of], np.float32)
        return Batch(index, preprocess.normalise(np.stack(pixels)), labels, list(of))

    for place, sample in enumerate(samples):
        own = [each for row, each in enumerate(conditions, place * len(conditions)) if row in rows]
        for image in changed_images(sample.path, preprocess, suite, own, seed, sample.columns) if own else ():
            waiting.append((sample, image))
            if len(waiting) == batch_size:
                yield batch()
                waiting.clear()
                index += 1
    if waiting:
        yield batch()


def _mixed(samples: Sequence[Sample]) -> list[Sample]:
    """The samples in random order, the same every time."""
    return [samples[place] for place in np.random.default_rng(0).permutation(len(samples))]


def _ahead(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The same; the next is made in a thread while this one is used."""
    with ThreadPoolExecutor(1, "shift", use_every_core) as thread:
        waiting = thread.submit(next, batches, None)
        while (ready := waiting.result()) is not None:
            waiting = thread.submit(next, batches, None)
            yield ready


def cell_text(measured: Assessed) -> str:
    """`0.9961 (0.993 to 0.999)`, or why there is no value."""
    if measured.value.value is None:
        return f"undefined: {measured.value.reason}"
    between = "" if measured.interval.low is None else f" ({ends(measured.interval)})"
    return f"{measured.value.value:.4f}{between}"


def _numbers(measured: Assessed) -> list[str | None]:
    """The value and the ends of its interval."""
    numbers = measured.value.value, measured.interval.low, measured.interval.high
    return [None if number is None else f"{number:.6f}" for number in numbers]


def _as_json(metrics: Metrics) -> dict[str, Any]:
    return {
        name: {"value": measured.value.value, "reason": measured.value.reason, "interval": asdict(measured.interval)}
        for name, measured in metrics.items()
    }
