"""Train a tiny network for thousands of epochs and print memory, open files, threads and step time on the way.

  python scripts/long_run.py --epochs 2000

Everything is what `pmtrain train` does in an epoch (loading, step, validation, best weights, state, metrics.csv), on 8
SYNTHETIC training images of 32 px; the ResNet-18 has a sixteenth of its channels behind its first layer, so
that an epoch takes a tenth of a second.
What leaks or slows down by the epoch shows in the columns. Linux only.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
WIDTHS, SHOWN = (4, 8, 16, 32), (10, 100, 250, 500, 1000, 1500, 2000, 3000, 5000)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=2000)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # before Paddle is loaded
    with tempfile.TemporaryDirectory(prefix="pmtrain-long-") as scratch:
        os.environ["PMTRAIN_CACHE"] = f"{scratch}/cache"
        synth = (sys.executable, "-m", "pmtrain", "data", "synth", "--output", f"{scratch}/data")
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([*synth, "--train", "8", "--val", "4"], env=environment, check=True, capture_output=True)
        train(Path(scratch), options.epochs)
    return 0


def train(folder: Path, epochs: int) -> None:
    """Train, and print a row at each epoch of SHOWN."""
    from pmtrain.config import TrainConfig
    from pmtrain.models import resnet
    from pmtrain.system import console
    from pmtrain.training import run, train

    resnet.STAGE_WIDTHS = WIDTHS  # type: ignore[misc]
    config = TrainConfig(
        data=folder / "data", output=folder / "run", epochs=epochs, layers=18, image_size=32, batch_size=8, workers=0,
        threads=1, shortcut=False, domain=False, report=False, backend="paddle",
    )  # fmt: skip
    print(f"{'epoch':>6} {'RSS MiB':>8} {'peak MiB':>9} {'files':>6} {'threads':>8} {'ms an epoch':>12}", flush=True)
    end_epoch, since = run.Run.end_epoch, [0, time.perf_counter()]

    def shown(self, *arguments) -> None:
        end_epoch(self, *arguments)
        done = self.at.epoch
        if done in SHOWN or done == epochs:
            self.writer.wait()
            status = Path("/proc/self/status").read_text()
            rss = int(status.split("VmRSS:")[1].split()[0]) / 1024
            threads = int(status.split("Threads:")[1].split()[0])
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            files = len(os.listdir("/proc/self/fd"))
            each = 1000 * (time.perf_counter() - since[1]) / (done - since[0])
            print(f"{done:>6} {rss:>8.0f} {peak:>9.0f} {files:>6} {threads:>8} {each:>12.1f}", flush=True)
            since[:] = done, time.perf_counter()

    run.Run.end_epoch = shown  # type: ignore[method-assign]
    console.result = lambda text: None
    train.train(config)


if __name__ == "__main__":
    sys.exit(main())
