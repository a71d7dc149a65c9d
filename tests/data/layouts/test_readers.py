"""Which layout a folder or file is in, and what every layout has."""

from __future__ import annotations

from collections import Counter

import pytest

from pmtrain.data.layouts.readers import READERS, find_dataset, read_dataset
from pmtrain.data.layouts.rows import TableOptions
from pmtrain.system.errors import UsageError
from tests.reading import listed, refusal, write


def test_an_unknown_layout_shows_the_known_ones(tmp_path, touch):
    touch(tmp_path, "1.jpg", "2.jpg")
    for data in (tmp_path, tmp_path / "1.jpg"):
        message = refusal(data)
        assert all(name in message for name in READERS) and len(message.splitlines()) < 8
    assert "no such file" in refusal(tmp_path / "gone")


def test_an_ambiguous_layout_is_refused(tmp_path, touch):
    touch(tmp_path, "normal/1.jpg", "ill/1.jpg")
    write(tmp_path / "labels.csv", "path,label\nnormal/1.jpg,1\nill/1.jpg,0\n")
    assert "--data-format folder or csv" in refusal(tmp_path)
    assert listed(read_dataset(tmp_path, data_format="csv"))["ill/1.jpg"] == (None, 0)
    assert listed(read_dataset(tmp_path, data_format="folder"))["ill/1.jpg"] == (None, 1)
    by_column = read_dataset(tmp_path, columns=TableOptions(label_column="label"))
    assert by_column.layout == "csv"


def test_a_misspelt_format_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(UsageError, match="'folder'"):
        read_dataset(tmp_path, data_format="foldr")


@pytest.mark.parametrize("name", READERS)
def test_every_reader_refuses_a_folder_without_images(tmp_path, name):
    assert str(tmp_path) in refusal(tmp_path, data_format=name)


def test_data_sets_are_found_directly_and_one_level_down(palm, tmp_path_factory, touch):
    assert find_dataset(palm) == palm
    data = tmp_path_factory.mktemp("data")
    assert find_dataset(data) is None and find_dataset(data / "gone") is None
    (data / "README.md").touch()
    assert find_dataset(data) is None
    palm.rename(data / "synthetic-pm")
    (data / "synthetic-pm/SYNTHETIC.md").touch()
    assert find_dataset(data) == data / "synthetic-pm"
    touch(data, "the eyes/normal/1.jpg", "the eyes/ill/1.jpg")
    assert find_dataset(data) == data / "the eyes"  # a synthetic one comes last


@pytest.mark.parametrize(
    "names", [["normal/1.jpg", "ill/1.jpg"], ["train/no/1.jpg", "train/yes/1.jpg", "val/no/1.jpg"]]
)
def test_a_data_set_directly_in_the_folder_is_not_taken_for_several(tmp_path, touch, names):
    assert find_dataset(touch(tmp_path, *names)) == tmp_path


def test_synthetic_data_say_so(palm):
    assert not read_dataset(palm).synthetic
    (palm / "SYNTHETIC.md").touch()
    for data in (palm, palm / "PALM-Training400"):
        assert read_dataset(data).synthetic
        assert "SYNTHETIC" in read_dataset(data).describe()


@pytest.mark.parametrize(
    ("name", "layout", "classes", "counts"),
    [
        (
            "ichallenge-pm-224",
            "palm",
            ("non-pathological", "pathological myopia"),
            {("train", 1): 213, ("train", 0): 187, ("val", 1): 211, ("val", 0): 189},
        ),
        (
            "malaria-gray50",
            "folder",
            ("Uninfected", "Parasitized"),
            {("train", 1): 1500, ("train", 0): 1500, ("val", 1): 500, ("val", 0): 500},
        ),
        ("dr-768", "csv", ("no_dr", "dr"), {(None, 1): 320, (None, 0): 276}),
        ("dr-native", "folder", ("no_dr", "dr"), {(None, 1): 8, (None, 0): 8}),
    ],
)
def test_real_data_sets(real_data, name, layout, classes, counts):
    dataset = read_dataset(real_data / name)
    assert (dataset.layout, dataset.classes) == (layout, classes)
    assert Counter((sample.split, sample.label) for sample in dataset.samples) == counts
    if name == "dr-768":
        assert len({sample.patient for sample in dataset.samples}) == 299
