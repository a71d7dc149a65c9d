from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import pmtrain
from pmtrain.data.images.read import read_image
from pmtrain.data.loading import workers
from pmtrain.data.loading.workers import DecodingProcesses, DecodingThread
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.system.errors import PmtrainError

PREPROCESS = Preprocess(size=32)


def test_on_windows_children_ignore_ctrl_c_from_the_start(monkeypatch):
    """Simulated: SetConsoleCtrlHandler(NULL, TRUE) is inherited, and must not stay with the parent."""
    calls = []
    kernel32 = SimpleNamespace(SetConsoleCtrlHandler=lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(workers.ctypes, "windll", SimpleNamespace(kernel32=kernel32), raising=False)
    monkeypatch.setattr(workers.sys, "platform", "win32")
    with pytest.raises(OSError, match="can't start"), workers._children_ignore_ctrl_c():
        assert calls == [(None, True)]
        raise OSError("can't start")
    assert calls == [(None, True), (None, False)]


posix = pytest.mark.skipif(os.name == "nt", reason="signals and process groups are POSIX's")

# A training loop in small: decodes for ever, and tells its workers' process ids first.
PROGRAM = """
import sys, time
from pathlib import Path

def main():
    from pmtrain.data.loading.loader import Loader
    from pmtrain.data.dataset import Sample
    from pmtrain.data.preprocessing.preprocess import Preprocess

    samples = [Sample(path, 0) for path in sorted(Path(sys.argv[1]).iterdir())]
    loader = Loader(samples, Preprocess(size=32), 2, workers=2, cache_limit_bytes=0)
    next(loader.epoch(0))
    print(*(process.pid for process in loader._pool._processes), flush=True)
    {body}

if __name__ == "__main__":
    main()
"""
FOR_EVER = """
    while True:
        for _ in loader.epoch(0):
            time.sleep(0.01)
"""
CLOSED = f"""
    with loader:
        {FOR_EVER.strip().replace(chr(10), chr(10) + "    ")}
"""


@pytest.fixture
def images(tmp_path, make_image) -> Path:
    for seed in range(12):
        make_image(tmp_path / "images" / f"图 {seed}.png", seed)
    return tmp_path / "images"


def launch(tmp_path: Path, images: Path, program: str) -> subprocess.Popen:
    """The program in a process group of its own."""
    script = tmp_path / "program.py"
    script.write_text(program, encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, str(script), str(images)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(pmtrain.__file__).parent.parent)},
        start_new_session=True,
    )


def start(tmp_path: Path, images: Path, body: str) -> tuple[subprocess.Popen, list[int]]:
    """The program when its workers are at work, and their process ids."""
    process = launch(tmp_path, images, PROGRAM.format(body=body.strip()))
    assert process.stdout
    pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 2
    return process, pids


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError):  # no /proc: macOS
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


