"""`pmtrain predict`: its three formats, bad images, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pmtrain.runs.checkpoint import load_checkpoint, replace_info
from pmtrain.runs.records import UnitRecord
from tests.conftest import command, environment

QUIET = ("--workers", 0)


@pytest.fixture
def photos(small_set, tmp_path) -> Path:
    """Four images and one truncated file, in a folder of a non-ASCII name."""
    folder = tmp_path / "眼底 照片"
    folder.mkdir()
    for number in range(4):
        shutil.copy(next((small_set / "val").rglob(f"{number}.png")), folder / f"图{number}.png")
    (folder / "图2.5.png").write_bytes((folder / "图2.png").read_bytes()[:-30])
    return folder


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_its_probabilities_are_those_of_eval(run_cli, checkpoint, small_set, tmp_path):
    done = run_cli("eval", checkpoint, "--data", small_set, "--split", "all", "--output", tmp_path / "e", *QUIET)
    assert done.exit_code == 0, done.stderr
    evaluated = rows_of((tmp_path / "e" / "predictions.csv").read_text(encoding="utf-8"))
    arguments = [small_set / row["file"] for row in evaluated]
    done = run_cli("predict", checkpoint, *arguments, *QUIET)
    assert (done.exit_code, len(done.stderr.splitlines())) == (0, 1)
    assert done.stderr.startswith("no domain model: there is no best.domain.safetensors beside the checkpoint")
    predicted = rows_of(done.stdout)
    assert [row["file"] for row in predicted] == [str(argument) for argument in arguments]
    assert [row["probability"] for row in predicted] == [row["probability"] for row in evaluated]
    assert len({row["probability"] for row in predicted}) == 20


def test_csv_has_a_row_an_image_and_a_bad_one_its_error(run_cli, checkpoint, photos):
    done = run_cli("predict", checkpoint, photos / "图3.png", photos, *QUIET)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[0] == "file,probability,prediction,error,familiarity,verdict,reason"
    rows = rows_of(done.stdout)
    assert [Path(row["file"]).name for row in rows] == ["图3.png", "图0.png", "图1.png", "图2.5.png", "图2.png"]
    for row in rows:
        if "2.5" in row["file"]:
            assert (row["probability"], row["prediction"]) == ("", "")
            assert "truncated" in row["error"]
        else:
            assert row["prediction"] == ("sick" if float(row["probability"]) >= 0.4 else "healthy")
            assert row["error"] == ""
    assert "图2.5.png: truncated" in done.stderr
    assert "1 of 5 images couldn't be read" in done.stderr


def test_json_is_one_document(run_cli, checkpoint, photos):
    found = json.loads(run_cli("predict", checkpoint, photos, "--format", "json", *QUIET).stdout)
    assert (found["classes"], found["threshold"], found["synthetic"]) == (["healthy", "sick"], 0.4, False)
    as_csv = rows_of(run_cli("predict", checkpoint, photos, *QUIET).stdout)
    assert [{name: str(value or "") for name, value in row.items()} for row in found["predictions"]] == as_csv


def test_palm_is_the_challenges_file(run_cli, checkpoint, photos):
    done = run_cli("predict", checkpoint, photos, "--format", "palm", *QUIET)
    lines = done.stdout.splitlines()
    assert lines[0] == "FileName,PM Risk"
    rows = rows_of(done.stdout)
    assert [row["FileName"] for row in rows] == ["图0.png", "图1.png", "图2.5.png", "图2.png", "图3.png"]
    assert [row["PM Risk"] == "" for row in rows] == [False, False, True, False, False]
    assert all(0 <= float(row["PM Risk"] or 0) <= 1 for row in rows)
    assert done.exit_code == 1


def test_palm_cant_tell_files_of_one_name_apart(run_cli, checkpoint, small_set, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(small_set / "val/sick/1.png", tmp_path / folder)
    done = run_cli("predict", checkpoint, "a", "b", "--format", "palm")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "1.png" in done.stderr


def test_output_holds_what_stdout_would(run_cli, checkpoint, photos, tmp_path):
    printed = run_cli("predict", checkpoint, photos, *QUIET)
    written = run_cli("predict", checkpoint, photos, "--output", "新/结果.csv", *QUIET)
    assert (written.exit_code, written.stdout) == (1, "")
    assert (tmp_path / "新" / "结果.csv").read_bytes() == printed.stdout.encode()
    assert [path.name for path in (tmp_path / "新").iterdir()] == ["结果.csv"]


def test_output_is_never_overwritten(run_cli, checkpoint, photos, tmp_path):
    (tmp_path / "mine.csv").write_text("mine")
    done = run_cli("predict", checkpoint, photos, "--output", "mine.csv")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "mine.csv" in done.stderr
    assert (tmp_path / "mine.csv").read_text() == "mine"


def test_a_broken_off_run_leaves_no_output(run_cli, checkpoint, photos, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pmtrain.evaluation.inference.classifier.Network.logits", interrupted)
    done = run_cli("predict", checkpoint, photos, "--output", "out/p.csv", *QUIET)
    assert done.exit_code == 130
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("missing", ["none.png", "none/*.png"])
def test_a_missing_argument_is_an_error_before_anything(run_cli, checkpoint, photos, missing):
    done = run_cli("predict", checkpoint, photos, missing)
    assert (done.exit_code, done.stdout) == (2, "")
    assert missing in done.stderr


def test_images_are_asked_for(run_cli, checkpoint):
    assert run_cli("predict", checkpoint).exit_code == 2


def test_the_real_program_with_workers(run_process, checkpoint, photos):
    done = run_process("predict", checkpoint, str(photos / "图*.png"), "--workers", 2, "--batch-size", 2)
    rows = rows_of(done.stdout.decode("utf-8"))
    assert (done.returncode, len(rows)) == (1, 5)


@pytest.mark.skipif(os.name == "nt", reason="file names are Unicode there")
@pytest.mark.parametrize("format", ["csv", "json"])
def test_a_name_that_is_not_utf8(run_process, checkpoint, small_set, tmp_path, format):
    name = os.fsdecode(b"\xe9.png")
    try:
        shutil.copy(small_set / "val/sick/1.png", tmp_path / name)
    except OSError:
        pytest.skip("this file system has no such names")
    done = run_process("predict", checkpoint, name, "--workers", 0, "--format", format)
    assert (done.returncode, done.stderr.count(b"\n")) == (0, 1)
    assert done.stderr.startswith(b"no domain model")
    if format == "json":
        assert json.loads(done.stdout)["predictions"][0]["file"] == name
    else:
        assert b"\xe9.png" in done.stdout


def test_a_reader_that_leaves_early_ends_it_quietly(checkpoint, small_set):
    process = subprocess.Popen(
        command("predict", checkpoint, small_set, "--workers", 0, "--batch-size", 1),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment({}),
    )
    assert (
        process.stdout.readline()
        == b"file,probability,prediction,error,familiarity,verdict,reason" + os.linesep.encode()
    )
    process.stdout.close()
    told = process.stderr.read()
    assert told.startswith(b"no domain model") and told.count(b"\n") == 1
    process.stderr.close()
    assert process.wait(timeout=60) == 1


# Patient 1 has images 0 and 1, patient 2 image 2 and the truncated one, patient 3 image 3.
PATIENTS = {"图0": "1", "图1": "1", "图2": "2", "图2.5": "2", "图3": "3"}


@pytest.fixture
def table(tmp_path) -> Path:
    """A table without labels, as a clinic has it: file names without a suffix, patients, eyes."""
    lines = ["bild;patient id;eye", *(f"{name};{patient};{patient}L" for name, patient in PATIENTS.items())]
    (tmp_path / "patients.csv").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "patients.csv"


@pytest.fixture
def with_unit(checkpoint, tmp_path) -> Path:
    """The checkpoint, which keeps how a patient's images are one: their maximum, positive from 0.37 on."""
    copied = Path(shutil.copytree(checkpoint.parent, tmp_path / "with unit")) / checkpoint.name
    chosen = {"aggregate": "max", "threshold": 0.37, "threshold_rule": "youden"}
    record = UnitRecord(unit="patient", image_threshold=0.4, units=9, images=20, **chosen)
    loaded = load_checkpoint(copied)
    replace_info(loaded, loaded.info.model_copy(update={"unit": record}))
    return copied


