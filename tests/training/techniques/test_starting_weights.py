"""--weights: what a run starts from, follows and records."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from pmtrain.config import TrainConfig, load_config
from pmtrain.models import build_model
from pmtrain.models.weights import published
from pmtrain.runs.formats.state_dict import load_state
from pmtrain.system.errors import PmtrainError, UsageError
from pmtrain.system.framework import paddle
from pmtrain.training import run as running
from pmtrain.training.techniques.starting_weights import read_weights, weights_again, with_weights
from tests.conftest import QUICK

RUN = (*QUICK, "--epochs", 1, "--lr", 1e-9)


@pytest.fixture(scope="module")
def vision18(tmp_path_factory) -> Path:
    """A file of paddle.vision's ResNet-18 with random weights, 1000 classes."""
    paddle.seed(1)
    with paddle.utils.unique_name.guard():
        model = paddle.vision.models.resnet18()
    path = tmp_path_factory.mktemp("weights") / "resnet18.pdparams"
    paddle.save(model.state_dict(), str(path))
    return path


def test_depth_and_preprocessing_follow_the_weights_unless_given(vision18, capsys):
    config, weights = with_weights(load_config(TrainConfig, {"weights": str(vision18)}))
    assert (config.layers, config.preprocess, config.image_size) == (18, "imagenet", 224)
    assert weights.record["sha256"] == hashlib.sha256(vision18.read_bytes()).hexdigest()
    assert weights.record["classifier"] == "new" and weights.left_out == ["fc.weight", "fc.bias"]
    said = capsys.readouterr().err
    assert "ResNet-18" in said and "names of paddle.vision" in said and "not used: fc.weight, fc.bias" in said
    assert "warning" not in said

    config, _ = with_weights(load_config(TrainConfig, {"weights": str(vision18), "preprocess": "notes"}))
    assert config.preprocess == "notes"
    warned = capsys.readouterr().err
    assert "RGB by ImageNet's mean and std; now BGR from -1 to 1" in warned
    with pytest.raises(UsageError, match="--layers 50: .*holds a ResNet-18"):
        with_weights(load_config(TrainConfig, {"weights": str(vision18), "layers": 50}))


def test_a_recipe_states_the_preprocessing_too(vision18, capsys):
    config, _ = with_weights(load_config(TrainConfig, {"weights": str(vision18), "recipe": "robust"}))
    assert config.preprocess == "fundus-local"
    assert "warning: --preprocess fundus-local" in capsys.readouterr().err


def test_the_network_begins_with_them_and_its_own_classifier(vision18):
    model = build_model(18)
    before = model.out.weight.numpy()
    read_weights(str(vision18), 50).apply(model)
    theirs = load_state(vision18)
    np.testing.assert_array_equal(model.bb_2_0.short._conv.weight.numpy(), theirs["layer3.0.downsample.0.weight"])
    np.testing.assert_array_equal(model.out.weight.numpy(), before)


def test_a_run_from_a_file_records_it_and_another_run_goes_on_from_that_run(vision18, run_cli, small_set, tmp_path):
    first = run_cli("train", small_set, "--weights", vision18, "--output", "first", "--preprocess", "fundus", *RUN)
    assert first.exit_code == 0, first.stderr
    info = json.loads((tmp_path / "first/run.json").read_text(encoding="utf-8"))
    assert info["weights"]["sha256"] == hashlib.sha256(vision18.read_bytes()).hexdigest()
    assert info["weights"]["names"] == "paddle.vision"
    state, theirs = load_state(tmp_path / "first/best.pdparams"), load_state(vision18)
    # A learning rate of 1e-9 leaves the weights where they were, to 1e-6.
    np.testing.assert_allclose(state["bb_3_0.conv0._conv.weight"], theirs["layer4.0.conv1.weight"], atol=1e-6)

    second = run_cli("train", small_set, "--weights", "first", "--output", "second", *RUN)
    assert second.exit_code == 0, second.stderr
    assert "its classifier" in second.stderr and "warning: --preprocess" not in second.stderr
    again = load_state(tmp_path / "second/best.pdparams")
    np.testing.assert_allclose(again["out.weight"], state["out.weight"], atol=1e-6)
    # The size and the statistics of the first run's own images come with its weights.
    before, after = (json.loads((tmp_path / f"{run}/best.json").read_text()) for run in ("first", "second"))
    assert after["preprocessing"] == "fundus" and after["image_size"] == 32
    assert after["pixel_mean"] == before["pixel_mean"] and before["pixel_mean"] is not None
    more = run_cli("train", "--resume", "second", "--epochs", 2)
    assert more.exit_code == 0, more.stderr


def test_imagenet_is_the_published_file(vision18, monkeypatch, run_cli, small_set):
    md5 = hashlib.md5(vision18.read_bytes()).hexdigest()
    monkeypatch.setattr(published, "source_of", lambda layers: (f"http://127.0.0.1:9/resnet{layers}.pdparams", md5))
    monkeypatch.setenv("PMTRAIN_WEIGHTS", str(vision18.parent))
    done = run_cli("train", small_set, "--weights", "imagenet", "--layers", 18, *QUICK, "--dry-run")
    assert done.exit_code == 0, done.stderr
    missing = run_cli("train", small_set, "--weights", "imagenet", *QUICK, "--layers", 50, "--dry-run")
    assert missing.exit_code == 1 and "resnet50.pdparams isn't there" in missing.stderr


