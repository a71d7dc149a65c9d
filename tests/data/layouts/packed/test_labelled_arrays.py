"""MedMNIST's and PatchCamelyon's files."""

from __future__ import annotations

import zipfile

import cv2
import numpy as np
import pytest

from pmtrain.data.images.find import find_images
from pmtrain.data.images.read import read_image
from pmtrain.data.layouts.readers import read_dataset
from pmtrain.data.splits.leakage import find_leaks
from tests.reading import listed, refusal

RNG = np.random.default_rng(0)


def medmnist(path, labels, shape=(28, 28), **more):
    """A file as MedMNIST has them; returns its training images."""
    images = {f"{split}_images": RNG.integers(0, 256, (4, *shape), np.uint8) for split in ("train", "val", "test")}
    np.savez_compressed(path, **{**images, **{f"{split}_labels": labels for split in ("train", "val", "test")}, **more})
    return images["train_images"]


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3)])
def test_a_binary_medmnist_set_is_read_by_itself(tmp_path, shape):
    images = medmnist(tmp_path / "amnist.npz", np.array([[0], [1], [1], [0]], np.uint8), shape)
    data = read_dataset(tmp_path / "amnist.npz")
    assert data.layout == "npz" and data.classes == ("0", "1")
    assert [(s.split, s.label) for s in data.samples] == [
        (s, label) for s in ("train", "val", "test") for label in (0, 1, 1, 0)
    ]
    assert list(listed(data))[1] == "amnist.npz!/train_images/1"
    expected = cv2.cvtColor(images[1], cv2.COLOR_GRAY2BGR if len(shape) == 2 else cv2.COLOR_RGB2BGR)
    assert (read_image(data.samples[1].path) == expected).all()
    assert find_images([str(tmp_path / "amnist.npz")]) == [s.path for s in data.samples]


def test_several_classes_are_chosen_by_number_and_known_names_are_given(tmp_path):
    labels = np.array([[0], [3], [4], [0]], np.uint8)
    medmnist(tmp_path / "retinamnist.npz", labels)
    assert "3 classes" in refusal(tmp_path / "retinamnist.npz")
    data = read_dataset(tmp_path / "retinamnist.npz", positive="3,4")
    assert [s.label for s in data.split("train")] == [0, 1, 1, 0]
    medmnist(tmp_path / "breastmnist_64.npz", (labels == 0).astype(np.int64))
    data = read_dataset(tmp_path / "breastmnist_64.npz")  # where class 0 is the disease
    assert data.classes == ("normal or benign", "malignant") and [s.label for s in data.split("val")] == [0, 1, 1, 0]


def test_equal_images_of_two_splits_are_found(tmp_path):
    images = RNG.integers(0, 256, (2, 9, 9), np.uint8)
    medmnist(
        tmp_path / "a.npz",
        np.array([0, 1, 1, 0]),
        (9, 9),
        val_images=np.concatenate([images, images]),
        test_images=np.stack([RNG.integers(0, 256, (9, 9), np.uint8), images[1]] * 2),
    )
    (leak,) = find_leaks(read_dataset(tmp_path / "a.npz")).copies
    assert {s.path.name for s in leak} == {"1", "3"} and {s.split for s in leak} == {"val", "test"}


def test_what_does_not_fit_is_named(tmp_path):
    path = tmp_path / "a.npz"
    medmnist(path, np.zeros((4, 14)))
    assert "a.npz: train_labels: 14 labels per image" in refusal(path)
    medmnist(path, np.array([0, 1, 1]))
    assert "train_images has 4 images, but" in refusal(path) and "(3,)" in refusal(path)
    medmnist(path, np.array(1))
    assert "train_labels is a single value, not an array with one for each image" in refusal(path)
    medmnist(path, np.array([0, 1, np.nan, 0]))
    assert "a.npz: train_labels[2]: the label is nan" in refusal(path)
    medmnist(path, np.array([0, 1, 1, 0]), (9, 9, 9))
    assert "a.npz: train_images: its images have the shape (9, 9, 9)" in refusal(path)
    np.savez(path, train_images=np.zeros((4, 9, 9), np.uint8))
    assert "train_images has no labels" in refusal(path)
    np.savez(path, weights=np.zeros((4, 9)))
    assert "no array of images among weights (4, 9) float64" in refusal(path)


@pytest.fixture
def pcam(tmp_path):
    h5py = pytest.importorskip("h5py")
    for split in ("train", "valid", "test"):
        for name, values in (
            ("x", RNG.integers(0, 256, (4, 9, 9, 3), np.uint8)),
            ("y", np.array([[[[0]]], [[[1]]]] * 2)),
        ):
            with h5py.File(tmp_path / f"camelyonpatch_level_2_split_{split}_{name}.h5", "w") as file:
                file[name] = values
    return tmp_path


