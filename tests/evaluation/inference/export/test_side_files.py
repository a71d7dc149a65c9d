"""An exported model that was moved away from its run: calibrated figures, verdicts, and whether it knows its images."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from pmtrain.config import ExportConfig, TrainConfig, dump_yaml, load_config
from pmtrain.data.layouts.readers import read_dataset
from pmtrain.data.splits.record import write_record
from pmtrain.evaluation.domain.domain_file import load_domain, save_domain
from pmtrain.evaluation.domain.domain_model import DomainModel, Measured, as_other_cameras
from pmtrain.evaluation.domain.image_statistics import image_statistics
from pmtrain.evaluation.inference.classifier import load_classifier
from pmtrain.evaluation.scores.chosen_images import Images
from pmtrain.evaluation.scores.prior_use import seen_before
from pmtrain.runs.calibrator import Calibrator
from pmtrain.runs.checkpoint import load_checkpoint, replace_info
from pmtrain.runs.run_folder import RunFolder
from pmtrain.system.framework import paddle
from pmtrain.training.train import data_record

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from pmtrain.evaluation.inference.export.exporting import export  # noqa: E402


@pytest.fixture(scope="module")
def run(checkpoint, small_set, tmp_path_factory) -> Path:
    """The checkpoint in a run's folder, calibrated, with a domain model of the 20 images; their record names 12."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "pm")
    folder.path.mkdir()
    folder.config_file.write_text(dump_yaml(TrainConfig(data=small_set)))
    data = read_dataset(small_set)
    dropped = data.name_of(data.split("train")[0])
    folder.write_info({"data": {**data_record(data), "leakage": {"dropped_files": [dropped]}}})
    write_record(folder.images, data)
    shutil.copy(checkpoint, folder.best)
    shutil.copy(checkpoint.with_suffix(".json"), folder.best.with_suffix(".json"))
    calibrator = Calibrator(method="platt", slope=0.5, intercept=1.0, prevalence=0.5, images=8, positives=4)
    loaded = load_checkpoint(folder.best)
    replace_info(loaded, loaded.info.model_copy(update={"calibration": calibrator}))
    loaded = load_checkpoint(folder.best)
    classifier = load_classifier(folder.best, "cpu", "paddle")
    pixels = np.stack([classifier.preprocess.read(sample.path) for sample in data.samples])
    kept = []
    hook = classifier.model.out.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0].numpy()))
    with paddle.no_grad():
        classifier.model(paddle.to_tensor(classifier.preprocess.normalise(pixels)))
    hook.remove()
    statistics = np.array([image_statistics(image) for image in pixels])
    measured = Measured(kept[0], statistics, as_other_cameras(list(pixels), 0))
    save_domain(loaded, DomainModel.fit(measured, measured, kept=20))
    return folder.path


@pytest.fixture(scope="module", params=["onnx", "safetensors"])
def moved(run, request, tmp_path_factory) -> Path:
    """An export of it, elsewhere."""
    written = run / f"export-{request.param}"
    export(run, load_config(ExportConfig, {"format": request.param}), lambda path, config: "")
    folder = Path(shutil.move(written, tmp_path_factory.mktemp("elsewhere") / "export"))
    return next(folder.glob(f"model.{request.param}"))


def test_it_gives_the_calibrated_figures_and_the_verdicts(run, moved, small_set):
    images = [*sorted(small_set.rglob("*.png")), np.zeros((40, 36, 3), np.uint8)]
    ours = load_classifier(run, "cpu").predict(images, force=True)
    theirs = load_classifier(moved, "cpu").predict(images, force=True)
    expected = [each.probability for each in ours]
    np.testing.assert_allclose([each.probability for each in theirs], expected, atol=1e-5)
    raw = load_checkpoint(run).info.calibration.inverse(np.log(expected) - np.log1p(-np.array(expected)))
    assert np.median(np.abs(expit(raw) - expected)) > 0.1  # so the calibration was applied
    assert [each.label for each in theirs] == [each.label for each in ours]
    same = [ours_of.verdict == theirs_of.verdict for ours_of, theirs_of in zip(ours, theirs, strict=True)]
    assert sum(same) >= len(same) - 1  # one image lies at the cut itself, where the runtime's rounding decides
    assert theirs[-1].verdict == "refused"
    np.testing.assert_allclose([each.familiarity for each in theirs], [each.familiarity for each in ours], atol=0.051)


def test_predict_prints_the_verdicts(moved, small_set, run_cli):
    done = run_cli("predict", moved, small_set / "val", "--workers", 0)
    assert done.exit_code == 0, done.stderr
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert len(rows) == 8 and {row["verdict"] for row in rows} <= {"in domain", "unusual", "refused"}


def test_an_export_of_several_networks_judges_by_all_their_domain_models(run, small_set, tmp_path):
    other = Path(shutil.copytree(run, tmp_path / "other", ignore=shutil.ignore_patterns("export-*")))
    checkpoint = load_checkpoint(other)
    (domain,), _ = load_domain(checkpoint)
    strict = replace(domain, cuts=domain.cuts * 0.9)
    save_domain(checkpoint, replace(strict, strangeness=np.full(20, 2.0)))
    options = load_config(ExportConfig, {"output": str(tmp_path / "both"), "check_images": 8})
    export(Path(f"{run},{other}"), options, lambda path, config: "")
    images = [*sorted(small_set.rglob("*.png")), np.zeros((40, 36, 3), np.uint8)]
    ours, theirs = (
        load_classifier(path, "cpu").predict(images, force=True)
        for path in ([run, other], tmp_path / "both/model.onnx")
    )
    np.testing.assert_allclose([each.familiarity for each in theirs], [each.familiarity for each in ours], atol=0.051)
    assert sum(a.verdict == b.verdict for a, b in zip(ours, theirs, strict=True)) >= len(images) - 1
    assert theirs[-1].verdict == "refused"
    alone = load_classifier(run, "cpu").predict(images, force=True)
    assert max(abs(a.familiarity - b.familiarity) for a, b in zip(alone, theirs, strict=True)) > 0.1


def test_it_knows_which_images_it_was_trained_on_without_their_names(moved, small_set, tmp_path, capsys):
    data = read_dataset(Path(shutil.copytree(small_set, tmp_path / "renamed")))
    images = Images(data, data, data.samples, "all")
    checkpoint = load_checkpoint(moved)
    told = "the network was trained on 11 of these 20 images, byte for byte"  # one of 12 was dropped
    assert seen_before(checkpoint, images) == [
        told,
        "the epoch and the stored threshold were chosen on 8 of these 20 images",
    ]
    with open(moved.with_suffix(".images.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["patient"], row["label"]) for row in rows} == {("", "")}
    assert [row["file"] for row in rows] == [str(number) for number in range(20)]
    alone = replace(checkpoint, path=tmp_path / moved.name)  # without the files beside it
    assert seen_before(alone, images) == []
    assert "it isn't known which images it was trained on" in capsys.readouterr().err
