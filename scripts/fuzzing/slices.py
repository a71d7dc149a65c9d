"""Examples of a kind, read in processes of their own, some thousands each; progress is kept between calls."""

from __future__ import annotations

import io
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from fuzzing.changes import changed
from fuzzing.kinds import KINDS, Files
from fuzzing.watching import SECONDS, Reader

SCRIPTS = Path(__file__).parents[1]
ROOT = SCRIPTS.parent

MEMORY = 2 << 30  # bytes of address space
CHUNK = 2000  # examples of one process: each starts with the files of the kind alone, so that any can be done again
LARGE = 100_000  # bytes of an example that is seldom taken
MOST_BYTES = 4 << 20  # of an example that is changed further
START = 120  # seconds for the first example


# ---------------------------------------------------------------------------------------------------------------------
# The process that reads
# ---------------------------------------------------------------------------------------------------------------------


def work(name: str, seed: int, first: int, last: int, folder: Path) -> None:
    """Read the examples from `first` to before `last`, and print lines of JSON for each."""
    kind = KINDS[name]
    files = kind.files()
    shutil.rmtree(folder / "example", ignore_errors=True)  # of another kind
    reader = Reader(kind, folder / "example")
    out = sys.stdout
    sys.stdout = io.StringIO()
    for warm in files:  # so that what is loaded late is loaded
        reader(warm)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (max(MEMORY, now + (1 << 30)) if name == "onnx" else MEMORY,) * 2)
    os.chdir(folder / "empty")
    draw = random.Random(f"{seed} {name} {first}")
    corpus, known = list(files), set()
    for number in range(first, last):
        example = draw.choice(corpus)
        if _size(example) > LARGE and draw.random() < 0.9:  # seldom: they take long
            example = draw.choice([some for some in corpus if _size(some) <= LARGE] or corpus)
        if number >= len(files):
            main = next(iter(example))
            example = example | {main: changed(example[main], draw, kind.tokens, kind.inside)}
        else:
            example = files[number]
        print(json.dumps({"number": number, "begins": True}), file=out, flush=True)
        began = time.monotonic()
        outcome = reader(example)
        seconds = time.monotonic() - began
        if outcome.where not in known and _size(example) < MOST_BYTES:
            known.add(outcome.where)
            corpus.append(example)
        print(json.dumps({"number": number, "result": outcome.result, "seconds": seconds}), file=out, flush=True)
        if "fault" in outcome.result:
            keep(folder, name, number, example)
    print(json.dumps({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}), file=out, flush=True)


def _size(example: Files) -> int:
    return sum(map(len, example.values()))


def keep(folder: Path, name: str, number: int, files: Files) -> None:
    """Write down the files of a fault."""
    home = folder / "faults" / f"{name}-{number}"
    for file, data in files.items():
        (home / file).parent.mkdir(parents=True, exist_ok=True)
        (home / file).write_bytes(data)


# ---------------------------------------------------------------------------------------------------------------------
# The process that watches it
# ---------------------------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What came of a kind's examples so far."""

    next: int = 0
    accepted: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    peak: int = 0  # KiB, of the reading processes
    faults: dict[str, str] = field(default_factory=dict)

    def line(self, name: str) -> str:
        said = "".join(f"\n  example {number}: {what}" for number, what in list(self.faults.items())[:20])
        return (
            f"{name}: {self.next} examples in {self.seconds:.0f} s (the slowest {self.slowest:.2f} s, at most"
            f" {self.peak / 1024:.0f} MiB): {self.accepted} read, {self.refused} refused,"
            f" {len(self.faults)} faults{said}"
        )


def fuzz(name: str, examples: int, seed: int, folder: Path, ends: float) -> Tally:
    """Go on with one kind until its examples are done or the time is over."""
    for sub in ("empty", "example"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    record = folder / f"{name}.json"
    tally = Tally(**json.loads(record.read_text())) if record.exists() else Tally()
    while tally.next < examples and time.monotonic() < ends:
        last = min(examples, tally.next - tally.next % CHUNK + CHUNK)
        run_chunk(name, seed, last, folder, tally)
        record.write_text(json.dumps(vars(tally)))
    return tally


def run_chunk(name: str, seed: int, last: int, folder: Path, tally: Tally) -> None:
    """One process that reads up to `last`; where it dies, the example at fault is noted and the next one's turn."""
    program = [sys.executable, SCRIPTS / "fuzz.py", "--work", name, str(seed), str(tally.next), str(last), folder]
    small = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "ARROW")}
    empty = folder / "empty"
    places = {"HOME": str(empty), "TMPDIR": str(empty), "PYTHONPATH": str(ROOT)}
    environment = {**os.environ, **small, **places, "MALLOC_ARENA_MAX": "2"}
    began = time.monotonic()
    with (folder / "stderr.txt").open("w") as errors:
        process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
    assert process.stdout
    signal.signal(signal.SIGALRM, lambda *_: process.kill())
    number: int | None = None
    signal.alarm(START)
    for line in process.stdout:
        said = json.loads(line)
        if "peak" in said:
            tally.peak = max(tally.peak, said["peak"])
        elif "begins" in said:
            number = said["number"]
            signal.alarm(SECONDS + 10)
        else:
            number, tally.next = None, said["number"] + 1
            tally.slowest = max(tally.slowest, said["seconds"])
            if said["result"] in ("accepted", "refused"):
                setattr(tally, said["result"], getattr(tally, said["result"]) + 1)
            else:
                tally.faults[str(said["number"])] = said["result"]
    signal.alarm(0)
    code = process.wait()
    if number is not None:  # it died on this one
        tally.faults[str(number)] = f"fault: the process ended with {code}"
        example = folder / "example"
        files = [path for path in example.rglob("*") if path.is_file()]
        keep(folder, name, number, {str(path.relative_to(example)): path.read_bytes() for path in files})
        shutil.rmtree(example)
        example.mkdir()
        tally.next = number + 1
    elif code:
        raise SystemExit(f"{name}: can't begin:\n{(folder / 'stderr.txt').read_text()[-3000:]}")
    left = [path for path in empty.iterdir() if path.name != ".cache"]
    if left:
        tally.faults[f"{tally.next - 1}, or before"] = f"fault: wrote {left[0].name}"
        shutil.rmtree(empty)
        empty.mkdir()
    tally.seconds += time.monotonic() - began
