# /// script
# requires-python = ">=3.10"
# dependencies = ["lief>=0.16", "pip"]
# ///
"""Does the oneDNN engine find what it calls in every supported Paddle wheel? uv run scripts/check_wheels.py

Downloads the wheels of PADDLES for every row of PLATFORMS with pip, installs nothing, and reads the archives: oneDNN's
library, its version, every function that pmtrain/models/backends/onednn/library.py names, and the OpenMP runtime that
the library imports. Prints a Markdown table. The exit code is 1 where a wheel that should have the engine has not.

The wheels take 4.7 GB in the --wheels folder; those already there are not downloaded again. Without uv: install lief
into any virtual environment and run the script with its Python.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "pmtrain/models/backends/onednn/library.py"
LIBS = "paddle/libs/"


class Platform(NamedTuple):
    """A kind of machine: pip's name for it, Python's sys.platform there, and whether the engine should run on it."""

    tag: str
    sys_platform: str
    engine: bool


PLATFORMS = {
    "Linux x86-64": Platform("manylinux1_x86_64", "linux", True),
    "Windows x86-64": Platform("win_amd64", "win32", True),
    "Linux arm64": Platform("manylinux2014_aarch64", "linux", False),
    "macOS arm64": Platform("macosx_11_0_arm64", "darwin", False),
    "macOS x86-64": Platform("macosx_10_9_x86_64", "darwin", False),
}


class Package(NamedTuple):
    """The versions of a Paddle package that pmtrain supports, and the machines that it has ever been built for."""

    versions: tuple[str, ...]
    machines: tuple[str, ...]


PADDLES = {
    "paddlepaddle": Package(("3.0.0", "3.1.0", "3.1.1", "3.2.0", "3.2.1", "3.2.2", "3.3.0", "3.3.1"), tuple(PLATFORMS)),
    "paddlepaddle-gpu": Package(("2.6.2",), ("Linux x86-64", "Windows x86-64")),
}


class Row(NamedTuple):
    """What one wheel holds; `problems` says what the engine lacks."""

    library: str = "none"
    version: str = ""
    functions: str = ""
    openmp: str = ""
    problems: tuple[str, ...] = ()


def binding() -> ModuleType:
    """The module library.py, loaded by itself: its tables need neither Paddle nor the rest of pmtrain."""
    sys.path.insert(0, str(ROOT))
    sys.modules.setdefault("pmtrain.system.framework", SimpleNamespace(paddle=None))  # type: ignore[arg-type]
    spec = importlib.util.spec_from_file_location("binding", LIBRARY)
    assert spec and spec.loader
    module = sys.modules["binding"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wheel(name: str, version: str, tag: str, python: str, folder: Path) -> Path | None:
    """The wheel's file, downloaded where `folder` lacks it; None where the package index has none for this platform."""
    pattern = f"{name.replace('-', '_')}-{version}-cp{python.replace('.', '')}-*{tag}.whl"
    if not list(folder.glob(pattern)):
        done = subprocess.run(
            [
                sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
                "--platform", tag, "--python-version", python, "--dest", str(folder), f"{name}=={version}",
            ],
            capture_output=True,
            text=True,
        )  # fmt: skip
        # Where pip knows other versions for this platform, the index was reached and has no such wheel.
        if re.search(r"\(from versions: \d", done.stderr):
            return None
        if done.returncode:
            sys.exit(f"error: {name} {version} for {tag} can't be downloaded:\n{done.stderr}")
    return next(folder.glob(pattern))


