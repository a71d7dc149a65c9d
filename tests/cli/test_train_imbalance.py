"""`pmtrain train` with --augment, --sampler and --class-weight: what they do to a run, and that it resumes exactly."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pmtrain.training.run import Run
from tests.cli.test_train import weights_of
from tests.conftest import QUICK, command, environment

ALL = ("--augment", "fundus", "--sampler", "balanced", "--class-weight", "1.5")


@pytest.fixture(scope="session")
def unequal(small_set, tmp_path_factory) -> Path:
    """`small_set` with 6 healthy and 2 sick training images."""
    root = shutil.copytree(small_set, tmp_path_factory.mktemp("unequal") / "set")
    for path in sorted((root / "train/sick").iterdir())[2:]:
        path.unlink()
    return root


@pytest.fixture(scope="session")
def undisturbed(unequal, tmp_path_factory) -> tuple[Path, list[str]]:
    """A run of two epochs with all three options that nothing stopped: its folder and its printed lines."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    arguments = ("train", "--data", unequal, "--epochs", 2, "--output", folder, *QUICK, *ALL)
    done = subprocess.run(command(*arguments), capture_output=True, text=True, env=environment({}), timeout=600)
    assert done.returncode == 0, done.stderr
    assert "both make up for unequal classes" in done.stderr
    return folder, done.stdout.splitlines()


def test_each_option_alone_changes_the_run_and_is_kept(run_cli, unequal):
    printed = {}
    for name, options in {
        "plain": (),
        "light": ("--augment", "light"),
        "sampler": ("--sampler", "balanced"),
        "weight": ("--class-weight", "balanced"),
    }.items():
        done = run_cli("train", "--data", unequal, "--epochs", 1, "--output", name, *QUICK, *options)
        assert done.exit_code == 0, done.stderr
        assert "both make up" not in done.stderr
        printed[name] = done.stdout.splitlines()
        assert len(printed[name]) == 3  # two batches of four and the validation
    assert len({tuple(lines) for lines in printed.values()}) == 4
    info = {name: json.loads((Path(name) / "run.json").read_text(encoding="utf-8")) for name in printed}
    assert info["weight"]["class_weights"] == pytest.approx({"healthy": 8 / 12, "sick": 2.0})
    assert info["plain"]["class_weights"] is None
    for name, line in (("light", "augment: light"), ("sampler", "sampler: balanced"), ("weight", "class_weight: bal")):
        assert line in (Path(name) / "config.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("batch", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_a_run_broken_off_at_any_batch_goes_on_to_the_same_bits(run_cli, unequal, undisturbed, monkeypatch, batch):
    train_batch, left = Run.train_batch, [batch]

    def dying(self, batch):
        if not left[0]:
            raise MemoryError  # as a kill: nothing more is saved
        left[0] -= 1
        return train_batch(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "train_batch", dying)
        options = ("--epochs", 2, "--output", "run", "--save-every", 1, *QUICK, *ALL)
        first = run_cli("train", "--data", unequal, *options)
    assert first.exit_code == 1
    second = run_cli("train", "--resume", "run")
    assert second.exit_code == 0, second.stderr
    assert first.stdout.splitlines() + second.stdout.splitlines() == undisturbed[1]
    assert weights_of(Path("run")) == weights_of(undisturbed[0])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize("lines", [1, 2, 4])
def test_a_killed_run_goes_on_to_the_same_bits(unequal, undisturbed, tmp_path, lines):
    run = tmp_path / "run"
    options = ("--data", unequal, "--epochs", 2, "--output", run, "--save-every", 1, *QUICK, *ALL)
    with subprocess.Popen(
        command("train", *options), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment({})
    ) as process:
        for _ in range(lines):
            process.stdout.readline()
        process.kill()
    done = subprocess.run(
        command("train", "--resume", run, "--workers", 2), capture_output=True, env=environment({}), timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert weights_of(run) == weights_of(undisturbed[0])
    assert (run / "best.pdparams").read_bytes() == (undisturbed[0] / "best.pdparams").read_bytes()


@pytest.mark.parametrize("option", [("--augment", "light"), ("--sampler", "shuffle"), ("--class-weight", "2")])
def test_a_resumed_run_keeps_them(run_cli, undisturbed, option):
    done = run_cli("train", "--resume", undisturbed[0], *option)
    assert done.exit_code == 2
    assert f"{option[0]} {option[1]}: the run has" in done.stderr


def test_validation_is_neither_augmented_nor_drawn(run_cli, unequal, undisturbed):
    """What training printed of its best weights is what `pmtrain eval` finds on the images as they are."""
    best = json.loads((undisturbed[0] / "best.json").read_text(encoding="utf-8"))["epoch"]
    printed = [line for line in undisturbed[1] if line.startswith("[validation]")][best]
    done = run_cli("eval", undisturbed[0], "--data", unequal, "--workers", 0)
    assert done.stdout.splitlines()[0] == printed


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "heavy", ""])
def test_a_senseless_class_weight_is_refused(run_cli, unequal, weight):
    done = run_cli("train", "--data", unequal, "--class-weight", weight, *QUICK)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"--class-weight {weight!r}: " in done.stderr
