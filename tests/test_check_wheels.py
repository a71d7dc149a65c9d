"""scripts/check_wheels.py: what it takes for a fit, and what it names as missing. The archives here are made up."""

from __future__ import annotations

import struct
import subprocess
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from pmtrain.models.backends.onednn import library

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import check_wheels

    return check_wheels


class WindowsLibrary:
    """A DLL as LIEF gives it: `dnnl_version` at 0x1000 loads the address 0x1107, where version 3.6.2 lies."""

    def __init__(self, functions, imports=("KERNEL32.dll", "VCOMP140.DLL"), version=(3, 6, 2), runtime=2):
        self.functions = functions
        self.imports = [SimpleNamespace(name=name) for name in imports]
        self.memory = {
            0x1000: bytes.fromhex("488d05 00010000 c3") + bytes(8),
            0x1107: struct.pack("<iiiiQII", *version, 0, 0, runtime, 0),  # 0: padding, the hash, the GPU's runtime
        }

    def get_export(self):
        return SimpleNamespace(entries=[SimpleNamespace(name=name) for name in self.functions])

    def get_function_address(self, name):
        return {"dnnl_version": 0x1000}[name]

    def get_content_from_virtual_address(self, address, size):
        return self.memory[address][:size]


def looked_into(
    script, monkeypatch, tmp_path, binary, names=("mkldnn.dll", "libiomp5md.dll"), machine="Windows x86-64"
):
    file = tmp_path / "paddlepaddle.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(f"paddle/libs/{name}", b"")
    monkeypatch.setattr(script, "parse", lambda _: binary)
    return script.look_into(file, script.PLATFORMS[machine], script.binding())


def test_a_wheel_that_has_everything_fits(script, monkeypatch, tmp_path):
    row = looked_into(script, monkeypatch, tmp_path, WindowsLibrary(library.ARGUMENTS))
    count = len(library.ARGUMENTS)
    assert row == ("mkldnn.dll", "3.6.2", f"{count} of {count}", "VCOMP140.DLL", ())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"functions": set(library.ARGUMENTS) - {"dnnl_primitive_create"}}, "no dnnl_primitive_create"),
        ({"imports": ("KERNEL32.dll", "libiomp5md.dll")}, "VCOMP140.DLL is not imported"),
        ({"version": (4, 0, 0)}, "unknown version of oneDNN"),
        ({"runtime": 4}, "built for threading runtime 4, not OpenMP"),
    ],
)
def test_what_a_library_lacks_is_named(script, monkeypatch, tmp_path, change, problem):
    binary = WindowsLibrary(**{"functions": library.ARGUMENTS, **change})
    assert looked_into(script, monkeypatch, tmp_path, binary).problems == (problem,)


@pytest.mark.parametrize(("machine", "problems"), [("Linux x86-64", ("no oneDNN library",)), ("macOS arm64", ())])
def test_a_wheel_without_the_library_is_a_problem_where_the_engine_should_run(
    script, monkeypatch, tmp_path, machine, problems
):
    row = looked_into(script, monkeypatch, tmp_path, None, ("libblas.dylib",), machine)
    assert (row.library, row.problems) == ("none", problems)


def test_the_address_follows_the_instruction(script):
    assert script.target_of(bytes.fromhex("488d05 10000000 c3")) == 7 + 16
    assert script.target_of(bytes.fromhex("f30f1efa 488d05 f0ffffff c3")) == 11 - 16
    with pytest.raises(SystemExit, match="5589e5"):
        script.target_of(bytes.fromhex("5589e5"))


def test_a_wheel_is_downloaded_once_and_one_that_was_never_built_is_told_from_a_failure(script, monkeypatch, tmp_path):
    replies = {
        "paddlepaddle==3.3.1": "",
        "paddlepaddle==3.9.9": "ERROR: Could not find a version that satisfies it (from versions: 2.6.2, 3.0.0)",
        "paddlepaddle==3.0.0": "ERROR: Could not find a version that satisfies it (from versions: none)",
    }
    asked = []

    def pip(command, **_):
        asked.append(command[-1])
        if not replies[command[-1]]:
            (tmp_path / "paddlepaddle-3.3.1-cp311-cp311-win_amd64.whl").touch()
        return SimpleNamespace(stderr=replies[command[-1]], returncode=int(bool(replies[command[-1]])))

    monkeypatch.setattr(subprocess, "run", pip)
    for _ in range(2):
        file = script.wheel("paddlepaddle", "3.3.1", "win_amd64", "3.11", tmp_path)
        assert file == tmp_path / "paddlepaddle-3.3.1-cp311-cp311-win_amd64.whl"
    assert script.wheel("paddlepaddle", "3.9.9", "win_amd64", "3.11", tmp_path) is None
    with pytest.raises(SystemExit, match="can't be downloaded"):
        script.wheel("paddlepaddle", "3.0.0", "win_amd64", "3.11", tmp_path)
    assert asked == ["paddlepaddle==3.3.1", "paddlepaddle==3.9.9", "paddlepaddle==3.0.0"]


def test_the_table_names_each_outcome(script):
    fits = script.Row("mkldnn.dll", "3.6.2", "38 of 38", "VCOMP140.DLL")
    lacks = fits._replace(problems=("no dnnl_version", "unknown version of oneDNN"))
    found = {
        ("p", "A", fits): ["1", "2"],
        ("p", "B", lacks): ["1"],
        ("p", "C", script.Row()): ["1"],
        ("p", "D", None): ["1"],
    }
    _, _, *lines = script.table(found)
    assert [line.split(" | ")[0] for line in lines] == ["| p 1, 2", "| p 1", "| p 1", "| p 1"]
    assert [line.split(" | ")[-1] for line in lines] == [
        "yes |", "**no**: no dnnl_version, unknown version of oneDNN |", "no: Paddle's kernels |", " |",
    ]  # fmt: skip
