"""One example read under an audit hook, and what came of it: it was read, or refused, or it is a fault."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzzing.kinds import Files, Kind

SECONDS = 10  # for one example
MOST_SAID = 20_000  # characters of a message

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.spawn", "os.startfile", "os.kill",
             "subprocess.Popen", "pty.spawn", "socket.", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link",
             "os.symlink", "os.truncate", "os.chmod", "os.chown", "os.utime", "shutil.", "pickle.find_class",
             "code.__new__", "webbrowser.", "urllib.", "ctypes.dlopen", "sqlite3.connect")  # fmt: skip


class Watch:
    """An audit hook, which can't be removed: it notes what reading a file must not do."""

    def __init__(self) -> None:
        self.armed = False
        self.found: list[str] = []
        sys.addaudithook(self.hear)

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        bad = event.startswith(FORBIDDEN)
        if event == "open":
            _path, mode, flags = arguments
            bad = bool(flags & WRITING) if isinstance(flags, int) else bool(mode and set(mode) & set("wax+"))
            bad = bad and str(arguments[0]) != os.devnull
        elif event == "exec":
            bad = not os.path.exists(getattr(arguments[0], "co_filename", "")) and not _importing()
        if bad:
            self.found.append(f"{event} {str(arguments)[:200]}")

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        self.found.clear()
        self.armed = True
        try:
            yield
        finally:
            self.armed = False


def _importing() -> bool:
    """Whether a module of a library is being loaded: named tuples are code made from text."""
    frame: Any = sys._getframe()
    while frame and "importlib._bootstrap" not in frame.f_code.co_filename:
        frame = frame.f_back
    return frame is not None


class TooLong(BaseException):
    """An example took more than SECONDS."""


@dataclass
class Outcome:
    """What came of an example: `accepted`, `refused`, or a fault; `where`: the lines that raised, for what is new."""

    result: str
    where: str = ""


class Reader:
    """Reads examples in a folder, one after the other."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind, self.folder, self.watch = kind, folder, Watch()
        folder.mkdir(exist_ok=True)
        self.there: Files = {}
        signal.signal(signal.SIGALRM, self.ring)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def ring(self, *_: object) -> None:
        raise TooLong

    def put(self, files: Files) -> None:
        for name, data in files.items():
            if self.there.get(name) != data:
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / name).write_bytes(data)
        self.there = dict(files)

    def __call__(self, files: Files) -> Outcome:
        from pmtrain.system.errors import PmtrainError

        self.put(files)
        before = _listing(self.folder)
        signal.alarm(SECONDS)
        outcome = Outcome("accepted")
        try:
            with self.watch.on():
                self.kind.read_in(self.folder)
        except PmtrainError as error:
            outcome = Outcome("refused", _frames(error))
            if len(str(error)) > MOST_SAID or not error.message.strip():
                outcome = Outcome(f"fault: a message of {len(str(error))} characters", outcome.where)
        except TooLong:
            outcome = Outcome(f"fault: over {SECONDS} s")
        except BaseException as error:
            outcome = Outcome(f"fault: {type(error).__name__}: {str(error)[:200]} at {_frames(error)[-300:]}")
        finally:
            signal.alarm(0)
        if self.watch.found:
            outcome = Outcome(f"fault: {self.watch.found[0]}")
        if _listing(self.folder) != before:
            outcome = Outcome("fault: files were written or removed")
            shutil.rmtree(self.folder)
            self.folder.mkdir()
            self.there = {}
        return outcome


def _listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file())


def _frames(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    while error.__context__ is not None:
        error = error.__context__
        frames += traceback.extract_tb(error.__traceback__)
    return " ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-12:])
