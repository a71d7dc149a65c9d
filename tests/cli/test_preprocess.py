"""`--preprocess`: the same pixels in every command, and statistics that are measured once and kept."""

from __future__ import annotations

import hashlib
import json
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from pmtrain.data.images.read import read_image
from pmtrain.data.loading.loader import Loader
from pmtrain.data.preprocessing.preprocess import PREPROCESSING, Preprocess
from pmtrain.runs.checkpoint import load_checkpoint
from tests.conftest import QUICK

SHORT = (*QUICK, "--epochs", "1", "--lr", "0.0001")


@pytest.fixture(scope="module")
def eyes(tmp_path_factory) -> Path:
    """Wide JPEGs of bright discs on black, large enough to be decoded at a fraction: 8 + 4, split/class."""
    root = tmp_path_factory.mktemp("eyes") / "photos"
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4)):
        for number in range(count):
            sick = number % 2
            image = np.zeros((200, 320, 3), np.uint8)
            cv2.circle(image, (150 + 4 * number, 100), 90, (40, 90, 160), -1)
            cv2.circle(image, (150, 100), 30, (90, 200, 230) if sick else (10, 30, 50), -1)
            image = cv2.add(image, rng.integers(0, 8, image.shape, np.uint8))
            path = root / split / ("sick" if sick else "healthy") / f"{split}{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
    return root


@pytest.fixture(scope="module")
def trained(eyes, tmp_path_factory) -> Path:
    """A run with the training set's own statistics."""
    from pmtrain.cli import app

    folder = tmp_path_factory.mktemp("runs") / "fundus"
    done = CliRunner().invoke(
        app, ["train", "--data", str(eyes), "--preprocess", "fundus", "--output", str(folder), *SHORT]
    )
    assert done.exit_code == 0, done.stderr
    return folder


@pytest.fixture
def seen(monkeypatch):
    """seen(): what the network was given since the last call, one hash an image."""
    hashes: set[str] = set()
    normalise = Preprocess.normalise

    def watched(self, images):
        values = normalise(self, images)
        hashes.update(hashlib.sha256(one.tobytes()).hexdigest() for one in values)
        return values

    def taken() -> set[str]:
        found = set(hashes)
        hashes.clear()
        return found

    monkeypatch.setattr(Preprocess, "normalise", watched)
    return taken


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name != "fundus" else []) for name in PREPROCESSING]
)
def test_every_command_sees_the_same_pixels(name, run_cli, eyes, seen, tmp_path):
    done = run_cli("train", "--data", eyes, "--preprocess", name, "--output", "run", *SHORT)
    assert done.exit_code == 0, done.stderr
    trained = seen()
    assert len(trained) == 12
    assert run_cli("eval", "run", "--data", eyes, "--split", "val", "--workers", 0, "--n-boot", 100).exit_code == 0
    evaluated = seen()
    assert len(evaluated) == 4 and evaluated < trained
    assert run_cli("predict", "run", eyes / "val", "--workers", 0).exit_code == 0
    assert seen() == evaluated
    assert run_cli("explain", "run", eyes / "val").exit_code == 0
    assert seen() == evaluated
    assert run_cli("eval", "run", "--data", eyes, "--split", "train", "--workers", 1, "--n-boot", 100).exit_code == 0
    assert seen() == trained - evaluated


def statistics(folder: Path) -> list[tuple]:
    """The mean and standard deviation as run.json, the best weights and the state to resume from have them."""
    pixels = json.loads((folder / "run.json").read_text(encoding="utf-8"))["pixels"]
    found = [(tuple(pixels["mean"]), tuple(pixels["std"]))]
    for checkpoint in (folder / "best.pdparams", *folder.glob("last/*/model.pdparams")):
        info = load_checkpoint(checkpoint).info
        found.append((info.pixel_mean, info.pixel_std))
    return found


