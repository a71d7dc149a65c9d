"""Images under the conditions of a suite: the same whatever else is evaluated, and batches that lose none."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest

from pmtrain.config import EvalConfig, load_config
from pmtrain.data.layouts.readers import read_dataset
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.evaluation.robustness.shift import changed_images, shift_logits, shifted
from pmtrain.evaluation.robustness.suite import SHIFTS
from pmtrain.evaluation.scores.score import Scores
from pmtrain.runs.checkpoint import load_checkpoint

CAMERA = SHIFTS["camera"]


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    path = tmp_path_factory.mktemp("photograph") / "a.jpg"
    image = np.zeros((300, 400, 3), np.uint8)
    cv2.circle(image, (200, 150), 140, (40, 90, 180), -1)
    image[image > 0] += np.random.default_rng(0).integers(0, 60, np.count_nonzero(image)).astype(np.uint8)
    cv2.imwrite(str(path), image)
    return path


@pytest.mark.parametrize("name", ["notes", "fundus-local"])
def test_what_is_drawn_depends_on_content_change_severity_and_seed_alone(name, photograph, tmp_path):
    preprocess, every = Preprocess(name, 64), [(change, severity) for change in CAMERA for severity in (1, 3)]
    images = list(changed_images(photograph, preprocess, CAMERA, every, 0))
    assert len(images) == len(every) and {image.shape for image in images} == {(64, 64, 3)}
    copy = shutil.copy(photograph, tmp_path / "b.jpg")
    backwards = list(changed_images(copy, preprocess, CAMERA, every[::-1], 0))[::-1]
    assert all((a == b).all() for a, b in zip(images, backwards, strict=True))
    noise = every.index(("noise", 3))
    (other,) = changed_images(photograph, preprocess, CAMERA, [("noise", 3)], 1)
    assert (other != images[noise]).any()
    clean = preprocess.read(photograph)
    for (change, severity), image in zip(every, images, strict=True):
        # A margin that the field of view leaves out again changes nothing.
        expected = change == "framing" and name == "fundus-local"
        assert (np.abs(image.astype(int) - clean).max() <= 1) == expected, (change, severity)


def scores_of(small_set) -> Scores:
    samples = list(read_dataset(small_set).split("val"))
    labels = np.array([sample.label for sample in samples])
    return Scores(samples, labels, np.random.default_rng(0).normal(labels - 0.5, 1))


@pytest.mark.slow
@pytest.mark.parametrize("adapt", [False, True])
def test_scores_do_not_depend_on_the_batch_size(adapt, checkpoint, small_set, monkeypatch):
    """Nor do they where each condition is adapted to, as long as its images fit into one batch."""
    monkeypatch.setattr("pmtrain.models.adapt_bn.FEWEST", 8)
    clean = scores_of(small_set)
    logits = []
    for size in (3, 8):
        options = {"shift": "stain", "shift_severities": "2", "batch_size": size, "n_boot": 100, "device": "cpu"}
        config = load_config(EvalConfig, options | {"adapt_bn": adapt})
        loaded = load_checkpoint(checkpoint)
        found = shifted(loaded, clean, shift_logits(loaded, clean.samples, config, "cpu"), 0.4, None, config)
        logits.append(found.logits)
    assert logits[0].shape == (8, len(SHIFTS["stain"]))
    np.testing.assert_allclose(logits[0], logits[1], rtol=1e-3, atol=1e-3)
    assert len(np.unique(logits[0])) > 8
    lines = found.lines()
    assert lines[1] == "stain suite: 8 images, 11 changes, the mean over severities 2"
    assert [line.split("  ")[0] for line in lines[3:-1]] == ["clean", *SHIFTS["stain"], "mean", "loss against clean"]
