"""Files under failing disks, kills and Windows' locks."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pmtrain.system import files
from pmtrain.system.errors import PmtrainError
from pmtrain.system.files import new_file, new_folder, plain_cell, read_bytes, read_json, safe_cell, write_atomic
from tests.conftest import environment


def in_python(code: str, *arguments: object) -> subprocess.CompletedProcess:
    """Run code in a process of its own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment({}))


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "眼底.txt"
    write_atomic(path, "old")
    (tmp_path / "眼底.txt.tmp").write_bytes(b"what a killed process left")
    write_atomic(path, "né\n")
    assert path.read_bytes() == "né\n".encode()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_no_other(fails, tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_atomic(path, "old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, pytest.raises(PmtrainError) as caught:
        patch.setattr(os, fails, full)
        write_atomic(path, "new")
    assert "x.json" in caught.value.message and os.strerror(errno.ENOSPC) in caught.value.message
    assert "free some space" in caught.value.hint
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="the limit on a file's size is a POSIX one")
def test_a_write_that_the_system_cuts_short_leaves_the_old_file(tmp_path):
    code = """
import resource, signal, sys
from pathlib import Path
from pmtrain.system.errors import PmtrainError
from pmtrain.system.files import write_atomic
write_atomic(Path(sys.argv[1]), b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    write_atomic(Path(sys.argv[1]), bytes(1_000_000))
except PmtrainError as error:
    print(error)
"""
    path = tmp_path / "x.pdparams"
    assert os.strerror(errno.EFBIG) in in_python(code, path).stdout
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(PmtrainError, match="no_such_folder"):
        write_atomic(tmp_path / "no_such_folder" / "x.json", "new")


def test_a_new_file_is_there_when_it_is_whole(tmp_path):
    path = tmp_path / "新" / "结果.csv"
    with new_file(path) as file:
        file.write(b"a")
        assert not path.exists()
        file.write(b"b")
    assert path.read_bytes() == b"ab" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(errno.ENOSPC, "disk full")], ids=repr)
def test_a_new_file_that_fails_leaves_nothing(tmp_path, failure):
    with pytest.raises((KeyboardInterrupt, PmtrainError)) as caught, new_file(tmp_path / "x") as file:
        file.write(b"a")
        raise failure
    assert not list(tmp_path.iterdir())
    assert isinstance(failure, KeyboardInterrupt) or str(caught.value).startswith(f"can't write {tmp_path / 'x'}")


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_new_file_never_takes_anothers_name(tmp_path, when):
    path = tmp_path / "x"
    if when == "before":
        path.write_bytes(b"mine")
    with pytest.raises(PmtrainError, match="exists already"), new_file(path):
        path.write_bytes(b"mine")
    assert path.read_bytes() == b"mine" and list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(PmtrainError, match="nothing.pdparams"):
        read_bytes(tmp_path / "nothing.pdparams")
    (tmp_path / "big").write_bytes(bytes(20))
    with pytest.raises(PmtrainError, match="20 bytes"):
        read_bytes(tmp_path / "big", limit=19)


def test_windows_waits_for_a_locked_file(tmp_path, monkeypatch):
    """Simulated: the first two tries are refused, as Windows refuses while another program has the file open."""
    tries = []
    replace = os.replace

    def locked_at_first(source, target):
        tries.append(source)
        if len(tries) < 3:
            raise PermissionError(errno.EACCES, "locked")
        replace(source, target)

    monkeypatch.setattr(files, "os", Windows(replace=locked_at_first))
    write_atomic(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"new" and len(tries) == 3


class Windows:
    """`os` as it is on Windows, where some calls are refused at first."""

    name = "nt"

    def __init__(self, **calls):
        self.calls = calls

    def __getattr__(self, name):
        return self.calls.get(name) or getattr(os, name)


def test_windows_waits_for_a_file_that_is_just_being_replaced(tmp_path, monkeypatch):
    """Simulated: opening is refused twice, as while another process gives the file its name."""
    path, tries, read = tmp_path / "x", [], Path.read_bytes
    path.write_bytes(b"new")

    def refused_at_first(self):
        tries.append(self)
        if len(tries) < 3:
            raise PermissionError(errno.EACCES, "locked")
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", refused_at_first)
    with pytest.raises(PmtrainError, match="locked"):
        read_bytes(path)  # other systems refuse for good
    tries.clear()
    monkeypatch.setattr(files, "os", Windows())
    assert read_bytes(path) == b"new" and len(tries) == 3


@pytest.mark.parametrize(("length", "told"), [(300, True), (40, False)])
def test_windows_tells_of_a_path_that_is_too_long(length, told, monkeypatch):
    """Windows says ERROR_PATH_NOT_FOUND (ENOENT) of a path of 260 characters or more."""
    monkeypatch.setattr(files, "os", Windows())
    refused = files.cannot("write", Path("x" * length), FileNotFoundError(errno.ENOENT, "no such file"))
    assert ("long paths" in refused.hint) is told


@pytest.mark.parametrize("make", [new_file, new_folder])
def test_what_a_killed_process_left_is_removed_and_what_another_writes_is_not(tmp_path, make):
    fcntl = pytest.importorskip("fcntl")
    for name in ("out.0123abcd.tmp", "out.held0000.tmp"):
        (tmp_path / name).mkdir() if make is new_folder else (tmp_path / name).write_bytes(b"half")
    mine = tmp_path / "out.notes.tmp"  # not a name that pmtrain gives
    mine.write_bytes(b"mine")
    descriptor = os.open(tmp_path / "out.held0000.tmp", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # as a process that is writing
    with make(tmp_path / "out"):
        pass
    os.close(descriptor)
    assert {path.name for path in tmp_path.iterdir()} == {"out", "out.held0000.tmp", "out.notes.tmp"}


def test_two_writers_of_one_name_do_not_disturb_each_other(tmp_path):
    with pytest.raises(PmtrainError, match="exists already"), new_file(tmp_path / "out") as first:
        with new_file(tmp_path / "out") as second:
            second.write(b"second")
        first.write(b"first")
    assert (tmp_path / "out").read_bytes() == b"second" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1+1", "'+1+1"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("'=1", "''=1"),
        ("-12.5", "-12.5"),
        ("+7", "+7"),
        (-0.25, -0.25),
        (None, None),
        ("", ""),
        ("it's", "it's"),
        ("a=b", "a=b"),
    ],
)
def test_no_cell_is_a_formula_and_each_comes_back(value, written):
    assert safe_cell(value) == written
    assert not isinstance(value, str) or plain_cell(written) == value


@pytest.mark.parametrize("content", [b"", b"3", b"[]", b"[" * 100_000, b'{"a": \xff}', b'{"a": 1'])
def test_a_damaged_json_file_is_refused_by_name(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(PmtrainError, match=r"x\.json: can't be read"):
        read_json(tmp_path / "x.json")
    with pytest.raises(PmtrainError, match=r"none\.json: can't be read"):
        read_json(tmp_path / "none.json")


def test_what_a_json_file_lacks_is_named_where_it_is_asked_for(tmp_path):
    (tmp_path / "x.json").write_text('{"a": {"b": [{"c": 1}]}}')
    found = read_json(tmp_path / "x.json", "write it again")
    assert found == {"a": {"b": [{"c": 1}]}} and found.get("d") is None and "d" not in found
    for mapping in (found, found["a"], found["a"]["b"][0]):
        with pytest.raises(PmtrainError, match=r"x\.json: can't be read: it lacks 'd'") as caught:
            mapping["d"]
        assert caught.value.hint == "write it again"
