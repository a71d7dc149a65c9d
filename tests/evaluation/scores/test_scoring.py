"""Which images flatter a checkpoint, whom resamples are drawn by, where scores are cut."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pmtrain.config import TrainConfig, dump_yaml
from pmtrain.data.dataset import DataSet, Sample
from pmtrain.data.layouts.readers import read_dataset
from pmtrain.data.splits.record import write_record
from pmtrain.data.splits.split import hold_out
from pmtrain.evaluation.scores.score import Scores
from pmtrain.evaluation.scores.scoring import MAX_GROUPS, Images, by_column, operating_point, patients, seen_before
from pmtrain.runs.checkpoint import Checkpoint
from pmtrain.runs.records import notes_info
from pmtrain.system.errors import PmtrainError, UsageError


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
    assert seen_before(own, images) == "the epoch and the stored threshold were chosen on these 4 images"
    trained_on = {sample.path for sample in hold_out(listed, 0.34, 1).split("train")}
    shared = sum(sample.path in trained_on for sample in images.samples)
    assert shared
    assert seen_before(other, images) == f"the network was trained on {shared} of these 4 images"
    everything = Images(listed, data, data.samples, "all")
    assert seen_before(own, everything) == "the network was trained on 8 of these 12 images"


def test_other_images_flatter_no_checkpoint(listed, small_set, tmp_path):
    checkpoint = checkpoint_of_run(tmp_path / "run", listed, 0)
    others = read_dataset(small_set)
    assert seen_before(checkpoint, Images(others, others, others.split("val"), "val")) == ""
    alone = Checkpoint({}, notes_info(50), tmp_path / "elsewhere" / "best.pdparams", None)
    assert seen_before(alone, Images(listed, listed, listed.samples, "all")) == ""


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
        assert seen_before(checkpoint, Images(others, others, others.samples, "all")) == said
        copied.write_bytes(copied.read_bytes() + b"x")
        assert said not in seen_before(checkpoint, Images(others, others, others.samples, "all"))


def test_a_record_tells_the_split_whatever_was_drawn(listed, tmp_path):
    """As a later version of pmtrain might draw other images, or a fold's were drawn otherwise."""
    checkpoint = checkpoint_of_run(tmp_path / "run", listed, 0)
    own = hold_out(listed, 0.34, 1)
    (tmp_path / "run" / "run.json").write_text(json.dumps({"data": {"fingerprint": own.fingerprint()}}))
    assert seen_before(checkpoint, Images(listed, listed, listed.samples, "all")) == ""
    write_record(tmp_path / "run" / "images.csv", own)
    for split, said in (("train", "trained on 8 of these 8 images"), ("val", "chosen on these 4 images")):
        assert seen_before(checkpoint, Images(listed, own, own.split(split), split)).endswith(said)


def test_an_image_without_a_patient_is_one_of_its_own(capsys):
    samples = [Sample(Path(f"{n}"), 0, None, patient) for n, patient in enumerate(["x", "x", "", "2", ""])]
    groups = patients(samples, lambda sample: str(sample.path))
    assert [groups.index(group) for group in groups] == [0, 0, 2, 3, 4]
    assert "2 of 5 images name no patient" in capsys.readouterr().err
    assert patients(samples[2:3], str) is None


def test_a_column_of_names_is_no_column_of_kinds():
    samples = tuple(Sample(Path(f"{n}"), 0, columns=(("age", str(n)), ("sex", "fm"[n % 2]))) for n in range(30))
    data = all_of(samples)
    assert set(by_column(data, "sex").values()) == {"f", "m"}
    with pytest.raises(UsageError, match=f"30 values, more than {MAX_GROUPS}"):
        by_column(data, "age")
    with pytest.raises(UsageError, match="it has age, sex"):
        by_column(data, "Sex")


def all_of(samples: tuple[Sample, ...]) -> Images:
    data = DataSet(Path("."), "csv", ("well", "ill"), samples)
    return Images(data, data, samples, "all")


def test_a_threshold_is_stored_given_or_chosen():
    scores = Scores([], np.array([0, 0, 1, 1]), np.array([-2.0, -1.0, 1.0, 2.0]))
    checkpoint = Checkpoint({}, notes_info(50), Path("a"), None)
    stored, given = (operating_point(text, checkpoint, scores) for text in ("stored", "0.3"))
    assert (stored.value, stored.tuned) == (0.5, False)
    assert (given.value, given.tuned) == (0.3, False)
    chosen = operating_point("youden", checkpoint, scores)
    assert chosen.tuned
    assert 0.2689 < chosen.value <= 0.7311  # between the probabilities of -1 and 1
    with pytest.raises(PmtrainError, match="0 are positive"):
        operating_point("youden", checkpoint, Scores([], np.array([0, 0]), np.array([0.0, 1.0])))
