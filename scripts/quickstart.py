"""From a fresh clone to a training ResNet-50 in one command: python3 scripts/quickstart.py

Makes .venv, installs pmtrain with Paddle's CPU wheel (--gpu: the GPU one) and runs `pmtrain train --layers 50
--precision auto`. Without a data set, pmtrain makes a synthetic one. Further options go to `pmtrain train`.
"""

from __future__ import annotations

import argparse
import sys

from environment import call, ensure, say


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true", help="install paddlepaddle-gpu instead of the CPU wheel")
    own, options = parser.parse_known_args()
    python = ensure(".venv", "gpu" if own.gpu else "cpu")
    # The fastest arithmetic that this machine has, unless a file of options or a run says what to take.
    own_choice = {"--config", "--recipe", "--resume"}.isdisjoint(options)
    first = ["--layers", "50", "--precision", "auto"] if own_choice else []
    command = [str(python), "-m", "pmtrain", "train", *first, *options]
    say("running: pmtrain " + " ".join(command[3:]))
    return call(command)


if __name__ == "__main__":
    sys.exit(main())
