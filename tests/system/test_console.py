"""What Windows' shells and consoles are given, and what they make of it."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pmtrain.system import console
from tests.conftest import environment


@pytest.mark.parametrize(
    ("argument", "written"),
    [
        (r"C:\data\run_1", r"C:\data\run_1"),
        ("眼底", "眼底"),
        (r"C:\my data\run", r'"C:\my data\run"'),
        (r"D:\a (1)", r'"D:\a (1)"'),
        ("2,3,4", '"2,3,4"'),  # unquoted, PowerShell passes three arguments
        ("a&b", '"a&b"'),
        ("", '""'),
        ("ends in a space and \\", r'"ends in a space and \\"'),
        ("it's $HOME", "'it''s $HOME'"),
    ],
)
def test_arguments_are_quoted_for_powershell_and_cmd(monkeypatch, argument, written):
    monkeypatch.setattr(console, "os", SimpleNamespace(name="nt"))
    assert console.quoted("pmtrain", argument) == f"pmtrain {written}"


@pytest.mark.skipif(os.name == "nt", reason="file names are no bytes there")
def test_names_of_every_kind_reach_a_gbk_pipe():
    code = "from pmtrain.system import console; console.use_utf8(); console.result('眼底 é \\udcff')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env=environment({"PYTHONIOENCODING": "gbk"}), check=True
    )
    assert done.stdout == "眼底 é ".encode() + b"\xff\n"


def test_half_a_character_in_a_windows_file_name_is_written(monkeypatch, tmp_path):
    """NTFS takes any UTF-16, and Python decodes it with `surrogatepass` there."""
    monkeypatch.setattr(sys, "getfilesystemencodeerrors", lambda: "surrogatepass")
    with open(tmp_path / "out", "w", encoding="gbk") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        console.use_utf8()
        console.result("\ud83d.png")
    assert (tmp_path / "out").read_bytes().rstrip() == b"\xed\xa0\xbd.png"
