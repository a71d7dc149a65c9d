"""Runners in processes of their own that take turns, so that all of them meet the same machine."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
import venv
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Of a forward pass at 224 x 224, by depth, and of its first convolution.
GFLOP_FORWARD = {18: 3.63, 34: 7.33, 50: 8.17, 101: 15.6, 152: 23.0}
GFLOP_STEM = 0.236
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "KMP_AFFINITY", "OMP_PROC_BIND", "MKL_DEBUG_CPU_TYPE")


@dataclass
class Runner:
    """One way to do the work: a process that waits for its turn, does it and says how long it took."""

    name: str
    python: Path
    options: dict[str, Any]
    as_installed: bool = False  # thread settings of the environment are kept from it
    times: list[float] = field(default_factory=list)  # seconds, one a turn
    report: dict[str, Any] = field(default_factory=dict)  # what it said last
    error: str = ""
    _process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the process and wait until it is warm; a failure is kept in `error`."""
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
        if self.as_installed:
            environment = {name: value for name, value in environment.items() if name not in THREAD_VARIABLES}
        command = [
            str(self.python),
            str(ROOT / "scripts" / "bench" / "runners.py"),
            self.name,
            json.dumps(self.options),
        ]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=environment
        )
        self._hear()

    def turn(self) -> None:
        """Let it work once and keep the time."""
        if self._process is None or self._process.stdin is None:
            return
        with suppress(BrokenPipeError):  # it has died: hearing from it says so
            self._process.stdin.write("turn\n")
            self._process.stdin.flush()
        self._hear()
        if not self.error:
            self.times.append(self.report["seconds"])

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(BrokenPipeError), process:  # closes its pipes, upon which it ends, and waits for it
                pass

    def _hear(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            self.report |= json.loads(line)
            self.error = self.report.get("error", "")
        else:
            self.error = f"its process ended with code {self._process.wait()}; what it said is above"
        if self.error:
            say(f"{self.name}: {self.error}")
            self.close()


def wait(process: subprocess.Popen) -> tuple[int, float | None]:
    """Its exit code, and the most memory that it held by itself, in MiB; None where the system doesn't say."""
    if not hasattr(os, "wait4"):  # Windows
        return process.wait(), None
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def say(text: str) -> None:
    """Progress, to stderr."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Ctrl-C ends the measuring, and what was measured so far is reported."""
    try:
        yield
    except KeyboardInterrupt:
        say("interrupted: what follows is of the turns taken so far")


def interleave(runners: Sequence[Runner], rounds: int) -> None:
    """Start every runner, then let each take one turn a round, and end them all."""
    try:
        with until_interrupted():
            for runner in runners:
                say(f"starting {runner.name}")
                runner.start()
            for number in range(rounds):
                started = time.perf_counter()
                # Each round in the other direction: no runner always follows the same one.
                for runner in runners if number % 2 == 0 else list(reversed(runners)):
                    runner.turn()
                say(f"round {number + 1} of {rounds}: {time.perf_counter() - started:.0f} s")
    finally:
        for runner in runners:
            runner.close()


def peer_python(requirements: Sequence[str], folder: Path | None = None) -> Path:
    """The Python of an environment that holds the peers, made on first use (`build/bench-env`)."""
    folder = folder or ROOT / "build" / "bench-env"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    wanted = "\n".join(requirements)
    marker = folder / "requirements.txt"
    if not marker.exists() or marker.read_text(encoding="utf-8") != wanted:
        say(f"making an environment for the peers in {folder}: {', '.join(requirements)}")
        venv.create(folder, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *requirements], check=True, stdout=sys.stderr)
        marker.write_text(wanted, encoding="utf-8")
    return python


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    sys.path.insert(0, str(ROOT))
    from pmtrain.system.hardware import available_cpus, processor_name

    return {
        "processor": processor_name(),
        "cores": available_cpus(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": os.getloadavg() if hasattr(os, "getloadavg") else None,
    }


def summary(runner: Runner) -> dict[str, Any]:
    """Median, extremes and quartiles of a runner's turns, and what it said of itself."""
    if not runner.times:
        return {"runner": runner.name, "error": runner.error or "no turn was taken"}
    quartiles = (
        statistics.quantiles(runner.times, n=4, method="inclusive") if len(runner.times) > 1 else runner.times * 3
    )
    return {
        "runner": runner.name,
        "median": statistics.median(runner.times),
        "low": quartiles[0],
        "high": quartiles[2],
        "best": min(runner.times),
        "times": runner.times,
        "first": runner.report.get("first"),  # seconds of the very first step, all that is set up for it included
        "peak_mib": runner.report.get("peak_mib"),
        "versions": runner.report.get("versions"),
    } | ({"error": runner.error} if runner.error else {})


def table(rows: Sequence[dict[str, Any]], columns: dict[str, Any]) -> str:
    """Rows as a Markdown table; a column is a heading and a function of a row that gives its text."""
    cells = [list(columns)] + [[str(column(row)) for column in columns.values()] for row in rows]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def ratio(rows: Sequence[dict[str, Any]], name: str, others: Sequence[str]) -> float | None:
    """The median over rounds of a runner's time over that of the best other, by its median, in the same round."""
    times = {row["runner"]: row["times"] for row in rows if "times" in row}
    peers = [times[other] for other in others if other in times]
    if name not in times or not peers:
        return None
    count = min(len(times[name]), *map(len, peers))
    best = min(peers, key=statistics.median)
    return statistics.median(times[name][index] / best[index] for index in range(count))


def report(options: Namespace, rows: Sequence[dict[str, Any]], columns: dict[str, Any], ratios: dict[str, Any]) -> int:
    """Print the table and those ratios that aren't None, write all of it to `options.json`; return the exit code."""
    ratios = {pair: value for pair, value in ratios.items() if value is not None}
    print(table(rows, columns))
    for pair, value in ratios.items():
        print(f"{pair}: {value:.2f}")
    given = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    content = {"options": given, "machine": machine(), "rows": rows, "ratios": ratios}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
    say(f"written to {options.json}")
    return 1 if any("error" in row for row in rows) else 0
