from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import pmtrain
from pmtrain.data.dataset import Sample
from pmtrain.data.images import file_table
from pmtrain.data.images.file_table import FILES
from pmtrain.data.images.read import read_image
from pmtrain.data.loading import cache as caching
from pmtrain.data.loading import slots as slot_files
from pmtrain.data.loading import workers
from pmtrain.data.loading.cache import Cache
from pmtrain.data.loading.cache_folder import default_limit, open_cache
from pmtrain.data.loading.loader import Loader
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.system.errors import PmtrainError

PREPROCESS = Preprocess(size=32)
SLOT = 32 * 32 * 3
MUCH = 2**30
LONG_AGO = time.time() - 1000


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "缓存"


@pytest.fixture
def samples(tmp_path, make_image) -> list[Sample]:
    """23 images that changed long ago."""
    return [old(make_image(tmp_path / "眼底 im" / f"{seed}.png", seed)) for seed in range(23)]


@pytest.fixture
def settled(monkeypatch) -> None:
    """Files are trusted at once: nobody can set back ctime, and no test wants to wait."""
    monkeypatch.setattr(file_table, "SETTLED", -1.0)


def old(path: Path) -> Sample:
    os.utime(path, (LONG_AGO, LONG_AGO))
    return Sample(path, 0)


def fresh(path: Path) -> np.ndarray:
    """What must be served: decoded here and now, uint8 (S, S, 3)."""
    return PREPROCESS.resize(read_image(path))


def epochs(samples, cache: Cache | None, count: int = 1, **options) -> None:
    """Every image of every epoch is what its file holds."""
    with Loader(samples, PREPROCESS, 4, seed=1, shuffle=True, cache=cache, **options) as loader:
        for epoch in range(count):
            seen = 0
            for batch in loader.epoch(epoch):
                seen += len(batch.samples)
                right = PREPROCESS.normalise(np.stack([fresh(sample.path) for sample in batch.samples]))
                np.testing.assert_array_equal(batch.images, right)
            assert seen == len(samples)


def quiet(folder: Path, limit: int = MUCH) -> Cache:
    """A cache that has nothing to complain of."""
    return Cache(folder, limit, warn=pytest.fail)


def held(folder: Path) -> int:
    cache = quiet(folder)
    images = sum(content.images for content in cache.contents())
    cache.close()
    return images


def slots(folder: Path) -> Path:
    return folder / f"{PREPROCESS.pixels_key}.bytes"


def test_a_second_run_decodes_nothing_and_starts_no_process(samples, folder, decoded, settled, monkeypatch):
    epochs(samples, quiet(folder), 2)
    assert sorted(decoded) == sorted(sample.path.name for sample in samples)
    decoded.clear()
    FILES.clear()
    monkeypatch.setattr(FILES, "read", lambda path: pytest.fail("an unchanged file isn't read"))
    with Loader(samples, PREPROCESS, 4, workers=2, cache=quiet(folder)) as loader:
        next(loader.epoch(0))
        assert loader._pool is None and not multiprocessing.active_children()
    epochs(samples, quiet(folder), 2)
    assert decoded == []


def test_files_just_written_are_known_by_content(samples, folder, decoded):
    epochs(samples, quiet(folder))
    epochs(samples, quiet(folder))
    assert len(decoded) == 23
    with contextlib.closing(sqlite3.connect(folder / "index.sqlite")) as index:
        assert index.execute("SELECT COUNT(*) FROM files").fetchone() == (0,)


@pytest.mark.parametrize("change", ["copied", "touched", "renamed"])
def test_content_decides_and_not_its_name_or_time(samples, folder, decoded, settled, tmp_path, change):
    epochs(samples, quiet(folder))
    decoded.clear()
    root = samples[0].path.parent
    if change == "touched":
        for sample in samples:
            os.utime(sample.path)
    elif change == "copied":
        root = Path(shutil.copytree(root, tmp_path / "elsewhere"))
    else:
        root = root.rename(tmp_path / "elsewhere")
    epochs([Sample(root / sample.path.name, 0) for sample in samples], quiet(folder))
    assert decoded == []


def test_a_changed_file_is_never_served_stale(samples, folder, decoded, settled, make_image):
    epochs(samples, quiet(folder))
    decoded.clear()
    path = samples[5].path
    size, other = path.stat().st_size, 100
    while True:  # another picture in as many bytes, with its times put back
        make_image(path, other)
        if path.stat().st_size == size:
            break
        other += 1
    os.utime(path, (LONG_AGO, LONG_AGO))
    if os.name == "nt":
        os.utime(path)  # the documented limit: there ctime doesn't tell
    epochs(samples, quiet(folder))
    assert decoded == [path.name]


