"""scripts/fuzz.py: it makes the same examples again, reads valid files, and finds what it looks for."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import environment

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it looks into /proc")


# What a reader does, and what must be said of it.
PLANTED = """
import os, sys
from pathlib import Path
sys.path[:0] = sys.argv[1:2]
from fuzzing import kinds, watching
from pmtrain.system.errors import PmtrainError

def refuse(folder):
    raise PmtrainError("no")

def exhaust(folder):
    raise MemoryError

acts = {
    "open": lambda folder: open(os.devnull + "x", "w"),
    "files were written": lambda folder: (folder / "new").write_bytes(b"x"),
    "files were": lambda folder: (folder / "f").unlink(),
    "os.system": lambda folder: os.system("true"),
    "exec": lambda folder: eval("1 + 1"),
    "KeyError": lambda folder: {}["x"],
    "MemoryError": exhaust,
    "refused": refuse,
    "accepted": lambda folder: (folder / "f").read_bytes(),
}
for said, act in acts.items():
    reader = watching.Reader(kinds.Kind(lambda: [], act), Path(sys.argv[2]))
    result = reader({"f": b"x"}).result
    assert said in result and ("fault" in result) == (said not in ("refused", "accepted")), (said, result)
print("done")
"""


def test_it_tells_a_fault_from_a_refusal(tmp_path):
    program = [sys.executable, "-c", PLANTED, SCRIPTS, tmp_path / "example"]
    done = subprocess.run(program, capture_output=True, text=True, check=False, env=environment({}))
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_changes_can_be_made_again_and_differ(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from fuzzing import changes, kinds

    for kind in (kinds.KINDS["csv"], kinds.KINDS["png"], kinds.KINDS["zip"]):  # the last two also inside
        whole = next(iter(kind.files()[0].values()))
        made, again = (
            [changes.changed(whole, random.Random(seed), kind.tokens, kind.inside) for seed in range(50)]
            for _ in range(2)
        )
        assert made == again
        assert len(set(made)) > 40 and made.count(whole) < 10


def test_a_kind_is_read_in_a_process_of_its_own(tmp_path):
    program = [sys.executable, SCRIPTS / "fuzz.py", "side", "--examples", "40", "--folder", tmp_path]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("side: 40 examples in ") and done.stdout.endswith(", 0 faults\n")
