"""The iChallenge-PM challenge's archives as people unpack them."""

from __future__ import annotations

from collections import Counter

import pytest

from pmtrain.data.layouts.readers import find_dataset, read_dataset
from tests.reading import listed, refusal, workbook, write

PALM_LISTING = {
    "PALM-Training400/H0001.jpg": ("train", 0),
    "PALM-Training400/N0001.jpg": ("train", 0),
    "PALM-Training400/P0001.jpg": ("train", 1),
    "PALM-Validation400/V0001.jpg": ("val", 0),
    "PALM-Validation400/V0002.jpg": ("val", 1),
}


def test_palm(palm):
    dataset = read_dataset(palm)
    assert listed(dataset) == PALM_LISTING
    assert (dataset.layout, dataset.classes) == ("palm", ("non-pathological", "pathological myopia"))


@pytest.mark.parametrize(
    "table",
    [
        "\ufefflabel,IMGNAME\n0,V0001.jpg\n1,V0002.jpg\n",
        " Img Name ; Fovea_X; LABEL \r\n v0001.JPG ; 1,5 ; 0 \r\nV0002.jpg;2,5;1\r\n\r\n",
        "imgname\tLabel\n\nV0002.jpg\t1.0\nV0001.jpg\t0.0\n",
        '"imgName","Label"\n"V0001.jpg","0"\n"V0002.jpg","1"',
    ],
    ids=["BOM and order", "semicolons, spaces, CRLF", "tabs and blank lines", "quotes"],
)
def test_palm_labels_in_other_dress(palm, table):
    write(palm / "labels.csv", table)
    assert listed(read_dataset(palm)) == PALM_LISTING


def test_palm_as_people_unpack_it(tmp_path, touch):
    touch(tmp_path, *(f"PALM-Training400/PALM-Training400/{name}" for name in ("P0001.jpg", "N0001.jpg", "Thumbs.db")))
    touch(tmp_path, "PALM-Training400/__MACOSX/P0001.jpg", "PALM-Training400/.cache/N0001.jpg")
    touch(tmp_path, "PALM-Training400-Annotation-D&F/Disc_Masks/P0001.bmp", "PALM-Training400/._P0001.jpg")
    touch(tmp_path, "PALM-Training400-Annotation-D&F/Disc_Masks/N0001.bmp")
    touch(
        tmp_path, "PALM-Validation400/PALM-Validation400/V0001.jpg", "PALM-Validation400/PALM-Validation400/V0002.jpg"
    )
    write(tmp_path / "PALM-Validation-GT/labels.csv", "imgName,Label\nV0001.jpg,1\nV0002.jpg,0\n")
    assert listed(read_dataset(tmp_path)) == {
        "PALM-Training400/PALM-Training400/N0001.jpg": ("train", 0),
        "PALM-Training400/PALM-Training400/P0001.jpg": ("train", 1),
        "PALM-Validation400/PALM-Validation400/V0001.jpg": ("val", 1),
        "PALM-Validation400/PALM-Validation400/V0002.jpg": ("val", 0),
    }


@pytest.mark.parametrize("place", ["labels.csv", "PALM-Validation400/labels.csv", "PALM-Validation-GT/labels.csv"])
def test_palm_training_and_validation_given_apart(palm, place):
    write(palm / place, (palm / "labels.csv").read_text())
    if place != "labels.csv":
        (palm / "labels.csv").unlink()
    dataset = read_dataset(palm / "PALM-Training400", val_data=palm / "PALM-Validation400")
    assert listed(dataset) == {
        "H0001.jpg": ("train", 0),
        "N0001.jpg": ("train", 0),
        "P0001.jpg": ("train", 1),
        "../PALM-Validation400/V0001.jpg": ("val", 0),
        "../PALM-Validation400/V0002.jpg": ("val", 1),
    }


def test_palm_parts_alone(palm):
    assert Counter(sample.split for sample in read_dataset(palm / "PALM-Training400").samples) == {"train": 3}
    assert Counter(sample.split for sample in read_dataset(palm / "PALM-Validation400").samples) == {"val": 2}


@pytest.mark.parametrize("place", ["", "PALM-Validation-GT", "PALM-Validation400"])
def test_palm_labels_as_the_challenge_ships_them(palm, place):
    (palm / "labels.csv").unlink()
    workbook(
        palm / place / "PM_Label_and_Fovea_Location.xlsx",
        [("ID", "imgName", "Label", "Fovea_X", "Fovea_Y"), (1, "V0001.jpg", 0, 1.5, 2), (2, "V0002.jpg", 1, 3, 4)],
    )
    workbook(palm / "PALM-Training400/Fovea_Location.xlsx", [("ID", "imgName", "Fovea_X"), (1, "P0001.jpg", 2.5)])
    assert listed(read_dataset(palm)) == PALM_LISTING
    if place:
        dataset = read_dataset(palm / "PALM-Training400", val_data=palm / "PALM-Validation400")
        assert Counter(sample.split for sample in dataset.samples) == {"train": 3, "val": 2}


