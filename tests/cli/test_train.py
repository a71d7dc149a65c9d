"""`pmtrain train`: what it prints and leaves, and that stopping it anywhere changes nothing."""

from __future__ import annotations

import csv
import errno
import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from pmtrain.runs.formats.state_dict import load_state
from tests.conftest import QUICK, STEADY, command, environment

BATCH = re.compile(r"epoch: \d+, batch_id: \d+, loss is: \d+\.\d{4}")
VALIDATION = re.compile(r"\[validation\] accuracy/loss: [01]\.\d{4}/\d+\.\d{4}")


def weights_of(run: Path) -> str:
    """SHA-256 over every array of the run's newest state, the optimizer's among them."""
    home = run / "last" / json.loads((run / "last" / "state.json").read_text())["folder"]
    digest = hashlib.sha256()
    for file in ("model.pdparams", "optimizer.pdopt"):
        for name, array in sorted(load_state(home / file).items()):
            if isinstance(array, np.ndarray):
                digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="session")
def undisturbed(small_set, tmp_path_factory) -> tuple[Path, list[str]]:
    """A run of two epochs that nothing stopped: its folder and its printed lines."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    arguments = ("train", "--data", small_set, "--epochs", 2, "--output", folder, *QUICK)
    done = subprocess.run(command(*arguments), capture_output=True, text=True, env=environment({}), timeout=600)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout.splitlines()


def test_stdout_is_the_notes_lines_and_nothing_else(undisturbed):
    lines = undisturbed[1]
    epoch = ["epoch: {}, batch_id: 0,", "epoch: {}, batch_id: 1,", "epoch: {}, batch_id: 2,"]
    assert [line.rpartition(" loss is:")[0] for line in lines if BATCH.fullmatch(line)] == [
        text.format(number) for number in (0, 1) for text in epoch
    ]
    assert [bool(VALIDATION.fullmatch(line)) for line in lines] == [False, False, False, True] * 2


def test_a_run_leaves_its_record(undisturbed):
    folder, lines = undisturbed
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    printed = [line.rpartition(" ")[2] for line in lines if line.startswith("[validation]")]
    assert [f"{float(row['val_accuracy']):.4f}/{float(row['val_loss']):.4f}" for row in rows] == printed
    losses = [float(line.rpartition(" ")[2]) for line in lines if line.startswith("epoch: 1")]
    assert float(rows[1]["train_loss"]) == pytest.approx(np.mean(losses), abs=1e-4)
    info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert info["device"] == "cpu"
    assert info["data"]["images"]["train"] == {"healthy": 6, "sick": 6}
    assert re.fullmatch("[0-9a-f]{64}", info["data"]["fingerprint"])
    with open(folder / "images.csv", newline="", encoding="utf-8") as file:
        images = list(csv.DictReader(file))
    assert [row["split"] for row in images] == ["train"] * 12 + ["val"] * 8
    for row in images:
        content = Path(info["data"]["root"], row["file"]).read_bytes()
        assert (int(row["bytes"]), row["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    with open(folder / "validation.csv", newline="", encoding="utf-8") as file:
        scored = list(csv.DictReader(file))
    assert [row["file"] for row in scored] == [row["file"] for row in images[12:]]
    z, y = (np.array([float(row[key]) for row in scored]) for key in ("logit", "label"))
    assert float(rows[1]["val_loss"]) == pytest.approx(np.mean(np.logaddexp(0, z) - y * z))
    assert {"pmtrain", "python", "numpy", "revision"} <= info["environment"].keys()
    assert "epochs: 2" in (folder / "config.yaml").read_text()
    log = (folder / "train.log").read_text(encoding="utf-8")
    assert all(line in log for line in lines)


def test_best_is_a_plain_state_dict_with_a_side_file(undisturbed):
    folder, _ = undisturbed
    side = json.loads((folder / "best.json").read_text(encoding="utf-8"))
    assert (side["layers"], side["image_size"], side["preprocessing"]) == (18, 32, "notes")
    assert side["class_names"] == ["healthy", "sick"]
    assert side["weights_sha256"] == hashlib.sha256((folder / "best.pdparams").read_bytes()).hexdigest()
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    best = max(rows, key=lambda row: (float(row["val_auc"]), -float(row["val_loss"])))
    assert side["epoch"] == int(best["epoch"])
    assert side["metrics"]["auc"] == float(best["val_auc"])


def test_the_threshold_is_chosen_on_the_validation_images_and_carried_to_eval(run_cli, small_set, undisturbed):
    side = json.loads((undisturbed[0] / "best.json").read_text(encoding="utf-8"))
    assert side["threshold_rule"] == "youden on 8 validation images"
    done = run_cli("eval", undisturbed[0], "--workers", 0, "--output", "out")
    assert f"threshold: {side['threshold']:.6g} (stored: youden on 8 validation images)" in done.stdout
    with open("out/predictions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = np.array([row["label"] == "1" for row in rows])
    probabilities = np.array([float(row["probability"]) for row in rows])

    def youden(threshold: float) -> float:
        called = probabilities >= threshold
        return called[labels].mean() - called[~labels].mean()

    assert youden(side["threshold"]) == max(map(youden, [*probabilities, 1.1]))


def test_another_threshold_rule_is_stored_and_a_chosen_one_warns(run_cli, small_set):
    for rule, stored in (("0.3", "0.3"), ("sensitivity=1", "sensitivity=1.0 on 8 validation images")):
        done = run_cli("train", "--data", small_set, "--epochs", 1, "--threshold-rule", rule, "--output", rule, *QUICK)
        assert done.exit_code == 0, done.stderr
        side = json.loads((Path(rule) / "best.json").read_text(encoding="utf-8"))
        assert side["threshold_rule"] == stored
        assert (side["threshold"] == 0.3) == (rule == "0.3")
        assert ("chosen on 8 images only" in done.stderr) == (rule != "0.3")


def test_without_both_classes_left_no_threshold_is_chosen_and_that_is_told(capsys):
    from pmtrain.evaluation.scores.operating_point import threshold_to_store
    from pmtrain.evaluation.scores.score import Scores

    threshold, rule = threshold_to_store("youden", Scores([], np.array([1, 1]), np.array([0.5, 2.0])), first=True)
    assert (threshold, rule) == (0.5, "0.5, since validation lacked a class for youden")
    assert "needs validation images of both classes" in capsys.readouterr().err


def test_stderr_ends_with_what_was_reached_and_what_to_do_next(run_cli, small_set, tmp_path):
    done = run_cli("train", "--data", small_set, "--epochs", 1, *QUICK)
    assert done.exit_code == 0, done.stderr
    recipes, reached, where, following = done.stderr.splitlines()[-4:]
    assert recipes.startswith("recipes: --recipe robust is for fundus photographs")
    assert ("computing with the oneDNN engine (" in done.stderr) == ("since" not in done.stderr)  # Paddle's, since ...
    (folder,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"\d{8}-\d{6}-resnet18", folder.name)
    assert reached.startswith("best: AUC ")
    assert folder.name in where
    assert following.startswith("next: pmtrain eval ")
    assert run_cli(*following.split()[2:]).exit_code == 0


def test_the_same_seed_gives_the_same_run_whatever_the_workers(run_cli, small_set, undisturbed):
    options = [*QUICK[:-4], "--workers", 2, "--log-every", 1]
    done = run_cli("train", "--data", small_set, "--epochs", 2, "--output", "run", *options)
    assert done.stdout.splitlines() == undisturbed[1]
    assert weights_of(Path("run")) == weights_of(undisturbed[0])
    other = run_cli("train", "--data", small_set, "--epochs", 1, "--seed", 1, *QUICK)
    assert other.stdout.splitlines()[0] != undisturbed[1][0]


def test_an_existing_run_is_never_overwritten(run_cli, small_set, undisturbed):
    before = weights_of(undisturbed[0])
    done = run_cli("train", "--data", small_set, "--output", undisturbed[0], *QUICK)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"--resume {undisturbed[0]}" in done.stderr
    assert weights_of(undisturbed[0]) == before


def test_dry_run_takes_one_step_and_writes_nothing(run_cli, small_set, tmp_path):
    done = run_cli("train", "--data", small_set, "--dry-run", *QUICK)
    assert done.exit_code == 0, done.stderr
    assert BATCH.fullmatch(done.stdout.strip())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("recipe", ["notes", "robust", "general"])
def test_dry_run_without_data_rehearses_on_synthetic_images(run_cli, tmp_path, recipe):
    done = run_cli("train", "--dry-run", "--config", recipe, *QUICK)
    assert done.exit_code == 0, done.stderr
    assert "SYNTHETIC" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_finite_stops_the_run_by_name(run_cli, small_set, tmp_path, monkeypatch):
    from pmtrain.training import step as engine

    step = engine.TrainingStep.__call__

    def diverging(self, images, labels):
        loss = step(self, images, labels)
        self.model.out.bias.set_value(np.array([np.inf], np.float32))
        return loss

    monkeypatch.setattr(engine.TrainingStep, "__call__", diverging)
    done = run_cli("train", "--data", small_set, *QUICK)
    assert done.exit_code == 1
    assert re.search(r"epoch \d+, batch \d+: the loss is (nan|inf); its images are train/(healthy|sick)/", done.stderr)
    (run,) = (tmp_path / "runs").iterdir()
    for file in run.glob("best.pdparams"):
        assert all(np.isfinite(array).all() for array in load_state(file).values())


def test_weights_that_are_not_finite_are_never_saved(run_cli, small_set, tmp_path, monkeypatch):
    from pmtrain.training import step as engine

    step = engine.TrainingStep.__call__

    def poisoned(self, images, labels):
        loss = step(self, images, labels)
        self.model.conv._batch_norm._mean.set_value(np.full(64, np.nan, np.float32))
        return loss

    monkeypatch.setattr(engine.TrainingStep, "__call__", poisoned)
    done = run_cli("train", "--data", small_set, "--output", "run", *QUICK)
    assert done.exit_code == 1
    assert "conv._batch_norm._mean isn't finite" in done.stderr or "output on validation images" in done.stderr
    assert not list((tmp_path / "run").glob("**/*.pdparams"))


def test_bad_images_stop_or_are_left_out(run_cli, small_set, tmp_path):
    root = shutil.copytree(small_set, tmp_path / "damaged")
    whole = (root / "train/sick/1.png").read_bytes()
    (root / "train/sick/1.png").write_bytes(whole[: len(whole) // 2])
    (root / "val/healthy/0.png").write_bytes(b"")
    stopped = run_cli("train", "--data", root, "--epochs", 1, "--output", "a", *QUICK)
    assert stopped.exit_code == 1
    assert "train/sick/1.png" in stopped.stderr
    assert "--on-bad-image skip" in stopped.stderr
    went_on = run_cli("train", "--data", root, "--epochs", 1, "--output", "b", "--on-bad-image", "skip", *QUICK)
    assert went_on.exit_code == 0, went_on.stderr
    assert "2 images that can't be decoded were left out" in went_on.stderr
    assert re.search(r"train/sick/1\.png: ", went_on.stderr)
    assert re.search(r"val/healthy/0\.png: ", went_on.stderr)
    assert (root / "train/sick/1.png").read_bytes() == whole[: len(whole) // 2]


def test_classes_without_a_split_are_held_out_and_eval_knows_which(run_cli, small_set, tmp_path):
    root = shutil.copytree(small_set / "train", tmp_path / "classes")
    done = run_cli("train", "--data", root, "--epochs", 1, "--output", "run", "--val-fraction", "0.34", *QUICK)
    assert done.exit_code == 0, done.stderr
    assert "4 of 12 images held out" in done.stderr
    printed = done.stdout.splitlines()[-1]
    for data in ((), ("--data", root)):
        evaluated = run_cli("eval", "run", *data, "--workers", 0)
        assert evaluated.stdout.splitlines()[:2] == [printed, "images: 4 (2 sick, 2 healthy), prevalence 0.5000"]
        assert "EXPLORATORY: the epoch and the stored threshold were chosen on these 4 images" in evaluated.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--lr", "0.01"), "--lr 0.01: the run has 0.001"),
        (("--layers", "101"), "--layers 101: the run has 18"),
        (("--output", "x"), "--output x"),
    ],
)
def test_resume_refuses_what_would_change_the_run(run_cli, undisturbed, options, said):
    done = run_cli("train", "--resume", undisturbed[0], *options)
    assert done.exit_code == 2
    assert said in done.stderr


def test_resume_refuses_other_data_and_other_folders(run_cli, small_set, undisturbed, tmp_path):
    root = shutil.copytree(small_set, tmp_path / "other")
    shutil.copy(root / "train/sick/1.png", root / "train/sick/x.png")
    done = run_cli("train", "--resume", undisturbed[0], "--data", root)
    assert done.exit_code == 1
    assert "aren't those that the run began with" in done.stderr
    done = run_cli("train", "--resume", root)
    assert done.exit_code == 1
    assert "is not a run's folder" in done.stderr


def test_a_resumed_run_keeps_its_thread_count(run_process, small_set, tmp_path):
    first = run_process(
        "train", "--data", small_set, "--epochs", 1, "--threads", 1, "--output", tmp_path / "run", *QUICK
    )
    assert first.returncode == 0, first.stderr
    told = "import os, pmtrain.training.train as t; t.resume = lambda *_: print(os.environ['OMP_NUM_THREADS']) or 0"
    code = f"{told}\nfrom pmtrain.cli import app\napp(['train', '--resume', {str(tmp_path / 'run')!r}])"
    env = environment({"OMP_NUM_THREADS": "2"})
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=120)
    assert done.stdout == "1\n", done.stderr


def test_a_finished_run_goes_on_with_more_epochs(run_cli, small_set, undisturbed, tmp_path):
    run = shutil.copytree(undisturbed[0], tmp_path / "run")
    done = run_cli("train", "--resume", run)
    assert (done.exit_code, done.stdout) == (0, "")
    assert "give a larger --epochs" in done.stderr
    more = run_cli("train", "--resume", run, "--epochs", 3)
    assert more.exit_code == 0, more.stderr
    whole = run_cli("train", "--data", small_set, "--epochs", 3, "--output", tmp_path / "whole", *QUICK)
    assert more.stdout.splitlines() == whole.stdout.splitlines()[-4:]
    assert weights_of(run) == weights_of(tmp_path / "whole")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGTERM")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_stopped_run_saves_and_goes_on_inside_the_epoch(small_set, undisturbed, tmp_path, name, code):
    run = tmp_path / "run"
    arguments = ("train", "--data", small_set, "--epochs", 2, "--output", run, *QUICK)
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment({})
    ) as process:
        first = [process.stdout.readline().rstrip("\n") for _ in range(2)]
        process.send_signal(getattr(signal, name))
        rest, errors = process.communicate(timeout=300)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert f"pmtrain train --resume {run}" in errors
    before = first + rest.splitlines()
    resumed = subprocess.run(
        command("train", "--resume", run), capture_output=True, text=True, env=environment({}), timeout=300
    )
    assert resumed.returncode == 0, resumed.stderr
    assert before + resumed.stdout.splitlines() == undisturbed[1]
    assert weights_of(run) == weights_of(undisturbed[0])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_killed_run_goes_on_as_if_never_killed(small_set, undisturbed, tmp_path):
    """SIGKILL after 0, 1, 3, 5, 7 printed lines, each time a little later still, then resumed to the end."""
    expected = undisturbed[1]
    run = tmp_path / "run"
    options = ("--data", small_set, "--epochs", 2, "--output", run, "--save-every", 1, *QUICK)
    printed: list[str] = []
    for number, lines in enumerate((0, 1, 3, 5, 7)):
        started = (run / "config.yaml").exists()
        arguments = ("train", "--resume", run) if started else ("train", *options)
        with subprocess.Popen(
            command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment({})
        ) as process:
            seen: list[str] = []
            while len(seen) < lines and (line := process.stdout.readline()):
                seen.append(line.rstrip("\n"))
            time.sleep(0.2 * number)
            process.kill()
            seen += process.stdout.read().splitlines()
        # What it printed is a stretch of what the undisturbed run printed.
        if seen:
            assert "\n".join(seen) in "\n".join(expected)
        printed += seen
    resumed = subprocess.run(
        command("train", "--resume", run), capture_output=True, text=True, env=environment({}), timeout=300
    )
    assert resumed.returncode == 0, resumed.stderr
    last = resumed.stdout.splitlines()
    assert last == expected[len(expected) - len(last) :]
    assert set(printed + last) == set(expected)  # a line is printed before what it tells is saved, so none is lost
    assert weights_of(run) == weights_of(undisturbed[0])
    assert (run / "best.pdparams").read_bytes() == (undisturbed[0] / "best.pdparams").read_bytes()
    with open(run / "metrics.csv", newline="", encoding="utf-8") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1"]


def test_precision_that_the_cpu_has_not_is_refused_with_the_reason(run_cli, small_set):
    for precision, backend in (("bf16", "paddle"), ("fp16", "auto")):
        options = ("--device", "cpu", "--precision", precision, "--backend", backend)
        done = run_cli("train", "--data", small_set, *options, *QUICK)
        assert (done.exit_code, done.stdout) == (2, "")
        assert f"--precision {precision}" in done.stderr
        assert "CPU" in done.stderr


def test_a_run_keeps_the_backend_and_precision_that_auto_came_to(run_cli, small_set):
    options = ("--device", "cpu", "--precision", "auto", "--backend", "paddle", "--output", "run")
    done = run_cli("train", "--data", small_set, *options, *QUICK)
    assert done.exit_code == 0, done.stderr
    assert "computing in fp32" in done.stderr
    kept = Path("run", "config.yaml").read_text(encoding="utf-8").splitlines()
    assert {"backend: paddle", "precision: fp32"} <= set(kept)


def test_a_gpu_that_is_not_there_is_refused(run_cli, small_set):
    done = run_cli("train", "--data", small_set, "--device", "gpu:97", *QUICK)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--device gpu:97" in done.stderr


def test_it_learns(run_cli, small_set):
    done = run_cli("train", "--data", small_set, *STEADY)
    losses = [float(line.rpartition(" ")[2]) for line in done.stdout.splitlines() if line.startswith("epoch")]
    assert len(losses) == 25
    assert np.mean(losses[-5:]) < 0.2 * np.mean(losses[:5])


def test_a_run_that_is_being_trained_is_not_resumed_by_another_process(run_cli, small_set, tmp_path):
    from filelock import FileLock

    assert run_cli("train", "--data", small_set, "--epochs", 1, "--output", "run", *QUICK).exit_code == 0
    before = weights_of(tmp_path / "run")
    with FileLock(tmp_path / "run" / ".lock"):
        done = run_cli("train", "--resume", "run", "--epochs", 2)
    assert done.exit_code == 1 and "another process is training in it" in done.stderr
    assert weights_of(tmp_path / "run") == before
    assert run_cli("train", "--resume", "run", "--epochs", 2).exit_code == 0


# ---------------------------------------------------------------------------------------------------------------------
# Saves that are written while the training goes on
# ---------------------------------------------------------------------------------------------------------------------


class SlowDisk:
    """A disk on which the state after the first epoch isn't written before `release` is set."""

    def __init__(self, monkeypatch, run: Path) -> None:
        from pmtrain.training import saving as module

        self.begun, self.release = threading.Event(), threading.Event()
        self.after_first_epoch = ""  # the state then on the disk
        self.writing = self.most_writing = 0
        save_resume = module.save_resume

        def slow(folder, tag, *rest):
            self.writing += 1
            self.most_writing = max(self.most_writing, self.writing)
            if tag == "epoch1-batch0":
                self.begun.set()
                assert self.release.wait(60), "the training waits for the disk"
            save_resume(folder, tag, *rest)
            if tag == "epoch1-batch0":
                self.after_first_epoch = weights_of(run)
            self.writing -= 1

        monkeypatch.setattr(module, "save_resume", slow)


