"""The domain model's file: what comes back, and what is not used."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pmtrain.evaluation.domain.domain_file import domain_path, load_domain, save_domain
from pmtrain.evaluation.domain.domain_model import DomainModel, Measured
from pmtrain.evaluation.domain.image_statistics import STATISTICS
from pmtrain.runs.checkpoint import load_checkpoint
from pmtrain.system.errors import PmtrainError
from tests.runs.saving import save, with_faults

K = len(STATISTICS)


def fitted(seed: int) -> DomainModel:
    rng = np.random.default_rng(seed)
    parts = [Measured(rng.random((30, 8), np.float32), rng.random((30, K)), rng.random((60, K))) for _ in range(2)]
    return DomainModel.fit(*parts, kept=20)


def test_it_comes_back_with_the_same_verdicts(tmp_path):
    save(tmp_path / "best.pdparams", 1)
    checkpoint, model = load_checkpoint(tmp_path / "best.pdparams"), fitted(0)
    path = save_domain(checkpoint, model)
    assert path == tmp_path / "best.domain.safetensors"
    (loaded,), reason = load_domain(checkpoint)
    assert reason == ""
    np.testing.assert_array_equal(loaded.features, model.features)
    np.testing.assert_allclose(loaded.own.precision, model.own.precision, rtol=1e-6)
    given = np.random.default_rng(1).random((5, 8), np.float32), np.random.default_rng(2).random((5, K))
    assert [each.verdict for each in loaded.judge(*given)] == [each.verdict for each in model.judge(*given)]


def test_without_a_side_file_the_weights_are_hashed(tmp_path):
    save(tmp_path / "best.pdparams", 1)
    (tmp_path / "best.json").unlink()
    checkpoint = load_checkpoint(tmp_path / "best.pdparams")
    save_domain(checkpoint, fitted(0))
    assert load_domain(checkpoint)[0]


def test_one_of_other_weights_is_not_used(tmp_path):
    save(tmp_path / "best.pdparams", 1)
    save_domain(load_checkpoint(tmp_path / "best.pdparams"), fitted(0))
    save(tmp_path / "best.pdparams", 2)
    assert load_domain(load_checkpoint(tmp_path / "best.pdparams")) == (
        [],
        "best.domain.safetensors belongs to other weights",
    )
    domain_path(tmp_path / "best.pdparams").unlink()
    assert load_domain(load_checkpoint(tmp_path / "best.pdparams"))[1].startswith("there is no best.domain")


@pytest.mark.parametrize("damage", ["cut", "text", "shape", "infinite"])
def test_a_damaged_one_is_an_error_that_names_it(tmp_path, damage):
    save(tmp_path / "best.pdparams", 1)
    checkpoint, model = load_checkpoint(tmp_path / "best.pdparams"), fitted(0)
    if damage == "shape":
        model = dataclasses.replace(model, training=model.training[:, :3])
    if damage == "infinite":
        model = dataclasses.replace(model, cuts=np.array([1.0, np.inf, 1.0]))
    path = save_domain(checkpoint, model)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    if damage == "text":
        path.write_text("no arrays at all")
    with pytest.raises(PmtrainError, match="best.domain.safetensors"):
        load_domain(checkpoint)


@pytest.mark.parametrize("kind", ["kill", "full"])
def test_whatever_fails_the_old_or_the_new_one_is_whole(tmp_path, kind):
    save(tmp_path / "best.pdparams", 1)
    checkpoint, models = load_checkpoint(tmp_path / "best.pdparams"), [fitted(0), fitted(1)]
    save_domain(checkpoint, models[0])
    nth = 0
    while with_faults(kind, nth, save_domain, checkpoint, models[1]):
        (loaded,) = load_domain(checkpoint)[0]
        assert any(np.array_equal(loaded.features, model.features) for model in models)
        save_domain(checkpoint, models[0])
        nth += 1
    assert nth > 2
