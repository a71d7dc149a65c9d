"""Experiment trackers: log a run's losses, metrics and a few images while it trains. One row of TRACKERS each.

A tracker may fail at any time, and its server may hang. So trackers run in their own thread, a tracker is dropped with
a warning at its first failure, and training waits for trackers only briefly at the end.
"""

from __future__ import annotations

import importlib.util
import os
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from pmtrain.data.loading.cache import Cache
from pmtrain.data.loading.loader import read_one
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.evaluation.scores.score import Scores
from pmtrain.system import console
from pmtrain.system.errors import UsageError
from pmtrain.system.files import write_atomic

PATIENCE = 30.0  # seconds to wait at the end of a run for data still to be sent

# A line of metrics.csv as trackers name it.
TRACKED = {
    "epoch": "epoch",
    "train_loss": "train/loss",
    "val_loss": "val/loss",
    "val_accuracy": "val/accuracy",
    "val_auc": "val/auc",
    "lr": "train/lr",
    "images_per_second": "train/images_per_second",
}


class Tracker(Protocol):
    """An open tracker. `step` counts training batches from the start of the run."""

    def config(self, text: str) -> None:
        """Log the run's options, as YAML."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Log metrics by name, such as `val/auc`."""

    def images(self, images: Mapping[str, np.ndarray], step: int) -> None:
        """Log images by name: uint8 (H, W, 3), RGB."""

    def close(self) -> None:
        """Write buffered data, and close."""


class TensorBoard:
    """Event files in RUN/tensorboard, written by tensorboardX, which needs neither TensorFlow nor PyTorch."""

    def __init__(self, folder: Path, step: int) -> None:
        from tensorboardX import SummaryWriter

        # Points from this step on are from a process that stopped after its last save; they will be logged again.
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step or None)

    def config(self, text: str) -> None:
        self.writer.add_text("config", f"```\n{text}```", 0)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def images(self, images: Mapping[str, np.ndarray], step: int) -> None:
        for name, image in images.items():
            self.writer.add_image(name, image, step, dataformats="HWC")
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class VisualDL:
    """Record files in RUN/visualdl, for Paddle's viewer."""

    def __init__(self, folder: Path, step: int) -> None:
        from visualdl import LogWriter

        self.writer = LogWriter(logdir=str(folder / "visualdl"))

    def config(self, text: str) -> None:
        self.writer.add_text("config", text, 0)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def images(self, images: Mapping[str, np.ndarray], step: int) -> None:
        for name, image in images.items():
            self.writer.add_image(name, image, step)

    def close(self) -> None:
        self.writer.close()


