"""Do to pmtrain what disks, people and machines do; print what comes of it as the table of docs/faults.md.

  python scripts/faults.py
  python scripts/faults.py --only disk --only pipe

Each fault is a row of FAULTS: a function that does harm and runs commands on a tiny SYNTHETIC data set. A command may
end with a message (exit code 1 or 2), be stopped, or go on; a traceback, `a bug in pmtrain`, a command that hangs, a
newest state or best checkpoint that can't be read are failures. Full and read-only disks are mounted, which needs root;
without it their rows are left out. The exit code is 1 if something failed. Linux only. Run it with a Python that has
pmtrain's requirements.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from soak import ROOT, Forked

sys.path.insert(0, str(ROOT))

SECONDS = 40  # for one command
TRAIN = ("--layers", 18, "--image-size", 32, "--batch-size", 8, "--workers", 0, "--threads", 1, "--no-domain")
ORDINARY = re.compile("SYNTHETIC|threshold was chosen|have no patient")  # warnings that a tiny data set gives anyway
RESULTS = {0: "goes on", 1: "ends", 2: "refused", 130: "stopped", 143: "stopped"}


@dataclass
class Result:
    """What came of one command: its exit code (None: it hung) and all that it said."""

    command: str
    code: int | None
    said: str

    @property
    def message(self) -> str:
        """The line that tells a person: the error or the first warning, without the prefix."""
        lines = self.said.splitlines()
        found = [line for line in lines if line.startswith("error: ")]
        if not found and self.code:
            found = lines[-1:]
        found = found or [line for line in lines if line.startswith("warning: ") and not ORDINARY.search(line)]
        text = re.sub(r"^(error|warning): ", "", found[0]) if found else ""
        return re.sub(r"((.)\2{20,}|(/?(deep)+)+)", r"\2...", text)

    @property
    def failed(self) -> str:
        if self.code is None:
            return "hangs"
        if "Traceback" in self.said or "bug in pmtrain" in self.said:
            return "a traceback, or a bug"
        if self.code < 0:
            return f"died by signal {-self.code}"
        return "no message" if self.code and not self.message else ""


@dataclass
class Place:
    """A folder for one fault, with a data set, a finished run and what was done in it."""

    folder: Path
    made: Path
    results: list[Result] = field(default_factory=list)
    environment: dict[str, str | None] = field(default_factory=dict)
    memory: int | None = None  # bytes of address space
    started: int = 0

    @property
    def data(self) -> Path:
        """A copy of the data set."""
        if not (self.folder / "data").exists():
            shutil.copytree(self.made / "data", self.folder / "data")
        return self.folder / "data"

    @property
    def run_folder(self) -> Path:
        """A copy of the finished run."""
        if not (self.folder / "run").exists():
            shutil.copytree(self.made / "run", self.folder / "run")
        return self.folder / "run"

    def images(self) -> list[Path]:
        return sorted(path for path in self.data.rglob("*") if path.suffix in (".jpg", ".png"))

    def start(self, *words: object) -> Forked:
        given = [str(word) for word in words]
        changes = {"PMTRAIN_CACHE": str(self.folder / "cache"), **self.environment}
        self.started += 1
        self.log = self.folder / f"log-{self.started}.txt"
        before = {name: os.environ.get(name) for name in changes}
        limits = resource.getrlimit(resource.RLIMIT_AS)
        for name, value in changes.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        try:
            if self.memory:
                used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (used + self.memory, limits[1]))
            with self.log.open("w") as log:
                return Forked(given, {}, log)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)
            for name, old in before.items():
                os.environ.pop(name, None)
                if old is not None:
                    os.environ[name] = old

    def end(self, process: Forked, *words: object) -> Result:
        try:
            code: int | None = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = None
        name = " ".join(str(word) for word in words if not str(word).startswith("/"))
        said = self.log.read_text(errors="replace").replace(str(self.folder), "").replace(str(self.made), "")
        self.results.append(Result(name.split(" --layers")[0][:60], code, said))
        return self.results[-1]

    def run(self, *words: object) -> Result:
        """Run a command to its end."""
        return self.end(self.start(*words), *words)

    def train(self, *words: object, output: Path | None = None, epochs: int = 1) -> Result:
        return self.run(*self.training(*words, output=output, epochs=epochs))

    def training(self, *words: object, output: Path | None = None, epochs: int = 1) -> tuple[object, ...]:
        output = output or self.folder / "new"
        return ("train", self.data, *words, "--epochs", epochs, *TRAIN, "--output", output, "--no-report")

    def every_output(self, to: Path) -> None:
        """Every command that writes, each into a place of its own in `to`."""
        best, data = self.run_folder / "best.pdparams", self.data
        image = self.images()[0]
        self.run("eval", best, data, "--output", to / "eval")
        self.run("predict", best, data, "--output", to / "predictions.csv")
        self.run("explain", best, image, "--output", to / "explained.png")
        self.run("export", best, "--format", "safetensors", "--output", to / "exported")
        self.run("data", "check", data, "--output", to / "findings.csv")
        self.run("data", "split", data, "--output", to / "split.csv")
        self.run("data", "preview", data, "--output", to / "preview.png")
        self.run("data", "synth", "--output", to / "synthetic", "--train", 4, "--val", 4)

    def every_reader(self, data: Path, best: Path) -> None:
        """Every command that reads data or a checkpoint and writes little."""
        self.run("eval", best, data)
        self.run("predict", best, data)
        self.run("explain", best, data, "--output", self.folder / "explained")
        self.run("data", "check", data)
        self.run("data", "split", data, "--output", self.folder / "split.csv")

    def whole(self) -> str:
        """Why a newest state or best checkpoint of the folder can't be read; empty if all can."""
        from pmtrain.runs.checkpoint import load_checkpoint
        from pmtrain.runs.resume_state import load_resume
        from pmtrain.system.errors import PmtrainError

        try:
            for state in self.folder.rglob("state.json"):
                load_resume(state.parent)
            for best in self.folder.rglob("best.pdparams"):
                load_checkpoint(best)
        except PmtrainError as error:
            return str(error)
        return ""


