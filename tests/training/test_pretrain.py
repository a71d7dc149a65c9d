"""`pmtrain pretrain`: its folder, its exact resume, and its weights in a training."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import pytest

from pmtrain.system.stop import Stopped
from pmtrain.training import pretrain

pytestmark = pytest.mark.slow

TINY = ("--image-size", "32", "--batch-size", "6", "--epochs", "2", "--workers", "0", "--backend", "paddle")


@pytest.fixture(scope="module")
def pretrained(small_set, tmp_path_factory) -> Path:
    """The folder of a pre-training on all 20 images of `small_set`, in 3 batches an epoch."""
    from typer.testing import CliRunner

    from pmtrain.cli import app

    home = tmp_path_factory.mktemp("pretrained") / "pre"
    done = CliRunner().invoke(app, ["pretrain", "--data", str(small_set), *TINY, "--output", str(home)])
    assert done.exit_code == 0, done.stderr
    assert (
        done.stdout.startswith("epoch: 0, batch_id: 0, loss is: ") and "20 images, used without labels" in done.stderr
    )
    assert f"next: pmtrain train --weights {home}" in done.stderr.replace("'", "")
    return home


def test_its_folder_tells_of_its_images(pretrained, small_set):
    digests = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in small_set.rglob("*.png"))
    info = json.loads((pretrained / "pretraining.json").read_text())
    assert info["data"]["images"] == 20
    assert info["data"]["contents_sha256"] == hashlib.sha256("\n".join(digests).encode()).hexdigest()
    with open(pretrained / "images.csv") as file:
        assert sorted(row["sha256"] for row in csv.DictReader(file)) == digests
    with open(pretrained / "loss.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert all(-1 <= float(row["loss"]) <= 1 and 0 < float(row["spread"]) <= 1 for row in rows)


@pytest.mark.parametrize("after", [2, 3])
def test_a_stopped_one_goes_on_as_if_it_never_had(after, pretrained, small_set, run_cli, monkeypatch):
    """Stopped inside an epoch, and at its end."""
    calls = 0

    def stop(self) -> None:
        nonlocal calls
        calls += 1
        if calls == after:
            self.signum = 15
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(pretrain.StopSignal, "check", stop)
        stopped = run_cli("pretrain", "--data", small_set, *TINY, "--output", "pre")
    assert stopped.exit_code == 143 and "pmtrain pretrain --resume pre" in stopped.stderr
    assert not Path("pre/pretrained.pdparams").exists()
    resumed = run_cli("pretrain", "--resume", "pre")
    assert resumed.exit_code == 0, resumed.stderr
    for name in ("pretrained.pdparams", "pretrained.json", "loss.csv"):
        assert Path("pre", name).read_bytes() == (pretrained / name).read_bytes(), name


def test_a_training_takes_its_weights_and_says_what_they_have_seen(pretrained, small_set, run_cli):
    options = ("--no-report", "--no-shortcut", "--no-domain", "--workers", "0", "--epochs", "1", "--lr", "0.0001")
    done = run_cli("train", "--data", small_set, "--weights", pretrained, *options, "--output", "run")
    assert done.exit_code == 0, done.stderr
    assert "pre-trained on 8 of the 8 validation images, without their labels" in done.stderr
    with open("run/run.json") as file:
        weights = json.load(file)["weights"]
    assert weights["seen_unlabelled"] == 8 and weights["classifier"] == "new"
    with open("run/best.json") as file:
        side = json.load(file)
    assert (side["layers"], side["image_size"], side["preprocessing"]) == (18, 32, "fundus-local")


def test_what_it_refuses(pretrained, small_set, tmp_path, run_cli):
    one = tmp_path / "one"
    one.mkdir()
    (one / "a.png").write_bytes(next(small_set.rglob("*.png")).read_bytes())
    for arguments, told in (
        (("pretrain",), "--data FOLDER"),
        (("pretrain", "--data", one), "one image is too few"),
        (("pretrain", "--data", small_set, "--output", pretrained), f"pmtrain pretrain --resume {pretrained}"),
        (("pretrain", "--resume", one), "it has no options.yaml"),
        (("pretrain", "--resume", pretrained, "--lr", "0.5"), "--lr 0.5: the pre-training has 0.02"),
        (("eval", pretrained, "--data", small_set), "so it has no classifier"),
    ):
        done = run_cli(*arguments)
        assert done.exit_code in (1, 2) and told in done.stderr.replace("'", ""), done.stderr