def test_a_file_changed_between_hash_and_decoding_is_not_kept(samples, folder, make_image, monkeypatch):
    real = workers.decode

    def changing(path, preprocess, data, *rest):
        make_image(path, 99)
        return real(path, preprocess, None, *rest)

    monkeypatch.setattr(workers, "decode", changing)
    with Loader(samples, PREPROCESS, 4, cache=quiet(folder)) as loader:
        list(loader.epoch(0))
    assert held(folder) == 0


def test_equal_content_is_kept_once(samples, folder, tmp_path, settled):
    twins = [old(Path(shutil.copy(samples[0].path, tmp_path / f"{number}.png"))) for number in range(8)]
    epochs(twins, quiet(folder))
    assert held(folder) == 1
    epochs(twins, quiet(folder))


def test_preprocessings_are_kept_apart(samples, folder, settled):
    epochs(samples, quiet(folder))
    with Loader(samples, Preprocess(size=40), 4, cache=quiet(folder)) as loader:
        list(loader.epoch(0))
        list(loader.epoch(1))
    epochs(samples, quiet(folder))
    cache = quiet(folder)
    assert sorted((content.images, content.bytes) for content in cache.contents()) == [
        (23, 23 * SLOT),
        (23, 23 * 40 * 40 * 3),
    ]
    cache.close()


@pytest.mark.parametrize("count", [0, 2])
def test_bad_images_are_told_in_every_run_and_the_others_kept(samples, folder, count):
    samples[9].path.write_bytes(samples[9].path.read_bytes()[:-30])
    for _ in range(2):
        options = {"workers": count, "on_bad_image": "skip", "cache": quiet(folder)}
        with Loader(samples, PREPROCESS, 4, **options) as loader:
            for epoch in range(2):
                assert sum(len(batch.samples) for batch in loader.epoch(epoch)) == 22
            assert [sample for sample, _ in loader.bad_images] == [samples[9]]
            assert not multiprocessing.active_children()
    assert held(folder) == 22


def test_what_was_decoded_before_an_error_is_kept(samples, folder, decoded):
    samples[9].path.write_bytes(samples[9].path.read_bytes()[:-30])
    with Loader(samples, PREPROCESS, 5, cache=quiet(folder)) as loader, pytest.raises(PmtrainError):
        list(loader.epoch(0))
    assert held(folder) == 9


def test_an_epoch_left_early_and_resumed(samples, folder, decoded):
    with Loader(samples, PREPROCESS, 4, seed=5, shuffle=True) as plain:
        whole = list(plain.epoch(3))
    with Loader(samples, PREPROCESS, 4, seed=5, shuffle=True, workers=1, cache=quiet(folder)) as loader:
        next(loader.epoch(3))
    with Loader(samples, PREPROCESS, 4, seed=5, shuffle=True, cache=quiet(folder)) as loader:
        for ours, theirs in zip(loader.epoch(3, 2), whole[2:], strict=True):
            np.testing.assert_array_equal(ours.images, theirs.images)


def test_two_loaders_share_a_cache(samples, folder, decoded):
    cache = quiet(folder)
    with Loader(samples, PREPROCESS, 4, cache=cache) as one, Loader(samples, PREPROCESS, 4, cache=cache) as other:
        for ours, theirs in zip(one.epoch(0), other.epoch(0), strict=True):
            np.testing.assert_array_equal(ours.images, theirs.images)
        list(one.epoch(1)), list(other.epoch(1))
    assert held(folder) == 23


def test_the_limit_is_kept_and_the_rest_stays_in_memory(samples, folder, decoded):
    cache = quiet(folder, 10 * SLOT)
    epochs(samples, cache, 3)
    assert held(folder) == 10 and slots(folder).stat().st_size == 10 * SLOT
    assert len(decoded) == 23  # once, though not all of them found room


def test_least_recently_used_images_give_way(samples, folder, decoded):
    first, second, third = samples[:8], samples[8:16], samples[16:]
    for part in (first, second, first, third):
        epochs(part, quiet(folder, 18 * SLOT))
    decoded.clear()
    epochs(first, quiet(folder, 18 * SLOT))
    epochs(third, quiet(folder, 18 * SLOT))
    assert decoded == []
    assert slots(folder).stat().st_size <= 18 * SLOT