@contextlib.contextmanager
def disk(place: Place, megabytes: int, *options: str) -> Iterator[Path]:
    """A small disk in memory."""
    mounted = place.folder / "disk"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", mounted], check=True)
    try:
        yield mounted
    finally:
        subprocess.run(["umount", "-l", mounted], check=True)


# ---------------------------------------------------------------------------------------------------------------------
# The faults
# ---------------------------------------------------------------------------------------------------------------------


def full_disk_at_once(place: Place) -> None:
    with disk(place, 20) as full:
        place.train(output=full / "run")
        place.environment = {"PMTRAIN_CACHE": str(full / "cache")}
        free = shutil.disk_usage(full).free
        (full / "filler").write_bytes(b"x" * (free - 12_000))
        place.train(output=place.folder / "elsewhere")
        place.every_output(full)


def full_disk_later(place: Place) -> None:
    with disk(place, 200) as full:
        place.train(output=full / "run", epochs=4)
        if problem := place.whole():
            place.results.append(Result("newest state", 1, f"Traceback {problem}"))


def read_only(place: Place) -> None:
    with disk(place, 300) as folder:
        shutil.copytree(place.run_folder, folder / "run")
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        place.train(output=folder / "new")
        place.run("train", "--resume", folder / "run", "--epochs", 3)
        place.run("eval", folder / "run/best.pdparams", place.data)
        place.run("report", folder / "run", "--data", place.data)
        place.run("calibrate", folder / "run")
        place.run("fit-domain", folder / "run")
        place.every_output(folder)
        place.environment = {"PMTRAIN_CACHE": str(folder / "cache")}
        place.train()


def _when(
    place: Place, words: tuple[object, ...], ready: Callable[[], bool], act: Callable[[Forked], object]
) -> Result:
    """Start a command, and act on it once it is ready."""
    process = place.start(*words)
    ends = time.monotonic() + SECONDS
    while not ready() and process.poll() is None and time.monotonic() < ends:
        time.sleep(0.002)
    act(process)
    return place.end(process, *words)