def look_into(file: Path, platform: Platform, bound: ModuleType) -> Row:
    """What the engine finds in this wheel."""
    names = bound.FILES.get(platform.sys_platform)
    with zipfile.ZipFile(file) as archive:
        inside = {name.removeprefix(LIBS) for name in archive.namelist() if name.startswith(LIBS)}
        if names is None or names.library not in inside:
            return Row(problems=("no oneDNN library",) if platform.engine else ())
        library = parse(archive.read(LIBS + names.library))
        imported = imports_of(library)
        missing = sorted(set(bound.ARGUMENTS) - exports_of(library))
        problems = [f"no {name}" for name in missing]
        if not names.openmp_in_wheel:  # it belongs to the system, so there is nothing here to look into
            problems += [] if names.openmp in imported else [f"{names.openmp} is not imported"]
        elif names.openmp in inside:
            there = exports_of(parse(archive.read(LIBS + names.openmp)))
            problems += [f"{names.openmp} has no {name}" for name in names.openmp_functions if name not in there]
        else:
            problems.append(f"no {names.openmp}")
    version, runtime = version_of(library)
    if not bound.OLDEST <= version < bound.TOO_NEW:
        problems.append("unknown version of oneDNN")
    if runtime != bound.RUNTIME_OMP:
        problems.append(f"built for threading runtime {runtime}, not OpenMP")
    found = f"{len(bound.ARGUMENTS) - len(missing)} of {len(bound.ARGUMENTS)}"
    openmp = ", ".join(name for name in imported if "omp" in name.lower())
    if names.openmp_in_wheel:
        openmp += f", answered by {names.openmp}"
    return Row(names.library, ".".join(map(str, version)), found, openmp, tuple(problems))


def parse(data: bytes) -> Any:
    """An ELF or PE file."""
    import lief

    return lief.parse(io.BytesIO(data))


def exports_of(binary: Any) -> set[str]:
    """The functions that others may call."""
    if hasattr(binary, "get_export"):
        return {entry.name for entry in binary.get_export().entries}
    return {symbol.name for symbol in binary.exported_symbols}


def imports_of(binary: Any) -> list[str]:
    """The libraries that the file asks for."""
    if hasattr(binary, "get_export"):
        return [library.name for library in binary.imports]
    return list(binary.libraries)


def version_of(binary: Any) -> tuple[tuple[int, ...], int]:
    """What dnnl_version() returns: the version and the threading runtime.

    The function is one instruction on x86-64, which loads the address of a dnnl_version_t.
    """
    function = binary.get_function_address("dnnl_version")
    code = bytes(binary.get_content_from_virtual_address(function, 16))
    structure = function + target_of(code)
    content = bytes(binary.get_content_from_virtual_address(structure, 32))
    *version, runtime = struct.unpack_from("<3i12xI", content)
    return tuple(version), runtime


def target_of(code: bytes) -> int:
    """Where `lea rax, [rip + offset]; ret` points to, counted from its start; GCC may put `endbr64` before it."""
    found = re.match(rb"(?:\xf3\x0f\x1e\xfa)?\x48\x8d\x05(.{4})\xc3", code, re.DOTALL)
    if not found:
        sys.exit(f"error: dnnl_version is not the one instruction that was expected: {code.hex()}")
    return found.end(1) + struct.unpack("<i", found[1])[0]


def table(found: dict[tuple[str, str, Row | None], list[str]]) -> Iterator[str]:
    """Markdown: (package, machine, what its wheels hold) with the versions; None stands for no wheel."""
    yield "| Paddle | machine | oneDNN | version | functions | its OpenMP runtime | engine |"
    yield "|---|---|---|---|---|---|---|"
    for (package, machine, row), versions in found.items():
        if row is None:
            cells, engine = ("no wheel", "", "", ""), ""
        else:
            cells = row[:4]
            fits = "no: Paddle's kernels" if row.library == "none" else "yes"
            engine = "**no**: " + ", ".join(row.problems) if row.problems else fits
        yield f"| {package} {', '.join(versions)} | {machine} | {' | '.join(cells)} | {engine} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheels", type=Path, required=True, help="folder to keep the wheels in")
    parser.add_argument("--python", default="3.11", help="Python version of the wheels (default 3.11)")
    own = parser.parse_args()
    own.wheels.mkdir(parents=True, exist_ok=True)
    bound = binding()
    found: dict[tuple[str, str, Row | None], list[str]] = {}
    for name, package in PADDLES.items():
        for machine in package.machines:
            for version in package.versions:
                file = wheel(name, version, PLATFORMS[machine].tag, own.python, own.wheels)
                row = look_into(file, PLATFORMS[machine], bound) if file else None
                found.setdefault((name, machine, row), []).append(version)
    print("\n".join(table(found)))
    return int(any(row and row.problems for _, _, row in found))


if __name__ == "__main__":
    sys.exit(main())
