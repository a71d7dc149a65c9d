"""Several networks as one: which they are, who scores an image, the mean of their logits, and its threshold."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from pmtrain.config import TrainConfig, dump_yaml
from pmtrain.data.dataset import Sample
from pmtrain.data.layouts.readers import read_dataset
from pmtrain.data.splits.record import write_record
from pmtrain.data.splits.split import folds
from pmtrain.evaluation.scores.chosen_images import Images
from pmtrain.evaluation.scores.ensemble import common_info, keep_ensemble, load_networks, together, validation_scores
from pmtrain.evaluation.scores.own_run import own_run
from pmtrain.evaluation.scores.prior_use import scorers, seen_before
from pmtrain.evaluation.scores.score import Scores
from pmtrain.evaluation.scores.score_table import score_table
from pmtrain.evaluation.scores.scoring import averaged
from pmtrain.models import build_model
from pmtrain.runs.checkpoint import Checkpoint, save_checkpoint
from pmtrain.runs.formats.state_dict import dump_state
from pmtrain.runs.model_state import to_arrays
from pmtrain.runs.records import notes_info
from pmtrain.system.errors import PmtrainError
from pmtrain.system.framework import paddle

INFO = notes_info(18).model_copy(update={"class_names": ("healthy", "sick"), "prior": 0.4, "weights_sha256": "0" * 64})


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    """A ResNet-18 that never was trained."""
    paddle.seed(1)
    path = tmp_path_factory.mktemp("network") / "best.pdparams"
    save_checkpoint(path, dump_state(*to_arrays(build_model(18).state_dict())), INFO)
    return path


@pytest.fixture
def listed(small_set, tmp_path):
    """Twelve images in class folders, without a split."""
    return read_dataset(Path(shutil.copytree(small_set / "train", tmp_path / "classes")))


def run_of(folder: Path, data, logit_of) -> Checkpoint:
    """A checkpoint in the folder of a run on `data`, which keeps its scores of the images that it held out."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump_yaml(TrainConfig(threshold_rule="youden")))
    about = {"root": str(data.root), "fingerprint": data.fingerprint()}
    (folder / "run.json").write_text(json.dumps({"data": about}))
    write_record(folder / "images.csv", data)
    held = list(data.split("val"))
    logits = np.array([float(logit_of(sample)) for sample in held])
    scores = Scores(held, np.array([sample.label for sample in held]), logits)
    (folder / "best-validation.csv").write_bytes(score_table(scores, data.name_of))
    return Checkpoint({}, INFO, folder / "best.pdparams", None)


@pytest.fixture
def crossed(listed, tmp_path) -> list[Checkpoint]:
    """The three folds of a cross-validation; a fold's number decides its scores, positive for positive images."""
    return [
        run_of(tmp_path / f"fold-{number}", part, lambda sample, n=number: n * (1 if sample.label else -1))
        for number, part in enumerate(folds(listed, 3, 0), 1)
    ]


def test_the_mean_is_of_those_that_scored_an_image():
    samples = [Sample(Path(name), n % 2) for n, name in enumerate("abc")]
    logits = np.array([[1.0, np.nan, 2.0], [3.0, -4.0, np.nan], [8.0, np.nan, np.nan]])
    scores = averaged(samples, logits)
    np.testing.assert_allclose(scores.logits, [4.0, -4.0, 2.0])
    assert scores.spread[0] == pytest.approx(np.std([1, 3, 8], ddof=1))
    assert np.isnan(scores.spread[1:]).all()
    assert scores.scored_by.tolist() == [3, 1, 1]
    assert scores.labels.tolist() == [0, 1, 0]
    table = score_table(scores, lambda sample: str(sample.path)).decode().splitlines()
    assert table[0].endswith(",prediction,spread")
    assert float(table[1].split(",")[-1]) == scores.spread[0]
    assert table[2].endswith(",0,")  # one network alone has no spread