def test_weights_that_changed_are_refused_on_a_resume_from_the_start(vision18):
    config = load_config(TrainConfig, {"weights": str(vision18)})
    assert weights_again(config, {"sha256": hashlib.sha256(vision18.read_bytes()).hexdigest()}) is not None
    with pytest.raises(PmtrainError, match="not the weights that the run began with"):
        weights_again(config, {"sha256": "0" * 64})


def test_what_cant_be_used_is_refused(tmp_path, vision18):
    (tmp_path / "model.onnx").write_bytes(b"an export")
    with pytest.raises(UsageError, match="can't be trained any more"):
        read_weights(str(tmp_path / "model.onnx"), 18)
    with pytest.raises(PmtrainError, match="no such file or folder"):
        read_weights(str(tmp_path / "none.pth"), 50)
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "config.json").write_text('{"architecture": "resnetaa50"}')
    with pytest.raises(PmtrainError, match="resnetaa50 is by its name another network"):
        read_weights(str(folder), 50)
    other = tmp_path / "other.pdparams"
    paddle.save({"patch_embed.weight": paddle.zeros([3])}, str(other))
    with pytest.raises(PmtrainError, match=r"other\.pdparams: not a supported network: it is a vision transformer"):
        read_weights(str(other), 50)


TRANSFER = (
    *("--freeze", 1, "--warmup-head", 1, "--body-lr", 0.0005, "--ema", 0.9, "--nesterov", "--preprocess", "notes"),
    *(*QUICK, "--lr", 0.005, "--epochs", 3),
)


@pytest.mark.parametrize("backend", [pytest.param("paddle", marks=pytest.mark.slow), "auto"])
def test_transfer_resumes_to_the_bit_and_keeps_what_is_frozen(
    vision18, run_cli, small_set, tmp_path, monkeypatch, backend
):
    options = ("--weights", vision18, *TRANSFER, "--backend", backend)
    whole = run_cli("train", small_set, "--output", "whole", *options)
    assert whole.exit_code == 0, whole.stderr
    assert "--freeze 1 --body-lr 0.0005 --warmup-head 1" in whole.stderr
    real, taken = running.Run.train_batch, []

    def stopping(self, batch):
        loss = real(self, batch)
        taken.append(loss)
        if len(taken) in (2, 3, 5):  # inside the warm-up, at its end, after it; an epoch has 3 batches
            os.kill(os.getpid(), signal.SIGTERM)
        return loss

    monkeypatch.setattr(running.Run, "train_batch", stopping)
    printed = run_cli("train", small_set, "--output", "parts", *options).stdout
    for _ in range(3):
        resumed = run_cli("train", "--resume", "parts")
        printed += resumed.stdout
    assert resumed.exit_code == 0, resumed.stderr
    assert len(taken) == 9 and printed == whole.stdout
    last = [load_state(next((tmp_path / run / "last").glob("*/model.pdparams"))) for run in ("whole", "parts")]
    for name in last[0]:
        np.testing.assert_array_equal(last[0][name], last[1][name], err_msg=name)

    theirs, found = load_state(vision18), last[0]
    for ours, other in (("conv", "conv1"), ("bb_0_1.conv0", "layer1.1.conv1")):
        np.testing.assert_array_equal(found[f"{ours}._conv.weight"], theirs[f"{other}.weight"])
        norm = other.replace("conv", "bn")
        for part in ("weight", "_mean", "_variance"):
            np.testing.assert_array_equal(found[f"{ours}._batch_norm.{part}"], theirs[f"{norm}.{part}"])
    assert not np.array_equal(found["bb_1_0.conv0._conv.weight"], theirs["layer2.0.conv1.weight"])
    assert not np.array_equal(found["bb_1_0.conv0._batch_norm._mean"], theirs["layer2.0.bn1._mean"])


def test_while_the_head_warms_up_the_body_stays(vision18, run_cli, small_set, tmp_path):
    done = run_cli("train", small_set, "--weights", vision18, "--warmup-head", 1, *QUICK, "--epochs", 2, "--dry-run")
    assert done.exit_code == 0, done.stderr
    model = build_model(18)
    assert not model.frozen
    refused = {
        ("--freeze", 2): "--freeze 2 without --weights",
        ("--warmup-head", 1): "--warmup-head 1 without --weights",
        ("--weights", vision18, "--warmup-head", 5): "the run has 5 epochs",
    }
    for options, expected in refused.items():
        failed = run_cli("train", small_set, *options, *QUICK, "--dry-run")
        assert failed.exit_code == 2 and expected in failed.stderr


def test_the_bodys_learning_rate_is_its_own():
    from pmtrain.training.techniques.optimizer import make_optimizer

    model = build_model(18)
    model.train()
    config = load_config(TrainConfig, {"lr": 0.1, "body_lr": 0.001, "momentum": 0.0, "weight_decay": 0.0})
    optimizer = make_optimizer(model, config)
    before = {name: p.numpy() for name, p in model.named_parameters()}
    model(paddle.to_tensor(np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype("f4"))).sum().backward()
    gradients = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    for rate in (1, 0.5):  # a schedule changes both alike
        optimizer.set_lr(0.1 * rate)
        optimizer.step()
        for name, p in model.named_parameters():
            if name in gradients:
                before[name] = before[name] - rate * (0.1 if name.startswith("out.") else 0.001) * gradients[name]
                np.testing.assert_allclose(p.numpy(), before[name], rtol=1e-4, atol=1e-6, err_msg=name)
