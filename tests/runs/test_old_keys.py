"""Files as earlier versions wrote them, written out by hand: they still open, under today's names."""

from __future__ import annotations

import hashlib
import json
import pickle

import numpy as np

from pmtrain.models import DEPTHS
from pmtrain.runs.checkpoint import load_checkpoint, save_checkpoint
from pmtrain.runs.formats.state_dict import dump_state
from pmtrain.runs.old_keys import RENAMED, with_new_keys
from pmtrain.runs.resume_state import load_resume
from pmtrain.runs.run_folder import RunFolder

# As version 0.1 wrote it beside a checkpoint that was trained with `--preprocess fundus`.
OLD_SIDE_FILE = """{
  "format": 1,
  "layers": 50,
  "image_size": 64,
  "preprocessing": "fundus",
  "pixel_mean": [0.5, 0.25, 0.125],
  "pixel_deviation": [0.3, 0.2, 0.1],
  "class_names": ["normal", "myopia"],
  "threshold": 0.25,
  "threshold_rule": "youden on 8 validation images",
  "epoch": 3,
  "scores": {"loss": 0.5, "accuracy": 0.75, "auc": null},
  "synthetic": true,
  "weights_sha256": "SHA256",
  "pmtrain_version": "0.1.0"
}
"""


def weights() -> bytes:
    blocks = [f"bb_{stage}_{block}" for stage, depth in enumerate(DEPTHS[50].blocks) for block in range(depth)]
    return pickle.dumps({f"{block}.conv2._conv.weight": np.ones((2, 3), "f4") for block in blocks}, 4)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_an_old_side_file_opens_and_is_saved_with_the_new_names(tmp_path):
    path = tmp_path / "best.pdparams"
    path.write_bytes(weights())
    (tmp_path / "best.json").write_text(OLD_SIDE_FILE.replace("SHA256", sha256(weights())), encoding="utf-8")
    loaded = load_checkpoint(path)
    assert loaded.info.pixel_mean == (0.5, 0.25, 0.125) and loaded.info.pixel_std == (0.3, 0.2, 0.1)
    assert (loaded.info.threshold, loaded.info.epoch) == (0.25, 3)
    assert loaded.info.metrics == {"loss": 0.5, "accuracy": 0.75, "auc": None}
    save_checkpoint(tmp_path / "new.pdparams", dump_state(loaded.state), loaded.info)
    written = json.loads((tmp_path / "new.json").read_text(encoding="utf-8"))
    assert written["pixel_std"] == [0.3, 0.2, 0.1]
    assert written["metrics"] == {"loss": 0.5, "accuracy": 0.75, "auc": None}
    assert not {"pixel_deviation", "scores"} & set(written)


def test_an_old_state_to_resume_from_opens(tmp_path):
    home = tmp_path / "last" / "epoch4-batch0-0123abcd"
    home.mkdir(parents=True)
    files = {
        "model.pdparams": weights(),
        "model.json": OLD_SIDE_FILE.replace("SHA256", sha256(weights())).encode(),
        "optimizer.pdopt": pickle.dumps({}, 4),
    }
    for name, data in files.items():
        (home / name).write_bytes(data)
    position = {"epoch": 4, "batch": 0, "loss_sum": 0.0, "images": 0, "seconds": 0.0, "history": [], "best": None}
    record = {
        "format": 1,
        "folder": home.name,
        "sha256": {name: sha256(data) for name, data in files.items()},
        "state": position,
    }
    (tmp_path / "last" / "state.json").write_text(json.dumps(record), encoding="utf-8")
    loaded = load_resume(tmp_path)
    assert loaded.checkpoint.info.pixel_std == (0.3, 0.2, 0.1)
    assert loaded.state == position and loaded.optimizer_state == {}


def test_an_old_run_json_opens(tmp_path):
    old = {
        "command": "pmtrain train",
        "data": {"root": "images"},
        "pixels": {"mean": [0.5, 0.25, 0.125], "deviation": [0.3, 0.2, 0.1]},
        "fold": {"number": 2, "of": 5},
    }
    (tmp_path / "run.json").write_text(json.dumps(old), encoding="utf-8")
    assert RunFolder(tmp_path).info() == {
        "command": "pmtrain train",
        "data": {"root": "images"},
        "pixels": {"mean": [0.5, 0.25, 0.125], "std": [0.3, 0.2, 0.1]},
        "fold": {"number": 2, "n_folds": 5},
    }
    whole = {"data": {"classes": ["scores", "of"]}, "folds": {"of": 5, "method": "drawn by image"}}
    (tmp_path / "run.json").write_text(json.dumps(whole), encoding="utf-8")
    assert RunFolder(tmp_path).info() == whole | {"folds": {"n_folds": 5, "method": "drawn by image"}}


def test_a_name_that_only_happens_to_be_an_old_key_stays():
    """A class may be called as a key elsewhere is."""
    content = {"data": {"images": {"train": {"deviation": 3, "pixel_deviation": 4}}}, "pixels": {"std": 1}}
    for kind in RENAMED:
        assert with_new_keys(kind, json.loads(json.dumps(content))) == content


def test_the_new_name_wins_and_other_shapes_are_left_alone():
    assert with_new_keys("side file", {"pixel_deviation": 1, "pixel_std": 2}) == {"pixel_std": 2}
    for content in ([], "text", None, {}, {"pixels": 3}, {"pixels": ["deviation"]}):
        assert with_new_keys("run.json", content) == content
