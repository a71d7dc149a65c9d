"""`pmtrain train --folds`: what it prints and leaves, and that stopping it anywhere changes nothing."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score, roc_curve

from pmtrain.system.hardware import thread_count
from tests.cli.test_train import BATCH, VALIDATION, weights_of
from tests.conftest import QUICK, command, environment

K = 2
# Steps of five images: batch norm over two of them at 32 pixels lets the weights run away.
SMALL = (*QUICK, "--batch-size", "5", "--lr", "0.0005")


@pytest.fixture(scope="session")
def patients_table(small_set, tmp_path_factory) -> Path:
    """Twenty images of ten patients, two each, without a split."""
    table = tmp_path_factory.mktemp("table") / "images.csv"
    with open(table, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label", "patient"))
        for path in sorted(small_set.rglob("*.png")):
            number = int(path.stem)
            whose = f"{path.parts[-3]}-{path.parts[-2]}-{number // 4}"
            rows.writerow((path.as_posix(), path.parent.name, whose))
    return table


@pytest.fixture(scope="session")
def undisturbed(patients_table, tmp_path_factory) -> tuple[Path, list[str], str]:
    """A cross-validation of two epochs that nothing stopped: its folder, what it printed, and its stderr."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    done = subprocess.run(
        command("train", "--data", patients_table, "--folds", K, "--epochs", 2, "--output", folder, *SMALL),
        capture_output=True,
        text=True,
        env=environment({}),
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout.splitlines(), done.stderr


