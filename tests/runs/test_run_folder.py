"""A run's files: what is damaged is named, and a run that was killed while it began can begin again."""

from __future__ import annotations

import pytest

from pmtrain.config import TrainConfig
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


def test_a_run_that_was_killed_while_it_began_begins_again(tmp_path):
    config = TrainConfig(output=tmp_path / "run")
    folder = RunFolder.create(config)
    (tmp_path / "run" / "run.json.tmp").write_bytes(b"{")
    assert RunFolder.create(config).config() == folder.config()
    folder.write_info({"data": {}})
    with pytest.raises(UsageError, match="exists already"):
        RunFolder.create(config)