def vanished(place: Place) -> None:
    words = place.training("--cache-limit", 0)
    listed = place.folder / "new/run.json"
    _when(place, words, listed.exists, lambda _: [path.unlink() for path in place.images()[::2]])
    place.run("train", "--resume", place.folder / "new")


def data_gone(place: Place) -> None:
    run = place.run_folder
    (place.folder / "data").exists() and shutil.rmtree(place.folder / "data")
    gone = place.folder / "gone"
    place.every_reader(gone, run / "best.pdparams")
    shutil.rmtree(run / "last")
    text = (run / "config.yaml").read_text().replace(str(place.made / "data"), str(gone))
    (run / "config.yaml").write_text(text)
    for command in ("report", "calibrate", "fit-domain"):
        place.run(command, run)
    place.run("train", "--resume", run, "--epochs", 3)


def changed(place: Place) -> None:
    words = place.training("--save-every", 1, epochs=3)
    images = place.images()

    def swap(process: Forked) -> None:
        os.kill(process.pid, signal.SIGTERM)
        images[0].write_bytes(images[1].read_bytes())

    _when(place, words, (place.folder / "new/last/state.json").exists, swap)
    place.run("train", "--resume", place.folder / "new")
    images[0].unlink()
    place.run("train", "--resume", place.folder / "new", "--epochs", 4)


def damaged_cache(place: Place) -> None:
    place.train(output=place.folder / "first")
    draw = random.Random(0)
    for path in (place.folder / "cache").iterdir():
        content = bytearray(path.read_bytes())
        for _ in range(200):
            content[draw.randrange(len(content))] = draw.randrange(256)
        path.write_bytes(content)
    place.train(output=place.folder / "second")
    same = [(place.folder / name / "best.pdparams").read_bytes() for name in ("first", "second")]
    if same[0] != same[1]:
        place.results.append(Result("weights", 1, "Traceback: they differ from those of a whole cache"))
    place.run("data", "cache")
    place.run("eval", place.folder / "second/best.pdparams", place.data)


def two_at_once(place: Place) -> None:
    words = place.training(epochs=2)
    first = place.start(*words)
    log = place.log
    second = place.start(*words)
    place.end(second, *words)
    place.log = log
    place.end(first, *words)
    resume = ("train", "--resume", place.folder / "new", "--epochs", 8)
    first = place.start(*resume)
    log = place.log
    time.sleep(1.5)
    place.run(*resume)
    place.log = log
    place.end(first, *resume)


def clock_set_back(place: Place) -> None:
    later = time.time() + 30 * 86_400
    for path in (*place.images(), *place.run_folder.rglob("*")):
        os.utime(path, (later, later))
    place.run("train", "--resume", place.run_folder, "--epochs", 3)
    place.run("eval", place.run_folder / "best.pdparams", place.data)
    place.run("report", place.run_folder, "--data", place.data)
    place.run("data", "cache", "--limit", 0.001)
    now = time.time
    time.time = lambda: now() - 365 * 86_400  # type: ignore[assignment]  # inherited by the forked commands
    try:
        place.train()
        place.run("eval", place.folder / "new/best.pdparams", place.data)
    finally:
        time.time = now


def sigterm_while_saving(place: Place) -> None:
    words = place.training("--save-every", 1, epochs=3)
    last = place.folder / "new/last"
    _when(place, words, lambda: last.exists() and any(last.iterdir()), lambda p: os.kill(p.pid, signal.SIGTERM))
    place.run("train", "--resume", place.folder / "new")


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if entry.name.isdigit() and int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry.name))
    return found


def killed_worker(place: Place) -> None:
    words = ("predict", place.run_folder / "best.pdparams", place.data, "--workers", 2)
    spawned: list[int] = []

    def ready() -> bool:
        spawned[:] = [p for p in _children(process_id[0]) if b"spawn_main" in Path(f"/proc/{p}/cmdline").read_bytes()]
        return bool(spawned)

    process = place.start(*words)
    process_id = [process.pid]
    ends = time.monotonic() + 20
    with contextlib.suppress(OSError):
        while process.poll() is None and time.monotonic() < ends:
            if ready():
                os.kill(spawned[0], signal.SIGKILL)
                break
    place.end(process, *words)


