"""Kill pmtrain again and again, at random instants, until it is done; compare the result with an undisturbed one.

  python scripts/soak.py --kills 200 --seed 0
  python scripts/soak.py nproc --kills 20
  python scripts/soak.py --kills 200 --folder /tmp/soak --minutes 6     # again and again, until it ends with 0

What is killed is a row of MODES; all of them work on a small SYNTHETIC set. After every kill the newest state and best
weights must be readable, no process may be left and nobody may hold the run's folder. At the end the results must be
those of the undisturbed command to the bit, and no temporary file may be left. With --forked each start takes 0.1 s
instead of some seconds, and begins where all modules are loaded. Progress goes to stderr, the result to
stdout; the exit code is 0 if all of this held, 1 if not, and 3 if --minutes were over before the end. Run it with a
Python that has pmtrain's requirements. Linux only: it looks for processes in /proc.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
COMMAND = (sys.executable, "-m", "pmtrain")
BATCHES, IMAGES = 4, 32
ORPHANS_END = 20.0  # seconds in which processes whose parent was killed must have ended
UNFINISHED = 3


@dataclass(frozen=True)
class Mode:
    """What is killed.

    Args:
        about: for --help.
        options: of `pmtrain train`.
        command: what is killed instead of a training: arguments before the last, which is a new output folder.
        seconds: for which the command writes, about.
        any_process: kill one of all the command's processes, drawn at random, instead of the first.
    """

    about: str
    options: tuple[object, ...] = ()
    command: tuple[object, ...] = ()
    seconds: float = 0.0
    any_process: bool = False


MODES = {
    "plain": Mode("one process, which saves in the background"),
    "workers": Mode("with two processes that decode images", ("--workers", 2, "--cache-limit", 0), any_process=True),
    "nproc": Mode("two processes that train one network", ("--nproc", 2), any_process=True),
    "folds": Mode("a cross-validation of two folds", ("--folds", 2)),
    "export": Mode("the export of trained weights", (), ("export", "BEST", "--format", "onnx", "--output"), 4.0),
    "cache": Mode(
        "an evaluation that fills an empty cache", (), ("eval", "BEST", "DATA", "--split", "train", "--output"), 0.2
    ),
}


class Forked:
    """pmtrain in a child of this process, which has loaded all modules: a start of 0.1 s instead of some seconds."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], log: TextIO) -> None:
        import pmtrain.training.train  # noqa: F401
        from pmtrain.cli import main

        sys.stdout.flush()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid:
            return
        code = 1
        try:
            os.setsid()
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
            os.environ.update(environment)
            sys.argv = ["pmtrain", *words]
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        finally:
            sys.stdout.flush()
            os._exit(code)

    def poll(self) -> int | None:
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode

    def wait(self, timeout: float = float("inf")) -> int:
        ends = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > ends:
                raise subprocess.TimeoutExpired("pmtrain", timeout)
            time.sleep(0.005)
        assert self.returncode is not None
        return self.returncode