def test_a_run_finds_its_images_where_shrinking_moved_them(samples, folder, decoded):
    epochs(samples[:12], quiet(folder))
    late = quiet(folder)
    with Loader(samples[12:], PREPROCESS, 4, cache=late) as loader:
        batches = list(loader.epoch(0))
        other = quiet(folder)
        other.shrink(11 * SLOT)
        other.close()
        decoded.clear()
        for ours, theirs in zip(loader.epoch(0), batches, strict=True):
            np.testing.assert_array_equal(ours.images, theirs.images)
    assert decoded == [] and slots(folder).stat().st_size == 11 * SLOT


def test_a_run_goes_on_when_its_images_are_thrown_out(samples, folder, decoded):
    with Loader(samples, PREPROCESS, 4, workers=0, cache=quiet(folder)) as loader:
        batches = list(loader.epoch(0))
        other = quiet(folder)
        other.shrink(0)
        other.close()
        assert not slots(folder).exists()
        for _ in range(2):
            for ours, theirs in zip(loader.epoch(0), batches, strict=True):
                np.testing.assert_array_equal(ours.images, theirs.images)
    assert len(decoded) == 46


# What may happen to the files while nobody looks, and whether the index must be begun anew.
def flip(path: Path, seed: int = 0) -> None:
    content = bytearray(path.read_bytes())
    for place in random.Random(seed).sample(range(len(content)), len(content) // 20):
        content[place] ^= 0x55
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3 + 7)


def garbage(path: Path) -> None:
    path.write_bytes(random.Random(0).randbytes(path.stat().st_size))


@pytest.mark.parametrize("harm", [flip, cut, garbage, Path.unlink])
def test_damaged_slots_are_found_out_and_mended(samples, folder, decoded, settled, harm):
    epochs(samples, quiet(folder))
    decoded.clear()
    harm(slots(folder))
    epochs(samples, quiet(folder), 2)
    assert decoded  # those that were damaged
    decoded.clear()
    epochs(samples, quiet(folder))
    assert decoded == []


@pytest.mark.parametrize("harm", [flip, cut, garbage, Path.unlink])
def test_a_damaged_index_is_begun_anew_with_a_notice(samples, folder, decoded, settled, harm):
    epochs(samples, quiet(folder))
    harm(folder / "index.sqlite")
    said: list[str] = []
    epochs(samples, Cache(folder, MUCH, said.append), 2)
    assert (harm is Path.unlink) == (not said)
    assert len(said) <= 1 and all(str(folder) in line and "damaged" in line for line in said)
    decoded.clear()
    epochs(samples, quiet(folder))
    assert decoded == []