class MLflow:
    """A run in the experiment `pmtrain` or MLFLOW_EXPERIMENT_NAME, at MLFLOW_TRACKING_URI.

    Its ID is kept in RUN/mlflow-run.txt, so that a resumed run continues in the same MLflow run.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient()
        kept = folder / "mlflow-run.txt"
        if kept.exists():
            self.run = kept.read_text(encoding="utf-8").strip()
            self.client.update_run(self.run, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "pmtrain")
        known = self.client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self.client.create_experiment(name)
        self.run = self.client.create_run(experiment, run_name=folder.resolve().name).info.run_id
        write_atomic(kept, f"{self.run}\n".encode())

    def config(self, text: str) -> None:
        self.client.log_text(self.run, text, "config.yaml")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.client.log_metric(self.run, name, value, step=step)

    def images(self, images: Mapping[str, np.ndarray], step: int) -> None:
        for name, image in images.items():
            self.client.log_image(self.run, image, key=name.replace("/", "-"), step=step)

    def close(self) -> None:
        self.client.set_terminated(self.run)


@dataclass(frozen=True)
class Kind:
    """A tracker: the function that opens it for a run folder at a step, and the package that it needs."""

    open: Callable[[Path, int], Tracker]
    package: str


# Each name is also an optional extra of pmtrain and a choice of --track.
TRACKERS = {
    "tensorboard": Kind(TensorBoard, "tensorboardX"),
    "visualdl": Kind(VisualDL, "visualdl"),
    "mlflow": Kind(MLflow, "mlflow"),
}


def require(names: Sequence[str]) -> None:
    """Refuse trackers that aren't installed, before training starts.

    Raises:
        UsageError: a tracker's package is missing.
    """
    for name in names:
        if importlib.util.find_spec(TRACKERS[name].package) is None:
            raise UsageError(
                f"--track {name}: the package {TRACKERS[name].package} is not installed",
                f'run `pip install "pmtrain[{name}]"`, or leave --track {name} out',
            )


class Tracking:
    """Several trackers as one; they can't stop or slow down the run.

    Args:
        names: rows of TRACKERS.
        folder: the run folder.
        config: the run's options, as YAML.
        step: batches trained before this process started.
    """

    def __init__(self, names: Sequence[str], folder: Path, config: str, step: int) -> None:
        self._trackers: dict[str, Tracker] = {}
        self._jobs: queue.SimpleQueue[tuple[str, tuple[Any, ...]] | None] = queue.SimpleQueue()
        # A daemon thread: a server that hangs can't keep the program from ending.
        self._thread = threading.Thread(target=self._work, args=(list(names), folder, step), daemon=True)
        if names:
            self._thread.start()
            self._jobs.put(("config", (config,)))

    def __enter__(self) -> Tracking:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread.ident is None:
            return
        self._jobs.put(None)
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            console.warn(
                f"{' and '.join(self._trackers)} took over {PATIENCE:g} s: the last metrics may be missing there"
            )

    def scalars(self, values: Mapping[str, float | None], step: int) -> None:
        """Log metrics; those that are None are left out."""
        if self._thread.ident is not None:
            self._jobs.put(("scalars", ({name: value for name, value in values.items() if value is not None}, step)))

    def images(self, draw: Callable[[], Mapping[str, np.ndarray]], step: int) -> None:
        """Log images, which are drawn in the trackers' thread."""
        if self._thread.ident is not None:
            self._jobs.put(("images", (draw, step)))

    def _work(self, names: Sequence[str], folder: Path, step: int) -> None:
        for name in names:
            self._guard(name, self._open, name, folder, step)
        while (job := self._jobs.get()) is not None:
            method, arguments = job
            if method == "images" and self._trackers:
                draw, at = arguments
                try:
                    arguments = (draw(), at)
                except Exception as error:
                    console.warn(f"no images for {' and '.join(self._trackers)}: {error}")
                    continue
            for name, tracker in list(self._trackers.items()):
                self._guard(name, getattr(tracker, method), *arguments)
        for name, tracker in list(self._trackers.items()):
            self._guard(name, tracker.close)

    def _open(self, name: str, folder: Path, step: int) -> None:
        self._trackers[name] = TRACKERS[name].open(folder, step)

    def _guard(self, name: str, call: Callable[..., object], *arguments: object) -> None:
        """Call a tracker; if the call fails, warn and drop the tracker."""
        try:
            call(*arguments)
        except Exception as error:
            detail = " ".join(str(error).split())[:300]
            console.warn(f"{name} failed, and the run continues without it: {type(error).__name__}: {detail}")
            self._trackers.pop(name, None)


def worst_cases(scores: Scores, preprocess: Preprocess, cache: Cache | None, count: int = 8) -> dict[str, np.ndarray]:
    """The images that the network is most wrong about, as it sees them, with label and probability."""
    probabilities = scores.probabilities
    places = np.argsort(-np.abs(probabilities - scores.labels), kind="stable")[:count]
    return {
        f"worst_cases/{rank}": annotated(
            read_one(scores.samples[place], preprocess, cache)[..., ::-1],
            int(scores.labels[place]),
            float(probabilities[place]),
        )
        for rank, place in enumerate(places, 1)
    }


def annotated(image: np.ndarray, label: int, probability: float) -> np.ndarray:
    """An image with a strip below it that shows label and P(positive), in red if they disagree.

    uint8 (H, W, 3), RGB -> uint8 (H + strip, W, 3).
    """
    height, width = image.shape[:2]
    strip = np.zeros((max(14, height // 10), width, 3), np.uint8)
    colour = (120, 255, 120) if (probability >= 0.5) == bool(label) else (255, 120, 120)
    text = f"label {label}  p {probability:.3f}"
    scale = min(cv2.getFontScaleFromHeight(cv2.FONT_HERSHEY_SIMPLEX, strip.shape[0] // 2), width / 300)
    cv2.putText(strip, text, (2, strip.shape[0] * 3 // 4), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
    return np.concatenate([image, strip])