def test_a_row_per_patient_by_the_stored_aggregate(run_cli, with_unit, photos, table):
    by_image = rows_of(run_cli("predict", with_unit, photos, *QUIET).stdout)
    p = {Path(row["file"]).stem: float(row["probability"]) for row in by_image if row["probability"]}
    by_patient = ("predict", with_unit, photos, "--unit", "patient", "--table", table, *QUIET)
    done = run_cli(*by_patient)
    assert done.exit_code == 1  # one image can't be read
    rows = rows_of(done.stdout)
    counts = [(row["patient"], row["images"], row["used"]) for row in rows]
    assert counts == [("1", "2", "2"), ("2", "2", "1"), ("3", "1", "1")]
    expected = [max(p["图0"], p["图1"]), p["图2"], p["图3"]]
    assert [float(row["probability"]) for row in rows] == pytest.approx(expected, rel=1e-6)
    assert [row["prediction"] for row in rows] == ["sick" if each >= 0.37 else "healthy" for each in expected]
    written = json.loads(run_cli(*by_patient, "--aggregate", "mean", "--format", "json").stdout)
    assert written["unit"]["aggregate"] == "mean"
    assert written["predictions"][0]["probability"] == pytest.approx((p["图0"] + p["图1"]) / 2, rel=1e-6)
    assert [Path(name).stem for name in written["predictions"][1]["images"]] == ["图2.5", "图2"]


def test_patients_by_file_name_and_other_units_by_a_column(run_cli, checkpoint, photos, table):
    done = run_cli("predict", checkpoint, photos, "--unit", "patient", "--patient-pattern", r"图(\d)", *QUIET)
    counts = [(row["patient"], row["images"]) for row in rows_of(done.stdout)]
    assert counts == [("0", "1"), ("1", "1"), ("2", "2"), ("3", "1")]
    assert "the checkpoint keeps no way to aggregate, so the mean is taken" in done.stderr
    two = photos / "图2.5.png", photos / "图3.png"
    unread, read = rows_of(run_cli("predict", checkpoint, *two, "--unit", "eye", "--table", table, *QUIET).stdout)
    assert (unread["eye"], unread["used"], unread["probability"], unread["prediction"]) == ("2L", "0", "", "")
    assert "no image can be used; the first: truncated" in unread["error"]
    assert (read["eye"], read["error"]) == ("3L", "") and 0 < float(read["probability"]) < 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--unit", "patient"), "which images belong together isn't known"),
        (("--aggregate", "max"), "--aggregate max: it belongs to --unit"),
        (("--unit", "eye", "--table", "{table}", "--format", "palm"), "the format palm has a row per image"),
        (("--unit", "slide", "--table", "{table}"), "has no such column"),
        (("--unit", "patient", "--patient-pattern", "图(3)"), "4 of 5 images have none"),
        (("--unit", "patient", "--patient-pattern", "(x)", "--table", "{table}"), "both tell the patients"),
    ],
)
def test_units_that_cannot_be_told_are_refused(run_cli, checkpoint, photos, table, options, said):
    done = run_cli("predict", checkpoint, photos, *(option.format(table=table) for option in options), *QUIET)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
