"""`pmtrain data cache`, and the commands that fill it."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from tests.conftest import QUICK


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PMTRAIN_CACHE", str(tmp_path / "缓存"))
    return tmp_path / "缓存"


def test_training_and_evaluation_share_it_and_it_is_shown_shrunk_and_cleared(
    run_cli, small_set, checkpoint, folder, decoded
):
    trained = run_cli("train", "--data", small_set, *QUICK, "--epochs", 2, "--output", "run")
    assert trained.exit_code == 0, trained.stderr
    assert len(decoded) == 20
    for _ in range(2):
        assert run_cli("eval", checkpoint, "--data", small_set, "--split", "all", "--workers", 0).exit_code == 0
    assert len(decoded) == 20

    shown = run_cli("data", "cache")
    assert shown.exit_code == 0 and shown.stderr == ""
    first, heading, row = shown.stdout.splitlines()
    assert first.startswith(f"{folder}: 20 images, ") and heading.split() == [
        "preprocessing",
        "images",
        "MiB",
        "last",
        "used",
    ]
    assert row.startswith("notes-32-") and " 20 " in row
    assert run_cli("data", "cache", "--limit", f"{12 * 32 * 32 * 3 / 2**30}").stdout.startswith(
        f"{folder}: 12 images, "
    )
    cleared = run_cli("data", "cache", "--clear")
    assert cleared.stdout.startswith(f"{folder}: 0 images, ") and len(cleared.stdout.splitlines()) == 1
    assert [path.name for path in folder.iterdir()] == ["index.sqlite"]


def test_the_same_scores_come_from_it(run_cli, small_set, checkpoint, folder):
    outputs = [
        run_cli("eval", checkpoint, "--data", small_set, "--workers", 0, *options).stdout
        for options in (["--cache-limit", 0], [], [])
    ]
    assert outputs[0] == outputs[1] == outputs[2] and "[validation]" in outputs[0]


def test_limit_0_and_a_dry_run_write_nothing(run_cli, small_set, folder):
    for more in (["--cache-limit", 0, "--output", "run"], ["--dry-run"]):
        assert run_cli("train", "--data", small_set, *QUICK, "--epochs", 1, *more).exit_code == 0
    assert not folder.exists()
    assert run_cli("data", "cache").stdout == f"{folder}: no images\n"
    assert not folder.exists()


def test_damage_is_a_warning_and_not_the_end(run_cli, small_set, checkpoint, folder):
    folder.mkdir()
    (folder / "index.sqlite").write_bytes(b"no database" * 1000)
    done = run_cli("eval", checkpoint, "--data", small_set, "--workers", 0)
    assert done.exit_code == 0 and "warning: " in done.stderr and "started again" in done.stderr
    with contextlib.closing(sqlite3.connect(folder / "index.sqlite")) as index:
        assert index.execute("SELECT COUNT(*) FROM images").fetchone() == (8,)


def test_a_limit_below_nothing_is_refused(run_cli, small_set):
    done = run_cli("train", "--data", small_set, "--cache-limit", -1)
    assert done.exit_code == 2 and "--cache-limit" in done.stderr
