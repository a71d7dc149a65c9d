"""How training scales over processes on this machine, and a simulation of more GPUs and images than were ever tried.

  python scripts/bench_scale.py measure          1 and 2 processes in turns, weak and strong; build/bench-scale.json
  python scripts/bench_scale.py simulate         from that file: up to 64 GPUs, a million photographs

Strong: the same batch, shared. Weak: the same batch for each process. The simulation adds up a step's computing and a
ring all-reduce of the gradients, 2 (N - 1) / N * bytes / bandwidth + 2 (N - 1) * latency (Patarasuk and Yuan 2009,
"Bandwidth optimal all-reduce algorithms for clusters of workstations", J. Parallel Distrib. Comput. 69:117-124).
The table goes to stdout, progress to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SIDE = 224
# What is measured: name -> processes, threads each, and the batch of each process as a share of --batch-size.
SETTINGS = {
    "1 process, 1 thread": (1, 1, 1.0),
    "1 process, 2 threads": (1, 2, 1.0),
    "2 processes, strong": (2, 1, 0.5),
    "2 processes, weak": (2, 1, 1.0),
}
NETWORKS = {"10 Gb/s Ethernet": (1.25e9, 50e-6), "100 Gb/s InfiniBand": (12.5e9, 5e-6)}  # bytes/s, s: ASSUMED
COUNTS = (1, 2, 8, 16, 64)  # of machines or GPUs


def body(arguments: Sequence[str]) -> None:
    """One process of a turn: median seconds of a step and of its all-reduce, as a line of JSON from the first."""
    import numpy as np

    from pmtrain.models import build_model
    from pmtrain.models.backends.choose import choose_backend
    from pmtrain.system.framework import paddle
    from pmtrain.system.parallel import join
    from pmtrain.training.step import TrainingStep

    options = json.loads(arguments[-1])
    processes = join()
    paddle.seed(0)
    model = build_model(options["layers"])
    optimizer = paddle.optimizer.Momentum(0.001, 0.9, model.parameters())
    step = TrainingStep(model, optimizer, choose_backend(model, "cpu", options["backend"], "fp32"), processes=processes)
    rng = np.random.default_rng(processes.rank)
    images = rng.standard_normal((options["batch"], 3, SIDE, SIDE)).astype(np.float32)
    labels = rng.integers(0, 2, (options["batch"], 1)).astype(np.float32)
    count = sum(int(np.prod(each.shape)) for each in model.parameters())
    vector = paddle.zeros([count])

    def median(work, repeats: int) -> float:
        times = []
        for _ in range(repeats):
            processes.largest(0)  # so that all begin together
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    step(images, labels)
    found = {
        "step": median(lambda: step(images, labels), options["steps"]),
        "all_reduce": median(lambda: processes.sum(vector), options["steps"]) if processes.size > 1 else 0.0,
        "bytes": 4 * count,
    }
    if processes.first:
        print(json.dumps(found), flush=True)


def measure(options: argparse.Namespace) -> None:
    """Turns of all settings, round by round."""
    found: dict[str, Any] = {"settings": {}}
    for number in range(options.rounds):
        for name, (count, threads, share) in SETTINGS.items():
            batch = max(1, round(share * options.batch_size))
            given = {"batch": batch, "layers": options.layers, "backend": options.backend, "steps": options.steps}
            program = (
                f"import sys; sys.path[:0] = [{str(ROOT / 'scripts')!r}, {str(ROOT)!r}]\n"
                "from bench_scale import body\nfrom pmtrain.system.parallel import launch\n"
                f"sys.argv = ['bench', {json.dumps(given)!r}]\n"
                f"launch({count}, {threads}, body) if {count} > 1 else body(sys.argv)\n"
            )
            environment = os.environ | {
                "OMP_NUM_THREADS": str(threads),
                "PYTHONPATH": os.pathsep.join((str(ROOT / "scripts"), str(ROOT), os.environ.get("PYTHONPATH", ""))),
            }
            done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr)
            turn = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
            row = found["settings"].setdefault(name, {"images": batch * count, "steps": [], "all_reduces": []})
            row["steps"].append(turn["step"])
            row["all_reduces"].append(turn["all_reduce"])
            found["bytes"] = turn["bytes"]
            print(f"round {number + 1}, {name}: {turn['step']:.3f} s a step", file=sys.stderr)
    found |= {"layers": options.layers, "backend": options.backend}
    if options.data:
        found["decoding"] = decoding(options.data)
    options.json.parent.mkdir(exist_ok=True)
    options.json.write_text(json.dumps(found, indent=2))
    alone = per_second(found["settings"]["1 process, 1 thread"])
    print(f"| ResNet-{options.layers}, {options.backend}, {SIDE} px | images a step | s a step | of it all-reduce |"
          " images/s | against 1 thread | efficiency |")  # fmt: skip
    print("|---|---|---|---|---|---|---|")
    for name, row in found["settings"].items():
        rate, cores = per_second(row), SETTINGS[name][0] * SETTINGS[name][1]
        print(
            f"| {name} | {row['images']} | {statistics.median(row['steps']):.2f} |"
            f" {statistics.median(row['all_reduces']):.2f} | {rate:.2f} | {rate / alone:.2f} |"
            f" {rate / alone / cores:.0%} |"
        )


def per_second(row: dict[str, Any]) -> float:
    """Images a second, by the median step."""
    return row["images"] / statistics.median(row["steps"])


def decoding(folder: Path) -> dict[str, float]:
    """Mean bytes of up to 60 image files, and seconds that one thread takes to decode and resize one."""
    from pmtrain.data.images.read import SUFFIXES
    from pmtrain.data.preprocessing.preprocess import Preprocess

    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)[:60]
    preprocess = Preprocess("notes", SIDE)
    start = time.perf_counter()
    for path in files:
        preprocess.read(path)
    seconds = (time.perf_counter() - start) / len(files)
    return {"files": len(files), "bytes": statistics.fmean(path.stat().st_size for path in files), "seconds": seconds}


def ring(count: int, size: float, bandwidth: float, latency: float) -> float:
    """Seconds of a ring all-reduce of `size` bytes over `count` processes."""
    return 2 * (count - 1) / count * size / bandwidth + 2 * (count - 1) * latency


def simulate(options: argparse.Namespace) -> None:
    """Tables of steps, epochs, input and cost: of machines like this one, and of GPUs."""
    found = json.loads(options.json.read_text())
    size, decode, network = found["bytes"], found.get("decoding"), f"ResNet-{found['layers']}"
    alone = found["settings"]["1 process, 2 threads"]
    print(f"{network}: gradients of {size / 1e6:.0f} MB; {options.images:,} photographs, {options.epochs} epochs"
          + (f"; {decode['bytes'] / 1e3:.0f} kB and {1e3 * decode['seconds']:.1f} ms to decode a photograph" if decode
             else "") + f"; cache of decoded images: {options.images * SIDE**2 * 3 / 2**30:,.0f} GiB.")  # fmt: skip
    print(f"\nMEASURED: this machine computes {per_second(alone):.1f} images/s in batches of {alone['images']}.\n")
    table("machines", alone["images"], per_second(alone), None, found, options)
    print(f"\nASSUMED: a GPU computes {options.gpu_images:g} images/s in batches of {options.batch_size}, and costs"
          f" {options.price:g} an hour.\n")  # fmt: skip
    table("GPUs", options.batch_size, options.gpu_images, options.price, found, options)


def table(
    unit: str, batch: int, rate: float, price: float | None, found: dict[str, Any], options: argparse.Namespace
) -> None:
    """Print what 1 to 64 units would do together, each of which computes `rate` images/s in batches of `batch`."""
    decode, computing = found.get("decoding"), batch / rate
    heads = ["network", unit, "all-reduce ms", "efficiency", "if hidden behind backward", "images/s", "hours"]
    heads += ["cost"] * (price is not None) + ["cache MB/s"]
    heads += ["cores to decode, first epoch", "files MB/s"] * bool(decode)
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for name, (bandwidth, latency) in NETWORKS.items():
        for count in COUNTS:
            exchange = ring(count, found["bytes"], bandwidth, latency)
            hidden = computing + max(0.0, exchange - computing * 2 / 3)  # backward is two thirds of a step
            step = computing + exchange
            together = count * batch / step
            hours = options.images * options.epochs / together / 3600
            cells = [name, count, f"{1e3 * exchange:.0f}", f"{computing / step:.0%}", f"{computing / hidden:.0%}"]
            cells += [f"{together:,.0f}", f"{hours:,.1f}"]
            cells += [f"{hours * count * price:,.0f}"] if price is not None else []
            cells += [f"{together * SIDE**2 * 3 / 1e6:,.0f}"]
            if decode:
                cells += [f"{together * decode['seconds']:,.0f}", f"{together * decode['bytes'] / 1e6:,.0f}"]
            print("| " + " | ".join(map(str, cells)) + " |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=("measure", "simulate"))
    parser.add_argument("--layers", type=int, default=50)
    parser.add_argument("--backend", choices=("onednn", "paddle"), default="onednn")
    parser.add_argument("--batch-size", type=int, help="measure: of one process (10); simulate: of a GPU (64)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="steps of a turn, whose median counts (default 3)")
    parser.add_argument("--data", type=Path, help="folder of photographs, to measure how long decoding takes")
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--gpu-images", type=float, default=400.0, help="images a second of one GPU (400, assumed)")
    parser.add_argument("--price", type=float, default=2.0, help="of a GPU for an hour (2, assumed)")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench-scale.json")
    options = parser.parse_args()
    options.batch_size = options.batch_size or {"measure": 10, "simulate": 64}[options.work]
    {"measure": measure, "simulate": simulate}[options.work](options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
