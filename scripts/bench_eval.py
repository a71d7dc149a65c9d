"""How fast a ResNet scores images on this machine's CPU: pmtrain, paddle.inference, PyTorch, onnxruntime, in turns.

`pmtrain-export-...` is what `pmtrain export` writes, run by onnxruntime; `onnxruntime-...` is PyTorch's own export.

  python scripts/bench_eval.py                   batches of 10, 224 x 224
  python scripts/bench_eval.py --batch-size 1

Run it with a Python that has pmtrain's requirements; PyTorch and onnxruntime come into build/bench-eval-env, which
the script makes. The table goes to stdout, progress to stderr, everything measured to a JSON file.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.runners import EVALUATION, PEERS
from bench.turns import GFLOP_FORWARD, ROOT, Runner, interleave, peer_python, ratio, report, summary

PEER_REQUIREMENTS = ("torch==2.13.0", "numpy", "onnx", "onnxruntime")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runners", nargs="+", choices=EVALUATION, default=list(EVALUATION), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=8, help="rounds per runner (default 8)")
    parser.add_argument("--steps", type=int, default=7, help="batches per turn; the median is used (default 7)")
    parser.add_argument("--batch-size", type=int, default=10)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument(
        "--layers", type=int, choices=GFLOP_FORWARD, default=50, help="depth of the ResNet (default 50)"
    )
    parser.add_argument(
        "--peer-python", type=Path, help="Python with the other libraries, instead of build/bench-eval-env"
    )
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench-eval.json")
    options = parser.parse_args()
    needs_peers = any(name.startswith(PEERS) for name in options.runners)
    folder = ROOT / "build" / "bench-eval-env"
    peers = options.peer_python or (peer_python(PEER_REQUIREMENTS, folder) if needs_peers else None)
    gflop = GFLOP_FORWARD[options.layers] * options.batch_size * (options.image_size / 224) ** 2
    given = {
        "work": "eval",
        "batch_size": options.batch_size,
        "image_size": options.image_size,
        "layers": options.layers,
        "warm": 3,
        "gflop": gflop,
    }
    runners = [
        Runner(
            name,
            peers if peers is not None and name.startswith(PEERS) else Path(sys.executable),
            given | {"steps": 1 if name == "pmtrain-paddle" else options.steps},
        )
        for name in options.runners
    ]
    interleave(runners, options.rounds)
    rows = [summary(runner) for runner in runners]
    columns = {
        "runner": lambda row: row["runner"],
        "ms a batch": lambda row: f"{1e3 * row['median']:.1f}" if "median" in row else row["error"],
        "quartiles": lambda row: f"{1e3 * row['low']:.1f} to {1e3 * row['high']:.1f}" if "low" in row else "",
        "first, ms": lambda row: f"{1e3 * row['first']:.0f}" if row.get("first") else "",
        "images/s": lambda row: f"{options.batch_size / row['median']:.1f}" if "median" in row else "",
        "peak MiB": lambda row: f"{row['peak_mib']:.0f}" if row.get("peak_mib") else "",
    }
    ratios = {}
    for precision in ("fp32", "bf16"):
        name, limit = f"pmtrain-onednn-{precision}", f"limit-{precision}"
        measured = [row["runner"] for row in rows if row["runner"].endswith(precision) and "times" in row]
        others = [other for other in measured if other != limit and not other.startswith("pmtrain")]
        ratios[f"{name} / best of the others in {precision}"] = ratio(rows, name, others)
        ratios[f"{name} / {limit}"] = ratio(rows, name, [limit])
    for precision in ("fp32", "int8"):
        name, other = f"pmtrain-export-{precision}", f"onnxruntime-{precision}"
        ratios[f"{name} / {other}"] = ratio(rows, name, [other])
    return report(options, rows, columns, ratios)


if __name__ == "__main__":
    sys.exit(main())
