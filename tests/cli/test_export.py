"""`pmtrain export`, and `predict` and `eval` on what it wrote."""

from __future__ import annotations

import csv
import io
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit

from pmtrain.evaluation.inference.export import exporters
from pmtrain.runs.checkpoint import load_checkpoint, save_checkpoint
from pmtrain.runs.formats.state_dict import dump_state

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def exported(checkpoint, small_set, tmp_path_factory):
    """The folder of an ONNX export of `checkpoint`, and what the command printed."""
    from typer.testing import CliRunner

    from pmtrain.cli import app

    folder = tmp_path_factory.mktemp("export") / "眼 model"
    done = CliRunner().invoke(app, ["export", str(checkpoint), str(small_set), "--output", str(folder)])
    assert done.exit_code == 0, done.output
    return folder, done.stdout


def probabilities(text: str) -> list[float]:
    return [float(row["probability"]) for row in csv.DictReader(io.StringIO(text))]


def test_it_says_what_it_checked(exported):
    folder, printed = exported
    assert {file.name for file in folder.iterdir()} == {"model.onnx", "export.json", "MODEL_CARD.md"}
    assert [file.name for file in folder.parent.iterdir()] == [folder.name]
    assert "largest difference of a probability: " in printed and "on 8 images (onnxruntime " in printed
    assert "speed: " in printed


def test_export_json_tells_a_program_all_that_it_needs(exported):
    told = json.loads((exported[0] / "export.json").read_text(encoding="utf-8"))
    assert told["input"] == {"name": "image", "type": "float32", "shape": ["N", 3, 32, 32]} | {
        "channels": "as preprocessing says"
    }
    assert [output["name"] for output in told["outputs"]] == ["logit", "probability", "features"]
    assert told["classes"] == {"negative": "healthy", "positive": "sick"}
    assert told["threshold"]["value"] == 0.4
    assert told["preprocessing"]["name"] == "notes"
    assert "BGR; value / 255 x 2 - 1" in told["preprocessing"]["left_to_the_caller"]
    assert told["check"]["images"] == 8 and told["check"]["largest_difference_of_a_probability"] < 1e-4


def test_predict_takes_it(exported, checkpoint, small_set, run_cli):
    ours = run_cli("predict", checkpoint, small_set, "--workers", 0)
    theirs = run_cli("predict", exported[0] / "model.onnx", small_set, "--workers", 0)
    assert theirs.exit_code == 0, theirs.stderr
    np.testing.assert_allclose(probabilities(theirs.stdout), probabilities(ours.stdout), atol=1e-4)
    assert len(set(probabilities(theirs.stdout))) == 20


@pytest.mark.slow
def test_eval_takes_it_and_writes_the_same_files(exported, checkpoint, small_set, run_cli, tmp_path):
    for name, model in (("ours", checkpoint), ("theirs", exported[0] / "model.onnx")):
        done = run_cli("eval", model, small_set, "--output", tmp_path / name, "--n-boot", 100, "--workers", 0)
        assert done.exit_code == 0, done.stderr
    ours, theirs = ({file.name for file in (tmp_path / name).iterdir()} for name in ("ours", "theirs"))
    assert ours == theirs
    report = json.loads((tmp_path / "theirs" / "metrics.json").read_text(encoding="utf-8"))
    assert (report["backend"], report["precision"]) == ("onnxruntime", "fp32")
    assert report["threshold"]["value"] == 0.4


def test_images_of_another_size_are_refused(exported, small_set, run_cli):
    done = run_cli("eval", exported[0] / "model.onnx", small_set, "--tta-views", "scales", "--workers", 0)
    assert done.exit_code == 1
    assert "exported for images of 3 x 32 x 32 values" in done.stderr


@pytest.mark.parametrize("flags", [("--precision", "bf16"), ("--backend", "paddle")])
def test_an_exported_model_computes_as_it_was_exported(exported, small_set, run_cli, flags):
    done = run_cli("predict", exported[0] / "model.onnx", small_set, *flags)
    assert done.exit_code == 2
    assert flags[0] in done.stderr


@pytest.mark.slow
def test_with_preprocessing_the_input_is_bytes(checkpoint, small_set, run_cli, tmp_path):
    done = run_cli("export", checkpoint, small_set, "--with-preprocessing", "--output", "m")
    assert done.exit_code == 0, done.stderr
    told = json.loads((tmp_path / "m" / "export.json").read_text(encoding="utf-8"))
    assert (told["input"]["type"], told["input"]["shape"]) == ("uint8", ["N", 32, 32, 3])
    assert told["preprocessing"]["built_in"] == ["BGR; value / 255 x 2 - 1"]
    assert len(told["preprocessing"]["left_to_the_caller"]) == 2
    ours = run_cli("predict", checkpoint, small_set, "--workers", 0)
    theirs = run_cli("predict", tmp_path / "m" / "model.onnx", small_set, "--workers", 0)
    np.testing.assert_allclose(probabilities(theirs.stdout), probabilities(ours.stdout), atol=1e-4)


def test_what_differs_is_refused_and_leaves_nothing(checkpoint, small_set, run_cli, tmp_path, monkeypatch):
    right = exporters.EXPORTERS["onnx"]

    def load(folder, source):
        run = right.load(folder, source)
        return lambda inputs: run(inputs) + [0.001, 0]  # moves a probability by up to 0.00025

    wrong = replace(right, load=load)
    monkeypatch.setitem(exporters.EXPORTERS, "onnx", wrong)
    done = run_cli("export", checkpoint, small_set, "--output", tmp_path / "out" / "m")
    assert done.exit_code == 1
    assert "differ from the checkpoint's by up to 0.0002" in done.stderr
    assert not list((tmp_path / "out").iterdir())