def test_out_of_fold_each_image_is_scored_by_the_network_that_held_it_out(crossed, listed):
    whole = together(crossed)
    run = own_run(whole, listed)
    assert {sample.split for sample in run.data.samples} == {"val"}
    images = Images(listed, run.data, run.data.samples, "val", run)
    may = scorers(whole, images)
    assert may.sum(axis=0).tolist() == [1] * 12
    for row, part in enumerate(folds(listed, 3, 0)):
        held = {sample.path for sample in part.split("val")}
        assert {s.path for s, own in zip(images.samples, may[row], strict=True) if own} == held
    # As copies elsewhere, too, they are known by their bytes.
    copied = read_dataset(Path(shutil.copytree(listed.root, listed.root.with_name("copy"))))
    elsewhere = Images(copied, copied, copied.samples, "all", own_run(whole, copied))
    assert scorers(whole, elsewhere).tolist() == may.tolist()
    assert seen_before(whole, images) == ["the epochs and the stored threshold were chosen on these 12 images"]


def test_networks_that_all_saw_an_image_score_it_all_and_it_is_said(crossed, listed):
    twice = together([crossed[0], crossed[0]])
    run = own_run(twice, listed)
    images = Images(listed, run.data, run.data.samples, "all", run)
    assert scorers(twice, images).all()
    assert seen_before(twice, images) == [
        "the networks were trained on 8 of these 12 images",
        "the epochs and the stored threshold were chosen on 4 of these 12 images",
    ]


def test_the_threshold_is_chosen_on_the_scores_of_the_whole(crossed, listed):
    scores = validation_scores(crossed)
    assert sorted(sample.path.as_posix() for sample in scores.samples) == sorted(map(listed.name_of, listed.samples))
    assert set(scores.logits) == {-3, -2, -1, 1, 2, 3}
    whole = together(crossed)
    # Youden's threshold lies between the classes: the highest negative has -1, the lowest positive 1.
    assert expit(-1) < whole.info.threshold <= expit(1)
    assert whole.info.threshold_rule == "youden on 12 validation images, each by the network that held it out"
    assert whole.info.prior == pytest.approx(0.4)
    assert (whole.info.calibration, whole.info.unit, whole.info.epoch) == (None, None, None)


def test_the_mean_of_equal_splits_is_what_the_threshold_is_from(listed, tmp_path):
    part = folds(listed, 3, 0)[0]
    members = [run_of(tmp_path / name, part, lambda s, x=x: x + s.label) for name, x in (("a", 1.0), ("b", 4.0))]
    scores = validation_scores(members)
    assert set(scores.logits) == {2.5, 3.5}
    np.testing.assert_allclose(scores.spread, 3 / np.sqrt(2))
    whole = together(members)
    assert expit(2.5) < whole.info.threshold <= expit(3.5)
    assert whole.info.threshold_rule == "youden on 4 validation images"


def test_without_scores_in_common_half_is_taken_and_warned_of(crossed, capsys):
    alone = Checkpoint({}, INFO, crossed[0].path.parent / "last.pdparams", None)
    whole = together([crossed[1], alone])
    assert whole.info.threshold == 0.5
    assert "0.5 is used" in capsys.readouterr().err


def test_other_classes_are_refused(crossed):
    other = replace(crossed[1], info=INFO.model_copy(update={"class_names": ("sick", "healthy")}))
    with pytest.raises(PmtrainError, match="tells sick, healthy apart, and .* healthy, sick"):
        together([crossed[0], other])


def test_networks_are_named_by_a_list_a_text_or_a_folder(network, tmp_path):
    copies = [Path(shutil.copytree(network.parent, tmp_path / "whole" / name)) for name in ("seed-0", "seed-1")]
    one = load_networks(network)
    assert isinstance(one, Checkpoint) and one.members == (one,)
    for given in (copies, f"{copies[0]},{copies[1]}", Path(f"{copies[0]},{copies[1]}")):
        assert [member.path.parent for member in load_networks(given).members] == copies
    folder = tmp_path / "whole"
    info = common_info(load_networks(copies).members, 0.3, "youden on 7 validation images")
    keep_ensemble(folder, "seeds", ["seed-0", "seed-1"], info)
    kept = load_networks(folder)
    assert (kept.path, kept.info, len(kept.members)) == (folder, info, 2)
    # A folder among others stands for its members.
    assert len(load_networks([folder, network]).members) == 3
    with pytest.raises(PmtrainError, match="there is no checkpoint .*nothing"):
        load_networks(f"{network},{tmp_path / 'nothing'}")
    paddle.seed(2)
    save_checkpoint(copies[1] / "best.pdparams", dump_state(*to_arrays(build_model(18).state_dict())), INFO)
    with pytest.raises(PmtrainError, match=r"aren't those that ensemble\.json was made of"):
        load_networks(folder)
