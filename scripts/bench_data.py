"""How fast photographs become batches: pmtrain's loader, PyTorch's DataLoader with OpenCV and with Pillow, in turns.

  python scripts/bench_data.py ../dr-native --images 200    images a second in the first epoch and in later ones
  python scripts/bench_data.py --many 100000                memory over two epochs of that many SYNTHETIC small files

All resize to 224 x 224 and make float32 (N, 3, S, S) in [-1, 1] in batches of 10 with 2 worker processes; nothing
trains meanwhile. Where the folder has fewer than `--images` files they are copied until there are enough, each copy
with other bytes behind its end, so that no loader can know them for the same. `decoding` reads, decodes and resizes in
as many processes and does nothing else. Files lie in the system's memory from the first turn on, whoever reads them.

Run it with a Python that has pmtrain's requirements; PyTorch, OpenCV and Pillow come into build/bench-data-env, which
the script makes. The table goes to stdout, progress to stderr, everything measured to a JSON file.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from pathlib import Path

from bench.loading import LOADERS, LOADING
from bench.turns import ROOT, Runner, interleave, peer_python, ratio, report, say, summary

PEER_REQUIREMENTS = ("torch==2.13.0", "numpy", "opencv-python-headless", "pillow")
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="folder of photographs, including subfolders")
    parser.add_argument("--loaders", nargs="+", choices=LOADERS, metavar="NAME", help=f"of {', '.join(LOADERS)}")
    parser.add_argument(
        "--images", type=int, help="number of files, made by copying if needed (default: as many as there are)"
    )
    parser.add_argument("--many", type=int, metavar="N", help="draw N small files and run two epochs of pmtrain's")
    parser.add_argument("--rounds", type=int, default=3, help="rounds per loader (default 3)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=10)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument(
        "--scratch", type=Path, help="folder for copies and caches (default: the system's temporary folder)"
    )
    parser.add_argument(
        "--peer-python", type=Path, help="Python with the other libraries, instead of build/bench-data-env"
    )
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench-data.json")
    options = parser.parse_args()
    if (options.folder is None) == (options.many is None):
        parser.error("give a folder of photographs, or --many N")
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        images = Path(scratch) / "images"
        images.mkdir()
        count = draw(images, options.many) if options.many else copy(options.folder, images, options.images)
        rows = measure(options, Path(scratch), images, count)
    return report(options, rows, COLUMNS, compare(rows))


COLUMNS = {
    "loader": lambda row: row["loader"],
    "epoch": lambda row: row["epoch"],
    "images/s": lambda row: f"{row['images_per_second']:.1f}" if "median" in row else row["error"],
    "s an epoch": lambda row: f"{row['median']:.2f}" if "median" in row else "",
    "quartiles": lambda row: f"{row['low']:.2f} to {row['high']:.2f}" if "median" in row else "",
    "peak MiB": lambda row: f"{row['memory_mib']:.0f}" if row.get("memory_mib") else "",
    "RSS MiB": lambda row: f"{row['rss_mib']:.0f}" if row.get("rss_mib") else "",
}


def measure(options: argparse.Namespace, scratch: Path, images: Path, count: int) -> list[dict]:
    """One row a loader and kind of epoch."""
    loaders = options.loaders or (["pmtrain-notes"] if options.many else list(LOADERS))
    needs_peers = any(name.startswith("torch") for name in loaders)
    folder = ROOT / "build" / "bench-data-env"
    peers = options.peer_python or (peer_python(PEER_REQUIREMENTS, folder) if needs_peers else None)
    given = {"work": "load", "warm": 0, "images": str(images), "folder": str(scratch)}
    given |= {key: getattr(options, key) for key in ("workers", "batch_size", "image_size")}
    runners = [
        Runner(name, peers if peers and name.startswith("torch") else Path(sys.executable), given)
        for name in LOADING
        # The many go through one process, first and later epoch.
        if name.rpartition("-")[0] in loaders and not (options.many and name.endswith("first"))
    ]
    interleave(runners, 1 if options.many else options.rounds)
    rows = []
    for runner in runners:
        loader, _, epoch = runner.name.rpartition("-")
        if options.many and "before" in runner.report:
            first = runner.report["before"]
            seconds = dict.fromkeys(("median", "low", "high"), first["seconds"])
            rows.append({"runner": f"{loader}-first", "loader": loader, "epoch": "first"} | first | seconds)
            rows[-1]["images_per_second"] = count / first["seconds"]
        row = summary(runner) | {"loader": loader, "epoch": epoch}
        row |= {key: runner.report[key] for key in ("memory_mib", "rss_mib") if key in runner.report}
        if "median" in row:
            row["images_per_second"] = count / row["median"]
        rows.append(row)
    return rows


def compare(rows: list[dict]) -> dict[str, float]:
    """How many times the better peer's speed pmtrain has, and how much longer than decoding it takes."""
    found = {}
    for row in rows:
        own, loader, epoch = row["runner"], row["loader"], row["epoch"]
        if not loader.startswith("pmtrain"):
            continue
        peers = [f"torch-{decoder}-{epoch}" for decoder in ("opencv", "pillow")]
        if (value := ratio(rows, own, peers)) is not None:
            found[f"{own}: times the better peer's speed"] = 1 / value
        alone = loader.replace("pmtrain", "decoding") + "-first"
        if epoch == "first" and (value := ratio(rows, own, [alone])) is not None:
            found[f"{own} / {alone}, seconds"] = value
    return found


def copy(source: Path, target: Path, count: int | None) -> int:
    """`count` files of the photographs in `source`, no two of the same bytes; returns how many."""
    paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        sys.exit(f"error: {source} holds no images")
    count = count or len(paths)
    for number, path in enumerate(itertools.islice(itertools.cycle(paths), count)):
        content = path.read_bytes() + (f"copy {number}".encode() if number >= len(paths) else b"")
        (target / f"{number:06}{path.suffix}").write_bytes(content)
    say(f"{count} files of {len(paths)} photographs in {source}")
    return count


def draw(target: Path, count: int) -> int:
    """`count` SYNTHETIC JPEG files of 96 x 96: coarse noise, each its own; returns how many."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(0)
    for number in range(count):
        image = cv2.resize(rng.integers(0, 256, (6, 6, 3), np.uint8), (96, 96))
        (target / f"{number:06}.jpg").write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
        if (number + 1) % 10_000 == 0:
            say(f"{number + 1} of {count} synthetic images drawn")
    return count


if __name__ == "__main__":
    sys.exit(main())
