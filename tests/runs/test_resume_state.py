"""The state to resume from, under kills and full disks."""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pmtrain.runs.formats.state_dict import dump_state
from pmtrain.runs.resume_state import load_resume, save_resume
from pmtrain.system.errors import PmtrainError
from tests.runs.saving import info_of, number_in, resume, resumed_number, save, small_state, with_faults

ROOT = Path(__file__).parents[2]


def test_a_state_comes_back_and_replaces_the_older_ones(tmp_path):
    last = tmp_path / "last"
    for number in (1, 2, 3):
        home = resume(last, number)
        assert home.name.startswith(f"epoch-{number}-")
        assert resumed_number(last) == resumed_number(tmp_path) == number
        assert sorted(p.name for p in last.iterdir()) == sorted([home.name, "state.json"])
        assert sorted(p.name for p in home.iterdir()) == ["model.json", "model.pdparams", "optimizer.pdopt"]
    assert np.isnan(load_resume(last).state["history"][1])


def test_floats_come_back_to_the_bit(tmp_path):
    values = [random.Random(n).uniform(-1, 1) * 10 ** random.Random(n).randint(-300, 300) for n in range(500)]
    save_resume(tmp_path, "x", dump_state(small_state(1)), info_of(1), dump_state({}), {"values": values})
    assert load_resume(tmp_path).state["values"] == values


def test_the_same_tag_twice_doesnt_destroy_the_first(tmp_path):
    first, second = resume(tmp_path, 1, "same"), resume(tmp_path, 2, "same")
    assert first != second and resumed_number(tmp_path) == 2


