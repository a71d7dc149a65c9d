"""What a run used the images for: found by split, by record, and by content."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pmtrain.config import TrainConfig, dump_yaml
from pmtrain.data.layouts.readers import read_dataset
from pmtrain.data.splits import record
from pmtrain.data.splits.record import write_record
from pmtrain.data.splits.split import hold_out
from pmtrain.evaluation.scores import own_run as own_runs
from pmtrain.evaluation.scores.chosen_images import Images
from pmtrain.evaluation.scores.own_run import own_run
from pmtrain.evaluation.scores.prior_use import also_trained_on, seen_before
from pmtrain.runs.checkpoint import Checkpoint
from pmtrain.runs.records import notes_info


@pytest.fixture
def listed(small_set, tmp_path):
    """Twelve images in class folders, without a split."""
    return read_dataset(Path(shutil.copytree(small_set / "train", tmp_path / "classes")))


def checkpoint_of_run(folder: Path, data, seed: int) -> Checkpoint:
    """A checkpoint in a run folder that says it held a third of `data` out by this seed."""
    folder.mkdir()
    (folder / "config.yaml").write_text(dump_yaml(TrainConfig(seed=seed, val_fraction=0.34)))
    fingerprint = hold_out(data, 0.34, seed).fingerprint()
    (folder / "run.json").write_text(json.dumps({"data": {"fingerprint": fingerprint}}))
    return Checkpoint({}, notes_info(50), folder / "best.pdparams", None)


def test_images_held_out_by_another_seed_are_in_part_those_trained_on(listed, tmp_path):
    own, other = (checkpoint_of_run(tmp_path / f"run{seed}", listed, seed) for seed in (0, 1))
    data = hold_out(listed, 0.34, 0)
    images = Images(listed, data, data.split("val"), "val")
    assert seen_before(own, images) == ["the epoch and the stored threshold were chosen on these 4 images"]
    trained_on = {sample.path for sample in hold_out(listed, 0.34, 1).split("train")}
    shared = sum(sample.path in trained_on for sample in images.samples)
    assert shared
    told = [f"the network was trained on {shared} of these 4 images"]
    if shared < 4:
        told.append(f"the epoch and the stored threshold were chosen on {4 - shared} of these 4 images")
    assert seen_before(other, images) == told
    everything = Images(listed, data, data.samples, "all")
    assert seen_before(own, everything) == [
        "the network was trained on 8 of these 12 images",
        "the epoch and the stored threshold were chosen on 4 of these 12 images",
    ]


def test_other_images_flatter_no_checkpoint(listed, small_set, tmp_path):
    checkpoint = checkpoint_of_run(tmp_path / "run", listed, 0)
    others = read_dataset(small_set)
    assert seen_before(checkpoint, Images(others, others, others.split("val"), "val")) == []
    alone = Checkpoint({}, notes_info(50), tmp_path / "elsewhere" / "best.pdparams", None)
    assert seen_before(alone, Images(listed, listed, listed.samples, "all")) == []


def test_images_that_lie_elsewhere_under_other_names_are_known_by_their_bytes(listed, tmp_path):
    checkpoint = checkpoint_of_run(tmp_path / "run", listed, 0)
    held = hold_out(listed, 0.34, 0)
    write_record(tmp_path / "run" / "images.csv", held)
    for split, said in (
        ("train", "the network was trained on 8 of these 8 images, byte for byte"),
        ("val", "the epoch and the stored threshold were chosen on these 4 images"),
    ):
        for number, sample in enumerate(held.split(split)):
            copied = tmp_path / split / listed.classes[sample.label] / f"copy {number}.png"
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(sample.path, copied)
        others = read_dataset(tmp_path / split)
        assert seen_before(checkpoint, Images(others, others, others.samples, "all")) == [said]
        copied.write_bytes(copied.read_bytes() + b"x")
        assert said not in seen_before(checkpoint, Images(others, others, others.samples, "all"))


def test_a_record_tells_the_split_whatever_was_drawn(listed, tmp_path):
    """As a later version of pmtrain might draw other images, or a fold's were drawn otherwise."""
    checkpoint = checkpoint_of_run(tmp_path / "run", listed, 0)
    own = hold_out(listed, 0.34, 1)
    (tmp_path / "run" / "run.json").write_text(json.dumps({"data": {"fingerprint": own.fingerprint()}}))
    assert seen_before(checkpoint, Images(listed, listed, listed.samples, "all")) == []
    write_record(tmp_path / "run" / "images.csv", own)
    for split, said in (("train", "trained on 8 of these 8 images"), ("val", "chosen on these 4 images")):
        (reason,) = seen_before(checkpoint, Images(listed, own, own.split(split), split))
        assert reason.endswith(said)


def test_the_record_of_a_run_is_read_once_for_all_questions(listed, tmp_path, monkeypatch):
    checkpoint = checkpoint_of_run(tmp_path / "run", listed, 0)
    held = hold_out(listed, 0.34, 0)
    write_record(tmp_path / "run" / "images.csv", held)
    read = []
    monkeypatch.setattr(own_runs, "read_record", lambda path: read.append(path.name) or record.read_record(path))
    images = Images(listed, held, held.split("val"), "val", own_run(checkpoint, listed))
    assert seen_before(checkpoint, images) == ["the epoch and the stored threshold were chosen on these 4 images"]
    assert also_trained_on(checkpoint, images) == (0, 0)
    assert read == ["images.csv"]
    other = checkpoint_of_run(tmp_path / "other", listed, 1)  # another run is asked for what it used them for
    assert seen_before(other, images)[0].startswith("the network was trained on ")
