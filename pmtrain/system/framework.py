"""Paddle, imported once for the whole program, with its threads set and its log output reduced.

Every module that computes imports it from here (`from pmtrain.system.framework import paddle`). Paddle's libraries read
the environment once, while they load; this way the settings are always made before. Only commands import this module,
so that `--help` and the loader's workers start quickly.
"""

from __future__ import annotations

import contextlib
import io
import os
import warnings
from importlib import metadata
from typing import Any

from pmtrain.system.errors import PmtrainError
from pmtrain.system.hardware import available_cpus, processor_features, processor_vendor

WHEELS = {"paddlepaddle": "cpu", "paddlepaddle-gpu": "gpu"}


def _settings() -> dict[str, str]:
    """Environment variables that make Paddle fast and quiet on this machine."""
    threads = {"OMP_NUM_THREADS": str(available_cpus())}  # Paddle's own default is one thread
    # MKL takes a slow path on AMD processors, on every system; 7 selects its AVX-512 code, 5 its AVX2 code.
    paths = {"avx512f": "7", "avx2": "5"} if processor_vendor() == "AuthenticAMD" else {}
    fast = [path for feature, path in paths.items() if feature in processor_features()]
    fast_path = {"MKL_DEBUG_CPU_TYPE": fast[0]} if fast else {}
    quiet = {"GLOG_minloglevel": "2", "GLOG_v": "0"}
    return threads | fast_path | quiet


def configure() -> dict[str, str]:
    """Set the variables that aren't set yet; return each with its value and whether the user had set it."""
    chosen = {}
    for name, value in _settings().items():
        origin = "given" if name in os.environ else "set by pmtrain"
        chosen[name] = f"{os.environ.setdefault(name, value)} ({origin})"
    return chosen


def installed_wheels() -> dict[str, str]:
    """The Paddle wheels installed, by name, with their versions."""
    found = {}
    for name in WHEELS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _import_paddle() -> Any:
    wheels = installed_wheels()
    if len(wheels) > 1:
        both = " and ".join(f"{name} {version}" for name, version in wheels.items())
        raise PmtrainError(
            f"{both} are both installed; they share their files, so neither is complete",
            'run `pip uninstall -y paddlepaddle paddlepaddle-gpu`, then `pip install "pmtrain[cpu]"`'
            ' or `pip install "pmtrain[gpu]"`',
        )
    # The user can't change what Paddle prints while it loads (no ccache, threads set, deprecated imports).
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            import paddle
        except ModuleNotFoundError as error:
            if error.name != "paddle":
                raise
            raise PmtrainError(
                "Paddle is not installed",
                'run `pip install "pmtrain[cpu]"`, or `pip install "pmtrain[gpu]"` for an NVIDIA GPU',
            ) from None
        except ImportError as error:
            raise PmtrainError(
                f"Paddle is installed but can't be loaded: {error}",
                'reinstall it: `pip install --force-reinstall "pmtrain[cpu]"`',
            ) from error
    warnings.filterwarnings("ignore", message="When training, we now always track global mean", category=UserWarning)
    # Paddle catches SIGTERM and prints a C++ stack; a stopped run is saved and ends quietly instead.
    paddle.disable_signal_handler()
    return paddle


SETTINGS = configure()
paddle = _import_paddle()
