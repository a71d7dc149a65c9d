"""Tar archives as Python's tarfile writes them, and those that are refused."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
from pathlib import Path

import pytest

from pmtrain.data.images.packed import member_names
from pmtrain.data.images.packed.tar_archive import TarArchive
from pmtrain.system.errors import PmtrainError

CONTENT = {
    "a/1.png": random.Random(0).randbytes(3000),
    "a/空.png": b"x" * 9000,
    "b" * 150 + "/é.jpg": b"",
    "top.csv": b"1,2",
}


def archive(path: Path, content=CONTENT, mode="w", **options) -> Path:
    with tarfile.open(path, mode, **options) as file:
        for name, data in content.items() if isinstance(content, dict) else content:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def refusal(path: Path) -> str:
    before = sorted(path.parent.iterdir())
    with pytest.raises(PmtrainError) as caught:
        TarArchive(str(path))
    assert sorted(path.parent.iterdir()) == before  # nothing is written
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_members_are_those_that_were_written(tmp_path, mode, form):
    opened = TarArchive(str(archive(tmp_path / "a.tar", mode=mode, format=form)))
    names = list(CONTENT)
    random.Random(1).shuffle(names)
    assert {name: opened.read(name) for name in names} == CONTENT
    assert [opened.size(name) for name in CONTENT] == [3000, 9000, 0, 3]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("times", [1.5, 1])
@pytest.mark.parametrize("globally", [{}, {"comment": "of all"}])
def test_headers_of_every_kind_are_read_as_tarfile_reads_them(tmp_path, form, times, globally):
    """With times as Python's `add` writes them, in extended headers, and long names in two parts."""
    names = ["a/1.png", "d" * 90 + "/" + "e" * 60 + "/2.png", "folder", "folder/3.png", "4"]
    more = {"pax_headers": globally} if form == tarfile.PAX_FORMAT else {}
    with tarfile.open(tmp_path / "a.tar", "w", format=form, **more) as file:
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.mtime, info.size, info.uname = times, 700 * number, "é"
            if name == "folder":
                info.type, info.size = tarfile.DIRTYPE, 0
            file.addfile(info, io.BytesIO(bytes([number]) * info.size))
    with tarfile.open(tmp_path / "a.tar") as file:
        expected = {info.name: (info.offset_data, info.size) for info in file if info.isreg()}
    opened = TarArchive(str(tmp_path / "a.tar"))
    assert {name: tuple(member) for name, member in opened.members.items()} == expected
    assert opened.folders == ["folder"]
    assert opened.read(names[3]) == b"\3" * 2100


def test_an_extended_header_that_changes_a_name_is_heeded(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as file:
        file.addfile(tarfile.TarInfo("first"))
        info = tarfile.TarInfo("plain.png")
        info.pax_headers = {"mtime": "1.5", "path": "other.png"}
        file.addfile(info)
    assert list(TarArchive(str(tmp_path / "a.tar")).members) == ["first", "other.png"]


def test_folders_count_and_leading_dots_do_not(tmp_path):
    (tmp_path / "set/empty").mkdir(parents=True)
    (tmp_path / "set/1.png").write_bytes(b"1")
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        file.add(tmp_path / "set", ".")
    opened = TarArchive(str(tmp_path / "a.tar"))
    assert list(opened.members) == ["1.png"] and sorted(opened.folders) == ["", "empty"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("../evil.png", "leads out of the archive"), ("/etc/passwd", "is an absolute path"), ("C:\\e.png", "absolute")],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path, name, reason):
    message = refusal(archive(tmp_path / "a.tar", {"good.png": b"1", name: b"2"}))
    assert repr(name) in message and reason in message


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    info = tarfile.TarInfo("link.png")
    info.type, info.linkname = kind, "/etc/passwd"
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        file.addfile(info)
    assert "'link.png' is a link, a device" in refusal(tmp_path / "a.tar")


def test_other_members_that_are_refused(tmp_path, monkeypatch):
    assert "'1.png' is in it twice" in refusal(archive(tmp_path / "a.tar", [("1.png", b"1"), ("./1.png", b"2")]))
    assert "'' is a file without a name" in refusal(archive(tmp_path / "b.tar", [(".", b"1"), ("1.png", b"2")]))
    monkeypatch.setattr(member_names, "MOST_BYTES", 1 << 20)
    assert "'1.png' unpacks to" in refusal(archive(tmp_path / "b.tgz", {"1.png": bytes(1 << 21)}, "w:gz"))
    monkeypatch.setattr(member_names, "MOST_MEMBERS", 3)
    assert "more than 3 members" in refusal(archive(tmp_path / "c.tar"))


def test_a_header_that_fills_the_memory_is_refused(tmp_path):
    info = tarfile.TarInfo("long name")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 28
    with gzip.open(tmp_path / "a.tgz", "wb") as file:
        file.write(info.tobuf())
        for _ in range(1 << 8):
            file.write(bytes(1 << 20))
    assert "a header of 268,4" in refusal(tmp_path / "a.tgz")


def test_a_damaged_or_truncated_archive_is_refused(tmp_path):
    whole = archive(tmp_path / "a.tar").read_bytes()
    place = whole.index(b"top.csv")
    for data in (b"", b"no tar" * 1000, whole[: place + 100], whole[:place] + b"T" + whole[place + 1 :], whole[:2000]):
        (tmp_path / "a.tar").write_bytes(data)
        assert "is not a whole tar archive" in refusal(tmp_path / "a.tar")
    packed = gzip.compress(whole)
    (tmp_path / "a.tar").write_bytes(packed[: len(packed) // 2])
    assert "truncated" in refusal(tmp_path / "a.tar")
