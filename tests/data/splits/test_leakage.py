"""Photographs and patients on both sides of a split: found, warned of, stopped at, dropped."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pmtrain.data.dataset import DataSet, Sample
from pmtrain.data.images.file_table import FILES
from pmtrain.data.splits import leakage
from pmtrain.data.splits.leakage import also_trained_on, enforce, find_leaks, without
from pmtrain.system.errors import PmtrainError


def data_of(root: Path, rows: list[tuple[str, bytes, str | None, str]]) -> DataSet:
    """Files of the given content: name, bytes, split, patient."""
    for name, content, _, _ in rows:
        (root / name).write_bytes(content)
    return DataSet(root, "csv", ("a", "b"), tuple(Sample(root / n, 0, split, who) for n, _, split, who in rows))


@pytest.fixture
def leaky(tmp_path) -> DataSet:
    """Three training images of five are leaks: 1 and 2 are 6 of val, 3's patient is in test."""
    return data_of(
        tmp_path,
        [
            ("1", b"same", "train", ""),
            ("2", b"same", "train", ""),
            ("3", b"three", "train", "x"),
            ("4", b"four", "train", "y"),
            ("5", b"FOUR", "train", "y"),
            ("6", b"same", "val", ""),
            ("7", b"seven", "val", "z"),
            ("8", b"eight", "test", "x"),
        ],
    )


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from([b"", b"aa", b"bb", b"abc"]), st.sampled_from(["train", "val", "test", None])))
)
def test_copies_are_those_that_comparing_all_contents_finds(tmp_path_factory, files):
    data = data_of(
        tmp_path_factory.mktemp("files"), [(str(n), content, split, "") for n, (content, split) in enumerate(files)]
    )
    groups = defaultdict(set)
    for number, (content, split) in enumerate(files):
        if split:
            groups[content].add((str(number), split))
    expected = {frozenset(n for n, _ in group) for group in groups.values() if len({s for _, s in group}) > 1}
    assert {frozenset(data.name_of(s) for s in group) for group in find_leaks(data).copies} == expected


def test_large_files_that_differ_at_their_ends_alone_are_no_copies(tmp_path):
    large = bytes(3 * leakage.GLANCE)
    rows = [("1", large, "train", ""), ("2", large[:-1] + b"x", "val", ""), ("3", large, "val", "")]
    data = data_of(tmp_path, rows)
    assert [[data.name_of(s) for s in group] for group in find_leaks(data).copies] == [["1", "3"]]


def test_files_of_a_size_of_their_own_are_not_read(tmp_path, monkeypatch):
    read = []
    real = FILES.digest
    monkeypatch.setattr(FILES, "digest", lambda path: read.append(path.name) or real(path))
    rows = [("1", b"a", "train", ""), ("2", b"bb", "val", ""), ("3", b"ccc", "train", ""), ("4", b"ddd", "train", "")]
    assert find_leaks(data_of(tmp_path, [*rows, ("5", b"e", "val", "")])).copies == ()
    assert read == ["1", "5"]


def test_a_file_that_is_gone_is_equal_to_none(leaky):
    (leaky.root / "6").unlink()
    assert find_leaks(leaky).copies == ()


def test_leaks_are_found_and_warned_of(leaky, capsys):
    enforced = enforce(leaky, "warn")
    assert enforced.data == leaky
    assert enforced.record == {
        "policy": "warn",
        "exact_duplicates": 1,
        "patients": 1,
        "dropped": 0,
        "files": [["1", "2", "6"]],
        "patient_names": ["x"],
        "dropped_files": [],
    }
    out, err = capsys.readouterr()
    assert out == ""
    assert "1 image is in more than one split, byte for byte: 1 (train) = 2 (train) = 6 (val)" in err
    assert "1 patient has images in more than one split: x" in err


def test_stop_names_them(leaky):
    with pytest.raises(PmtrainError) as caught:
        enforce(leaky, "stop")
    assert "1 (train) = 2 (train) = 6 (val)" in str(caught.value)
    assert "--leakage drop" in str(caught.value)


def test_drop_leaves_out_training_images_alone(leaky, capsys):
    enforced = enforce(leaky, "drop")
    assert [leaky.name_of(s) for s in enforced.data.samples] == ["4", "5", "6", "7", "8"]
    assert enforced.record["dropped_files"] == ["1", "2", "3"]
    assert enforced.record["dropped"] == 3
    assert "left out of training (--leakage drop): 3: 1, 2, 3" in capsys.readouterr().err
    assert without(leaky, enforced.record["dropped_files"]) == enforced.data
    assert find_leaks(enforced.data) == leakage.Leaks((), {})


def test_what_validation_and_test_share_is_told_and_kept(tmp_path, capsys):
    data = data_of(tmp_path, [("1", b"a", "train", ""), ("2", b"b", "val", ""), ("3", b"b", "test", "")])
    assert enforce(data, "drop").data == data
    assert "2 (val) = 3 (test)" in capsys.readouterr().err


@pytest.mark.parametrize("policy", ["warn", "stop", "drop"])
def test_nothing_is_said_where_nothing_leaks(tmp_path, capsys, policy):
    data = data_of(tmp_path, [("1", b"a", "train", "x"), ("2", b"a", "train", "x"), ("3", b"b", "val", "y")])
    enforced = enforce(data, policy)
    assert (enforced.data, enforced.record["exact_duplicates"], capsys.readouterr().err) == (data, 0, "")


def test_what_was_trained_on_as_another_file_is_counted(leaky):
    evaluated = [sample for sample in leaky.samples if sample.split != "train"]

    def counted(samples, record):
        copies, related = also_trained_on(leaky, samples, record)
        return len(copies), len(related)

    assert counted(evaluated, enforce(leaky, "warn").record) == (1, 1)
    assert counted(evaluated, enforce(leaky, "drop").record) == (0, 0)
    assert counted(leaky.split("train"), enforce(leaky, "warn").record) == (0, 0)
    assert counted(evaluated, {}) == (0, 1)  # of a run before there was a record
