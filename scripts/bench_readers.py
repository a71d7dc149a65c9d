"""How fast each layout is read: a listing of 100,000 SYNTHETIC images, without decoding one.

  python scripts/bench_readers.py                      every layout
  python scripts/bench_readers.py folder csv --count 10000

Every layout is read in a process of its own, with its files in the system's memory. Seconds are CPU time of
`read_dataset`, the fastest of the rounds; memory is the peak of the process, less that of one that reads 100 images.
The table goes to stdout, progress to stderr. Linux only.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

SIDE = 8  # pixels
PIXELS = b"P5\n1 1\n255\n\0"  # a listing doesn't look into files

READ = """
import re, sys, time
from pathlib import Path
from pmtrain.data.layouts.readers import read_dataset
started = time.process_time()
data = read_dataset(Path(sys.argv[1]))
seconds = time.process_time() - started
assert len(data.samples) == int(sys.argv[2]), len(data.samples)
peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())  # of this program alone
print(seconds, int(peak[1]) / 1024)
"""


def folder(root: Path, count: int) -> Path:
    for name in ("train/normal", "train/ill", "val/normal", "val/ill"):
        (root / name).mkdir(parents=True)
        for number in range(count // 4):
            (root / name / f"{number}.png").touch()
    return root


def table(root: Path, count: int) -> tuple[Path, list[tuple[str, int, str, str]]]:
    (root / "images").mkdir(parents=True)
    rows = [(f"images/{n}.png", n % 2, f"patient{n // 2}", "val" if n % 5 == 0 else "train") for n in range(count)]
    for name, *_ in rows:
        (root / name).touch()
    return root, rows


def text_table(root: Path, count: int) -> Path:
    root, rows = table(root, count)
    with open(root / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "patient", "split"), *rows])
    return root / "labels.csv"


def excel(root: Path, count: int) -> Path:
    import openpyxl

    root, rows = table(root, count)
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet()
    for row in [("path", "label", "patient", "split"), *rows]:
        sheet.append(row)
    book.save(root / "labels.xlsx")
    return root / "labels.xlsx"


def palm(root: Path, count: int) -> Path:
    """Names have four digits, so that the challenge's layout has 39,996 images at most."""
    part = min(count // 4, 9999)
    for place in ("PALM-Training400", "PALM-Validation400"):
        (root / place).mkdir(parents=True)
    for number in range(part):
        for letter in "PHN":
            (root / f"PALM-Training400/{letter}{number:04d}.jpg").touch()
        (root / f"PALM-Validation400/V{number:04d}.jpg").touch()
    lines = ["imgName,Label", *(f"V{number:04d}.jpg,{number % 2}" for number in range(part))]
    (root / "labels.csv").write_text("\n".join(lines))
    return root


def arrays(count: int) -> dict[str, np.ndarray]:
    half = count // 2
    images = np.random.default_rng(0).integers(0, 256, (half, SIDE, SIDE), np.uint8)
    labels = np.arange(half, dtype=np.uint8)[:, None] % 2
    return {"train_images": images, "train_labels": labels, "val_images": images, "val_labels": labels}


def npz(root: Path, count: int) -> Path:
    root.mkdir()
    np.savez_compressed(root / "set.npz", **arrays(count))  # type: ignore[arg-type]
    return root / "set.npz"


def hdf5(root: Path, count: int) -> Path:
    import h5py

    root.mkdir()
    with h5py.File(root / "set.h5", "w") as file:
        for key, values in arrays(count).items():
            file.create_dataset(key, data=values, chunks=(50, *values.shape[1:]), compression="gzip")
    return root / "set.h5"


def parquet(root: Path, count: int) -> Path:
    import pyarrow
    import pyarrow.parquet

    root.mkdir()
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    images = pyarrow.array([{"bytes": PIXELS, "path": f"{number}.png"} for number in range(count)], kind)
    labels = [number % 2 for number in range(count)]
    pyarrow.parquet.write_table(pyarrow.table({"image": images, "label": labels}), root / "set.parquet")
    return root / "set.parquet"


def zipped(root: Path, count: int) -> Path:
    root.mkdir()
    with zipfile.ZipFile(root / "set.zip", "w") as archive:
        for number in range(count):
            archive.writestr(
                f"{'train' if number % 5 else 'val'}/{'ill' if number % 2 else 'normal'}/{number}.png", b"1"
            )
    return root / "set.zip"


def tarred(root: Path, count: int) -> Path:
    with zipfile.ZipFile(zipped(root, count)) as archive, tarfile.open(root / "set.tar", "w") as tar:
        for name in archive.namelist():
            info = tarfile.TarInfo(name)
            tar.addfile(info)
    return root / "set.tar"


LAYOUTS: dict[str, Callable[[Path, int], Path]] = {
    "folder": folder,
    "csv": text_table,
    "excel": excel,
    "palm": palm,
    "npz": npz,
    "hdf5": hdf5,
    "parquet": parquet,
    "zip": zipped,
    "tar": tarred,
}


def measured(data: Path, count: int) -> tuple[float, float]:
    """Seconds and MiB."""
    root = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(root)}
    command = [sys.executable, "-c", READ, str(data), str(count)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    seconds, memory = done.stdout.split()
    return float(seconds), float(memory)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("layouts", nargs="*", metavar="LAYOUT", help=f"of {', '.join(LAYOUTS)}; default: all")
    parser.add_argument("--count", type=int, default=100_000, help="images (default 100,000)")
    parser.add_argument("--rounds", type=int, default=3, help="processes per layout (default 3)")
    options = parser.parse_args()
    print(f"{'layout':<8} {'images':>8} {'seconds':>8} {'MiB':>6}")
    for name in options.layouts or LAYOUTS:
        with tempfile.TemporaryDirectory() as scratch:
            print(f"making the {name} set", file=sys.stderr)
            made = []
            for part, count in (("small", 100), ("large", options.count)):
                made.append((LAYOUTS[name](Path(scratch) / part, count), count))
            if name == "palm":
                made[1] = made[1][0], 4 * min(options.count // 4, 9999)
            _, least = measured(*made[0])
            rounds = [measured(*made[1]) for _ in range(options.rounds)]
            seconds, memory = min(each[0] for each in rounds), max(each[1] for each in rounds)
            print(f"{name:<8} {made[1][1]:>8,} {seconds:>8.2f} {memory - least:>6.0f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