def on_batch(monkeypatch, number: int, function) -> None:
    """Call `function` after the training batch of this number, counted from 0 over all epochs."""
    from pmtrain.training import step as engine

    step, done = engine.TrainingStep.__call__, itertools.count()

    def counting(self, images, labels):
        loss = step(self, images, labels)
        if next(done) == number:
            function()
        return loss

    monkeypatch.setattr(engine.TrainingStep, "__call__", counting)


def test_training_goes_on_while_a_save_is_written_and_doesnt_change_it(
    run_cli, small_set, undisturbed, tmp_path, monkeypatch
):
    options = ("train", "--data", small_set, *QUICK)
    assert run_cli(*options, "--epochs", 1, "--output", "one").exit_code == 0
    disk = SlowDisk(monkeypatch, tmp_path / "run")
    on_batch(monkeypatch, 4, disk.release.set)  # two batches into the second epoch
    done = run_cli(*options, "--epochs", 2, "--output", "run")
    assert done.exit_code == 0, done.stderr
    assert disk.most_writing == 1
    assert disk.after_first_epoch == weights_of(tmp_path / "one")
    assert done.stdout.splitlines() == undisturbed[1]
    assert weights_of(tmp_path / "run") == weights_of(undisturbed[0])
    for name in ("best.pdparams", "best.json", "validation.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (undisturbed[0] / name).read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGTERM")