def rows_of(file: Path) -> list[dict[str, str]]:
    with open(file, newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def test_each_fold_prints_the_notes_lines(undisturbed):
    lines = undisturbed[1]
    starts = [lines.index(f"[fold] {number}/{K}") for number in (1, 2)] + [lines.index("")]
    assert starts[0] == 0
    for start, end in zip(starts, starts[1:], strict=False):
        assert all(BATCH.fullmatch(line) or VALIDATION.fullmatch(line) for line in lines[start + 1 : end])
        assert sum(bool(VALIDATION.fullmatch(line)) for line in lines[start:end]) == 2
    # The same first weights, other images.
    assert lines[1] != lines[starts[1] + 1]


def test_each_image_is_scored_once_by_the_network_that_never_saw_it(undisturbed, patients_table):
    folder = undisturbed[0]
    rows = rows_of(folder / "out-of-fold.csv")
    assert [row["patient"] for row in rows] == [row["patient"] for row in rows_of(patients_table)]
    assert len({row["file"] for row in rows}) == 20
    fold_of = {row["patient"]: row["fold"] for row in rows}
    assert all(row["fold"] == fold_of[row["patient"]] for row in rows)
    for number in ("1", "2"):
        images = rows_of(folder / f"fold-{number}" / "images.csv")
        held = {row["file"] for row in images if row["split"] == "val"}
        assert held == {row["file"] for row in rows if row["fold"] == number}
        assert {row["split"] for row in images} == {"train", "val"}
        kept = {row["file"]: row["logit"] for row in rows_of(folder / f"fold-{number}" / "validation.csv")}
        assert kept == {row["file"]: row["logit"] for row in rows if row["fold"] == number}


def test_the_figures_are_those_of_the_last_epoch(undisturbed):
    folder, lines, _ = undisturbed
    rows = rows_of(folder / "out-of-fold.csv")
    report = json.loads((folder / "folds.json").read_text(encoding="utf-8"))
    label, logit = (np.array([float(row[key]) for row in rows]) for key in ("label", "logit"))
    fold = np.array([int(row["fold"]) for row in rows])
    found = []
    for number in (1, 2):
        y, z = label[fold == number], logit[fold == number]
        loss = np.mean(np.logaddexp(0, z) - y * z)
        found.append((np.mean((z >= 0) == y), roc_auc_score(y, z), loss))
        printed = [line for line in lines[: lines.index("")] if VALIDATION.fullmatch(line)]
        assert printed[2 * number - 1].endswith(f": {found[-1][0]:.4f}/{found[-1][2]:.4f}")
    for column, (key, title) in enumerate((("accuracy", "Accuracy"), ("auc", "AUC"), ("loss", "Loss"))):
        values = [one[column] for one in found]
        spread = report["last_epoch"][key]
        assert spread == pytest.approx(
            {"mean": np.mean(values), "std": np.std(values, ddof=1), "min": min(values), "max": max(values)}
        )
        told = f"{title:<9}" + "".join(f"{x:9.4f}" for x in spread.values())
        assert told in lines
    pooled = report["pooled"]
    assert pooled["metrics"]["auc"]["value"] == pytest.approx(roc_auc_score(label, logit))
    assert pooled["metrics"]["accuracy"]["value"] == np.mean((logit >= 0) == label)
    assert (pooled["patients"], pooled["bootstrap_unit"], pooled["threshold"], report["epochs"]) == (
        10,
        "patient",
        0.5,
        2,
    )
    assert "images: 20 of 10 patients (10 sick, 10 healthy), prevalence 0.5000" in lines
    assert any(line.startswith("AUC  ") and "95 % CI" in line for line in lines)
    # What a choice has touched is said to be so.
    assert sum(line.startswith("EXPLORATORY: each fold's best epoch") for line in lines) == 1
    assert report["best_epoch"]["exploratory"]


def test_each_fold_is_a_run_of_its_own(run_cli, undisturbed):
    folder = undisturbed[0]
    best = json.loads((folder / "fold-2" / "best.json").read_text(encoding="utf-8"))
    done = run_cli("eval", folder / "fold-2", "--workers", 0)
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"[validation] accuracy/loss: {best['metrics']['accuracy']:.4f}/{best['metrics']['loss']:.4f}"
    assert lines[1].startswith("images: 10 of 5 patients")
    assert "EXPLORATORY: the epoch and the stored threshold were chosen on these 10 images" in done.stdout
    everything = run_cli("eval", folder / "fold-2", "--split", "all", "--workers", 0)
    assert "EXPLORATORY: the network was trained on 10 of these 20 images, so" in everything.stdout


def test_eval_knows_a_folds_images_by_their_content(run_cli, undisturbed, small_set):
    done = run_cli("eval", undisturbed[0] / "fold-1" / "best.pdparams", "--data", small_set, "--workers", 0)
    assert done.exit_code == 0, done.stderr
    trained = {row["sha256"] for row in rows_of(undisturbed[0] / "fold-1" / "images.csv") if row["split"] == "train"}
    seen = sum(hashlib.sha256(path.read_bytes()).hexdigest() in trained for path in (small_set / "val").rglob("*.png"))
    assert seen
    assert f"EXPLORATORY: the network was trained on {seen} of these 8 images, byte for byte, so" in done.stdout


def test_commands_that_take_one_network_name_the_folds(run_cli, undisturbed, small_set):
    folder = undisturbed[0]
    done = run_cli("explain", folder, small_set)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "these are 2 networks" in done.stderr
    assert str(folder / "fold-1" / "best.pdparams") in done.stderr
    done = run_cli("train", "--resume", folder / "fold-1")
    assert done.exit_code == 2
    assert f"pmtrain train --resume {folder}" in done.stderr


def test_the_folds_are_one_classifier_with_the_threshold_of_the_whole(undisturbed):
    folder = undisturbed[0]
    kept = json.loads((folder / "ensemble.json").read_text(encoding="utf-8"))
    assert (kept["kind"], kept["members"]) == ("folds", ["fold-1", "fold-2"])
    rows = rows_of(folder / "ensemble.csv")
    by_fold = [row for number in (1, 2) for row in rows_of(folder / f"fold-{number}" / "best-validation.csv")]
    assert {row["file"]: row["logit"] for row in rows} == {row["file"]: row["logit"] for row in by_fold}
    assert len(rows) == 20 and {row["spread"] for row in rows} == {""}
    label, logit = (np.array([float(row[key]) for row in rows]) for key in ("label", "logit"))
    false_positives, found, _ = roc_curve(label, logit)
    called = expit(logit) >= kept["info"]["threshold"]
    youden = called[label == 1].mean() - called[label == 0].mean()
    assert youden == pytest.approx(max(found - false_positives))
    assert kept["info"]["threshold_rule"] == "youden on 20 validation images, each by the network that held it out"


def test_eval_of_the_whole_on_its_own_data_is_out_of_fold(run_cli, undisturbed):
    folder = undisturbed[0]
    done = run_cli("eval", folder, "--workers", 0, "--n-boot", 100, "--output", "own")
    assert done.exit_code == 0, done.stderr
    said = "scores: out-of-fold, each image by the one of 2 networks that had not seen it: these are results of"
    assert said in done.stdout
    assert "EXPLORATORY: the epochs and the stored threshold were chosen on these 20 images" in done.stdout
    expected = {row["file"]: float(row["logit"]) for row in rows_of(folder / "ensemble.csv")}
    found = {row["file"]: float(row["logit"]) for row in rows_of(Path("own/predictions.csv"))}
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert run_cli("eval", folder, "--shift", "camera", "--workers", 0).exit_code == 2


def test_a_finished_one_says_its_figures_again(run_cli, undisturbed):
    folder, lines, errors = undisturbed
    assert errors.splitlines()[-1].startswith(f"where: {folder} ")
    before = {name: (folder / name).read_bytes() for name in ("out-of-fold.csv", "folds.json")}
    done = run_cli("train", "--resume", folder)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines() == lines[lines.index("") :]
    assert before == {name: (folder / name).read_bytes() for name in before}


def test_resume_refuses_other_images(run_cli, undisturbed, small_set):
    done = run_cli("train", "--resume", undisturbed[0], "--data", small_set)
    assert done.exit_code == 1
    assert "aren't those that the run began with" in done.stderr
    done = run_cli("train", "--resume", undisturbed[0], "--folds", 3)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--folds 3: the run has 2" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends neither signal")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize("after", ["[fold] 1/2", "[fold] 2/2", "batch"])