class Soak:
    """The folder, the processes and the progress of one soak, which goes on where an earlier call stopped."""

    def __init__(self, folder: Path, mode: str, seed: int, epochs: int, ends: float, forked: bool = False) -> None:
        self.folder = folder
        self.mode = MODES[mode]
        self.ends = ends
        self.data, self.whole, self.killed = folder / "data", folder / "whole", folder / "killed"
        self.cache = folder / "cache"
        self.log = folder / "log.txt"
        self.progress_file = folder / "progress.json"
        self.progress: dict[str, Any] = {"mode": mode, "seed": seed, "epochs": epochs, "kills": 0, "early": 0}
        if self.progress_file.exists():
            self.progress |= json.loads(self.progress_file.read_text())
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT), "PMTRAIN_CACHE": str(self.cache)}
        self.forked = forked

    def keep(self, **changes: Any) -> None:
        """Write down how far this is."""
        self.progress |= changes
        self.progress_file.write_text(json.dumps(self.progress))

    def start(self, arguments: Sequence[object]) -> subprocess.Popen | Forked:
        """The command in a session of its own, by which its processes are found."""
        words = [*map(str, arguments)]
        with self.log.open("w") as log:
            if self.forked:
                self.process: subprocess.Popen | Forked = Forked(words, self.environment, log)
            else:
                program = [*COMMAND, *words]
                self.process = subprocess.Popen(
                    program, env=self.environment, stdout=log, stderr=log, start_new_session=True
                )
        return self.process

    def finish(self, *arguments: object) -> None:
        if self.start(arguments).wait():
            raise SystemExit(f"{' '.join(map(str, arguments))}:\n{self.log.read_text()}")

    def training(self, output: Path, options: Sequence[object]) -> tuple[object, ...]:
        """The arguments of a new training."""
        small = ("--layers", 18, "--image-size", 32, "--batch-size", IMAGES // BATCHES, "--save-every", 2)
        plain = ("--threads", 1, "--ema", 0.9, "--no-report", "--no-shortcut", "--no-domain")
        workers = () if "--workers" in options else ("--workers", 0)
        epochs = ("--epochs", self.progress["epochs"])
        return ("train", self.data, *small, *plain, *workers, *epochs, *options, "--output", output)

    def arguments(self, output: Path) -> tuple[object, ...]:
        """What is to be killed, started anew or resumed."""
        if not self.mode.command:
            info = output / "run.json"
            if info.exists() and json.loads(info.read_bytes()):
                return ("train", "--resume", output)
            shutil.rmtree(output, ignore_errors=True)  # stopped during set-up: then a new run is asked for
            return self.training(output, self.mode.options)
        names = {"BEST": self.folder / "trained/best.pdparams", "DATA": self.data}
        return (*(names.get(str(part), part) for part in self.mode.command), output)

    def undisturbed(self) -> None:
        """Make the data, and run the command to its end once; measure it."""
        if not self.data.exists():
            self.finish("data", "synth", "--output", self.data, "--train", IMAGES, "--val", 8)
        if self.mode.command and not (self.folder / "trained/best.pdparams").exists():
            self.progress["epochs"] = 1
            self.finish(*self.training(self.folder / "trained", ()))
        shutil.rmtree(self.whole, ignore_errors=True)
        shutil.rmtree(self.cache, ignore_errors=True)
        began, first = time.monotonic(), None
        process = self.start(self.arguments(self.whole))
        while process.poll() is None:
            if first is None and self.writes_now(self.whole):
                first = time.monotonic() - began
            time.sleep(0.02)
        if process.returncode or first is None:
            raise SystemExit(self.log.read_text())
        self.keep(first=first, whole=time.monotonic() - began)

    def writes_now(self, output: Path) -> bool:
        """Whether the first file of interest has been written."""
        if self.mode.command:
            return any(self.cache.glob("*.bytes")) or any(output.parent.glob(output.name + ".*.tmp"))
        return any(output.rglob("state.json"))

    def kill_once(self) -> bool:
        """Start or resume, and kill at the next instant; True where the command came to its end before."""
        from pmtrain.runs.run_folder import RunFolder

        self.clear()
        draw = random.Random(f"{self.progress['seed']}-{self.progress['kills']}")
        process = self.start(self.arguments(self.killed))
        try:
            if self.mode.command:  # while it writes
                while process.poll() is None and not self.writes_now(self.killed):
                    time.sleep(0.01)
                process.wait(draw.uniform(0.0, self.mode.seconds))
            else:  # from before the first line of code to later saves
                process.wait(draw.uniform(0.0, 1.5 * self.progress["first"]))
        except subprocess.TimeoutExpired:
            own = sorted(self.processes()) if self.mode.any_process else [process.pid]
            victim = draw.choice(own or [process.pid])
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                victim = 0
        else:
            victim = 0
        code = process.wait(120)
        if not victim:
            if code:
                raise Broken(f"exit code {code}\n{self.log.read_text()}")
            return True
        if victim == process.pid and code != -signal.SIGKILL and code:
            raise Broken(f"exit code {code}\n{self.log.read_text()}")
        said = self.log.read_text()
        if "Traceback" in said or "bug in pmtrain" in said:
            raise Broken(f"process {victim} of {process.pid} was killed:\n{said}")
        waited = time.monotonic()
        while left := self.processes():
            if time.monotonic() - waited > ORPHANS_END:
                raise Broken(f"{len(left)} processes are left")
            time.sleep(0.05)
        self.keep(kills=self.progress["kills"] + 1)
        if not self.mode.command and self.killed.exists():
            with RunFolder(self.killed).held():
                self.check_saved()
        return False

    def check_saved(self) -> None:
        """The newest states and best weights of the run must be readable."""
        from pmtrain.runs.checkpoint import load_checkpoint
        from pmtrain.runs.resume_state import load_resume

        states = list(self.killed.rglob("state.json"))
        for state in states:
            load_resume(state.parent)
        for best in self.killed.rglob("best.pdparams"):
            load_checkpoint(best)
        if not states:
            self.keep(early=self.progress["early"] + 1)

    def clear(self) -> None:
        """For a command that isn't resumed: an empty cache, three times of four, and no output from before."""
        if not self.mode.command:
            return
        if self.progress["kills"] % 4:
            shutil.rmtree(self.cache, ignore_errors=True)
        if self.killed.exists():
            if different := self.differences():
                raise Broken(f"differs from the undisturbed result: {', '.join(different)}")
            shutil.rmtree(self.killed)

    def processes(self) -> set[int]:
        """The last command's processes that are running, but for Python's own that cleans up behind them."""
        found = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    state, _parent, _group, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                except OSError:
                    continue
                if int(session) == self.process.pid and state not in "ZX" and not _is_tracker(entry):
                    found.add(int(entry.name))
        return found

    def differences(self) -> list[str]:
        """Files of the result that aren't those of the undisturbed command to the bit."""
        ours, theirs = results(self.killed), results(self.whole)
        return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))

    def litter(self) -> list[str]:
        """Temporary files that are left, and states to resume from beyond the newest."""
        names = [path for path in self.folder.rglob("*") if ".tmp" in path.name or path.suffix in (".next", ".part")]
        for last in self.killed.rglob("last"):
            names += [path for path in last.iterdir() if path.is_dir()][1:]
        names += [path for path in self.cache.glob("*-journal") if path.stat().st_size]
        return [str(path.relative_to(self.folder)) for path in names]


