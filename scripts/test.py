"""Every check of the project in one command: python3 scripts/test.py

Makes .venv-test with the locked versions, then runs ruff and mypy, all tests, and where the processor has AVX-512 those
of the oneDNN engine once more under AVX2. Further options go to pytest, such as -k trace. --quick leaves the slow tests
out; --gpu-wheel runs the tests against paddlepaddle-gpu in an environment of its own, on the CPU where there is no GPU.
"""

from __future__ import annotations

import argparse
import os
import sys

from environment import ROOT, call, ensure, run, say

sys.path.insert(0, str(ROOT))
from pmtrain.system.hardware import processor_features  # standard library only

ENGINE_TESTS = ROOT / "tests" / "models" / "backends" / "onednn"
LINTERS = ("ruff check pmtrain scripts tests", "ruff format --check pmtrain scripts tests", "mypy")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="leave the slow tests out")
    parser.add_argument("--gpu-wheel", action="store_true", help="test against paddlepaddle-gpu; no ruff, no mypy")
    own, options = parser.parse_known_args()
    wheel = "gpu" if own.gpu_wheel else "cpu"
    python = str(ensure(".venv-test" if wheel == "cpu" else ".venv-test-gpu", wheel, "dev"))
    whole = wheel == "cpu" and not options
    for linter in LINTERS if whole else ():
        run([python, "-m", *linter.split()])
    chosen = ["-m", "not slow"] if own.quick else []
    code = call([python, "-m", "pytest", *chosen, *options])
    if whole and not code and "avx512f" in processor_features():
        say("the engine's quick tests once more, as on a processor with AVX2 alone")
        capped = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
        code = call([python, "-m", "pytest", "-q", "-m", "not slow", str(ENGINE_TESTS)], env=capped)
    return code


if __name__ == "__main__":
    sys.exit(main())
