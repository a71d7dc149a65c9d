"""Trackers: what they are told arrives, and what goes wrong with one stops nothing."""

from __future__ import annotations

import csv
import struct
import threading

import numpy as np
import pytest

from pmtrain.training import tracking
from pmtrain.training.tracking import TRACKERS, Kind, Tracking, annotated
from tests.conftest import QUICK


def events(folder):
    """(step, tag, value) of the scalars, and the tags of the images, in a folder of TensorBoard's event files.

    A file is a row of records: their length as uint64, its checksum, the message, and that one's checksum.
    """
    proto = pytest.importorskip("tensorboardX.proto.event_pb2")
    scalars, images = [], set()
    for file in sorted(folder.glob("events.*")):
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = proto.Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            for value in event.summary.value:
                if value.HasField("image"):
                    images.add(value.tag)
                elif value.HasField("simple_value"):
                    scalars.append((event.step, value.tag, value.simple_value))
    return scalars, images


class Recorder:
    """A tracker that keeps what it is told."""

    def __init__(self, folder, step):
        self.heard = [("open", folder, step)]

    def config(self, text):
        self.heard.append(("config", text))

    def scalars(self, values, step):
        self.heard.append(("scalars", dict(values), step))

    def images(self, images, step):
        self.heard.append(("images", sorted(images), step))

    def close(self):
        self.heard.append(("close",))


class Broken(Recorder):
    def scalars(self, values, step):
        raise OSError("the server is gone")


@pytest.fixture
def opened(monkeypatch):
    """The recorders that were opened, by name: `good` and `broken` are rows of the table meanwhile."""
    found = {}

    def opens(name, kind):
        return Kind(lambda folder, step: found.setdefault(name, kind(folder, step)), "numpy")

    monkeypatch.setitem(TRACKERS, "good", opens("good", Recorder))
    monkeypatch.setitem(TRACKERS, "broken", opens("broken", Broken))
    monkeypatch.setitem(TRACKERS, "never", Kind(lambda folder, step: 1 / 0, "numpy"))
    return found


def test_all_that_is_shown_arrives_in_order(opened, tmp_path):
    with Tracking(["good"], tmp_path, "lr: 1", 7) as shown:
        shown.scalars({"loss": 0.5, "auc": None}, 8)
        shown.images(lambda: {"a": np.zeros((4, 4, 3), np.uint8)}, 9)
    assert opened["good"].heard == [
        ("open", tmp_path, 7),
        ("config", "lr: 1"),
        ("scalars", {"loss": 0.5}, 8),
        ("images", ["a"], 9),
        ("close",),
    ]


def test_one_that_fails_warns_once_and_the_others_go_on(opened, tmp_path, capsys):
    with Tracking(["broken", "never", "good"], tmp_path, "", 0) as shown:
        for step in range(3):
            shown.scalars({"loss": 0.5}, step)
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 2
    assert "never failed" in warnings[0] and "ZeroDivisionError" in warnings[0]
    assert "broken failed" in warnings[1] and "the server is gone" in warnings[1]
    assert [heard[2] for heard in opened["good"].heard if heard[0] == "scalars"] == [0, 1, 2]


def test_images_that_cannot_be_drawn_are_left_out(opened, tmp_path, capsys):
    with Tracking(["good"], tmp_path, "", 0) as shown:
        shown.images(lambda: 1 / 0, 1)
        shown.scalars({"loss": 0.5}, 2)
    assert "no images for good" in capsys.readouterr().err
    assert [heard[0] for heard in opened["good"].heard] == ["open", "config", "scalars", "close"]


def test_one_that_hangs_holds_nothing_up(opened, tmp_path, capsys, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(tracking, "PATIENCE", 0.05)
    monkeypatch.setattr(Recorder, "scalars", lambda self, values, step: gate.wait(60))
    with Tracking(["good"], tmp_path, "", 0) as shown:
        shown.scalars({"loss": 0.5}, 1)
    gate.set()
    assert "good took over 0.05 s" in capsys.readouterr().err


def test_none_is_free(tmp_path):
    threads = threading.active_count()
    with Tracking([], tmp_path, "", 0) as shown:
        shown.scalars({"loss": 0.5}, 1)
        shown.images(lambda: 1 / 0, 1)
        assert threading.active_count() == threads


def test_annotated_adds_a_strip_and_keeps_the_picture():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    right, wrong = annotated(image, 1, 0.9), annotated(image, 0, 0.9)
    assert (right[:64] == image).all() and right.shape[0] > 64 and right.dtype == np.uint8
    green, red = right[64:].reshape(-1, 3).max(0), wrong[64:].reshape(-1, 3).max(0)
    assert green[1] > green[0] and red[0] > red[1]


def test_train_shows_what_metrics_csv_holds(run_cli, small_set, tmp_path):
    pytest.importorskip("tensorboardX")
    done = run_cli("train", "--data", small_set, "--epochs", 2, "--output", "run", "--track", "tensorboard", *QUICK)
    assert done.exit_code == 0, done.stderr
    scalars, images = events(tmp_path / "run" / "tensorboard")
    with open(tmp_path / "run" / "metrics.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for name in ("train_loss", "val_loss", "val_accuracy", "val_auc"):
        shown = [(step, value) for step, tag, value in scalars if tag == name.replace("_", "/")]
        assert [step for step, _ in shown] == [3, 6]
        np.testing.assert_allclose([value for _, value in shown], [float(row[name]) for row in rows], rtol=1e-6)
    printed = [float(line.rpartition(" ")[2]) for line in done.stdout.splitlines() if "loss is" in line]
    losses = [(step, value) for step, tag, value in scalars if tag == "train/batch_loss"]
    assert [step for step, _ in losses] == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose([value for _, value in losses], printed, atol=6e-5)
    assert images == {f"worst_cases/{number}" for number in range(1, 9)}


def test_train_goes_on_without_a_tracker_that_fails(run_cli, small_set, opened, monkeypatch):
    monkeypatch.setitem(TRACKERS, "tensorboard", TRACKERS["broken"])
    done = run_cli("train", "--data", small_set, "--epochs", 1, "--track", "tensorboard", *QUICK)
    assert done.exit_code == 0
    assert done.stderr.count("failed, and the run continues without it") == 1
    assert "[validation]" in done.stdout


def test_a_tracker_that_is_not_installed_is_said_before_anything_begins(run_cli, small_set, tmp_path, monkeypatch):
    monkeypatch.setitem(TRACKERS, "mlflow", Kind(Recorder, "no_such_package"))
    done = run_cli("train", "--data", small_set, "--output", "run", "--track", "mlflow", *QUICK)
    assert done.exit_code == 2 and 'pip install "pmtrain[mlflow]"' in done.stderr
    assert not (tmp_path / "run").exists()
    done = run_cli("train", "--data", small_set, "--track", "wandb", *QUICK)
    assert done.exit_code == 2 and "wandb" in done.stderr and "tensorboard" in done.stderr