def test_patchcamelyon_is_read_from_its_folder_or_one_file(pcam):
    data = read_dataset(pcam)
    assert data.layout == "hdf5" and len(data.samples) == 12 and data.classes == ("0", "1")
    assert listed(data)["camelyonpatch_level_2_split_valid_x.h5!/x/1"] == ("val", 1)
    one = read_dataset(pcam / "camelyonpatch_level_2_split_test_x.h5")
    assert [(s.split, s.label) for s in one.samples] == [("test", 0), ("test", 1)] * 2
    assert read_image(one.samples[3].path).shape == (9, 9, 3)


def test_half_of_a_pair_is_refused(pcam):
    path = pcam / "camelyonpatch_level_2_split_test_y.h5"
    assert "no file with an array of images" in refusal(path)
    (pcam / "camelyonpatch_level_2_split_test_x.h5").unlink()
    assert "camelyonpatch_level_2_split_test_x.h5 isn't there" in refusal(pcam)
    (pcam / "camelyonpatch_level_2_split_valid_y.h5").unlink()
    assert "no file camelyonpatch_level_2_split_valid_y.h5" in refusal(pcam / "camelyonpatch_level_2_split_valid_x.h5")


def test_arrays_as_keras_names_them_and_labels_with_a_place_a_class(tmp_path):
    images, labels = np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 1, 0])
    np.savez(tmp_path / "a.npz", X_train=images, y_train=labels, X_test=images, y_test=np.eye(2)[labels])
    data = read_dataset(tmp_path / "a.npz")
    assert [(s.split, s.label) for s in data.samples] == [(s, n) for s in ("train", "test") for n in (0, 1, 1, 0)]
    np.savez(tmp_path / "b.npz", train_images=images, train_labels=np.array([[1, 1], [0, 1], [1, 0], [0, 0]]))
    assert "2 labels per image" in refusal(tmp_path / "b.npz")


def test_a_folder_with_one_file_of_arrays(tmp_path):
    medmnist(tmp_path / "breastmnist.npz", np.array([[0], [1], [1], [0]]))
    data = read_dataset(tmp_path)
    assert data.layout == "npz" and data.classes == ("normal or benign", "malignant")
    medmnist(tmp_path / "other.npz", np.array([[0], [1], [1], [0]]))
    assert "it holds breastmnist.npz, other.npz: unpack them, or give" in refusal(tmp_path)


def test_files_of_arrays_in_an_archive(tmp_path):
    images = medmnist(tmp_path / "a.npz", np.array([[0], [1], [1], [0]]))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "a.npz", "a.npz")
    data = read_dataset(tmp_path / "a.zip")
    assert [s.label for s in data.split("val")] == [0, 1, 1, 0]
    assert (read_image(data.samples[1].path)[..., 0] == images[1]).all()


@pytest.mark.parametrize(
    "names",
    [("arr_0", "arr_1"), ("data", "target"), ("imgs", "class"), ("pixels", "what"), ("X", "Y"), ("images", "y")],
)
def test_arrays_by_other_names(tmp_path, names):
    np.savez(tmp_path / "a.npz", **{names[0]: np.zeros((4, 8, 8), np.uint8), names[1]: np.array([0, 1, 1, 0])})
    assert [s.label for s in read_dataset(tmp_path / "a.npz").samples] == [0, 1, 1, 0]


def test_a_file_of_arrays_for_each_split_or_for_images_and_labels(tmp_path):
    images, labels = np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 1, 0])
    for split in ("train", "val"):
        np.savez(tmp_path / f"{split}.npz", images=images, labels=labels)
    splits = [(split, label) for split in ("train", "val") for label in (0, 1, 1, 0)]
    assert [(s.split, s.label) for s in read_dataset(tmp_path).samples] == splits
    for split in ("train", "test"):
        (tmp_path / "npy").mkdir(exist_ok=True)
        np.save(tmp_path / f"npy/x_{split}.npy", images)
        np.save(tmp_path / f"npy/y_{split}.npy", labels)
    assert {s.split for s in read_dataset(tmp_path / "npy").samples} == {"train", "test"}
    (tmp_path / "npy/y_test.npy").unlink()
    assert "x_test has no labels" in refusal(tmp_path / "npy")


def test_the_hint_says_how_to_save_the_arrays(tmp_path):
    path, labels = tmp_path / "a.npz", np.array([0, 1])
    for images, hint in (
        (np.array([np.zeros((8, 8)), np.zeros((9, 9))], dtype=object), "np.stack(images)"),
        (np.zeros((2, 8, 8)), "(images * 255)"),
        (np.zeros((2, 3, 8, 8), np.uint8), "images.transpose(0, 2, 3, 1)"),
    ):
        np.savez(path, images=images, labels=labels)
        assert hint in refusal(path)


def test_groups_of_an_hdf5_file(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for split in ("train", "val"):
            file[f"{split}/images"], file[f"{split}/labels"] = np.zeros((2, 8, 8), np.uint8), np.array([0, 1])
    data = read_dataset(tmp_path / "a.h5")
    assert listed(data)["a.h5!/val/images/1"] == ("val", 1) and len(data.samples) == 4
    assert read_image(data.samples[0].path).shape == (8, 8, 3)
