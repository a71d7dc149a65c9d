"""Files whose names in the table are not quite their paths."""

from __future__ import annotations

import zipfile

import pytest

from pmtrain.data.layouts.readers import read_dataset
from tests.reading import listed, refusal, write


def table(root, *names, where="t.csv"):
    lines = [f"{name},{number % 2}" for number, name in enumerate(names)]
    return write(root / where, "\n".join(["image,label", *lines]))


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a/{}.jpg", "{}.JPG"),
        ("a/Eye_{}.jpg", "eye_{}.png"),
        ("a/000{}.jpg", "{}"),
        ("a/{}.jpg", "{}.0"),
        ("a/eye {}.jpg", "eye%20{}.jpg"),
        ("a/u\u0308 {}.jpg", "ü {}.jpg"),
        ("{}/x/{}.jpg", "{}.jpg"),
        ("a/{}.jpg", "https://example.org/x/{}.jpg"),
        ("{}/1.jpg", "set/{}/1.jpg"),
    ],
    ids=["case", "suffix", "zeros", "numbers", "escapes", "accents", "folders", "web", "equal names"],
)
def test_names_that_fit_one_image_each(tmp_path, touch, file, name):
    numbers = range(1, 6)
    touch(tmp_path, *(file.format(n, n) for n in numbers))
    data = read_dataset(table(tmp_path, *(name.format(n) for n in numbers)))
    assert listed(data) == {file.format(n, n): (None, (n - 1) % 2) for n in numbers}
    assert any("5 names aren't paths, but each fits exactly one image" in note for note in data.notes)


def test_names_that_fit_several_images_are_refused(tmp_path, touch):
    touch(tmp_path, "images/1.jpg", "images/2.jpg", "masks/1.jpg", "masks/2.jpg")
    assert "several folders have files of these names: --root images or --root masks" in refusal(
        table(tmp_path, "1.jpg", "2.jpg")
    )
    touch(tmp_path / "deep", "x/images/1.jpg", "x/images/2.jpg", "x/masks/1.jpg")
    assert "1.jpg matches several files" in refusal(table(tmp_path / "deep", "1.jpg", "2.jpg"))


def test_files_that_are_listed_twice_are_still_found(tmp_path, touch):
    names = [f"{n}.jpg" for n in range(6)]
    touch(tmp_path, *(f"a/{name}" for name in names))
    assert "0.jpg is already listed on line 2, as '0' both times" in refusal(table(tmp_path, *names * 2))


def test_labels_are_not_taken_for_files(tmp_path, touch):
    touch(tmp_path, "a/0.jpg", "a/1.jpg")
    assert "files that don't exist: x.jpg" in refusal(table(tmp_path, "x.jpg", "y.jpg", "z.jpg", "w.jpg"))
    touch(tmp_path, "0.jpg", "1.jpg")
    assert "files that don't exist: x.jpg" in refusal(table(tmp_path, "x.jpg", "y.jpg", "z.jpg", "w.jpg"))


@pytest.mark.parametrize("place", ["labels/t.csv", "2. Groundtruths/t.csv"])
def test_a_table_in_a_folder_beside_the_images(tmp_path, touch, place):
    touch(tmp_path, "1. Images/1.jpg", "1. Images/2.jpg")
    path = table(tmp_path, "1", "2", where=place)
    for data in (read_dataset(path), read_dataset(tmp_path)):
        assert [sample.path.name for sample in data.samples] == ["1.jpg", "2.jpg"]
    assert "files that don't exist" in refusal(table(tmp_path, "1", "2", where="elsewhere/t.csv"))


def test_images_in_an_archive_beside_the_table(tmp_path):
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as archive:
        archive.writestr("train/1.jpg", b"1")
        archive.writestr("train/2.jpg", b"1")
    data = read_dataset(table(tmp_path, "1", "2"))
    assert listed(data) == {"train.zip!/train/1.jpg": (None, 0), "train.zip!/train/2.jpg": (None, 1)}


def test_several_images_in_one_cell_are_one_patient(tmp_path, touch):
    touch(tmp_path, *(f"{n}_{side}.jpg" for n in (1, 2) for side in ("l", "r")))
    path = write(tmp_path / "t.csv", "images,label\n1_l.jpg; 1_r.jpg,0\n2_l.jpg|2_r.jpg,1\n")
    data = read_dataset(path)
    assert [(s.label, s.patient) for s in data.samples] == [(0, "line 2")] * 2 + [(1, "line 3")] * 2
    assert "2 cells name several images, of one patient each" in data.notes
    write(path, "images,label\n1_l.jpg; 1_r.jpg,0\n2_l.jpg; gone.jpg,1\n")
    assert "2_l.jpg; gone.jpg (line 3)" in refusal(path)
