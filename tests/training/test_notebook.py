"""The Python interface: the same files and numbers as the command line, errors as exceptions, nothing printed."""

from __future__ import annotations

import csv
import json
import subprocess
import sys

import pytest

import pmtrain
from pmtrain.system.errors import UsageError
from tests.conftest import QUICK, environment

OPTIONS = {
    **{"layers": 18, "image_size": 32, "batch_size": 4, "workers": 0, "log_every": 1, "epochs": 2},
    **{"report": False, "shortcut": False},
}


def test_importing_the_package_loads_neither_paddle_nor_numpy():
    code = "import sys, pmtrain; assert not {'paddle', 'numpy', 'pydantic'} & set(sys.modules), list(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment({}))


def test_a_training_and_its_evaluation_are_those_of_the_command_line(run_cli, small_set, tmp_path, capsys):
    result = pmtrain.train(data=str(small_set), output=tmp_path / "ours", **OPTIONS)
    assert capsys.readouterr() == ("", "")
    shell = run_cli("train", "--data", small_set, "--epochs", 2, "--output", "shell", *QUICK)
    assert shell.exit_code == 0, shell.stderr
    ours, theirs = tmp_path / "ours", tmp_path / "shell"
    assert result.folder == ours
    assert {path.name for path in ours.iterdir()} == {path.name for path in theirs.iterdir()}
    assert result.checkpoint.read_bytes() == (theirs / "best.pdparams").read_bytes()
    assert (ours / "validation.csv").read_bytes() == (theirs / "validation.csv").read_bytes()
    with open(theirs / "metrics.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row.val_loss for row in result.history] == [float(row["val_loss"]) for row in rows]
    assert result.best.epoch == json.loads((theirs / "best.json").read_text(encoding="utf-8"))["epoch"]
    lines = [line for line in shell.stdout.splitlines() if line]
    assert all(line in (ours / "train.log").read_text(encoding="utf-8") for line in lines)
    assert any("8 images only" in warning for warning in result.warnings)

    found = pmtrain.evaluate(result.folder, workers=0, output=tmp_path / "eval")
    assert capsys.readouterr() == ("", "")
    assert run_cli("eval", "shell", "--workers", 0, "--output", "eval2").exit_code == 0
    with open(tmp_path / "eval2" / "predictions.csv", newline="", encoding="utf-8") as file:
        predictions = list(csv.DictReader(file))
    assert [(row.file, row.logit, row.prediction) for row in found.scores] == [
        (row["file"], float(row["logit"]), int(row["prediction"])) for row in predictions
    ]
    written = json.loads((tmp_path / "eval2" / "metrics.json").read_text(encoding="utf-8"))
    auc = found.metrics.measures["auc"]
    assert auc.value.value == written["metrics"]["auc"]["value"]
    assert auc.interval.low == written["metrics"]["auc"]["interval"]["low"]
    assert found.threshold == written["threshold"]["value"]
    assert list(found.exploratory) == written["exploratory_reasons"] != []
    assert (tmp_path / "eval" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layer": 50}, "layer= there is no option 'layer'\nhint: did you mean 'layers'"),
        ({"epochs": 0}, "epochs= 0: input should be greater than or equal to 1"),
        ({"epochs": "5"}, "epochs= '5'"),
        ({"folds": 3}, "folds= is for the command line"),
        ({"nproc": 2}, "nproc= is for the command line"),
    ],
)
def test_wrong_options_are_refused_as_on_the_command_line(options, said):
    with pytest.raises(UsageError) as raised:
        pmtrain.train(**options)
    assert said in str(raised.value)


def test_data_that_is_missing_is_an_error_and_no_exit(tmp_path):
    with pytest.raises(pmtrain.PmtrainError, match="nowhere"):
        pmtrain.train(data=tmp_path / "nowhere", **OPTIONS)