def out_of_memory(place: Place) -> None:
    place.run_folder, place.data  # noqa: B018
    place.memory = 300 << 20
    place.train()
    place.run("eval", place.run_folder / "best.pdparams", place.data)
    place.run("predict", place.run_folder / "best.pdparams", place.data)
    place.run("export", place.run_folder / "best.pdparams", "--output", place.folder / "out")
    place.run("data", "check", place.data)


def pipe(place: Place) -> None:
    for path in (place.images()[0], place.images()[-1]):
        path.unlink()
        os.mkfifo(path)
    place.train()
    place.train("--workers", 2, output=place.folder / "second")
    place.every_reader(place.data, place.run_folder / "best.pdparams")
    place.run("data", "preview", place.data, "--output", place.folder / "p.png")
    fifo = place.folder / "fifo"
    for name in ("f.csv", "f.pdparams", "f.zip"):
        os.mkfifo(fifo.with_name(name))
    place.run("data", "check", place.folder / "f.csv")
    place.run("data", "check", place.folder / "f.zip")
    place.run("predict", place.folder / "f.pdparams", place.made / "data")


def many_files(place: Place) -> None:
    data = place.folder / "many"
    images = [path.read_bytes() for path in place.images()[:8]]
    for number in range(10_000):
        path = data / ("no" if number % 2 else "yes") / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(images[number % 8] + number.to_bytes(4, "little"))
    place.run("train", data, "--dry-run", *TRAIN)
    place.run("data", "split", data, "--output", place.folder / "split.csv")


EMPTIED = ("best.json", "run.json", "config.yaml", "metrics.csv", "images.csv", "validation.csv", "shortcut.json",
           "last/state.json", "best.pdparams")  # fmt: skip


def empty_files(place: Place) -> None:
    """0 bytes in place of everything, one after the other."""
    best = place.run_folder / "best.pdparams"
    place.images()[0].write_bytes(b"")
    place.train()
    place.train("--on-bad-image", "skip", output=place.folder / "skipped")
    place.every_reader(place.data, best)
    for suffix in ("csv", "xlsx", "zip", "tar", "npz", "h5", "parquet"):
        (place.folder / f"a.{suffix}").write_bytes(b"")
        place.run("data", "check", place.folder / f"a.{suffix}")
    for suffix in ("pdparams", "onnx", "safetensors", "pth"):
        (place.folder / f"a.{suffix}").write_bytes(b"")
        place.run("predict", place.folder / f"a.{suffix}", place.images()[1])
    (place.folder / "a.yaml").write_bytes(b"")
    place.run("train", place.data, "--config", place.folder / "a.yaml", "--dry-run", "--on-bad-image", "skip", *TRAIN)
    for name in EMPTIED:
        shutil.rmtree(place.folder / "run", ignore_errors=True)
        (place.run_folder / name).write_bytes(b"")
        place.run("report", place.run_folder, "--data", place.made / "data")
        if name in ("run.json", "config.yaml", "last/state.json"):
            place.run("train", "--resume", place.run_folder, "--epochs", 3)
        if name.startswith("best"):
            place.run("eval", place.run_folder, place.made / "data")
            place.run("export", place.run_folder, "--output", place.folder / "out")
            place.run("calibrate", place.run_folder)
            place.run("fit-domain", place.run_folder)
    shutil.rmtree(place.folder / "run")


def long_path(place: Place) -> None:
    deep = place.folder.joinpath(*["deep" * 12] * 5)
    deep.mkdir(parents=True)
    shutil.copytree(place.data, deep / "data")
    place.run("train", deep / "data", "--epochs", 1, *TRAIN, "--output", deep / "run")
    place.run("eval", deep / "run/best.pdparams", deep / "data", "--output", deep / "eval")
    place.every_output(deep)
    place.train(output=place.folder / ("x" * 300))
    place.run("predict", place.folder / ("x" * 300), place.data)
    place.run("data", "check", place.folder / ("x" * 300))
    place.run("predict", place.run_folder / "best.pdparams", place.data, "--output", place.folder / ("x" * 250))


