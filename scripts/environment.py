"""A virtual environment beside the project, made and brought up to date as needed. Standard library only."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "scripts" / "locks"  # exact versions, one file a Paddle wheel
OLDEST, NEWEST = (3, 10), (3, 13)
OTHER_WHEEL = {"cpu": "paddlepaddle-gpu", "gpu": "paddlepaddle"}
OLDEST_PIP = "21.3"  # installs a project in place from its pyproject.toml

if not OLDEST <= sys.version_info[:2] <= NEWEST:  # before anything of pmtrain is imported
    sys.exit(f"error: this is Python {sys.version.split()[0]}; pmtrain runs on 3.10 to 3.13")


def ensure(name: str, wheel: str, *more: str) -> Path:
    """Make the environment `name` hold pmtrain at the locked versions; return its Python.

    Args:
        name: folder beside the project's files.
        wheel: the extra that brings Paddle, `cpu` or `gpu`.
        more: further extras.

    Does nothing where that is so already. Two callers at once take turns.
    """
    folder = ROOT / name
    python = python_of(folder)
    stamp = folder / "pmtrain.stamp"
    lock = LOCKS / f"{wheel}.txt"
    extras = ",".join((wheel, *more))
    wanted = _fingerprint(extras, lock)
    with _turn(folder.with_suffix(".lock")):
        if python.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
            return python
        say(f"setting up {name} (once; Paddle is a large download)")
        stamp.unlink(missing_ok=True)
        if not _usable(python) and call([sys.executable, "-m", "venv", "--clear", str(folder)]):
            sys.exit("error: Python's venv module doesn't work\nhint: on Debian or Ubuntu, apt install python3-venv")
        pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
        run([*pip, "install", "-q", f"pip>={OLDEST_PIP}"])
        run([*pip, "uninstall", "-qq", "-y", OTHER_WHEEL[wheel]])  # the two wheels share their files
        run([*pip, "install", "-q", "-c", str(lock), "-e", f"{ROOT}[{extras}]"])
        _mend_opencv(python, pip)
        stamp.write_text(wanted, encoding="utf-8")
    return python


def _usable(python: Path) -> bool:
    """Whether it starts, is of this Python's version and has pip: a venv that failed or was stopped lacks that."""
    ask = f"import pip, sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    return python.exists() and subprocess.run([str(python), "-c", ask], capture_output=True).returncode == 0


def _mend_opencv(python: Path, pip: list[str]) -> None:
    """On a machine without libGL take OpenCV's build that needs none: the same cv2, without windows."""
    done = subprocess.run([str(python), "-c", "import cv2"], capture_output=True, text=True)
    if done.returncode == 0:
        return
    if "libGL" not in done.stderr and "libgthread" not in done.stderr:
        sys.exit(f"error: OpenCV can't be loaded\n{done.stderr}")
    say("libGL is missing here: taking opencv-python-headless, the same cv2, in place of opencv-python")
    ask = "from importlib.metadata import version; print(version('opencv-python'))"
    version = subprocess.run([str(python), "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    run([*pip, "uninstall", "-qq", "-y", "opencv-python"])
    run([*pip, "install", "-q", "--no-deps", f"opencv-python-headless=={version}"])


def python_of(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def call(command: list[str], **options) -> int:
    """Run a command in the project's folder; return its exit code. Ctrl-C reaches the command too, which then ends."""
    process = subprocess.Popen(command, cwd=ROOT, **options)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def run(command: list[str]) -> None:
    """As `call`, its output to stderr; stop with its exit code where it fails."""
    code = call(command, stdout=sys.stderr)
    if code:
        sys.exit(code)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _fingerprint(extras: str, lock: Path) -> str:
    digest = hashlib.sha256(repr((extras, sys.version_info[:2])).encode())
    for file in (ROOT / "pyproject.toml", lock):
        digest.update(file.read_bytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _turn(file: Path) -> Iterator[None]:
    """Hold the file's lock meanwhile. The system frees it when its holder ends, however that ends."""
    try:
        handle = open(file, "a+b")
    except OSError as error:
        sys.exit(f"error: can't write here: {error}\nhint: copy the project to a folder of your own")
    with handle:
        while not _locked_now(handle.fileno()):
            time.sleep(0.5)
        yield


def _locked_now(descriptor: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