@pytest.mark.parametrize("seed", range(12))
def test_no_damage_to_the_index_is_served_or_stops_a_run(samples, folder, settled, seed):
    epochs(samples, quiet(folder))
    index = folder / "index.sqlite"
    content, rng = bytearray(index.read_bytes()), random.Random(seed)
    for _ in range(20):
        start = rng.randrange(100, len(content) - 100)  # behind the header
        content[start : start + rng.randrange(1, 60)] = rng.randbytes(rng.randrange(1, 60))
    index.write_bytes(content[: len(content) // 4096 * 4096])
    said: list[str] = []
    epochs(samples, Cache(folder, MUCH, said.append), 2)
    epochs(samples, Cache(folder, MUCH, said.append))
    assert len(said) <= 2


def test_an_index_of_nonsense_harms_nothing(samples, folder, settled):
    epochs(samples, quiet(folder))
    with contextlib.closing(sqlite3.connect(folder / "index.sqlite", isolation_level=None)) as db:
        db.execute("UPDATE images SET bytes = ? WHERE slot = 1", (2**62,))
        db.execute("UPDATE images SET bytes = 'x' WHERE slot = 2")
        db.execute("UPDATE images SET checksum = NULL WHERE slot = 3")
        db.execute("UPDATE images SET slot = -1 WHERE slot = 4")
        db.execute("UPDATE images SET slot = 'text' WHERE slot = 5")
    said: list[str] = []
    epochs(samples, Cache(folder, MUCH, said.append), 2)
    epochs(samples, Cache(folder, MUCH, said.append), 2)
    cache = Cache(folder, MUCH, said.append)
    cache.shrink(3 * SLOT)
    cache.close()


def test_swapped_images_are_found_out(samples, folder, settled):
    epochs(samples, quiet(folder))
    content = slots(folder).read_bytes()
    slots(folder).write_bytes(content[SLOT : 2 * SLOT] + content[:SLOT] + content[2 * SLOT :])
    epochs(samples, quiet(folder))


def test_a_full_disk_is_one_warning_and_the_run_goes_on(samples, folder, decoded, monkeypatch):
    class Full:
        def __init__(self, file):
            self.file, self.left = file, 5

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            self.left -= 1
            if self.left < 0:
                self.file.write(data[: len(data) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.file.write(data)

    def opened(path, mode):
        file = open(path, mode)
        return Full(file) if Path(path).suffix == ".bytes" and held_after_first else file

    held_after_first: list[int] = []
    monkeypatch.setattr(slot_files, "open", opened, raising=False)
    said: list[str] = []
    cache = Cache(folder, MUCH, said.append)
    with Loader(samples, PREPROCESS, 8, cache=cache) as loader:
        batches = loader.epoch(0)
        first = next(batches)
        held_after_first.append(1)
        rest = list(batches)
        for ours, theirs in zip(loader.epoch(1), [first, *rest], strict=True):
            np.testing.assert_array_equal(ours.images, theirs.images)
    assert len(said) == 1 and os.strerror(errno.ENOSPC) in said[0] and str(folder) in said[0]
    assert len(decoded) == 23
    monkeypatch.undo()
    assert held(folder) == 16  # the first batch, and the next, which was being made
    epochs(samples, quiet(folder))


@pytest.mark.parametrize("kind", ["a file", "no permission"])
def test_a_folder_that_cannot_be_used_is_one_warning(samples, folder, decoded, monkeypatch, kind):
    if kind == "a file":
        folder.write_text("in the way")
    else:
        refuse = OSError(errno.EACCES, os.strerror(errno.EACCES))
        monkeypatch.setattr(Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(refuse))
    said: list[str] = []
    epochs(samples, Cache(folder, MUCH, said.append), 2)
    assert len(said) == 1 and "can't be used" in said[0] and str(folder) in said[0]
    assert len(decoded) == 23


def test_a_cache_that_cannot_be_written_is_still_read(samples, folder, decoded, settled):
    epochs(samples[:10], quiet(folder))
    decoded.clear()
    index = (folder / "index.sqlite").absolute()
    cache = Cache(folder, MUCH, (said := []).append)
    cache._db = sqlite3.connect(f"{index.as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
    with Loader(samples, PREPROCESS, 8, cache=cache) as loader:
        assert len(list(loader.epoch(0))) == 3
    assert len(said) == 1 and "can't be written" in said[0] and "readonly" in said[0]
    assert len(decoded) == 13


def test_a_process_that_holds_the_index_for_ever_is_one_warning(samples, folder, decoded, monkeypatch):
    monkeypatch.setattr(caching, "PATIENCE", 0.05)
    epochs(samples[:4], quiet(folder))
    holder = sqlite3.connect(folder / "index.sqlite", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    said: list[str] = []
    epochs(samples, Cache(folder, MUCH, said.append), 2)
    holder.close()
    assert len(said) == 1 and "locked" in said[0]


# Fills the cache again and again, as runs do, cleans it in between, and checks every image that it is served.
FILLER = """
import sys
from pathlib import Path

import numpy as np

from pmtrain.data.images import file_table
from pmtrain.data.loading.cache import Cache
from pmtrain.data.images.read import read_image
from pmtrain.data.loading.loader import Loader
from pmtrain.data.dataset import Sample
from pmtrain.data.preprocessing.preprocess import Preprocess

folder, images, limit, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
file_table.SETTLED = -1.0
preprocess = Preprocess(size=32)
samples = [Sample(path, 0) for path in sorted(images.iterdir())]
right = {sample: preprocess.resize(read_image(sample.path)) for sample in samples}
def warn(text):
    raise SystemExit("warned: " + text)
print("ready", flush=True)
for epoch in range(int(sys.argv[5])):
    cache = Cache(folder, limit, warn)
    if epoch % 3 == 2:
        cache.shrink(limit // 4)
    with Loader(samples, preprocess, 4, seed=seed, shuffle=True, cache=cache) as loader:
        for batch in loader.epoch(epoch):
            expected = preprocess.normalise(np.stack([right[sample] for sample in batch.samples]))
            if not np.array_equal(batch.images, expected):
                raise SystemExit("a wrong image was served")
print("done", flush=True)
"""


def fill(folder: Path, images: Path, limit: int, seed: int, rounds: int) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", FILLER, str(folder), str(images), str(limit), str(seed), str(rounds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONPATH": str(Path(pmtrain.__file__).parent.parent), "PYTHONUTF8": "1"},
    )


@pytest.mark.parametrize("room", [24, 9], ids=["enough room", "too little room"])
def test_two_processes_fill_and_clean_at_once(samples, folder, room):
    processes = [fill(folder, samples[0].path.parent, room * SLOT, seed, 12) for seed in range(2)]
    for process in processes:
        output, errors = process.communicate(timeout=120)
        assert (process.returncode, output, errors) == (0, "ready\ndone\n", "")
    assert slots(folder).stat().st_size <= min(23, room) * SLOT
    epochs(samples, quiet(folder))


@pytest.mark.slow
def test_a_process_killed_at_any_moment_leaves_whole_entries(samples, folder):
    rng = random.Random(0)
    for turn in range(25):
        room = (24, 9)[turn % 2]
        process = fill(folder, samples[0].path.parent, room * SLOT, turn, 10_000)
        assert process.stdout and process.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0, 0.3))
        process.kill()
        output, errors = process.communicate(timeout=60)
        assert (output, errors) == ("", "")
        epochs(samples, quiet(folder))
    assert held(folder) > 0


def test_a_cache_of_limit_0_is_none(monkeypatch, folder):
    monkeypatch.setenv("PMTRAIN_CACHE", str(folder))
    assert open_cache(0) is None
    cache = open_cache(0.5)
    assert cache and (cache.limit, cache.folder) == (2**29, folder)
    assert not folder.exists()


def test_the_default_limit_is_a_share_of_the_free_disk(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10 * 2**30)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert default_limit(tmp_path / "not" / "yet") == 2 * 2**30
    (tmp_path / "x.bytes").write_bytes(bytes(5000))
    assert default_limit(tmp_path) == 2 * 2**30 + 1000
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**50))
    assert default_limit(tmp_path) == 32 * 2**30


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps no such bits")
def test_patients_photographs_are_for_their_user_alone(samples, folder):
    epochs(samples[:2], quiet(folder))
    assert folder.stat().st_mode & 0o077 == 0