def no_home(place: Place) -> None:
    for home in (None, "/dev/null/home"):
        place.environment = {"HOME": home, "PMTRAIN_CACHE": None, "XDG_CACHE_HOME": None}
        place.train(output=place.folder / f"run{len(place.results)}")
        scores = place.folder / f"eval{len(place.results)}"
        place.run("eval", place.run_folder / "best.pdparams", place.data, "--output", scores)
        place.run("report", place.run_folder, "--data", place.data)
        place.run("data", "cache")
    place.run("train", place.data, "--weights", "imagenet", "--dry-run", *TRAIN)


def no_tmp(place: Place) -> None:
    place.environment = {"TMPDIR": "/dev/null/tmp", "TEMP": "/dev/null/tmp"}
    place.train("--workers", 2)
    place.run("report", place.run_folder, "--data", place.data)
    place.run("explain", place.run_folder / "best.pdparams", place.images()[0], "--output", place.folder / "e.png")
    place.run("export", place.run_folder / "best.pdparams", "--format", "onnx", "--output", place.folder / "out")
    place.run("export", place.run_folder, "--format", "onnx", "--quantize", "int8", "--output", place.folder / "out8")


FAULTS: dict[str, tuple[str, Callable[[Place], None]]] = {
    "disk": ("A full disk of 20 MB", full_disk_at_once),
    "later": ("A disk that is full at the second save", full_disk_later),
    "readonly": ("A read-only disk", read_only),
    "vanished": ("Images that vanish during a training", vanished),
    "gone": ("Data that is gone", data_gone),
    "changed": ("Images that change during a training", changed),
    "cache": ("A cache damaged at random bytes", damaged_cache),
    "two": ("Two trainings in one folder", two_at_once),
    "clock": ("A clock set back", clock_set_back),
    "sigterm": ("SIGTERM while saving", sigterm_while_saving),
    "worker": ("A decoding process that is killed", killed_worker),
    "memory": ("Hardly any memory", out_of_memory),
    "pipe": ("A pipe in place of a file, as a drive that hangs", pipe),
    "many": ("10,000 files in a folder", many_files),
    "empty": ("Files of 0 bytes", empty_files),
    "path": ("Paths of 300 characters", long_path),
    "home": ("No home folder", no_home),
    "tmp": ("No folder for temporary files", no_tmp),
}
NEED_MOUNT = ("disk", "later", "readonly")


def can_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False)
        return not done.returncode and not subprocess.run(["umount", folder], check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=FAULTS, help="these alone")
    parser.add_argument("--full", action="store_true", help="all that failing commands said")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # before Paddle is loaded
    mountable = os.geteuid() == 0 and can_mount()
    failures = 0
    with tempfile.TemporaryDirectory(prefix="pmtrain-faults-") as scratch:
        made = Path(scratch, "made")
        made.mkdir()
        begin = Place(made, made)
        begin.run("data", "synth", "--output", made / "data", "--train", 16, "--val", 8)
        begin.run("train", made / "data", "--epochs", 1, *TRAIN, "--output", made / "run")
        if any(result.code for result in begin.results):
            raise SystemExit(begin.results[-1].said)
        print("| fault | command | | message |\n|---|---|---|---|")
        for name in options.only or FAULTS:
            title, harm = FAULTS[name]
            if name in NEED_MOUNT and not mountable:
                print(f"| {title} | left out: mounting needs root | | |")
                continue
            place = Place(Path(scratch, name), made)
            place.folder.mkdir()
            harm(place)
            if problem := place.whole():
                place.results.append(Result("newest checkpoint", 1, f"Traceback: {problem}"))
            for result in place.results:
                failures += bool(result.failed)
                shown = f"**{result.failed}**" if result.failed else RESULTS.get(result.code or 0, str(result.code))
                print(f"| {title} | `{result.command}` | {shown} | {result.message[:200]} |", flush=True)
                if result.failed and options.full:
                    print(result.said, file=sys.stderr)
            shutil.rmtree(place.folder, ignore_errors=True)
    print(f"{failures} failures", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