def test_a_stop_while_a_save_is_written_waits_for_it_and_saves_again(
    run_cli, small_set, undisturbed, tmp_path, monkeypatch
):
    disk = SlowDisk(monkeypatch, tmp_path / "run")

    def stop() -> None:
        assert disk.begun.wait(60)
        os.kill(os.getpid(), signal.SIGTERM)
        disk.release.set()

    on_batch(monkeypatch, 3, stop)  # the first of the second epoch
    done = run_cli("train", "--data", small_set, "--epochs", 2, "--output", "run", *QUICK)
    assert done.exit_code == 143 and "pmtrain train --resume run" in done.stderr
    assert disk.after_first_epoch and disk.most_writing == 1
    assert json.loads((tmp_path / "run" / "last" / "state.json").read_text())["folder"].startswith("epoch1-batch1-")
    resumed = run_cli("train", "--resume", "run")
    assert resumed.exit_code == 0, resumed.stderr
    assert done.stdout.splitlines() + resumed.stdout.splitlines() == undisturbed[1]
    assert weights_of(tmp_path / "run") == weights_of(undisturbed[0])


@pytest.mark.parametrize(("full_at", "epochs"), [("best.pdparams.tmp", 1), ("optimizer.pdopt", 3)])
def test_a_full_disk_stops_the_run_with_the_file_and_a_hint(run_cli, small_set, tmp_path, monkeypatch, full_at, epochs):
    import pmtrain.system.files as files

    def fails(path, mode):
        if Path(path).name == full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return open(path, mode)

    with monkeypatch.context() as patch:
        patch.setattr(files, "open", fails, raising=False)
        done = run_cli("train", "--data", small_set, "--epochs", epochs, "--output", "run", *QUICK)
    assert done.exit_code == 1
    assert re.search(
        rf"error: can't write .*{full_at}: {os.strerror(errno.ENOSPC)}\nhint: free some space", done.stderr
    )
    assert "best: AUC" not in done.stderr and "Traceback" not in done.stderr
    # At the latest when the next save is due.
    assert len([line for line in done.stdout.splitlines() if VALIDATION.fullmatch(line)]) <= 2
    resumed = run_cli("train", "--resume", "run", "--epochs", epochs)
    assert resumed.exit_code == 0, resumed.stderr
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 1 + epochs
