"""Files and members of archives, listed and read by the same functions."""

from __future__ import annotations

import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from pmtrain.data.images import source
from pmtrain.system.errors import PmtrainError


@pytest.fixture
def both(tmp_path) -> tuple[Path, Path]:
    """A folder, and an archive of its files."""
    with zipfile.ZipFile(tmp_path / "Set.ZIP", "w") as archive:
        for name in ("top.csv", "a/1.png", "a/b/2.png", "空/3.png"):
            path = tmp_path / "set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name.encode() * 10)
            archive.writestr(name, name.encode() * 10)
        archive.writestr("empty/", b"")
    (tmp_path / "set/empty").mkdir()
    return tmp_path / "set", source.as_folder(tmp_path / "Set.ZIP")


def test_an_archive_is_as_if_it_were_unpacked(both):
    folder, archive = both
    assert archive.name == "Set.ZIP!"
    for name in (".", "a", "a/b", "空", "empty"):
        assert source.is_dir(archive / name) and not source.is_file(archive / name)
        assert sorted(source.scan(archive / name)) == sorted(source.scan(folder / name))
    for name in ("top.csv", "a/1.png", "空/3.png"):
        assert source.is_file(archive / name) and not source.is_dir(archive / name)
        content = (folder / name).read_bytes()
        assert source.read(archive / name) == b"".join(source.chunks(archive / name)) == content
        assert source.open_file(archive / name).read(5) == content[:5]
        assert source.size(archive / name) == source.size(folder / name) == len(content)
        assert source.state(archive / name).split()[0] == str(len(content))


def test_what_is_not_there_is_said_as_of_files(both):
    for folder in both:
        assert not source.is_dir(folder / "gone") and not source.is_file(folder / "gone")
        for act in (source.read, source.size, source.state, source.open_file, lambda path: list(source.chunks(path))):
            with pytest.raises(FileNotFoundError):
                act(folder / "gone")
        with pytest.raises(FileNotFoundError):
            list(source.scan(folder / "gone"))
    gone = both[1].parent / "gone.zip!"
    assert not source.is_dir(gone) and not source.is_file(gone / "1.png")
    with pytest.raises(FileNotFoundError):
        source.read(gone / "1.png")


def test_a_mark_in_other_names_has_no_meaning(tmp_path):
    for name in ("wow!", "a.png!", "zip!"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1!.png").write_bytes(b"1")
        assert source.is_dir(tmp_path / name) and source.read(tmp_path / name / "1!.png") == b"1"
    folder = tmp_path / "unpacked.zip"
    folder.mkdir()
    assert source.as_folder(folder) == folder


def test_a_changed_archive_is_read_again(both):
    _, archive = both
    before = source.state(archive / "top.csv")
    path = Path(str(archive)[:-1])
    with zipfile.ZipFile(path, "w") as changed:
        changed.writestr("top.csv", b"new")
    os.utime(path, ns=(1, 1))
    assert source.read(archive / "top.csv") == b"new" and source.state(archive / "top.csv") != before
    assert not source.is_file(archive / "a/1.png")
    path.write_bytes(b"no archive")
    os.utime(path, ns=(2, 2))
    with pytest.raises(OSError, match="is not a zip archive"):
        source.read(archive / "top.csv")
    with pytest.raises(PmtrainError, match="is not a zip archive"):
        source.is_dir(archive)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives_within_archives(both, tmp_path, method):
    _, inner = both
    with tarfile.open(tmp_path / "middle.tar.gz", "w:gz") as middle:
        middle.add(str(inner)[:-1], "x/Set.ZIP")
    with zipfile.ZipFile(tmp_path / "outer.zip", "w", method) as outer:
        outer.write(tmp_path / "middle.tar.gz", "m.tar.gz")
    nested = tmp_path / "outer.zip!/m.tar.gz!/x/Set.ZIP!"
    assert source.is_archive(str(nested)[:-1]) and source.is_dir(nested / "a/b")
    assert sorted(source.scan(nested)) == sorted(source.scan(inner))
    assert source.read(nested / "a/1.png") == source.read(inner / "a/1.png")
    assert not source.is_file(nested / "gone.png") and not source.is_dir(tmp_path / "outer.zip!/gone.zip!")
    assert not source.is_dir(nested / "a/1.png!")


def test_archives_that_are_too_deep_are_refused(tmp_path):
    name = "1.png"
    (tmp_path / name).write_bytes(b"1")
    for depth in range(4):
        with zipfile.ZipFile(tmp_path / f"{depth}.zip", "w") as archive:
            archive.write(tmp_path / name, name)
        name = f"{depth}.zip"
    assert source.read(tmp_path / "2.zip!/1.zip!/0.zip!/1.png") == b"1"
    with pytest.raises(OSError, match="too deep"):
        source.read(tmp_path / "3.zip!/2.zip!/1.zip!/0.zip!/1.png")