def test_palm_labels_saved_as_csv_go_before_the_excel_file(palm):
    workbook(palm / "PM_Label_and_Fovea_Location.xlsx", [("imgName", "Label"), ("V0001.jpg", 1), ("V0002.jpg", 0)])
    assert listed(read_dataset(palm)) == PALM_LISTING


@pytest.mark.parametrize("broken", ["PM_Label_and_Fovea_Location.xlsx", "PM_Label.xls"])
def test_palm_labels_in_an_excel_file_that_cannot_be_read(palm, broken):
    (palm / "labels.csv").unlink()
    (palm / broken).write_bytes(b"no zip")
    message = refusal(palm)
    assert broken in message and "CSV" in message


@pytest.mark.parametrize(
    ("training", "validation", "truth"),
    [
        ("Training400", "Validation400", "Validation-GT"),
        ("PALM-Training400 (1)", "PALM-Validation400 (2)", "PALM-Validation-GT"),
        ("training/PALM-Training400/PALM-Training400", "validation/PALM-Validation400", "valid_gt/PALM-Validation-GT"),
        ("iChallenge-PM/a/b/c", "iChallenge-PM/a/b/d", "iChallenge-PM"),
    ],
)
def test_palm_folders_by_any_name(tmp_path, touch, training, validation, truth):
    touch(tmp_path, *(f"{training}/{name}.jpg" for name in ("P0001", "N0001")))
    touch(tmp_path, *(f"{validation}/{name}.JPG" for name in ("V0001", "V0002")))
    touch(tmp_path, f"__MACOSX/{training}/P0001.jpg", f"__MACOSX/{training}/N0001.jpg")
    touch(tmp_path, f"{training}/@eaDir/P0001.jpg", f"{training}/@eaDir/N0001.jpg")
    workbook(tmp_path / truth / "labels.xlsx", [("imgName", "Label"), ("V0001.jpg", 0), ("V0002.jpg", 1)])
    assert find_dataset(tmp_path) in (tmp_path, tmp_path / "iChallenge-PM")
    assert listed(read_dataset(tmp_path)) == {
        f"{training}/N0001.jpg": ("train", 0),
        f"{training}/P0001.jpg": ("train", 1),
        f"{validation}/V0001.JPG": ("val", 0),
        f"{validation}/V0002.JPG": ("val", 1),
    }


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ("imgName,Label\nV0001.jpg,0\n", ["V0002.jpg", "no label"]),
        ("imgName,Label\nV0001.jpg,0\nV0002.jpg,1\nV0003.jpg,1\n", ["V0003.jpg (line 4)", "not in"]),
        ("imgName,Label\nV0001.jpg,0\nV0002.jpg,2\n", ["line 3", "'2'"]),
        ("imgName,Label\nV0001.jpg,0\nV0002.jpg,1\nV0001.jpg,1\n", ["line 4", "V0001.jpg", "two labels", "line 2"]),
        ("imgName,Label\nV0001.jpg,0\nV0002.jpg\n", ["line 3", "1 cells"]),
        ("imgName,Label\nV0001.jpg,0\nV0002.jpg,0\n", ["val", "pathological myopia"]),
        ("name,value\nV0001.jpg,0\n", ["no labels", "labels.csv"]),
    ],
)
def test_palm_labels_that_do_not_fit_are_refused(palm, table, named):
    write(palm / "labels.csv", table)
    message = refusal(palm)
    assert all(word in message for word in named), message


def test_palm_images_that_do_not_fit_are_refused(palm, touch):
    touch(palm, "PALM-Training400/X0001.jpg")
    assert "X0001.jpg" in refusal(palm)
    (palm / "PALM-Training400/X0001.jpg").unlink()
    touch(palm, "copy/P0001.jpg", "copy/N0001.jpg")
    assert "more than one folder" in refusal(palm)


def test_palm_labels_without_photographs_are_refused(palm):
    for path in (palm / "PALM-Validation400").iterdir():
        path.unlink()
    assert "labels.csv" in refusal(palm)


def test_palm_photographs_sorted_into_folders_by_class_are_of_that_layout(tmp_path, touch):
    touch(tmp_path, "train/myopia/P0001.jpg", "train/normal/N0001.jpg", "val/myopia/V0002.jpg", "val/normal/V0001.jpg")
    found = read_dataset(tmp_path)
    assert found.layout == "folder" and set(found.classes) == {"myopia", "normal"}
    assert (len(found.split("train")), len(found.split("val"))) == (2, 2)
