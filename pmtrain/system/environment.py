"""Versions, processor, devices and threads, for a bug report and a run's record."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from pmtrain.system.framework import SETTINGS, installed_wheels
from pmtrain.system.hardware import available_cpus, processor_name
from pmtrain.system.version import __version__

PACKAGES = (
    "numpy",
    "opencv-python",
    "opencv-python-headless",
    "pillow",
    "simplejpeg",
    "pydicom",
    "scipy",
    "matplotlib",
    "jinja2",
    "typer",
    "pydantic",
    "safetensors",
)


def describe(gpus: list[str]) -> dict[str, Any]:
    """Name -> value, ready for printing and for JSON; `gpus` are the names of those that Paddle can use."""
    return {
        "pmtrain": __version__,
        "revision": revision() or "not a git checkout",
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "processor": processor_name(),
        "cores": available_cpus(),
        **{f"{wheel} wheel": version for wheel, version in installed_wheels().items()},
        "gpus": gpus,
        **SETTINGS,
        **{package: version for package in PACKAGES if (version := _version(package))},
    }


def revision() -> str | None:
    """The git revision of pmtrain's own code, with `-dirty` where files differ from it; None outside a checkout."""
    here = Path(__file__).resolve().parents[1]
    if not (here.parent / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def as_text(description: dict[str, Any]) -> str:
    """One `name: value` a line."""
    shown = {
        name: ", ".join(value) or "none" if isinstance(value, list) else value for name, value in description.items()
    }
    return "\n".join(f"{name}: {value}" for name, value in shown.items())


def as_json(description: dict[str, Any]) -> str:
    """The same as JSON."""
    return json.dumps(description, indent=2, ensure_ascii=False)


FORMATS: dict[str, Callable[[dict[str, Any]], str]] = {"text": as_text, "json": as_json}