def group(pid: int) -> list[int]:
    """Running processes of a process group, its resource tracker and all (Linux)."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, group_id = stat.read_text().rpartition(")")[2].split()[:3]
            if int(group_id) == pid and state != "Z":
                members.append(int(stat.parent.name))
    return members


def wait_until_gone(process: subprocess.Popen, pids: list[int]) -> list[int]:
    """Those still running when half a minute is over."""
    left = pids
    for _ in range(300):
        left = [pid for pid in pids if is_running(pid)] + group(process.pid)
        if not left:
            break
        time.sleep(0.1)
    return left


@posix
def test_a_killed_parent_leaves_no_orphan(tmp_path, images):
    process, pids = start(tmp_path, images, FOR_EVER)
    process.kill()
    process.communicate()
    assert not wait_until_gone(process, pids)


@posix
@pytest.mark.parametrize("body", [FOR_EVER, CLOSED], ids=["never closed", "closed"])
def test_ctrl_c_is_the_parents_business(tmp_path, images, body):
    process, pids = start(tmp_path, images, body)
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to all of them
    _, errors = process.communicate(timeout=60)
    assert errors.count("Traceback") == 1 and errors.strip().endswith("KeyboardInterrupt")
    assert not wait_until_gone(process, pids)


@posix
def test_ctrl_c_while_workers_start_is_the_parents_business(tmp_path, images):
    program = PROGRAM.format(body=FOR_EVER.strip()).replace("    next(loader", "    print(flush=True)\n    next(loader")
    for delay in (0.0, 0.05, 0.1, 0.2, 0.4):
        process = launch(tmp_path, images, program)
        assert process.stdout
        process.stdout.readline()
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert errors.count("Traceback") == 1 and errors.strip().endswith("KeyboardInterrupt"), errors
        assert not wait_until_gone(process, [])


@posix
def test_workers_outlive_a_sigterm_that_the_parent_handles(tmp_path, images):
    body = """
    import signal
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    print("ready", flush=True)
    while not stopped:
        for _ in loader.epoch(0):
            time.sleep(0.01)
    time.sleep(0.5)
    print(sum(len(batch.samples) for batch in loader.epoch(0)))
    """
    process, pids = start(tmp_path, images, body)
    assert process.stdout and process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output.strip(), errors) == (0, "12", "")
    assert not wait_until_gone(process, pids)


@posix
@pytest.mark.parametrize("body", ["pass", "raise SystemExit(3)", "1 / 0", "import os; os._exit(4)"])
def test_a_program_that_ends_without_closing_ends(tmp_path, images, body):
    process, pids = start(tmp_path, images, body)
    process.communicate(timeout=60)
    assert process.returncode == {"pass": 0, "1 / 0": 1, "raise SystemExit(3)": 3}.get(body, 4)
    assert not wait_until_gone(process, pids)


@pytest.fixture(params=["thread", "processes"])
def pool(request):
    pool = DecodingThread(PREPROCESS) if request.param == "thread" else DecodingProcesses(2, PREPROCESS)
    yield pool
    pool.close()
    pool.close()


def test_results_are_those_of_their_files(images, pool):
    paths = sorted(images.iterdir()) * 6
    for path, future in [(path, pool.submit(path)) for path in paths]:
        np.testing.assert_array_equal(future.result(), PREPROCESS.resize(read_image(path)))


def test_reasons_come_in_place_of_images(images, pool):
    (images / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    paths = [images / "gone.jpg", images / "bad.jpg", sorted(images.iterdir())[-1]]
    gone, bad, good = [pool.submit(path).result() for path in paths]
    assert "No such file" in gone and "truncated" in bad and good.shape == (32, 32, 3)


def test_close_leaves_no_process_and_cancels_what_waits(images):
    pool = DecodingProcesses(2, PREPROCESS)
    futures = [pool.submit(path) for path in sorted(images.iterdir()) * 20]
    pool.close()
    assert not multiprocessing.active_children()
    assert all(future.done() for future in futures) and any(future.cancelled() for future in futures)


def test_a_dead_worker_is_an_error_with_a_hint(images):
    pool = DecodingProcesses(2, PREPROCESS)
    path = next(images.iterdir())
    pool.submit(path).result()
    for process in pool._processes:
        process.kill()
        process.join()
    with pytest.raises(PmtrainError, match="died.*\n.*--workers 0"):
        for _ in range(5):
            pool.submit(path).result()
    pool.close()
    assert not multiprocessing.active_children()


def test_workers_are_spawned_and_light(images):
    pool = DecodingProcesses(1, PREPROCESS)
    try:
        pool.submit(next(images.iterdir())).result()
        (process,) = pool._processes
        assert type(process).__module__ == "multiprocessing.context" and "Spawn" in type(process).__name__
        maps = Path(f"/proc/{process.pid}/maps")
        if maps.exists():
            assert "paddle" not in maps.read_text() and "cv2" in maps.read_text()
    finally:
        pool.close()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no such call")
def test_workers_do_not_inherit_a_pin(images, monkeypatch):
    allowed = os.sched_getaffinity(0)
    monkeypatch.setattr(workers, "ALLOWED_CORES", frozenset(allowed))
    os.sched_setaffinity(0, {min(allowed)})
    try:
        pool = DecodingProcesses(1, PREPROCESS)
        pool.submit(next(images.iterdir())).result()
        assert os.sched_getaffinity(pool._processes[0].pid) == allowed
    finally:
        os.sched_setaffinity(0, allowed)
        pool.close()
