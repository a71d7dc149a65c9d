"""A folder per class, with split folders or without."""

from __future__ import annotations

import zipfile

import pytest

from pmtrain.data.layouts.readers import read_dataset
from pmtrain.system.errors import UsageError
from tests.reading import listed, refusal


@pytest.mark.parametrize("train", ["train", "Training"])
@pytest.mark.parametrize("val", ["val", "VALID", "validation"])
def test_class_folders_in_split_folders(tmp_path, touch, train, val):
    touch(tmp_path, f"{train}/normal/1.jpg", f"{train}/myopia/1.png", f"{train}/myopia/deeper/2.JPEG", "notes.txt")
    touch(tmp_path, f"{val}/normal/3.jpg", f"{val}/myopia/4.tif", "testing/myopia/5.bmp", f"{val}/myopia/Thumbs.db")
    dataset = read_dataset(tmp_path)
    assert (dataset.layout, dataset.classes) == ("folder", ("normal", "myopia"))
    assert listed(dataset) == {
        f"{train}/normal/1.jpg": ("train", 0),
        f"{train}/myopia/1.png": ("train", 1),
        f"{train}/myopia/deeper/2.JPEG": ("train", 1),
        f"{val}/normal/3.jpg": ("val", 0),
        f"{val}/myopia/4.tif": ("val", 1),
        "testing/myopia/5.bmp": ("test", 1),
    }


@pytest.mark.parametrize("wrapped", ["", "archive/", "archive/images/"])
def test_class_folders_without_splits(tmp_path, touch, wrapped):
    touch(tmp_path, f"{wrapped}no_dr/a b.jpg", f"{wrapped}dr/病.jpg", f"{wrapped}docs/readme.md")
    assert listed(read_dataset(tmp_path)) == {f"{wrapped}no_dr/a b.jpg": (None, 0), f"{wrapped}dr/病.jpg": (None, 1)}


@pytest.mark.parametrize(
    ("negative", "positive"),
    [
        ("Uninfected", "Parasitized"),
        ("NORMAL", "PNEUMONIA"),
        ("healthy", "abnormal"),
        ("no_dr", "dr"),
        ("No DR", "DR"),
        ("non-referable", "referable"),
        ("0", "1"),
        ("neg", "pos"),
        ("benign", "malignant"),
        ("control", "case"),
    ],
)
def test_well_known_negatives_are_recognised(tmp_path, touch, negative, positive):
    touch(tmp_path, f"{negative}/1.jpg", f"{positive}/2.jpg")
    assert read_dataset(tmp_path).classes == (negative, positive)
    assert read_dataset(tmp_path, positive=negative).classes == (positive, negative)


@pytest.mark.parametrize("names", [("cat", "dog"), ("normal", "healthy"), ("nodule", "nova")])
def test_which_class_is_positive_is_never_guessed(tmp_path, touch, names):
    touch(tmp_path, f"{names[0]}/1.jpg", f"{names[1]}/2.jpg")
    message = refusal(tmp_path)
    assert all(f"--positive {name!r}" in message for name in names)
    dataset = read_dataset(tmp_path, positive=names[1].upper())
    assert dataset.classes == names and listed(dataset)[f"{names[1]}/2.jpg"] == (None, 1)
    with pytest.raises(UsageError, match="bird"):
        read_dataset(tmp_path, positive="bird")


def test_classes_that_are_not_two_are_refused(tmp_path, touch):
    touch(tmp_path, "a/1.jpg", "b/1.jpg", "b/2.jpg", "c/1.jpg")
    message = refusal(tmp_path)
    assert "3 classes" in message and "b (2 images)" in message
    touch(tmp_path / "one", "train/a/1.jpg")
    assert "1 class," in refusal(tmp_path / "one")


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["train/a/1.jpg", "train/b/1.jpg", "val/a/2.jpg"], ["val", "'b'"]),
        (["train/a/1.jpg", "val/b/1.jpg", "val/a/2.jpg"], ["train", "'b'"]),
        (["train/a/1.jpg", "train/b/1.jpg", "val/readme.md"], ["val", "empty"]),
        (["train/a/1.jpg", "train/b/1.jpg", "val/a/readme.md", "val/2.jpg"], ["val", "empty"]),
        (["train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "valid/a/1.jpg"], ["val", "valid"]),
        (["train/a/1.jpg", "train/b/1.jpg", "other/1.jpg"], ["other"]),
    ],
)
def test_folders_that_do_not_fit_are_refused(tmp_path, touch, names, named):
    touch(tmp_path, *names)
    message = refusal(tmp_path, positive="a")
    assert all(word in message for word in named), message


def test_class_folders_that_differ_in_case_are_one(tmp_path, touch):
    touch(tmp_path, "train/a/1.jpg", "train/a/2.jpg", "train/b/1.jpg", "val/A/1.jpg", "val/b/1.jpg")
    dataset = read_dataset(tmp_path, positive="a")
    assert dataset.classes == ("b", "a") and [sample.label for sample in dataset.split("val")] == [1, 0]
    assert "the labels 'A', 'a' are the same: 'a'" in dataset.describe()


def test_validation_folder_given_apart(tmp_path, touch):
    touch(tmp_path, "a/no/1.jpg", "a/yes/2.jpg", "b/no/1.jpg", "b/yes/2.jpg", "c/no/1.jpg", "c/maybe/1.jpg")
    dataset = read_dataset(tmp_path / "a", val_data=tmp_path / "b")
    assert listed(dataset) == {
        "no/1.jpg": ("train", 0),
        "yes/2.jpg": ("train", 1),
        "../b/no/1.jpg": ("val", 0),
        "../b/yes/2.jpg": ("val", 1),
    }
    assert "3 classes" in refusal(tmp_path / "a", val_data=tmp_path / "c")
    assert "share files" in refusal(tmp_path / "a", val_data=tmp_path / "b" / ".." / "a")
    assert "no such file" in refusal(tmp_path / "a", val_data=tmp_path / "gone")