def test_the_mean_and_std_are_those_of_the_training_images_whatever_the_workers(run_cli, eyes, trained, tmp_path):
    options = [*SHORT, "--preprocess", "fundus", "--output", "other", "--workers", 2]
    assert run_cli("train", "--data", eyes, *options).exit_code == 0
    images = np.stack([Preprocess("fundus", 32).read(path) for path in (eyes / "train").rglob("*.jpg")])[..., ::-1]
    mean, std = images.mean(axis=(0, 1, 2)) / 255, images.std(axis=(0, 1, 2)) / 255
    (first, *others), (second, *_) = statistics(trained), statistics(tmp_path / "other")
    np.testing.assert_allclose(first, (mean, std), rtol=1e-12)
    assert second == first and others and all(other == first for other in others)


@pytest.mark.slow
def test_the_statistics_are_resumed(run_cli, eyes, tmp_path):
    train = ("train", "--data", eyes, "--preprocess", "fundus", *SHORT[:-4], "--lr", "0.0001")
    whole = run_cli(*train, "--epochs", "2", "--output", "whole")
    assert run_cli(*train, "--epochs", "1", "--output", "half").exit_code == 0
    before = statistics(tmp_path / "half")
    resumed = run_cli("train", "--resume", "half", "--epochs", "2")
    assert resumed.exit_code == 0, resumed.stderr
    assert statistics(tmp_path / "half")[0] == before[0]
    assert whole.stdout.endswith(resumed.stdout) and resumed.stdout.startswith("epoch: 1")


@pytest.mark.slow
def test_a_run_stopped_while_it_measures_measures_again(run_cli, eyes, trained, tmp_path, monkeypatch):
    pixels = Loader.pixels

    def interrupted(self):
        signal.raise_signal(signal.SIGINT)
        yield from pixels(self)

    with monkeypatch.context() as patch:
        patch.setattr(Loader, "pixels", interrupted)
        stopped = run_cli("train", "--data", eyes, "--preprocess", "fundus", "--output", "run", *SHORT)
    assert stopped.exit_code == 130, stopped.stderr
    resumed = run_cli("train", "--resume", "run")
    assert resumed.exit_code == 0, resumed.stderr
    assert statistics(tmp_path / "run") == statistics(trained)


def test_a_run_keeps_its_preprocessing(run_cli, trained):
    refused = run_cli("train", "--resume", trained, "--preprocess", "notes")
    assert refused.exit_code == 2 and "--preprocess notes: the run has fundus" in refused.stderr


def test_a_dry_run_needs_no_statistics(run_cli, eyes, tmp_path):
    done = run_cli("train", "--data", eyes, "--preprocess", "fundus", "--dry-run", *SHORT)
    assert done.exit_code == 0, done.stderr
    assert not list(tmp_path.iterdir())


def test_the_picture_of_an_explanation_is_what_the_network_saw(run_cli, eyes, trained, tmp_path):
    photograph = eyes / "val" / "sick" / "val1.jpg"
    assert run_cli("explain", trained, photograph).exit_code == 0
    picture = cv2.imread(str(tmp_path / "gradcam" / "val1.jpg.gradcam.png"))
    panel = picture[36:516, :480]  # between caption and colour bar: the field of view alone, square, on black
    assert panel.shape == (480, 480, 3)
    box = Preprocess("fundus", 32).seen(read_image(photograph))
    np.testing.assert_array_equal(panel, cv2.resize(box, (480, 480)))
    assert abs(len(box) - 181) <= 8  # a disc of radius 90 in a photograph of 320 x 200


def test_pages_are_warned_of_once(run_cli, checkpoint, tmp_path):
    from PIL import Image

    pages = [Image.new("RGB", (40, 36), (grey, grey, grey)) for grey in (60, 200)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "one.tif")
    for command in ("predict", "explain"):
        done = run_cli(command, checkpoint, "one.tif", "pages.tif")
        assert done.exit_code == 0
        assert done.stderr.count("only the first is read): pages.tif (2)") == 1
