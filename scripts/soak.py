"""Kill a training again and again, at random instants, until it is done; compare its weights with an undisturbed one.

  python scripts/soak.py --kills 200 --seed 0

Trains a ResNet-18 on a small SYNTHETIC set in a temporary folder. After every kill the newest state and best weights
must be readable, and `pmtrain train --resume` must go on. At the end the final weights must equal the undisturbed
run's to the bit, and no temporary file may be left. Progress goes to stderr, the result to stdout; the exit code is 0
if all of this held. Run it with a Python that has pmtrain's requirements.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
COMMAND = (sys.executable, "-m", "pmtrain")
BATCHES, IMAGES = 4, 32


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    parser.add_argument("--epochs", type=int, help="of the training (default: twice the kills, at least 10)")
    options = parser.parse_args()
    print(f"seed {options.seed}", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="pmtrain-soak-") as scratch:
        return soak(Path(scratch), options.kills, random.Random(options.seed), options.epochs)


def soak(scratch: Path, kills: int, draw: random.Random, epochs: int | None) -> int:
    """Return the exit code."""
    from pmtrain.runs.checkpoint import load_checkpoint
    from pmtrain.runs.resume_state import load_resume
    from pmtrain.system.errors import PmtrainError

    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PMTRAIN_CACHE": str(scratch / "cache")}

    def start(*arguments: object) -> subprocess.Popen:
        log = (scratch / "log.txt").open("w")
        return subprocess.Popen([*COMMAND, *map(str, arguments)], env=environment, stdout=log, stderr=log)

    def finished(*arguments: object) -> None:
        if start(*arguments).wait():
            raise SystemExit((scratch / "log.txt").read_text())

    data = scratch / "data"
    finished("data", "synth", "--output", data, "--train", IMAGES, "--val", 8)
    epochs = epochs or max(10, 2 * kills)
    training = (
        "train",
        data,
        "--layers",
        18,
        "--image-size",
        32,
        "--batch-size",
        IMAGES // BATCHES,
        "--epochs",
        epochs,
    )
    training += ("--save-every", 2, "--workers", 0, "--threads", 1, "--ema", 0.9, "--no-report", "--no-shortcut")
    began = time.monotonic()
    process, first_save = start(*training, "--output", scratch / "whole"), None
    while process.poll() is None:
        if first_save is None and (scratch / "whole/last/state.json").exists():
            first_save = time.monotonic() - began
        time.sleep(0.05)
    if process.returncode or first_save is None:
        raise SystemExit((scratch / "log.txt").read_text())
    alone = time.monotonic() - began
    print(f"undisturbed: {epochs} epochs in {alone:.0f} s, the first save after {first_save:.1f} s", file=sys.stderr)

    run = scratch / "killed"
    killed = before_first_save = 0
    while killed < kills:
        resumed = (run / "config.yaml").exists()
        process = start("train", "--resume", run) if resumed else start(*training, "--output", run)
        try:
            process.wait(draw.uniform(0.0, 2.5 * first_save))  # from before the first line of code to later saves
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        code = process.wait()
        if code == 0:
            break
        if code != -signal.SIGKILL:
            print(f"kill {killed}: exit code {code}\n{(scratch / 'log.txt').read_text()}")
            return 1
        killed += 1
        try:
            if (run / "last/state.json").exists():
                load_resume(run)
            else:
                before_first_save += 1
            if (run / "best.pdparams").exists():
                load_checkpoint(run / "best.pdparams")
        except PmtrainError as error:
            print(f"kill {killed}: {error}")
            return 1
        if killed % 10 == 0:
            print(f"{killed} kills", file=sys.stderr)
    if (run / "config.yaml").exists():
        finished("train", "--resume", run)
    else:
        finished(*training, "--output", run)

    def last(folder: Path) -> dict[str, bytes]:
        home = next(path for path in (folder / "last").iterdir() if path.is_dir())
        files = {name: (home / name).read_bytes() for name in ("model.pdparams", "optimizer.pdopt")}
        return files | {"best.pdparams": (folder / "best.pdparams").read_bytes()}

    same = last(run) == last(scratch / "whole")
    litter = [
        str(path.relative_to(run))
        for path in run.rglob("*")
        if path.name.endswith((".tmp", ".next")) or ".tmp" in path.name
    ]
    states = [path.name for path in (run / "last").iterdir() if path.is_dir()]
    print(
        f"{killed} kills survived ({before_first_save} before the first save); final weights, optimizer and best"
        f" weights {'equal' if same else 'DIFFER FROM'} the undisturbed run's to the bit;"
        f" temporary files left: {', '.join(litter) or 'none'}; states left: {len(states)}"
    )
    return 0 if same and not litter and len(states) == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
