"""Read damaged and hostile files: each must be read or refused with a message, and nothing else may happen.

  python scripts/fuzz.py csv --examples 10000 --seed 0
  python scripts/fuzz.py all --examples 10000 --minutes 6 --folder /tmp/fuzz     # again and again, until it ends with 0

KIND is a row of KINDS (scripts/fuzzing/kinds.py), or `all`. Each example is a valid or hostile file, changed at a few
places; half of those that have checksums or are archives are changed inside, and the checksums made right again. Files
that were refused in a way that is new are changed further. `--atheris` lets atheris choose the changes by the lines
that they reach, instead.

A process of its own reads the files, with 2 GiB of address space and 10 seconds for each. These are faults: an
exception that isn't a PmtrainError, lack of memory, a file written, removed or opened for writing, a process started, a
connection, code made from text, a name looked up by a pickle, a process that dies, a time-out. Each fault's file is
kept in --folder. stdout gets a line a kind; the exit code is 0 without faults, 1 with, and 3 if --minutes were over
before the end. Run it with a Python that has pmtrain's requirements. Linux only.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from fuzzing.guided import guided
from fuzzing.kinds import KINDS
from fuzzing.slices import ROOT, Tally, fuzz, work

sys.path.insert(0, str(ROOT))
UNFINISHED = 3


def main() -> int:
    if sys.argv[1:2] == ["--work"]:
        name, seed, first, last, folder = sys.argv[2:]
        work(name, int(seed), int(first), int(last), Path(folder))
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", nargs="+", choices=[*KINDS, "all"])
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep faults and progress here, and go on with what is there")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after this time, with exit code 3")
    parser.add_argument("--atheris", action="store_true", help="guided by the lines that are reached; needs atheris")
    options = parser.parse_args()
    ends = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory(prefix="pmtrain-fuzz-") as scratch:
        folder = (options.folder or Path(scratch)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        if options.atheris:
            guided(options.kind[0], options.examples, options.seed, folder, options.minutes)
            return 0
        tallies: dict[str, Tally] = {}
        for name in KINDS if "all" in options.kind else options.kind:
            tallies[name] = fuzz(name, options.examples, options.seed, folder, ends)
            if tallies[name].next < options.examples:
                print(f"{name}: {tallies[name].next} examples so far", file=sys.stderr)
                return UNFINISHED
        for name, tally in tallies.items():
            print(tally.line(name))
        return 1 if any(tally.faults for tally in tallies.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