def _is_tracker(entry: Path) -> bool:
    """Whether a process is multiprocessing's resource tracker, which writes tracebacks of its own when others end."""
    try:
        return b"resource_tracker" in (entry / "cmdline").read_bytes()
    except OSError:
        return True  # it has just ended


class Broken(Exception):
    """What must hold after a kill doesn't."""


def results(output: Path) -> dict[str, bytes]:
    """What a command leaves that must be the same to the bit, by name."""
    if not (output / "config.yaml").exists():
        return {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()}
    found = {}
    for path in output.rglob("*"):
        if path.name in ("model.pdparams", "optimizer.pdopt"):
            found[f"{path.parents[2].name if 'fold' in str(path) else ''}/{path.name}"] = path.read_bytes()
        elif path.name in ("best.pdparams", "validation.csv", "out-of-fold.csv"):
            found[str(path.relative_to(output))] = path.read_bytes()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    described = "; ".join(f"{name}: {mode.about}" for name, mode in MODES.items())
    parser.add_argument("mode", nargs="?", choices=MODES, default="plain", help=described)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    parser.add_argument("--forked", action="store_true", help="start from a process that has loaded everything")
    parser.add_argument("--epochs", type=int, help="of the training (default: a quarter of the kills, at least 5)")
    parser.add_argument("--folder", type=Path, help="keep everything here, and go on with what is there")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after this time, with exit code 3")
    options = parser.parse_args()
    ends = time.monotonic() + 60 * options.minutes
    os.environ["OMP_NUM_THREADS"] = "1"  # before Paddle is loaded
    epochs = options.epochs or max(5, options.kills // 4)
    with tempfile.TemporaryDirectory(prefix="pmtrain-soak-") as scratch:
        folder = (options.folder or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        return soak(Soak(folder, options.mode, options.seed, epochs, ends, options.forked), options.kills)


def soak(on: Soak, kills: int) -> int:
    """Kill until it is done; return the exit code."""
    from pmtrain.system.errors import PmtrainError

    if "whole" not in on.progress:
        on.undisturbed()
        first, whole = on.progress["first"], on.progress["whole"]
        print(f"undisturbed: {whole:.0f} s, the first file after {first:.1f} s", file=sys.stderr)
    done = on.progress.get("done", False)
    try:
        while not done and on.progress["kills"] < kills:
            if time.monotonic() > on.ends:
                print(f"{on.progress['kills']} kills so far", file=sys.stderr)
                return UNFINISHED
            ended = on.kill_once()
            done = ended and not on.mode.command
        if not done:
            on.clear()
            on.finish(*on.arguments(on.killed))
    except (Broken, PmtrainError) as error:
        print(f"kill {on.progress['kills']}: {error}")
        return 1
    on.keep(done=True)
    different, litter = on.differences(), on.litter()
    count, early, seed = on.progress["kills"], on.progress["early"], on.progress["seed"]
    print(
        f"{on.progress['mode']}, seed {seed}: {count} kills survived"
        f"{f' ({early} before the first save)' if not on.mode.command else ''};"
        f" {len(results(on.whole))} files"
        f" {'DIFFER FROM' if different else 'equal'} the undisturbed run's to the bit{': ' * bool(different)}"
        f"{', '.join(different)}; temporary files left: {', '.join(litter) or 'none'}; processes left: none"
    )
    return 1 if different or litter else 0


if __name__ == "__main__":
    sys.exit(main())
