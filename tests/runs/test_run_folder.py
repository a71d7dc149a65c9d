"""A run's files: what is damaged is named, and no run is overwritten."""

from __future__ import annotations

import pytest

from pmtrain.config import TrainConfig
from pmtrain.runs import run_folder
from pmtrain.runs.run_folder import RunFolder
from pmtrain.system.errors import PmtrainError, UsageError


@pytest.mark.parametrize("content", [b"epoch,lr\nx,0.1\n", b"epoch,lr\n1,\xff\n", b"epoch,lr\n1,2,3\n", None])
def test_damaged_metrics_are_named(tmp_path, content):
    if content is not None:
        (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(PmtrainError, match=r"metrics\.csv: can't be read"):
        RunFolder(tmp_path).history()


def test_metrics_come_back(tmp_path):
    row = dict.fromkeys(("train_loss", "val_loss", "val_accuracy", "val_auc", "lr", "images_per_second"), 0.5)
    history = [{"epoch": 0, **row}, {"epoch": 1, **row, "val_auc": None}]
    RunFolder(tmp_path).write_metrics(history)
    assert RunFolder(tmp_path).history() == history


def test_of_two_runs_that_begin_at_once_in_one_folder_the_second_is_refused(tmp_path, monkeypatch):
    config = TrainConfig(output=tmp_path / "run")
    monkeypatch.setattr(run_folder, "require_new", lambda *_: None)  # both have looked: it was empty
    RunFolder.create(config)
    written = (tmp_path / "run/config.yaml").read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        RunFolder.create(config.model_copy(update={"epochs": 99}))
    assert (tmp_path / "run/config.yaml").read_bytes() == written


@pytest.mark.parametrize("kept", [0, 1, 300])
def test_of_a_damaged_config_no_default_is_taken(tmp_path, kept):
    folder = RunFolder.create(TrainConfig(output=tmp_path / "run", epochs=7))
    whole = folder.config_file.read_text()
    assert folder.config().epochs == 7
    folder.config_file.write_text(whole[: whole.index("\n", kept) + 1] if kept else "")
    with pytest.raises(PmtrainError, match=r"config\.yaml: isn't whole: it has no .*epochs"):
        folder.config()


@pytest.mark.parametrize("content", ['{"command": "x"}', '{"data": 3}', "[]x", "3", "[]", "[" * 100_000])
def test_a_run_json_that_lacks_something_is_refused_by_name(tmp_path, content):
    folder = RunFolder(tmp_path)
    folder.info_file.write_text(content)
    with pytest.raises(PmtrainError, match=r"run\.json: can't be read"):
        folder.info()