def test_stopped_anywhere_it_ends_as_if_never_stopped(patients_table, undisturbed, tmp_path, name, after):
    expected, lines, _ = undisturbed
    run = tmp_path / "run"
    options = ("--data", patients_table, "--folds", K, "--epochs", 2, "--output", run, "--save-every", 1, *SMALL)
    with subprocess.Popen(
        command("train", *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment({})
    ) as process:
        seen: list[str] = []
        while line := process.stdout.readline():
            seen.append(line.rstrip("\n"))
            if seen[-1] == after or (after == "batch" and len(seen) == lines.index("[fold] 2/2") + 3):
                process.send_signal(getattr(signal, name))
                break
        rest, errors = process.communicate(timeout=300)
    assert process.returncode == (143 if name == "SIGTERM" else -9), errors
    assert not (run / "folds.json").exists()
    seen += rest.splitlines()
    assert seen == lines[: len(seen)]
    if name == "SIGTERM":
        assert f"pmtrain train --resume {run}\n" in errors
    resumed = subprocess.run(
        command("train", "--resume", run), capture_output=True, text=True, env=environment({}), timeout=300
    )
    assert resumed.returncode == 0, resumed.stderr
    last = resumed.stdout.splitlines()
    assert last == lines[len(lines) - len(last) :]
    if name == "SIGTERM":
        assert seen + last == lines
    for file in ("out-of-fold.csv", "folds.json", "fold-1/best.pdparams", "fold-2/best.pdparams", "fold-2/best.json"):
        assert (run / file).read_bytes() == (expected / file).read_bytes(), file
    for number in (1, 2):
        assert weights_of(run / f"fold-{number}") == weights_of(expected / f"fold-{number}")
        history = [rows_of(where / f"fold-{number}" / "metrics.csv") for where in (run, expected)]
        for one, other in zip(*history, strict=True):
            assert one | {"images_per_second": ""} == other | {"images_per_second": ""}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGTERM")
def test_side_by_side_and_stopped_it_ends_as_one_after_the_other(patients_table, undisturbed, tmp_path):
    expected, lines, _ = undisturbed
    run = tmp_path / "run"
    options = ("--data", patients_table, "--folds", K, "--epochs", 2, "--output", run, *SMALL)
    options = (*options, "--nproc", 2, "--threads", 2 * thread_count())
    with subprocess.Popen(
        command("train", *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment({})
    ) as process:
        seen = process.stdout.readline() + process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        rest, errors = process.communicate(timeout=300)
    assert process.returncode == 143, errors
    printed = (seen + rest).splitlines()
    first, second = lines.index("[fold] 1/2"), lines.index("[fold] 2/2")
    until = printed.index("[fold] 2/2") if "[fold] 2/2" in printed else len(printed)
    assert printed[:until] == lines[first : first + until] and first + until <= second
    assert printed[until:] == lines[second : second + len(printed) - until]
    assert f"pmtrain train --resume {run}\n" in errors and not (run / "folds.json").exists()
    resumed = subprocess.run(
        command("train", "--resume", run), capture_output=True, text=True, env=environment({}), timeout=300
    )
    assert resumed.returncode == 0, resumed.stderr
    last = resumed.stdout.splitlines()
    assert last[last.index("") :] == lines[lines.index("") :]
    for file in ("out-of-fold.csv", "folds.json", "fold-1/best.pdparams", "fold-2/best.pdparams", "fold-2/best.json"):
        assert (run / file).read_bytes() == (expected / file).read_bytes(), file


def test_the_datas_own_folds_decide(run_cli, patients_table, tmp_path):
    split = run_cli("data", "split", patients_table, "--folds", 2, "--seed", 4, "--output", "folds.csv")
    assert split.exit_code == 0, split.stderr
    done = run_cli("train", "--data", "folds.csv", "--folds", 2, "--epochs", 1, "--output", "run", *SMALL)
    assert done.exit_code == 0, done.stderr
    told = {Path(row["path"]).parts[-3:]: row["fold"] for row in rows_of(Path("folds.csv"))}
    assert told == {Path(row["file"]).parts[-3:]: row["fold"] for row in rows_of(Path("run/out-of-fold.csv"))}
    assert "2 folds, by the column fold of the data; last epoch, 1 of 1, at 0.5:" in done.stdout
    done = run_cli("train", "--data", "folds.csv", "--folds", 4, "--output", "other", *SMALL)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "has 1, 2\n" in done.stderr and "give --folds 2" in done.stderr
    assert not Path("other").exists()


def test_a_rehearsal_takes_one_step_and_writes_nothing(run_cli, patients_table, tmp_path):
    done = run_cli("train", "--data", patients_table, "--folds", 2, "--dry-run", *SMALL)
    assert done.exit_code == 0, done.stderr
    assert BATCH.fullmatch(done.stdout.strip())
    assert list(tmp_path.iterdir()) == []


def test_a_validation_split_is_folded_in_and_what_is_left_out_is_told(run_cli, small_set, tmp_path):
    root = shutil.copytree(small_set, tmp_path / "broken")
    whole = (root / "train/sick/1.png").read_bytes()
    (root / "train/sick/1.png").write_bytes(whole[: len(whole) // 2])
    options = ("--folds", 2, "--epochs", 1, "--on-bad-image", "skip", "--output", "run")
    done = run_cli("train", "--data", root, *options, *SMALL)
    assert done.exit_code == 0, done.stderr
    assert "own validation split is divided into folds together" in done.stderr
    assert "20 of 20 images have no patient" in done.stderr
    assert "2 folds, drawn by image, the classes' shares kept alike, seed 0;" in done.stdout
    assert "images: 19 (9 sick, 10 healthy)" in done.stdout
    assert "left out, since they can't be decoded: 1" in done.stdout
    assert len(rows_of(Path("run/out-of-fold.csv"))) == 19
    report = json.loads(Path("run/folds.json").read_text(encoding="utf-8"))
    assert report["left_out"] == ["train/sick/1.png"]
    assert report["pooled"]["images"] == 19 == sum(one["images"] for one in report["folds"])


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--folds", 1), 2, "--folds 1"),
        (("--folds", 11), 1, "too few for 11 folds"),
        (("--folds", 2, "--val-data", "{data}"), 2, "cross-validation uses every image for validation once"),
    ],
)
def test_what_cannot_be_is_refused(run_cli, small_set, options, code, said):
    options = [str(option).format(data=small_set) for option in options]
    done = run_cli("train", "--data", small_set / "train", *options, "--output", "run", *SMALL)
    assert (done.exit_code, done.stdout) == (code, "")
    assert said in done.stderr
    assert not Path("run").exists()


def test_folds_of_unequal_epochs_are_not_put_together(tmp_path, small_set):
    from pmtrain.config import TrainConfig
    from pmtrain.data.layouts.readers import read_dataset
    from pmtrain.data.splits.split import folds
    from pmtrain.runs.run_folder import RunFolder
    from pmtrain.system.errors import PmtrainError
    from pmtrain.training.saving import RunState
    from pmtrain.training.several.crossval import conclude
    from pmtrain.training.several.members import Member, Whole

    config = TrainConfig(folds=2)
    made = [
        Member("fold", number, 2, config, part, RunFolder(tmp_path / f"fold-{number}"))
        for number, part in enumerate(folds(read_dataset(small_set), 2, 0), 1)
    ]
    whole = Whole(RunFolder(tmp_path), config, made, "cpu")
    with pytest.raises(PmtrainError, match="3, 2 epochs") as error:
        conclude(whole, [RunState(epoch=3), RunState(epoch=2)])
    assert re.search(r"--resume \S+ --epochs 3", error.value.hint)
