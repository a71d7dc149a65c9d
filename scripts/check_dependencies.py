"""The locked dependencies with their licences, and their known vulnerabilities.

  python scripts/check_dependencies.py                a Markdown table: package, version, licence
  python scripts/check_dependencies.py --audit        pip-audit of scripts/locks/ (needs its database, so a network)

Run it with the Python of an environment that has the dependencies, such as .venv-test.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

LOCKS = Path(__file__).parent / "locks"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lock", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--audit", action="store_true", help="look for known vulnerabilities")
    options = parser.parse_args()
    lock = LOCKS / f"{options.lock}.txt"
    return audit(lock) if options.audit else licences(lock)


def licences(lock: Path) -> int:
    """Print the table; the exit code is 1 if a package of this platform isn't installed or states no licence."""
    from packaging.requirements import Requirement

    unknown = []
    print("| package | version | licence |\n|---|---|---|")
    for line in lock.read_text().splitlines():
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate():
            continue
        try:
            about = metadata.metadata(requirement.name)
        except metadata.PackageNotFoundError:
            unknown.append(f"{requirement.name}: not installed")
            continue
        licence = licence_of(about)
        print(f"| {about['Name']} | {about['Version']} | {licence} |")
        if not licence:
            unknown.append(f"{requirement.name}: states no licence")
    for reason in unknown:
        print(reason, file=sys.stderr)
    return 1 if unknown else 0


def licence_of(about: metadata.PackageMetadata) -> str:
    """What a package says of its licence: its SPDX expression, its classifiers, or the first line of its text."""
    if expression := about.get("License-Expression"):
        return expression
    classes = [value.split(" :: ")[-1] for value in about.get_all("Classifier") or () if value.startswith("License ::")]
    if named := [name for name in classes if name != "OSI Approved"]:
        return ", ".join(named)
    text = (about.get("License") or "").strip()
    return re.split(r"[\n.]", text)[0][:60] if text else ""


def audit(lock: Path) -> int:
    """Run pip-audit, in an environment of its own, on the locked versions of this platform."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = next(
            path for path in (Path(folder, "bin/python"), Path(folder, "Scripts/python.exe")) if path.exists()
        )
        subprocess.run([python, "-m", "pip", "install", "-q", "pip-audit"], check=True)
        return subprocess.run([python, "-m", "pip_audit", "--no-deps", "--disable-pip", "-r", lock]).returncode


if __name__ == "__main__":
    sys.exit(main())