def test_a_name_that_is_no_text(tmp_path, folder, make_image, settled):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9.png"))
    try:
        path.write_bytes(make_image(tmp_path / "1.png").read_bytes())
    except OSError:
        pytest.skip("the file system takes no such name")
    for _ in range(2):
        with Loader([Sample(path, 0)], PREPROCESS, 1, cache=quiet(folder)) as loader:
            np.testing.assert_array_equal(
                next(loader.epoch(0)).images, PREPROCESS.normalise(fresh(tmp_path / "1.png")[None])
            )


def test_pixels_are_those_of_an_independent_reading(samples, folder):
    """Through the cache and back, against OpenCV alone."""
    for _ in range(2):
        with Loader(samples, PREPROCESS, 23, cache=quiet(folder)) as loader:
            (batch,) = loader.epoch(0)
        for sample, image in zip(batch.samples, batch.images, strict=True):
            pixels = cv2.resize(cv2.imdecode(np.fromfile(sample.path, np.uint8), cv2.IMREAD_COLOR), (32, 32))
            np.testing.assert_allclose(image, pixels.transpose(2, 0, 1) / 127.5 - 1, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ichallenge-pm-224", "dr-native"])
def test_real_images_come_the_same_from_the_cache(real_data, folder, name):
    samples = [Sample(path, 0) for path in sorted((real_data / name).rglob("*.jpg"))[:48]]
    with Loader(samples, Preprocess(), 10) as plain:
        whole = list(plain.epoch(0))
    for _ in range(2):
        with Loader(samples, Preprocess(), 10, workers=2, cache=quiet(folder)) as loader:
            for ours, theirs in zip(loader.epoch(0), whole, strict=True):
                np.testing.assert_array_equal(ours.images, theirs.images)


def test_shrinking_goes_by_small_steps(samples, folder, decoded, monkeypatch):
    monkeypatch.setattr(caching, "SLACK", 2 * SLOT)
    for part in (samples[:10], samples[10:]):
        epochs(part, quiet(folder))
    decoded.clear()
    cache = quiet(folder)
    cache.shrink(5 * SLOT + 100)
    cache.close()
    assert held(folder) == 5 and slots(folder).stat().st_size == 5 * SLOT
    epochs(samples[10:], quiet(folder))
    assert len(decoded) == 8  # the five kept are among those used last