def test_an_existing_folder_stays(checkpoint, small_set, run_cli, tmp_path):
    (tmp_path / "m").mkdir()
    done = run_cli("export", checkpoint, small_set, "--output", "m")
    assert done.exit_code == 1
    assert "exists already" in done.stderr
    assert not list((tmp_path / "m").iterdir())


def test_weights_alone_hold_no_preprocessing(checkpoint, small_set, run_cli):
    done = run_cli("export", checkpoint, small_set, "--format", "safetensors", "--with-preprocessing")
    assert done.exit_code == 2
    assert "--format onnx" in done.stderr


def test_an_export_isnt_exported_again(exported, small_set, run_cli):
    done = run_cli("export", exported[0] / "model.onnx", small_set, "--output", "m")
    assert done.exit_code == 2


def test_a_missing_package_is_named(checkpoint, small_set, run_cli, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    done = run_cli("export", checkpoint, small_set, "--output", tmp_path / "out" / "m")
    assert done.exit_code == 1
    assert 'pip install "pmtrain[onnx]"' in done.stderr
    assert not list((tmp_path / "out").iterdir())


def test_explain_says_that_an_export_has_no_gradients(exported, small_set, run_cli):
    done = run_cli("explain", exported[0] / "model.onnx", small_set)
    assert done.exit_code == 2
    assert "gradients" in done.stderr


@pytest.mark.slow
def test_int8_is_calibrated_on_training_images_and_its_loss_told(checkpoint, small_set, run_cli, tmp_path, monkeypatch):
    monkeypatch.setattr("pmtrain.evaluation.inference.export.int8.MOST_LOSS", 1.0)  # 8 images tell little
    done = run_cli("export", checkpoint, small_set, "--quantize", "int8", "--output", "m")
    assert done.exit_code == 0, done.stderr
    assert "AUC: " in done.stdout and "same decision: " in done.stdout and "the same model in fp32" in done.stdout
    told = json.loads((tmp_path / "m" / "export.json").read_text(encoding="utf-8"))
    assert told["model"]["precision"] == "int8"
    assert told["check"]["int8"]["same_decision"]["n"] == 8
    assert run_cli("predict", tmp_path / "m" / "model.onnx", small_set, "--workers", 0).exit_code == 0


@pytest.mark.parametrize("flags", [("--split", "all"), ("--split", "train"), ("--format", "paddle")])
def test_int8_wants_onnx_and_images_of_its_own(checkpoint, small_set, run_cli, flags):
    done = run_cli("export", checkpoint, small_set, "--quantize", "int8", *flags)
    assert done.exit_code == 2
    assert "--quantize int8" in done.stderr


@pytest.fixture(scope="module")
def pair(checkpoint, tmp_path_factory) -> str:
    """Two checkpoints, the second one's logits greater by 0.6."""
    loaded, folder = load_checkpoint(checkpoint), tmp_path_factory.mktemp("pair")
    state = loaded.state | {"out.bias": loaded.state["out.bias"] + np.float32(0.6)}
    save_checkpoint(folder / "b.pdparams", dump_state(state, {}), loaded.info)
    return f"{checkpoint},{folder / 'b.pdparams'}"


@pytest.mark.slow
def test_several_networks_leave_as_one(pair, checkpoint, small_set, run_cli, tmp_path):
    done = run_cli("export", pair, small_set, "--output", "m")
    assert done.exit_code == 0, done.stderr
    told = json.loads((tmp_path / "m" / "export.json").read_text(encoding="utf-8"))
    assert [output["name"] for output in told["outputs"]] == ["logit", "probability", "spread", "features"]
    assert told["check"]["largest_difference_of_a_probability"] < 1e-4  # from the mean of the two
    assert len(told["networks"]) == 2
    alone = np.array(probabilities(run_cli("predict", checkpoint, small_set, "--workers", 0).stdout))
    found = run_cli("predict", tmp_path / "m" / "model.onnx", small_set, "--workers", 0).stdout
    np.testing.assert_allclose(probabilities(found), expit(logit(alone) + 0.3), atol=1e-4)
    spreads = [float(row["spread"]) for row in csv.DictReader(io.StringIO(found))]
    np.testing.assert_allclose(spreads, 0.6 / np.sqrt(2), atol=1e-4)


def test_networks_that_dont_fit_into_one_are_refused(pair, checkpoint, small_set, run_cli, tmp_path):
    done = run_cli("export", pair, small_set, "--output", "m", "--format", "safetensors")
    assert done.exit_code == 2 and "--format onnx or paddle" in done.stderr
    assert run_cli("export", pair, small_set).exit_code == 2  # which folder isn't said
    loaded = load_checkpoint(checkpoint)
    larger = loaded.info.model_copy(update={"image_size": 64})
    save_checkpoint(tmp_path / "c.pdparams", dump_state(loaded.state, {}), larger)
    done = run_cli("export", f"{checkpoint},{tmp_path / 'c.pdparams'}", small_set, "--output", "m")
    assert done.exit_code == 2 and "preprocessing" in done.stderr
