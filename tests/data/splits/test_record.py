"""A run's record of its images: their split by name, their use by content."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from dataclasses import replace

import pytest

from pmtrain.data.layouts.readers import read_dataset
from pmtrain.data.splits.record import Content, contents, read_record, write_record
from pmtrain.data.splits.split import hold_out
from pmtrain.system.errors import PmtrainError


@pytest.fixture
def listed(small_set, tmp_path):
    """Twelve images in class folders, without a split."""
    return read_dataset(shutil.copytree(small_set / "train", tmp_path / "classes"))


def test_contents_are_sizes_and_sha256(listed, tmp_path):
    gone = replace(listed.samples[0], path=tmp_path / "gone.png")
    found = contents([*listed.samples, gone])
    for sample in listed.samples:
        data = sample.path.read_bytes()
        assert found[sample.path] == (len(data), hashlib.sha256(data).hexdigest())
    assert found[gone.path] == Content(-1, "")


def test_the_split_is_found_again_by_name(listed, tmp_path):
    held = hold_out(listed, 0.34, 0)
    write_record(tmp_path / "images.csv", held)
    record = read_record(tmp_path / "images.csv")
    assert record.applied(listed, held.fingerprint()) == held
    assert record.applied(held, held.fingerprint()) is held
    assert record.applied(listed, "0" * 64) is None
    fewer = replace(listed, samples=listed.samples[1:])
    assert record.applied(fewer, held.fingerprint()) is None
    # An image that came later keeps what the listing says of it.
    later = replace(listed.samples[0], path=listed.samples[0].path.with_name("later.png"), split="val")
    grown = record.applied(replace(listed, samples=(*listed.samples, later)), held.fingerprint())
    assert grown.samples == (*held.samples, later)


def test_use_is_found_again_by_content(listed, tmp_path):
    held = hold_out(listed, 0.34, 0)
    write_record(tmp_path / "images.csv", held)
    record = read_record(tmp_path / "images.csv")
    elsewhere = shutil.copytree(listed.root, tmp_path / "elsewhere")
    renamed = elsewhere / "sick" / "renamed.png"
    first = held.split("train")[0].path
    (elsewhere / first.relative_to(listed.root)).rename(renamed)
    changed = elsewhere / held.split("val")[0].path.relative_to(listed.root)
    data = bytearray(changed.read_bytes())
    data[-1] ^= 1  # of the same size
    changed.write_bytes(data)
    used = record.used(read_dataset(elsewhere).samples)
    assert Counter(split for splits in used for split in splits) == Counter(train=8, val=3)
    assert used.count(set()) == 1
    # In both splits: counted in both.
    twin = replace(held.split("train")[0], path=held.split("train")[0].path.with_name("twin.png"), split="val")
    shutil.copy(first, twin.path)
    write_record(tmp_path / "twice.csv", replace(held, samples=(*held.samples, twin)))
    assert read_record(tmp_path / "twice.csv").used([twin]) == [{"train", "val"}]


def test_a_damaged_record_is_named(tmp_path):
    (tmp_path / "images.csv").write_text("file,split,bytes,sha256\na,train,many,00\n")
    with pytest.raises(PmtrainError, match=r"images\.csv: can't be read"):
        read_record(tmp_path / "images.csv")
