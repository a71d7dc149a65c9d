"""A run's folder: its options, its data, its metrics and its checkpoints.

config.yaml     every option, resolved
run.json        versions, device, git revision, command, data set and its fingerprint
images.csv      every image: its split, its size and the SHA-256 of its bytes
metrics.csv     one line an epoch
validation.csv  the last epoch's score for every validation image
best-validation.csv  the same of the epoch of the best weights
train.log       everything printed, with the time
shortcut.json   the shortcut baseline: its AUC from file size, image size and colour, and the fitted model
report.html     a page about the run
MODEL_CARD.md   the model for those who are given it: data, recipe, figures, limits
best.pdparams   the best weights by validation AUC, best.json beside them
last/           the state to resume from

A cross-validation's folder has config.yaml, run.json and train.log, and a run's folder for each fold (fold-1, fold-2,
...). Once all folds are trained, it has more:

out-of-fold.csv  every image's score by the network that never saw it, of the last epoch; with its fold
folds.json       the results of the last epoch (nothing was chosen) and of the best ones
ensemble.json    the best weights of all folds as one classifier: an EnsembleRecord of runs.records
ensemble.csv     every image's score by the best weights of the fold that held it out: what the threshold is from

`train --seeds` leaves a run's folder for each seed (seed-0, seed-1, ...) and, once all are trained:

seeds.json       the results of the networks and of the ensemble, with their spread
ensemble.json    as above
ensemble.csv     the mean of the networks' logits for every validation image, and their standard deviation
report.html      a page about the ensemble
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from pmtrain.config import AS_TRAINED, PretrainConfig, ReportConfig, TrainConfig, dump_yaml, load_config
from pmtrain.config.load import read_yaml
from pmtrain.runs.old_keys import with_new_keys
from pmtrain.system.console import quoted
from pmtrain.system.errors import PmtrainError, UsageError
from pmtrain.system.files import read_json, write_atomic

Folder = TypeVar("Folder", bound="RunFolder")

HOME = Path("runs")
ALWAYS = ("data", "layers", "epochs", "seed", "save_every", "output")  # in the config.yaml of every run, in this order
METRICS = ("epoch", "train_loss", "val_loss", "val_accuracy", "val_auc", "lr", "images_per_second")


class RunFolder:
    """The files of one run. Each is written whole or not at all."""

    command, kind, prefix = "train", "run", ""  # what makes it, what it is called, how a name of its own begins
    columns: tuple[str, ...] = METRICS

    def __init__(self, path: Path) -> None:
        self.path = path
        self.whole = path  # what to resume: of a fold, the cross-validation that it is part of
        self.config_file = path / "config.yaml"
        self.best = path / "best.pdparams"
        self.last = path / "last"
        self.log = path / "train.log"
        self.metrics = path / "metrics.csv"
        self.images = path / "images.csv"
        self.validation = path / "validation.csv"
        self.best_validation = path / "best-validation.csv"
        self.info_file = path / "run.json"
        self.shortcut = path / "shortcut.json"

    @classmethod
    def create(cls: type[Folder], config: TrainConfig | PretrainConfig) -> Folder:
        """Make a new folder, `--output` or runs/DATE-resnetLAYERS, with the options in it.

        Raises:
            UsageError: `--output` exists and isn't empty.
        """
        if config.output is not None:
            require_new(config.output, cls.command)
            config.output.mkdir(parents=True, exist_ok=True)
            folder = cls(config.output)
        else:
            folder = cls(dated_folder(f"{cls.prefix}resnet{config.layers}"))
        try:
            # Exclusively: another training may begin in the same folder at the same moment.
            with open(folder.config_file, "xb") as file:
                file.write(dump_yaml(config).encode())
        except FileExistsError:
            raise _taken(folder.path, cls.command) from None
        return folder

    @classmethod
    def open(cls: type[Folder], path: Path) -> Folder:
        """Open the folder of an existing run.

        Raises:
            PmtrainError: it is not a run's folder.
        """
        folder = cls(path)
        if not folder.config_file.is_file():
            raise PmtrainError(
                f"{path} is not a {cls.kind}'s folder: it has no {folder.config_file.name}",
                f"give a folder that `pmtrain {cls.command}` made, such as {HOME / f'DATE-{cls.prefix}resnet50'}",
            )
        return folder

    @classmethod
    def around(cls, checkpoint: Path) -> RunFolder | None:
        """The run that a checkpoint file belongs to; None where it belongs to none."""
        starts = [checkpoint, *checkpoint.parents[:3]]
        return next(
            (cls(path) for path in starts if cls(path).config_file.is_file() and cls(path).info_file.is_file()), None
        )

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from training in this folder meanwhile; the lock goes with the process, however it ends.

        Raises:
            PmtrainError: another process is training there.
        """
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise PmtrainError(
                f"{self.path}: another process is training in it", "wait for its end, or stop it first"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def config(self) -> TrainConfig:
        """The options of the run.

        Raises:
            PmtrainError: the file is damaged: a default is never taken for what was lost.
        """
        kept = read_yaml(self.config_file)
        if lost := [name for name in ALWAYS if name not in kept]:
            raise PmtrainError(
                f"{self.config_file}: isn't whole: it has no {', '.join(lost)}", "bring back the file as it was saved"
            )
        return load_config(TrainConfig, {}, self.config_file)

    def report_config(self, given: Mapping[str, Any]) -> ReportConfig:
        """The options of a report: those given, else the run's own, so that its numbers are the same."""
        kept = self.config()
        return load_config(ReportConfig, {key: getattr(kept, key) for key in AS_TRAINED} | dict(given))

    def info(self) -> dict[str, Any]:
        """What `write_info` wrote. What a damaged file lacks raises PmtrainError where it is asked for.

        Raises:
            PmtrainError: the file is damaged or missing.
        """
        hint = f"start a new {self.kind}"
        kept = with_new_keys("run.json", read_json(self.info_file, hint))
        if kept and not isinstance(kept["data"], dict):
            raise PmtrainError(f"{self.info_file}: can't be read: its `data` is no mapping", hint)
        return kept

    def leakage(self) -> dict[str, Any]:
        """What `--leakage` found and did; empty for a run that didn't look for leaks."""
        return self.info()["data"].get("leakage", {})

    def dropped_files(self) -> list[str]:
        """Names of the training images that `--leakage drop` removed."""
        return self.leakage().get("dropped_files", [])

    def write_info(self, info: dict[str, Any]) -> None:
        write_atomic(self.info_file, (json.dumps(info, indent=2, ensure_ascii=False) + "\n").encode())

    def write_shortcut(self, report: dict[str, Any]) -> None:
        content = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        write_atomic(self.shortcut, content.encode("utf-8", errors="surrogateescape"))

    def read_shortcut(self) -> dict[str, Any]:
        """What `write_shortcut` wrote.

        Raises:
            PmtrainError: the file is damaged.
        """
        return read_json(self.shortcut, errors="surrogateescape")

    def history(self) -> list[dict[str, Any]]:
        """What `write_metrics` wrote; an empty cell is None.

        Raises:
            PmtrainError: the file is damaged or missing.
        """
        try:
            with open(self.metrics, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            return [
                {key: int(text) if key == "epoch" else float(text) if text else None for key, text in row.items()}
                for row in rows
            ]
        except (OSError, ValueError, TypeError, csv.Error) as error:
            raise PmtrainError(f"{self.metrics}: can't be read: {error}", "bring back the file as it was") from None

    def write_metrics(self, history: list[dict[str, Any]]) -> None:
        """Write the table of epochs anew, so that an epoch that is run again after a kill has one line."""
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        write_atomic(self.metrics, text.getvalue().encode())


def require_new(output: Path, command: str = "train") -> None:
    """Refuse an `--output` that exists and isn't empty.

    Args:
        command: the one that would go on with it.
    Raises:
        UsageError: it exists and isn't an empty folder.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise _taken(output, command)


def _taken(output: Path, command: str = "train") -> UsageError:
    return UsageError(
        f"--output {output}: exists already, and a run is never overwritten",
        f"give another folder, or go on with that run: {quoted('pmtrain', command, '--resume', output)}",
    )


def dated_folder(kind: str) -> Path:
    """Make runs/DATE-KIND."""
    name = f"{datetime.now():%Y%m%d-%H%M%S}-{kind}"
    for number in range(1, 1000):
        path = HOME / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:  # another run started in the same second
            continue
        return path
    raise PmtrainError(f"{HOME}: holds too many runs named {name}")
