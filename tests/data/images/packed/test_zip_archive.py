"""Zip archives as Python's zipfile writes them, and those that are refused."""

from __future__ import annotations

import random
import struct
import warnings
import zipfile
from pathlib import Path

import pytest

from pmtrain.data.images.packed import member_names
from pmtrain.data.images.packed.zip_archive import ZipArchive
from pmtrain.system.errors import PmtrainError

CONTENT = {"a/1.png": random.Random(0).randbytes(3000), "a/空.png": b"x" * 9000, "b/é.jpg": b"", "top.csv": b"1,2"}


def archive(path: Path, content=CONTENT, method=zipfile.ZIP_DEFLATED, **options) -> Path:
    with zipfile.ZipFile(path, "w", method, **options) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, data in content.items() if isinstance(content, dict) else content:
            file.writestr(name, data)
    return path


def refusal(path: Path) -> str:
    before = sorted(path.parent.iterdir())
    with pytest.raises(PmtrainError) as caught:
        ZipArchive(str(path))
    assert sorted(path.parent.iterdir()) == before  # nothing is written
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("before", [b"", b"#!/bin/sh\n" * 50])
def test_members_are_those_that_were_written(tmp_path, method, before):
    path = archive(tmp_path / "a.zip", method=method)
    path.write_bytes(before + path.read_bytes())  # as self-extracting archives are made
    opened = ZipArchive(str(path))
    assert {name: opened.read(name) for name in opened.members} == CONTENT
    assert all(opened.size(name) == len(data) for name, data in CONTENT.items())
    for name, data in CONTENT.items():
        assert opened.stream(name).read_at(1000, 500) == data[1000:1500]


def test_the_values_of_large_archives_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    path = archive(tmp_path / "a.zip")
    assert b"PK\6\6" in path.read_bytes()
    opened = ZipArchive(str(path))
    assert {name: opened.read(name) for name in opened.members} == CONTENT


def test_a_name_in_utf8_without_the_flag_and_one_of_dos_are_read(tmp_path):
    path = archive(tmp_path / "a.zip", {"é.png": b"1", "ü.png": b"2"})
    data = path.read_bytes().replace("ü.png".encode(), b"\x81a.png"[:6])
    for flag in (("<H", 0x800),):
        data = data.replace(struct.pack(*flag), struct.pack("<H", 0))
    path.write_bytes(data)
    assert list(ZipArchive(str(path)).members) == ["é.png", "üa.png"]


def test_names_as_windows_writes_them_in_china(tmp_path):
    path = archive(tmp_path / "a.zip", {"XXXX/1.png": b"1", "YYYY/2.png": b"2"})
    data = path.read_bytes()
    for ascii_name, name in (("XXXX", "正常"), ("YYYY", "近视")):
        data = data.replace(f"{ascii_name}/".encode(), f"{name}/".encode("gbk"))
    path.write_bytes(data)
    assert list(ZipArchive(str(path)).members) == ["正常/1.png", "近视/2.png"]


def test_folders_count_and_backslashes_separate(tmp_path):
    opened = ZipArchive(str(archive(tmp_path / "a.zip", {"empty/": b"", "./a\\1.png": b"1", "b//2.png": b"2"})))
    assert opened.folders == ["empty"] and list(opened.members) == ["a/1.png", "b/2.png"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil.png", "leads out of the archive"),
        ("a/../../evil.png", "leads out of the archive"),
        ("..\\evil.png", "leads out of the archive"),
        ("/etc/passwd", "is an absolute path"),
        ("\\\\server\\evil.png", "is an absolute path"),
        ("C:/evil.png", "is an absolute path"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path, name, reason):
    message = refusal(archive(tmp_path / "a.zip", {"good.png": b"1", name: b"2"}))
    assert repr(name) in message and reason in message


def test_other_members_that_are_refused(tmp_path, monkeypatch):
    assert "'1.png' is in it twice" in refusal(archive(tmp_path / "a.zip", [("1.png", b"1"), ("./1.png", b"2")]))
    link = zipfile.ZipInfo("link.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    assert "'link.png' is a link" in refusal(archive(tmp_path / "b.zip", [(link, "/etc/passwd")]))
    packed = archive(tmp_path / "c.zip", {"1.png": b"1" * 100}, zipfile.ZIP_BZIP2)
    assert "'1.png' is compressed by bzip2" in refusal(packed)
    locked = archive(tmp_path / "d.zip", {"1.png": b"1"})
    locked.write_bytes(locked.read_bytes().replace(b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0"))
    assert "'1.png' is encrypted" in refusal(locked)
    monkeypatch.setattr(member_names, "MOST_BYTES", 1 << 20)
    bomb = archive(tmp_path / "e.zip", {"1.png": bytes(1 << 21)})
    assert bomb.stat().st_size < 3000 and "'1.png' unpacks to 0.0 GiB" in refusal(bomb)
    monkeypatch.setattr(member_names, "MOST_MEMBERS", 3)
    assert "more than 3 members" in refusal(archive(tmp_path / "f.zip"))


def test_a_member_that_is_not_what_it_states_is_an_error(tmp_path):
    path = archive(tmp_path / "a.zip", {"1.png": bytes(1 << 20)})
    whole = path.read_bytes()
    path.write_bytes(whole.replace(struct.pack("<I", 1 << 20), struct.pack("<I", 10)))  # states 10 bytes
    with pytest.raises(OSError, match="other size or checksum"):
        ZipArchive(str(path)).read("1.png")
    path.write_bytes(whole[:35] + b"\xff\xff\xff" + whole[38:])
    with pytest.raises(OSError, match="damaged in the archive"):
        ZipArchive(str(path)).read("1.png")
    path.write_bytes(b"XX" + whole[2:])
    with pytest.raises(OSError, match="its header is missing"):
        ZipArchive(str(path)).read("1.png")


@pytest.mark.parametrize("keep", [0, 10, 100, -1, -10, -22])
def test_a_truncated_archive_is_refused(tmp_path, keep):
    path = archive(tmp_path / "a.zip")
    path.write_bytes(path.read_bytes()[:keep])
    assert "is not a zip archive, or its end is missing" in refusal(path)
