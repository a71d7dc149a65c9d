"""How fast `pmtrain serve` answers on this machine: beside a plain FastAPI + onnxruntime script, and the bare network.

  python scripts/bench_serve.py                             a ResNet-50 at 224 x 224, 32 clients
  python scripts/bench_serve.py --layers 18 --image-size 128

Clients on the loopback interface each send a photograph, wait for its result and send the next. The servers and the
bare network (batches without any server, on pixels that are decoded already) take turns. Run it with a Python that has
pmtrain's requirements and the extras `onnx` and `serve`. The table goes to stdout, progress to stderr, everything
measured to a JSON file.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.load import Server
from bench.turns import ROOT, Runner, interleave, report, summary

SHARE, STEPS = 0.9, 4  # asked: of the bare network's throughput, and of the 99th percentile in its batches


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default 5)")
    parser.add_argument("--seconds", type=float, default=6, help="of a turn (default 6)")
    parser.add_argument("--clients", type=int, default=32, help="requests under way at any time (default 32)")
    parser.add_argument(
        "--batch-size", type=int, default=16, help="of the bare network; pmtrain serve has its own (default 16)"
    )
    parser.add_argument(
        "--networks", type=int, nargs="+", help="also measure pmtrain serve with these --networks (default: its own)"
    )
    parser.add_argument("--layers", type=int, choices=(18, 34, 50, 101, 152), default=50)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--photograph", type=int, default=512, help="side of the photographs sent (default 512)")
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench-serve.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, model, images = _prepared(Path(folder), options)
        python = sys.executable
        serve = [python, "-m", "pmtrain", "serve", str(checkpoint), "--port", "0", "--device", "cpu"]
        plain = [python, str(ROOT / "scripts" / "bench" / "plain_server.py"), str(model), str(options.image_size)]
        given = {
            "work": "serve",
            "checkpoint": str(checkpoint),
            "batch_size": options.batch_size,
            "warm": 1,
            "seconds": options.seconds,
        }
        bare = Runner("bare network", Path(python), given)
        load = images, options.clients, options.seconds
        servers = [Server("pmtrain serve", serve, *load), Server("FastAPI + onnxruntime", plain, *load)]
        for count in map(str, options.networks or ()):
            servers.append(Server(f"pmtrain serve --networks {count}", [*serve, "--networks", count], *load))
        interleave([bare, *servers], options.rounds)
    row = summary(bare)
    rates = [options.batch_size / seconds for seconds in bare.times]
    step = statistics.median(bare.times) if bare.times else None
    rows = [row | {"rate": statistics.median(rates) if rates else None, "latency": None, "step": step}]
    rows += [_row(server, step) for server in servers]
    columns = {
        "": lambda row: row["runner"],
        "images/s": lambda row: f"{row['rate']:.1f}" if row.get("rate") else row["error"],
        **{
            f"p{percent}, ms": lambda row, percent=percent: (
                f"{1e3 * row['latency'][percent]:.0f}"
                if row.get("latency")
                else (f"{1e3 * row['step']:.0f} a batch" if percent == 50 and row.get("step") else "")
            )
            for percent in (50, 95, 99)
        },
    }
    ratios = {}
    for server in servers:
        if rates and server.rates:
            paired = (theirs / bare_rate for theirs, bare_rate in zip(server.rates, rates, strict=False))
            ratios[f"throughput of {server.name} / bare network (asked: {SHARE})"] = statistics.median(paired)
    if step and rows[1].get("latency"):
        ratios[f"p99 of pmtrain serve in steps of the bare network (asked: {STEPS})"] = rows[1]["latency"][99] / step
    return report(options, rows, columns, ratios)


def _prepared(folder: Path, options: argparse.Namespace) -> tuple[Path, Path, list[bytes]]:
    """A checkpoint of new weights, its ONNX export, and JPEGs; made by a process, so that this one stays small."""
    names = [str(folder), str(options.layers), str(options.image_size), str(options.photograph)]
    subprocess.run([sys.executable, str(ROOT / "scripts" / "bench" / "serving.py"), *names], check=True)
    return folder / "best.pdparams", folder / "model.onnx", [path.read_bytes() for path in folder.glob("*.jpg")]


def _row(server: Server, step: float | None) -> dict[str, Any]:
    if not server.rates:
        return {"runner": server.name, "error": server.error or "no turn was taken"}
    return {
        "runner": server.name,
        "rate": statistics.median(server.rates),
        "rates": server.rates,
        "requests": len(server.latencies),
        "latency": {percent: percentile(server.latencies, percent) for percent in (50, 95, 99)},
    }


def percentile(values: Sequence[float], percent: int) -> float:
    """The least value that at least `percent` of 100 values don't exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


if __name__ == "__main__":
    sys.exit(main())