def test_what_a_person_put_beside_the_states_stays(tmp_path):
    home = resume(tmp_path, 1)
    (tmp_path / "my copy").mkdir()
    (tmp_path / "my copy" / "model.pdparams").write_bytes(b"mine")
    (home / "note.txt").write_text("mine")
    resume(tmp_path, 2)
    assert (tmp_path / "my copy" / "model.pdparams").read_bytes() == b"mine"
    assert (home / "note.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["model.pdparams", "model.json", "optimizer.pdopt"])
@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_state_with_a_damaged_file_is_refused(name, damage, tmp_path):
    path = resume(tmp_path, 1) / name
    data = path.read_bytes()
    path.unlink()
    if damage == "changed":
        path.write_bytes(data[:-1] + b"x")
    with pytest.raises(PmtrainError, match=name.replace(".", r"\.")):
        load_resume(tmp_path)


@pytest.mark.parametrize("folder", ["..", "../x-00000000", "/x-00000000", "x", "a\\b-00000000", ""])
def test_a_state_points_at_a_folder_of_its_own(folder, tmp_path):
    resume(tmp_path, 1)
    record = json.loads((tmp_path / "state.json").read_text(encoding="utf-8"))
    (tmp_path / "state.json").write_text(json.dumps(record | {"folder": folder}), encoding="utf-8")
    with pytest.raises(PmtrainError, match=r"state\.json.*folder"):
        load_resume(tmp_path)


def test_no_state_to_resume_from_is_said(tmp_path):
    with pytest.raises(PmtrainError, match="no state to resume from"):
        load_resume(tmp_path)


def test_a_state_replaced_while_it_is_read_is_read_anew(tmp_path, monkeypatch):
    import pmtrain.runs.resume_state as module

    resume(tmp_path, 1)
    read = module.read_record
    calls = itertools.count()

    def overtaken(folder):
        record = read(folder)
        if next(calls) == 0:
            resume(tmp_path, 2)
        return record

    monkeypatch.setattr(module, "read_record", overtaken)
    assert resumed_number(tmp_path) == 2


# ---------------------------------------------------------------------------------------------------------------------
# Kills and full disks
# ---------------------------------------------------------------------------------------------------------------------


def test_the_best_weights_are_written_once_and_live_on_by_themselves(tmp_path):
    best, last = tmp_path / "best.pdparams", tmp_path / "last"
    save(best, 1)
    model = resume(last, 1, same=best) / "model.pdparams"
    assert model.samefile(best) and resumed_number(last) == 1
    save(best, 2)  # replaces one of the two names
    assert not model.samefile(best) and (resumed_number(last), number_in(best)) == (1, 2)
    resume(last, 3)  # removes the other one
    assert (resumed_number(last), number_in(best)) == (3, 2)


def test_without_hard_links_there_are_two_files(tmp_path, monkeypatch):
    def refused(source, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    save(tmp_path / "best.pdparams", 1)
    home = resume(tmp_path / "last", 1, same=tmp_path / "best.pdparams")
    assert not (home / "model.pdparams").samefile(tmp_path / "best.pdparams")
    assert resumed_number(tmp_path) == number_in(tmp_path / "best.pdparams") == 1


@pytest.mark.parametrize(
    ("kind", "linked"), [("kill", False), ("kill", True), ("full once", True), ("stays full", False)]
)
def test_a_state_is_whole_whatever_step_fails(kind, linked, tmp_path):
    best = tmp_path / "best.pdparams" if linked else None
    if best:
        save(best, 2)
    for nth in itertools.count():
        last = tmp_path / str(nth)
        resume(last, 1)
        happened = with_faults(kind, nth, resume, last, 2, "same", best)
        newest = resumed_number(last)
        assert newest in (1, 2)
        if kind != "kill" and newest == 1:  # nothing half written is left
            assert len(list(last.iterdir())) == 2
        with_faults("kill", nth // 2, resume, last, 3, "same")
        assert resumed_number(last) in (newest, 3)
        home = resume(last, 4, "same")
        assert resumed_number(last) == 4
        assert {p.name for p in last.iterdir()} <= {home.name, "state.json"}
        if not happened:
            break
        assert best is None or number_in(best) == 2
    assert nth > (9 if linked else 12)


def test_a_locked_older_state_doesnt_stop_the_save(tmp_path, monkeypatch):
    first = resume(tmp_path, 1)

    def locked(self, missing_ok=False):
        raise PermissionError(errno.EACCES, "in use")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", locked)
        resume(tmp_path, 2)
    assert resumed_number(tmp_path) == 2 and first.exists()
    resume(tmp_path, 3)
    assert not first.exists()


SAVER = """
import sys
from pathlib import Path
import numpy as np
from tests.runs.saving import info_of, small_state
from pmtrain.runs.checkpoint import save_checkpoint
from pmtrain.runs.resume_state import save_resume
from pmtrain.runs.formats.state_dict import dump_state
run, number = Path(sys.argv[1]), 0
while True:
    number += 1
    weights = dump_state(small_state(number) | {"large": np.full(500_000, number, "f4")})
    save_checkpoint(run / "best.pdparams", weights, info_of(number))
    velocity = {"conv2d_0.w_0_velocity_0": np.full(4, number, "f4"), "LR_Scheduler": {"last_epoch": number}}
    state = {"epoch": number, "history": [0.1 * number], "random": 2**128 + number}
    best = run / "best.pdparams"
    save_resume(run / "last", "same", weights, info_of(number), dump_state(velocity), state, best)
    print(number, flush=True)
"""


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


@pytest.mark.slow
def test_a_process_killed_in_the_middle_of_saving_leaves_a_whole_checkpoint(tmp_path):
    rng = random.Random(0)
    newest = 0
    for _ in range(15):
        command = [sys.executable, "-c", SAVER, str(tmp_path)]
        process = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.15))
        process.kill()
        said, _ = process.communicate()
        finished = int(said.split()[-1]) if said.split() else 1
        assert number_in(tmp_path) in (finished, finished + 1)
        assert resumed_number(tmp_path) in (finished, finished + 1)
        newest = max(newest, finished)
    assert newest > 1
    leftovers = [p for p in tmp_path.iterdir() if p.name not in ("best.pdparams", "best.json", "last")]
    assert len(leftovers) <= 2  # .tmp and .next, for the next save to overwrite