def test_folders_deep_inside_a_class_belong_to_it(tmp_path, touch):
    touch(tmp_path, "normal/left/2019/1.jpg", "normal/right/1.jpg", "amd/clinic A/left/1.jpg", "amd/2.jpg")
    assert listed(read_dataset(tmp_path)) == {
        "amd/2.jpg": (None, 1),
        "amd/clinic A/left/1.jpg": (None, 1),
        "normal/left/2019/1.jpg": (None, 0),
        "normal/right/1.jpg": (None, 0),
    }


def test_split_folders_inside_the_class_folders(tmp_path, touch):
    touch(
        tmp_path, "normal/train/1.jpg", "normal/val/2.jpg", "amd/Training/1.jpg", "amd/valid/a/2.jpg", "amd/test/3.jpg"
    )
    assert listed(read_dataset(tmp_path)) == {
        "amd/Training/1.jpg": ("train", 1),
        "amd/test/3.jpg": ("test", 1),
        "amd/valid/a/2.jpg": ("val", 1),
        "normal/train/1.jpg": ("train", 0),
        "normal/val/2.jpg": ("val", 0),
    }


def test_what_systems_leave_behind_is_no_class(tmp_path, touch):
    touch(tmp_path, "normal/1.jpg", "amd/1.jpg", "normal/._1.jpg", "normal/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg")
    touch(
        tmp_path,
        "__MACOSX/amd/1.jpg",
        ".ipynb_checkpoints/1.jpg",
        "$RECYCLE.BIN/1.jpg",
        "@eaDir/1.jpg",
        "#recycle/2.jpg",
    )
    assert listed(read_dataset(tmp_path)) == {"amd/1.jpg": (None, 1), "normal/1.jpg": (None, 0)}


@pytest.mark.parametrize("others", [["normal/1.jpg"], ["normal/1.jpg", "drusen/1.jpg"]])
def test_an_empty_class_folder_is_refused(tmp_path, touch, others):
    touch(tmp_path, *others)
    (tmp_path / "amd" / "left").mkdir(parents=True)
    assert f"{tmp_path / 'amd'}: the class folder is empty" in refusal(tmp_path)
    touch(tmp_path / "in splits", *(f"train/{name}" for name in ("amd/1.jpg", *others)))
    (tmp_path / "in splits/train/glaucoma").mkdir()
    assert "glaucoma: the class folder is empty" in refusal(tmp_path / "in splits")


def test_folders_without_images_are_named(tmp_path, touch):
    touch(tmp_path, "normal/1.jpg", "amd/1.jpg", "glaucoma/1.heic", "docs/readme.md")
    dataset = read_dataset(tmp_path)
    assert "no images in docs, glaucoma" in dataset.describe()


def test_several_class_folders_make_one_class(tmp_path, touch):
    touch(tmp_path, *(f"{grade}/{n}.jpg" for grade in range(5) for n in range(2)))
    dataset = read_dataset(tmp_path, positive="2,3,4")
    assert dataset.classes == ("0/1", "2/3/4")
    assert all(label == (int(name[0]) >= 2) for name, (_, label) in listed(dataset).items())


def test_classes_inside_the_folders_of_patients(tmp_path, touch):
    touch(tmp_path, *(f"P{n:02}/{('normal', 'amd')[n % 2]}/{k}.jpg" for n in range(8) for k in range(2)))
    data = read_dataset(tmp_path)
    assert listed(data)["P01/amd/0.jpg"] == (None, 1) and len({sample.patient for sample in data.samples}) == 8
    assert "which are taken for patients" in data.describe()


def test_classes_inside_the_folders_of_eyes_or_clinics(tmp_path, touch):
    touch(tmp_path, *(f"train/{side}/{name}/1.jpg" for side in ("left", "right") for name in ("normal", "amd")))
    data = read_dataset(tmp_path)
    assert listed(data)["train/left/amd/1.jpg"] == ("train", 1)
    assert {(s.patient, s.columns) for s in data.samples} == {("", (("folder", side),)) for side in ("left", "right")}


def test_masks_beside_the_images_are_left_out(tmp_path, touch):
    for name in ("normal", "benign tumour"):
        touch(tmp_path, f"{name}/a (1).png", f"{name}/a (1)_mask.png", f"{name}/a (1)_mask_1.png", f"{name}/mask.png")
        touch(tmp_path, f"{name}/images/2.png", f"{name}/masks/2.png")
    data = read_dataset(tmp_path)
    assert sorted(listed(data)) == [
        f"{name}/{file}" for name in ("benign tumour", "normal") for file in ("a (1).png", "images/2.png", "mask.png")
    ]
    assert "normal: 2 masks beside the images of the same names were left out" in data.notes


def test_archives_as_class_or_split_folders(tmp_path):
    for split in ("train", "val"):
        with zipfile.ZipFile(tmp_path / f"{split}.zip", "w") as archive:
            for name in ("normal", "amd"):
                archive.writestr(f"{split}/{name}/1.jpg", b"1")
    data = read_dataset(tmp_path)
    assert listed(data)["val.zip!/val/amd/1.jpg"] == ("val", 1) and len(data.samples) == 4


@pytest.mark.parametrize(("train", "val"), [("Training_Set", "validation-set"), ("train_images", "Test images")])
def test_splits_in_other_words(tmp_path, touch, train, val):
    touch(tmp_path, *(f"{split}/{name}/1.jpg" for split in (train, val) for name in ("normal", "amd")))
    assert read_dataset(tmp_path).split("train") and not read_dataset(tmp_path).split(None)
