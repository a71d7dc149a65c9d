"""Checkpoints under kills and full disks, and what is said where one doesn't fit."""

from __future__ import annotations

import hashlib
import itertools
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from pmtrain.models import DEPTHS
from pmtrain.runs.checkpoint import load_checkpoint, save_checkpoint
from pmtrain.runs.formats.state_dict import dump_state
from pmtrain.runs.records import notes_info
from pmtrain.system.errors import PmtrainError
from tests.runs.saving import info_of, number_in, resume, save, small_state, with_faults


def test_a_checkpoint_is_weights_and_a_json_file(tmp_path):
    path = tmp_path / "最好.pdparams"
    saved = save(path, 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["最好.json", "最好.pdparams"]

    side = json.loads((tmp_path / "最好.json").read_text(encoding="utf-8"))
    assert side["weights_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest() == saved.weights_sha256
    assert side["class_names"] == ["健康", "病理"] and side["metrics"] == {"auc": 0.1 + 0.2, "loss": None}
    assert side["format"] == 1 and side["layers"] == 50 and side["threshold"] == 0.25

    loaded = load_checkpoint(path)
    assert loaded.info == saved and loaded.path == path and loaded.side_file == tmp_path / "最好.json"
    assert number_in(path) == 3


def test_the_weights_are_what_paddle_saves(tmp_path):
    save_checkpoint(tmp_path / "x.pdparams", dump_state(small_state(1), {"a": "conv2d_0.w_0"}), info_of(1))
    loaded = pickle.loads((tmp_path / "x.pdparams").read_bytes())
    assert loaded.pop("StructuredToParameterName@@") == {"a": "conv2d_0.w_0"}
    assert list(loaded) == list(small_state(1))


@pytest.mark.parametrize("layers", DEPTHS)
def test_a_plain_checkpoint_gets_its_depth_from_its_names_and_the_rest_from_the_notes(layers, tmp_path):
    path = tmp_path / "theirs.pdparams"
    path.write_bytes(pickle.dumps(small_state(1, layers), 4))
    loaded = load_checkpoint(path)
    assert loaded.side_file is None and loaded.info == notes_info(layers)
    assert (loaded.info.image_size, loaded.info.preprocessing, loaded.info.threshold) == (224, "notes", 0.5)
    assert loaded.info.class_names == ("negative", "positive")


def test_safetensors_load_as_well(tmp_path):
    from safetensors.numpy import save_file

    save_file(small_state(1, 101), tmp_path / "x.safetensors")
    assert load_checkpoint(tmp_path / "x.safetensors").info.layers == 101


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 3}, "format 3"),
        ({"format": "1"}, "format"),
        ({"threshold": 1.5}, "threshold"),
        ({"threshold": "0.5"}, "threshold"),
        ({"layers": 101}, "ResNet-50"),
        ({"class_names": ["one"]}, "class_names"),
        ({"epoch": 0.5}, "epoch"),
        ({"weights_sha256": "0" * 64}, "SHA-256"),
    ],
)
def test_a_side_file_that_is_wrong_is_named(change, says, tmp_path):
    path = tmp_path / "x.pdparams"
    save(path, 1)
    side = tmp_path / "x.json"
    side.write_text(json.dumps(json.loads(side.read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(PmtrainError) as caught:
        load_checkpoint(path)
    assert says in caught.value.message and "x." in caught.value.message and caught.value.hint


@pytest.mark.parametrize("content", ["", "{", "[]", '{"a": 1}', "[" * 100_000, '{"format": 1}'])
def test_a_damaged_side_file_is_named(content, tmp_path):
    save(tmp_path / "x.pdparams", 1)
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(PmtrainError, match=r"x\.json"):
        load_checkpoint(tmp_path / "x.pdparams")


def test_a_newer_format_asks_for_an_upgrade(tmp_path):
    save(tmp_path / "x.pdparams", 1)
    (tmp_path / "x.json").write_text('{"format": 9, "unknown": true}')
    with pytest.raises(PmtrainError, match="format 9") as caught:
        load_checkpoint(tmp_path / "x.pdparams")
    assert "upgrade pmtrain" in caught.value.hint


def test_changed_weights_are_refused(tmp_path):
    path = tmp_path / "x.pdparams"
    save(path, 1)
    data = bytearray(path.read_bytes())
    data[-200] ^= 1
    path.write_bytes(data)
    with pytest.raises(PmtrainError, match=r"x\.pdparams is not the file that .*x\.json describes"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [{"model": small_state(1), "epoch": 3}, small_state(1) | {"epoch": 3}, {"w": np.ones(3)}, {}],
)
def test_what_is_no_networks_state_dict_is_refused(content, tmp_path):
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps(content, 4))
    with pytest.raises(PmtrainError, match=r"x\.pdparams"):
        load_checkpoint(tmp_path / "x.pdparams")


def test_a_folder_stands_for_its_best_or_its_newest(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(PmtrainError, match="folder without best.pdparams"):
        load_checkpoint(run)
    resume(run / "last", 7)
    assert number_in(run / "last") == 7
    with pytest.raises(PmtrainError) as caught:
        load_checkpoint(run)
    assert "best.pdparams" in caught.value.message
    save(run / "best.pdparams", 5)
    assert number_in(run) == 5


@pytest.mark.parametrize("name", ["model.pth", "model.xml"])
def test_an_export_for_other_programs_is_named_as_one(tmp_path, name):
    (tmp_path / "export.json").write_text("{}")
    (tmp_path / name).write_bytes(b"<xml>")
    for given in (tmp_path, tmp_path / name):
        with pytest.raises(PmtrainError, match="an export for other programs"):
            load_checkpoint(given)


def test_an_exports_folder_stands_for_its_model(tmp_path):
    export = tmp_path / "export"
    export.mkdir()
    (export / "export.json").write_text("{}")
    safetensors.numpy.save_file(small_state(3), export / "model.safetensors")
    assert load_checkpoint(export).path == export / "model.safetensors"


def test_a_missing_checkpoint_lists_those_that_lie_there(tmp_path):
    (tmp_path / "run").mkdir()
    save(tmp_path / "run" / "best.pdparams", 1)
    for wrong in (tmp_path / "run" / "bset.pdparams", tmp_path / "rnu" / "best.pdparams", tmp_path / "run" / "best"):
        with pytest.raises(PmtrainError) as caught:
            load_checkpoint(wrong)
        assert str(wrong) in caught.value.message
        assert str(tmp_path / "run" / "best.pdparams") in caught.value.hint


# ---------------------------------------------------------------------------------------------------------------------
# Kills and full disks
# ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["kill", "full once", "stays full"])
def test_a_pair_is_whole_whatever_step_fails(kind, tmp_path):
    for nth in itertools.count():
        path = tmp_path / str(nth) / "best.pdparams"
        path.parent.mkdir()
        save(path, 1)
        happened = with_faults(kind, nth, save, path, 2)
        assert number_in(path) in (1, 2)
        if kind != "kill":
            left = {p.name for p in path.parent.iterdir()}
            # .next stays only where it is the side file of the weights that are there
            assert left == {"best.pdparams", "best.json"} or load_checkpoint(path).side_file.suffix == ".next"
        save(path, 3)
        assert number_in(path) == 3
        assert {p.name for p in path.parent.iterdir()} == {"best.pdparams", "best.json"}
        if not happened:
            break
    assert nth > 8


def test_a_pair_is_whole_after_two_kills_in_a_row(tmp_path):
    """The first kill comes between the two renames, when the only right side file is still called .next."""
    paths = (tmp_path / str(n) / "best.pdparams" for n in itertools.count())

    def killed_at(nth: int) -> Path:
        path = next(paths)
        path.parent.mkdir()
        save(path, 1)
        with_faults("kill", nth, save, path, 2)
        return path

    between = [nth for nth in range(14) if load_checkpoint(killed_at(nth)).side_file.suffix == ".next"]
    assert between
    for first, second in itertools.product(between, range(16)):
        path = killed_at(first)
        with_faults("kill", second, save, path, 3)
        assert number_in(path) in (2, 3)


def test_the_first_pair_is_whole_or_not_there(tmp_path):
    for nth in itertools.count():
        path = tmp_path / str(nth) / "best.pdparams"
        path.parent.mkdir()
        happened = with_faults("kill", nth, save, path, 1)
        if path.exists():
            assert number_in(path) == 1
        save(path, 2)
        assert number_in(path) == 2
        if not happened:
            break
