"""How often each command opens, hashes and decodes the files of a data set, counted from outside the package."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pmtrain.data.images import file_table, read, source
from pmtrain.data.images.file_table import FILES
from pmtrain.data.images.packed.zip_archive import ZipArchive
from tests.conftest import SMALL

WATCHING: list[Uses] = []


class Uses:
    """Counts by file name, of the files below `root`: opens, SHA-256 of their content, decodings."""

    def __init__(self, root: Path) -> None:
        self.root = str(root.resolve()) + os.sep
        files = [path for path in root.rglob("*") if path.is_file()]
        self.names = {path.read_bytes(): path.relative_to(root).as_posix() for path in files}
        self.digests = {sha256(content).digest(): name for content, name in self.names.items()}
        self.opens, self.hashes, self.decodings = Counter[str](), Counter[str](), Counter[str]()

    def opened(self, path: str) -> None:
        path = os.path.abspath(path)
        if path.startswith(self.root) and not os.path.isdir(path):
            self.opens[path.removeprefix(self.root).replace(os.sep, "/")] += 1

    def per_file(self, part: str, suffix: str = ".png") -> tuple[list[int], list[int], list[int]]:
        """The different counts of opens, hashes and decodings among the files below `part`."""
        names = [name for name in self.names.values() if name.startswith(part) and name.endswith(suffix)]
        assert names
        counted = (self.opens, self.hashes, self.decodings)
        return tuple(sorted({counts[name] for name in names}) for counts in counted)  # type: ignore[return-value]


sha256 = hashlib.sha256


class CountedHash:
    """hashlib's SHA-256 that tells of every digest of a file's content."""

    def __init__(self, data: bytes = b"", **options: bool) -> None:
        self._hash = sha256(data, **options)

    def update(self, data: bytes) -> None:
        self._hash.update(data)

    def digest(self) -> bytes:
        for uses in WATCHING:
            if name := uses.digests.get(self._hash.digest()):
                uses.hashes[name] += 1
        return self._hash.digest()

    def hexdigest(self) -> str:
        return self.digest().hex()


def _on_event(event: str, arguments: tuple) -> None:
    by_opener = event == "open" and sys._getframe(1).f_code is source._regular.__code__  # of an `open` just counted
    if WATCHING and event == "open" and isinstance(arguments[0], (str, bytes)) and not by_opener:
        for uses in WATCHING:
            uses.opened(os.fsdecode(arguments[0]))


@pytest.fixture(scope="module", autouse=True)
def audited() -> None:
    sys.addaudithook(_on_event)  # it stays, and does nothing while nobody watches


@pytest.fixture
def watch(monkeypatch) -> Iterator:
    """watch(root): counts what is done from here on to the files below it, until watch() is called again."""
    monkeypatch.setattr(file_table, "SETTLED", -1.0)  # files that the tests have just written are trusted at once
    monkeypatch.setattr(hashlib, "sha256", CountedHash)

    def counted(real):
        def decode(data, *rest):
            for uses in WATCHING:
                uses.decodings[uses.names.get(bytes(data), "?")] += 1
            return real(data, *rest)

        return decode

    for name in ("decode_jpeg", "decode_plain", "decode_deep", "decode_other"):
        monkeypatch.setattr(read, name, counted(getattr(read, name)))

    def start(root: Path) -> Uses:
        WATCHING[:] = [Uses(root)]
        return WATCHING[0]

    yield start
    WATCHING.clear()


@pytest.fixture
def own_set(small_set, tmp_path, monkeypatch) -> Path:
    """A copy of small_set whose files all differ in size, so that the leak check needn't compare them, and no cache."""
    monkeypatch.setenv("PMTRAIN_CACHE", str(tmp_path / "cache"))
    FILES.clear()
    root = Path(shutil.copytree(small_set, tmp_path / "set"))
    for number, file in enumerate(sorted(root.rglob("*.png"))):
        file.write_bytes(file.read_bytes() + b"." * 1000 * number)
    return root


OPTIONS = (*SMALL, "--epochs", 1)


