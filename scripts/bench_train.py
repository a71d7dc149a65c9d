"""How fast a ResNet trains on this machine's CPU: pmtrain, Paddle as installed, and PyTorch, taking turns.

  python scripts/bench_train.py                                one training step, batch 10, 224 x 224
  python scripts/bench_train.py --job ../iChallenge-PM         the notes' whole job: 5 epochs from JPEG to accuracy

Run it with a Python that has pmtrain's requirements. PyTorch comes into an environment that the script makes in
build/bench-env. The table goes to stdout, progress to stderr, everything measured to a JSON file.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.runners import PEERS, TRAINING
from bench.turns import (
    GFLOP_FORWARD,
    GFLOP_STEM,
    ROOT,
    Runner,
    interleave,
    peer_python,
    ratio,
    report,
    say,
    summary,
    until_interrupted,
    wait,
)

PEER_REQUIREMENTS = ("torch==2.13.0", "numpy", "opencv-python-headless")
JOBS = ("pmtrain-paddle", "pmtrain-onednn-fp32", "pmtrain-onednn-bf16", "torch-fp32", "torch-bf16")
# What the ratios under the table compare.
COMPARED = (
    ("pmtrain-onednn-fp32", "torch-fp32"),
    ("pmtrain-onednn-bf16", "torch-bf16"),
    ("pmtrain-onednn-fp32", "limit-fp32"),
    ("pmtrain-onednn-bf16", "limit-bf16"),
    ("pmtrain-paddle", "notes-as-installed"),
    ("pmtrain-onednn-fp32", "notes-as-installed"),
    ("pmtrain-onednn-bf16", "notes-as-installed"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runners", nargs="+", choices=TRAINING, default=list(TRAINING), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=6, help="rounds per runner (default 6)")
    parser.add_argument("--steps", type=int, default=3, help="steps per turn; the median is used (default 3)")
    parser.add_argument("--batch-size", type=int, default=10)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument(
        "--layers", type=int, choices=GFLOP_FORWARD, default=50, help="depth of the ResNet (default 50)"
    )
    parser.add_argument("--job", type=Path, metavar="FOLDER", help="time the whole job on iChallenge-PM in FOLDER")
    parser.add_argument("--epochs", type=int, default=5, help="epochs of the job (default 5)")
    parser.add_argument("--peer-python", type=Path, help="Python with PyTorch, instead of build/bench-env")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench-train.json")
    options = parser.parse_args()
    needs_peers = any(name.startswith(PEERS) for name in options.runners)
    peers = options.peer_python or (peer_python(PEER_REQUIREMENTS) if needs_peers else None)
    rows = jobs(options, peers) if options.job else steps(options, peers)
    unit = "job" if options.job else "step"
    columns = {
        "runner": lambda row: row["runner"],
        f"s a {unit}": lambda row: f"{row['median']:.3f}" if "median" in row else row["error"],
        "quartiles": lambda row: f"{row['low']:.3f} to {row['high']:.3f}" if "low" in row else "",
        "peak MiB": lambda row: f"{row['peak_mib']:.0f}" if row.get("peak_mib") else "",
    }
    if not options.job:
        columns["first step, s"] = lambda row: f"{row['first']:.2f}" if row.get("first") else ""
        columns["images/s"] = lambda row: f"{options.batch_size / row['median']:.1f}" if "median" in row else ""
    return report(options, rows, columns, {f"{name} / {other}": ratio(rows, name, [other]) for name, other in COMPARED})


def steps(options: argparse.Namespace, peers: Path | None) -> list[dict]:
    """One row a runner: the time of a training step."""
    # Forward and both gradients, but for that of the images.
    gflop = (3 * GFLOP_FORWARD[options.layers] - GFLOP_STEM) * options.batch_size * (options.image_size / 224) ** 2
    given = {
        "work": "train",
        "batch_size": options.batch_size,
        "image_size": options.image_size,
        "layers": options.layers,
        "steps": options.steps,
        "warm": 3,
        "gflop": gflop,
    }
    runners = [
        Runner(
            name,
            peers if peers is not None and name.startswith(PEERS) else Path(sys.executable),
            given | ({"warm": 1, "steps": 1} if name == "notes-as-installed" else {}),
            as_installed=name == "notes-as-installed",
        )
        for name in options.runners
    ]
    interleave(runners, options.rounds)
    return [summary(runner) for runner in runners]


def jobs(options: argparse.Namespace, peers: Path | None) -> list[dict]:
    """One row a runner: the seconds from a process's start to its end, training and validating as the notes do."""
    runners = [Runner(name, Path(sys.executable), {}) for name in options.runners if name in JOBS]
    with until_interrupted():
        for number in range(options.rounds):
            for runner in runners if number % 2 == 0 else reversed(runners):
                if runner.error:
                    continue
                seconds = timed_job(runner, options, peers)
                say(f"round {number + 1} of {options.rounds}: {runner.name} {seconds:.1f} s")
    return [summary(runner) for runner in runners]


def timed_job(runner: Runner, options: argparse.Namespace, peers: Path | None) -> float:
    """Seconds of one job; kept as a turn of the runner where it ended well."""
    with tempfile.TemporaryDirectory() as folder:
        command = job_command(runner.name, options, peers, Path(folder) / "run")
        # A cache of its own: every job decodes the JPEG files itself.
        environment = os.environ | {"PMTRAIN_CACHE": str(Path(folder) / "cache")}
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, stdout=sys.stderr, env=environment)
        code, peak = wait(process)
        seconds = time.perf_counter() - started
    if code:
        runner.error = f"a job ended with code {code}"
    else:
        runner.times.append(seconds)
        runner.report["peak_mib"] = peak
    return seconds


def job_command(name: str, options: argparse.Namespace, peers: Path | None, output: Path) -> list[str]:
    family, _, precision = name.rpartition("-")
    sizes = [options.epochs, options.batch_size, options.image_size, options.layers]
    if family == "torch":
        code = (
            "import sys; from pathlib import Path; from torch_resnet import job\n"
            "if __name__ == '__main__':\n"
            "    data, precision, *numbers = sys.argv[1:]; print(job(Path(data), precision, *map(int, numbers), 2))"
        )
        script = f"import sys; sys.path.insert(0, {str(ROOT / 'scripts' / 'bench')!r})\n{code}"
        return [str(peers), "-c", script, str(options.job.resolve()), precision, *map(str, sizes)]
    backend = "paddle" if name == "pmtrain-paddle" else "onednn"
    return [
        sys.executable, "-m", "pmtrain", "train", "--data", str(options.job.resolve()), "--output", str(output),
        "--backend", backend, "--precision", "fp32" if backend == "paddle" else precision,
        "--epochs", str(sizes[0]), "--batch-size", str(sizes[1]), "--image-size", str(sizes[2]),
        "--layers", str(sizes[3]),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
