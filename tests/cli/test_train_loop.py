"""`pmtrain train` with more than the notes' loop: resumed to the bit, the best weights are those evaluated."""

from __future__ import annotations

import csv
import os
import re
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pmtrain.config import TrainConfig
from pmtrain.runs.formats.state_dict import load_state
from pmtrain.training import run as running
from pmtrain.training.saving import RunState
from pmtrain.training.techniques.averages import Swa
from tests.cli.test_train import weights_of
from tests.conftest import QUICK

RECIPE = (
    *("--schedule", "cosine", "--warmup-steps", 2, "--nesterov", "--no-decay-norms", "--clip-norm", 5),
    *("--ema", 0.98, "--init", "he", "--drop-last", "--label-smoothing", 0.05, "--mixup", 0.2, "--cutmix", 1),
    *("--epochs", 3, *QUICK, "--batch-size", 5, "--image-size", 64, "--start-size", 32),
)


def test_a_run_with_everything_resumes_to_the_bit(run_cli, small_set, tmp_path, monkeypatch):
    whole = run_cli("train", "--data", small_set, "--output", "whole", *RECIPE)
    assert whole.exit_code == 0, whole.stderr
    assert "training loop: --schedule cosine --warmup-steps 2 --nesterov" in whole.stderr
    real, taken = running.Run.train_batch, []

    def stopping(self, batch):
        loss = real(self, batch)
        taken.append(batch.index)
        if len(taken) == 3:  # the first of two batches of epoch 1; the last two of 12 images are left out
            os.kill(os.getpid(), signal.SIGTERM)
        return loss

    monkeypatch.setattr(running.Run, "train_batch", stopping)
    stopped = run_cli("train", "--data", small_set, "--output", "parts", *RECIPE)
    assert stopped.exit_code == 128 + signal.SIGTERM
    assert taken == [0, 1, 0]
    resumed = run_cli("train", "--resume", "parts")
    assert resumed.exit_code == 0, resumed.stderr
    sizes = [line for line in resumed.stderr.splitlines() if line.endswith(" px")]
    assert sizes == ["epoch 1: training images of 64 px", "epoch 2: training images of 64 px"]
    assert "epoch 0: training images of 32 px" in stopped.stderr
    assert stopped.stdout + resumed.stdout == whole.stdout
    assert weights_of(tmp_path / "parts") == weights_of(tmp_path / "whole")
    assert (tmp_path / "parts/best.pdparams").read_bytes() == (tmp_path / "whole/best.pdparams").read_bytes()

    # (1 + cos(pi k / 6)) / 2 at the last step of each epoch, k = 1, 3 and 5, under a warm-up that has ended by then
    with open("whole/metrics.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["lr"]) for row in rows] == pytest.approx([0.00093301, 0.0005, 0.00006699], rel=1e-4)

    # The best weights are the averaged ones, which were evaluated; the raw ones are in last/.
    done = run_cli("eval", "whole", "--workers", 0)
    assert done.stdout.splitlines()[0] in whole.stdout.splitlines()
    best, raw = load_state(tmp_path / "whole/best.pdparams"), load_state(next(tmp_path.glob("whole/last/*/*.pdparams")))
    assert best.keys() == raw.keys()
    assert not np.array_equal(best["out.weight"], raw["out.weight"])

    refused = run_cli("train", "--resume", "whole", "--epochs", 5)
    assert refused.exit_code == 2
    assert "its learning rates depend on it" in refused.stderr


def test_averaged_epochs_resume_to_the_bit_from_within_the_pass_for_batch_norms(
    run_cli, small_set, tmp_path, monkeypatch
):
    options = (*QUICK, "--epochs", 3, "--swa-epochs", 2, "--swa-lr", 0.01, "--accumulate", 2)
    averaged, estimated = running.Run.average_epoch, running.estimate
    raw, parts = [], []

    def watched(self, *arguments):
        raw.append({name: tensor.numpy() for name, tensor in self.model.state_dict().items()})
        averaged(self, *arguments)

    def stopping(model, backend, batches, processes):
        for images in batches:
            parts.append(len(images))
            if stops and len(parts) == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            yield images

    monkeypatch.setattr(running.Run, "average_epoch", watched)
    monkeypatch.setattr(running, "estimate", lambda *given: estimated(*given[:2], stopping(*given), *given[3:]))
    stops = False
    whole = run_cli("train", "--data", small_set, "--output", "whole", *options)
    assert whole.exit_code == 0, whole.stderr
    assert parts == [2] * 12  # twice 12 images, in batches of 4 of two parts
    ends, stops = list(raw), True
    parts.clear()
    stopped = run_cli("train", "--data", small_set, "--output", "parts", *options)
    assert stopped.exit_code == 128 + signal.SIGTERM
    assert len(parts) in (1, 2)
    resumed = run_cli("train", "--resume", "parts")
    assert resumed.exit_code == 0, resumed.stderr
    assert stopped.stdout + resumed.stdout == whole.stdout
    assert weights_of(tmp_path / "parts") == weights_of(tmp_path / "whole")
    assert (tmp_path / "parts/best.pdparams").read_bytes() == (tmp_path / "whole/best.pdparams").read_bytes()

    state = load_state(next(tmp_path.glob("whole/last/*/*.pdopt")))
    for name in ("out.weight", "bb_3_1.conv0._conv.weight"):
        np.testing.assert_allclose(state[f"swa.{name}"], (ends[1][name] + ends[2][name]) / 2, rtol=1e-5, atol=1e-7)
    # Statistics of the averaged weights' own activations, not the mean of those before.
    mean = "bb_3_1.conv0._batch_norm._mean"
    assert np.abs(state[f"swa.{mean}"] - (ends[1][mean] + ends[2][mean]) / 2).max() > 1e-3


def test_a_recipe_trains_on_fewer_images_than_a_batch_of_it(run_cli, small_set):
    options = ("--image-size", 32, "--epochs", 1, "--workers", 0, "--no-report", "--no-shortcut", "--output", "run")
    off = "--no-nesterov", "--decay-norms"
    done = run_cli("train", "--data", small_set, "--recipe", "robust", *options, *off)
    assert done.exit_code == 0, done.stderr
    assert f"recipe: robust, but --image-size 32 --epochs 1 {' '.join(off)}\ntraining loop: " in done.stderr
    assert done.stdout.startswith("epoch: 0, batch_id: 0, ")
    assert "recipe: robust\n" in Path("run/config.yaml").read_text(encoding="utf-8")
    assert run_cli("report", "run", "--errors", 0, "--workers", 0).exit_code == 0
    page = re.sub(r"<[^>]*>|\s+", " ", Path("run/report.html").read_text(encoding="utf-8"))
    assert f"robust, but --image-size 32 --epochs 1 {' '.join(off)}" in page
    assert "--schedule cosine --warmup-epochs 3 --ema 0.98" in page


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--warmup-steps", 15), "the run has 15 steps (5 epochs of 3)"),
        (("--warmup-steps", 2, "--warmup-epochs", 1), "--warmup-steps 2 with --warmup-epochs 1"),
        (("--recipe", "robuster"), "choose one of"),
        (("--nesterov", "--momentum", 0), "--nesterov with --momentum 0"),
        (("--folds", 2, "--patience", 3), "--patience 3 with --folds"),
        (("--schedule", "linear"), "constant, cosine, step"),
        (("--ema", 1), "less than 1"),
        (("--swa-epochs", 2, "--recipe", "robust"), "--swa-epochs 2 with --ema 0.98"),
        (("--swa-epochs", 2, "--patience", 2), "--swa-epochs 2 with --patience 2"),
        (("--swa-epochs", 6), "--swa-epochs 6 with --epochs 5"),
        (("--swa-epochs", 4, "--warmup-epochs", 2), "within the warm-up"),
        (("--swa-lr", 0.1), "--swa-lr 0.1 without --swa-epochs"),
        (("--start-size", 32), "--start-size 32 with --image-size 32"),
        (("--start-size", 32, "--image-size", 64, "--epochs", 2), "--start-size 32 with --epochs 2"),
        (("--start-size", 32, "--image-size", 64, "--swa-epochs", 5), "give at most --swa-epochs 4"),
        (("--start-size", 32, "--image-size", 64, "--patience", 3), "--start-size 32 with --patience 3"),
    ],
)
def test_bad_combinations_are_refused_before_anything_is_written(run_cli, small_set, tmp_path, options, said):
    done = run_cli("train", "--data", small_set, "--output", "run", *QUICK, *options)
    assert done.exit_code == 2
    assert said in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("done", "best", "patience", "ends"), [(4, 1, 2, True), (3, 1, 2, False), (4, 1, None, False), (1, 0, 1, False)]
)
def test_patience_counts_epochs_after_the_best_one(done, best, patience, ends):
    run = SimpleNamespace(config=TrainConfig(patience=patience), at=SimpleNamespace(epoch=done, best={"epoch": best}))
    assert running.Run.out_of_patience(run) is ends


