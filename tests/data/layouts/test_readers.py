"""Which layout a folder or file is in, and what every layout has."""

from __future__ import annotations

import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from pmtrain.data.layouts.readers import READERS, find_dataset, read_dataset
from pmtrain.data.layouts.rows import TableOptions
from pmtrain.system.errors import UsageError
from tests.reading import listed, refusal, write


def test_an_unknown_layout_shows_the_known_ones(tmp_path, touch):
    touch(tmp_path, "1.jpg", "2.jpg")
    for data in (tmp_path, tmp_path / "1.jpg"):
        message = refusal(data)
        assert all(name in message for name in READERS) and len(message.splitlines()) < 5 + len(READERS)
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


def packed(folder: Path, path: Path) -> Path:
    """An archive of what is in a folder, with the litter of a Mac."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, file.relative_to(folder).as_posix())
                archive.writestr(f"__MACOSX/{file.relative_to(folder).as_posix()}._x.jpg", b"")
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as archive:
            archive.add(folder, ".")
    return path


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tgz"])
def test_an_archive_is_read_as_if_it_were_unpacked(tmp_path, touch, suffix):
    classes = touch(tmp_path / "classes", "wrapped/train/no/1.jpg", "wrapped/train/yes/2.jpg", "wrapped/val/no/3.jpg")
    table = touch(tmp_path / "table", "photographs/1.jpg", "photographs/2.jpg")
    write(table / "labels.csv", "path;label;patient\nphotographs/1.jpg;1;a\nphotographs/2;0;b\n")
    for folder in (classes, table):
        archive = packed(folder, folder.with_name(folder.name + suffix))
        before = sorted(tmp_path.rglob("*"))
        inside, outside = read_dataset(archive), read_dataset(folder)
        assert listed(inside) == listed(outside) and inside.layout == outside.layout
        assert [sample.patient for sample in inside.samples] == [sample.patient for sample in outside.samples]
        assert inside.fingerprint() == outside.fingerprint()
        assert sorted(tmp_path.rglob("*")) == before
    beside = write(tmp_path / "labels.csv", "path,label\n1.jpg,1\n2.jpg,0\n")
    named = read_dataset(beside, columns=TableOptions(root=tmp_path / f"table{suffix}!/photographs"))
    assert listed(named) == {"1.jpg": (None, 1), "2.jpg": (None, 0)}
    addressed = write(tmp_path / "by address.csv", f"path,label\ntable{suffix}!/photographs/1.jpg,1\n1.jpg,0\n")
    assert "1.jpg (line 3)" in refusal(addressed) and "line 2" not in refusal(addressed)
    whole = read_dataset(tmp_path / f"table{suffix}!")
    assert listed(whole) == listed(read_dataset(table))


def test_the_challenge_is_read_from_its_archive(palm, tmp_path_factory):
    archive = packed(palm, tmp_path_factory.mktemp("archive") / "iChallenge-PM.zip")
    assert listed(read_dataset(archive)) == listed(read_dataset(palm))


def test_archives_that_can_not_be_read_are_named(tmp_path):
    for name in ("a.rar", "a.tar.zst", "b.h5.gz"):
        write(tmp_path / name, "x")
        assert name in refusal(tmp_path / name) and ".zip or .tar" in refusal(tmp_path / name)
    write(tmp_path / "bad.zip", "x")
    assert "is not a zip archive" in refusal(tmp_path / "bad.zip")