@pytest.mark.slow
def test_a_training_and_its_report_read_hash_and_decode_each_file_once(run_cli, watch, own_set):
    uses = watch(own_set)
    done = run_cli("train", "--data", own_set, "--output", "run", *OPTIONS)
    assert done.exit_code == 0 and "report: " in done.stderr, done.stderr
    assert uses.per_file("train") == uses.per_file("val") == ([1], [1], [1])

    uses = watch(own_set)  # from the cache on disk, the shortcut baseline's features among it
    FILES.clear()
    done = run_cli("train", "--data", own_set, "--output", "again", *OPTIONS)
    assert done.exit_code == 0, done.stderr
    assert uses.per_file("train") == uses.per_file("val") == ([0], [0], [0])
    for name in ("shortcut.json", "images.csv", "validation.csv"):
        assert Path("again", name).read_bytes() == Path("run", name).read_bytes()

    uses = watch(own_set)
    FILES.clear()
    assert run_cli("report", "run").exit_code == 0
    assert run_cli("eval", "run", "--workers", 0).exit_code == 0
    assert uses.per_file("val") == ([0], [0], [0])

    uses = watch(own_set)  # without the cache a file that a part needs later is read again: for its hash, for a picture
    FILES.clear()
    options = ("--cache-limit", 0, "--output", "uncached", *OPTIONS, "--no-report")
    assert run_cli("train", "--data", own_set, *options).exit_code == 0
    assert uses.per_file("train") == uses.per_file("val") == ([2], [1], [1])
    for name in ("shortcut.json", "images.csv"):
        assert Path("uncached", name).read_bytes() == Path("run", name).read_bytes()

    watch(own_set)
    FILES.clear()
    shutil.rmtree(os.environ["PMTRAIN_CACHE"])
    uses = watch(own_set)
    done = run_cli("eval", "run", "--workers", 0)
    assert done.exit_code == 0 and "network minus baseline" in done.stdout, done.stderr
    assert uses.per_file("val") == ([1], [1], [1])


def test_an_explanation_reads_and_decodes_each_file_once(run_cli, watch, own_set, checkpoint):
    uses = watch(own_set)
    done = run_cli("explain", checkpoint, own_set / "val", "--output", "maps")
    assert done.exit_code == 0, done.stderr
    assert uses.per_file("val") == ([1], [0], [1])


@pytest.mark.slow
def test_a_training_from_an_archive_is_that_of_the_folder_and_reads_each_member_once(
    run_cli, watch, own_set, monkeypatch, tmp_path
):
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(own_set.rglob("*.png")):
            packed.write(file, file.relative_to(own_set).as_posix())
    assert run_cli("train", "--data", own_set, "--output", "of-folder", *OPTIONS).exit_code == 0
    shutil.rmtree(os.environ["PMTRAIN_CACHE"])
    FILES.clear()
    members, real = Counter[str](), ZipArchive.read
    monkeypatch.setattr(ZipArchive, "read", lambda self, name: members.update([name]) or real(self, name))
    uses = watch(own_set)
    before = sorted(tmp_path.iterdir())
    done = run_cli("train", "--data", archive, "--output", "run", *OPTIONS)
    assert done.exit_code == 0, done.stderr
    assert uses.per_file("train") == uses.per_file("val") == ([0], [1], [1])
    assert set(members.values()) == {1} and len(members) == 20
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "cache", tmp_path / "run"])  # nothing unpacked
    for name in ("shortcut.json", "images.csv", "validation.csv"):
        assert Path("run", name).read_bytes() == Path("of-folder", name).read_bytes()

    members.clear()
    FILES.clear()
    assert run_cli("train", "--resume", "run", "--epochs", 2).exit_code == 0
    done = run_cli("eval", "run", "--workers", 0)
    assert done.exit_code == 0 and not members, done.stderr  # all from the cache


def test_a_check_of_data_reads_hashes_and_decodes_each_file_once(run_cli, watch, own_set):
    uses = watch(own_set)
    done = run_cli("data", "check", own_set, "--workers", 2, "--image-size", 32)
    assert done.exit_code == 0, done.stdout
    assert uses.per_file("train") == uses.per_file("val") == ([1], [1], [1])