@pytest.mark.parametrize(("epoch", "auc", "kept"), [(0, 0.7, False), (1, 0.7, True), (2, 0.7, False), (2, 0.95, True)])
def test_epochs_before_the_first_mean_are_not_the_best_any_more(epoch, auc, kept, monkeypatch):
    """The best so far has AUC 0.9; averaging begins at epoch 1."""
    monkeypatch.setattr(running, "validation_figures", lambda scores: {"auc": auc, "loss": 1.0, "accuracy": 0.5})
    monkeypatch.setattr(running, "threshold_to_store", lambda *_: (0.5, "0.5"))
    monkeypatch.setattr(running, "calibration", lambda *_: None)
    monkeypatch.setattr(running, "score_table", lambda *_: b"")
    run = running.Run.__new__(running.Run)
    run.config, run.average = TrainConfig(), Swa.__new__(Swa)
    run.average.first = 1
    run.at = RunState(epoch=epoch, images=1, seconds=1.0, best={"epoch": 0, "auc": 0.9, "loss": 0.1})
    run.data, run.prior, run.best, run.features = SimpleNamespace(name_of=str), None, None, None
    run.optimizer = SimpleNamespace(get_lr=lambda: 0.1)
    run.tracking = SimpleNamespace(scalars=lambda *_: None, images=lambda *_: None)
    run.info = lambda *_: "info"
    saved = []
    run.save = saved.append
    run.end_epoch(SimpleNamespace(scores=None), 1)
    assert (saved[0].best == "info") is kept
    assert run.at.best["auc"] == (auc if kept else 0.9)
