"""`pmtrain data preview`: the contact sheet shows what a training would see."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest

from pmtrain.config import PreviewConfig
from pmtrain.data.loading.loader import Loader
from pmtrain.data.preprocessing.augment import AUGMENTATIONS, Augment
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.data.preview import GAP, LINE, SMALLEST, as_tile, sheet, versions
from pmtrain.data.select import select
from pmtrain.data.splits.split import hold_out

SMALL = ("--image-size", 32, "--images", 4, "--versions", 3)


def tile(png: np.ndarray, row: int, column: int, side: int = SMALLEST) -> np.ndarray:
    """One image of a sheet, as OpenCV reads it."""
    y = 2 * LINE + row * (side + GAP + LINE) + LINE
    x = GAP + column * (side + GAP)
    return png[y : y + side, x : x + side]


def test_it_shows_what_the_epochs_of_a_training_have(small_set):
    preprocess = Preprocess(size=32)
    config = PreviewConfig(data=small_set, image_size=32, seed=3, images=12, versions=3)
    data = select(config)
    rows = dict(versions(data, config))
    assert set(rows) == set(data.split("train"))
    with (
        Loader(data.split("train"), preprocess, 5, seed=3, shuffle=True, augment=Augment("fundus", 3)) as training,
        Loader(data.split("train"), preprocess, 5) as plain,
    ):
        for column, epoch in enumerate((plain.epoch(0), *(training.epoch(number) for number in range(3)))):
            for batch in epoch:
                for sample, image in zip(batch.samples, batch.images, strict=True):
                    shown = cv2.cvtColor(rows[sample][column], cv2.COLOR_RGB2BGR)
                    np.testing.assert_array_equal(preprocess.normalise(shown[None])[0], image)


def test_the_strength_is_the_trainings(small_set):
    config = PreviewConfig(data=small_set, image_size=32, images=2, versions=1, augment="camera", augment_strength=0.5)
    training = select(config).split("train")
    for sample, (plain, changed) in versions(select(config), config):
        half = Augment("camera", 0, 0.5)(np.ascontiguousarray(plain[..., ::-1]), 0, training.index(sample))
        np.testing.assert_array_equal(changed, np.rint(half[..., ::-1]))


def test_both_classes_are_shown_and_the_seed_chooses(small_set):
    chosen = set()
    for seed in range(5):
        config = PreviewConfig(data=small_set, image_size=32, seed=seed, images=4, versions=1)
        samples = [sample for sample, _ in versions(select(config), config)]
        assert [sample.label for sample in samples] == [1, 0, 1, 0]
        chosen.add(tuple(sample.path for sample in samples))
    assert len(chosen) == 5


def test_held_out_images_are_not_shown(small_set, tmp_path):
    root = shutil.copytree(small_set / "train", tmp_path / "classes")
    config = PreviewConfig(data=root, image_size=32, seed=2, images=12, versions=1, val_fraction=0.34)
    data = hold_out(select(config), 0.34, 2)
    assert {sample.path for sample, _ in versions(data, config)} == {s.path for s in data.split("train")}
    assert len(data.split("val")) == 4


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_the_command_writes_a_sheet_and_says_so(run_cli, small_set, tmp_path, name):
    done = run_cli("data", "preview", "--data", small_set, "--augment", name, *SMALL)
    assert done.exit_code == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith("preview.png: 4 training images, each as it is and as epochs 0 to 2")
    assert [path.name for path in tmp_path.iterdir()] == ["preview.png"]
    png = cv2.imdecode(np.frombuffer((tmp_path / "preview.png").read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert png.shape == (2 * LINE + 4 * (SMALLEST + GAP + LINE), 4 * (SMALLEST + GAP) + GAP, 3)
    config = PreviewConfig(data=small_set, image_size=32, images=4, versions=3, augment=name)
    for row, (_, images) in enumerate(versions(select(config), config)):
        for column, image in enumerate(images):  # every pixel, four times as large
            np.testing.assert_array_equal(tile(png, row, column)[2::4, 2::4, ::-1], image)
    heading = png[: 2 * LINE]
    assert (heading < 128).any() and (png[2 * LINE : 3 * LINE] < 128).any()


def test_nothing_is_overwritten(run_cli, small_set, tmp_path):
    (tmp_path / "mine.png").write_bytes(b"mine")
    done = run_cli("data", "preview", "--data", small_set, "--output", "mine.png", *SMALL)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "mine.png: exists already" in done.stderr
    assert (tmp_path / "mine.png").read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--output", "sheet.jpg"), "ends in .png"),
        (("--augment", "fundos"), "none, light, fundus, camera"),
        (("--versions", 0), "--versions 0"),
        (("--images", 51), "--images 51"),
    ],
)
def test_what_can_not_be_drawn_is_refused(run_cli, small_set, tmp_path, options, said):
    done = run_cli("data", "preview", "--data", small_set, *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_bad_image_stops_by_name_or_is_left_out(run_cli, small_set, tmp_path):
    root = shutil.copytree(small_set, tmp_path / "damaged")
    (root / "train/sick/1.png").write_bytes(b"no image")
    options = ("--data", root, "--image-size", 32, "--images", 12, "--versions", 1)
    stopped = run_cli("data", "preview", *options)
    assert stopped.exit_code == 1
    assert "1.png: not an image" in stopped.stderr and "--on-bad-image skip" in stopped.stderr
    went_on = run_cli("data", "preview", *options, "--on-bad-image", "skip")
    assert went_on.exit_code == 0, went_on.stderr
    assert "left out: train/sick/1.png" in went_on.stderr and "preview.png: 11 training images" in went_on.stderr


def test_names_of_any_script_and_length_are_drawn():
    names = ["眼底 照片.jpg", "a $x^2$ b_{.png", "глаз\n\x00\udcff", "👁", "very/" * 60 + "long.png", ""]
    images = [as_tile(np.full((40, 40, 3), 50 * k, np.uint8)) for k in range(2)]
    png = cv2.imdecode(
        np.frombuffer(sheet([images] * len(names), "SYNTHETIC images", ["as it is", "epoch 0"], names), np.uint8),
        cv2.IMREAD_COLOR,
    )
    for row in range(len(names)):
        assert (tile(png, row, 1) == 50).all()


def test_a_large_image_is_shown_smaller():
    image = np.full((900, 900, 3), 90, np.uint8)
    png = cv2.imdecode(np.frombuffer(sheet([[as_tile(image)]], "", ["as it is"], ["name"]), np.uint8), cv2.IMREAD_COLOR)
    assert png.shape[0] < 500 and (tile(png, 0, 0, 320) == 90).all()


def test_synthetic_images_are_called_so(run_cli, tmp_path, monkeypatch):
    from pmtrain.data import preview
    from pmtrain.data.synthetic import synthetic

    root = synthetic.render(tmp_path / "set", train=4, val=4)
    titles = []
    monkeypatch.setattr(preview, "sheet", lambda rows, title, *_: titles.append(title) or b"")
    done = run_cli("data", "preview", "--data", root, *SMALL)
    assert done.exit_code == 0, done.stderr
    assert titles == ["SYNTHETIC images, augment fundus, strength 1, seed 0"]
