"""`--align-eyes`: right eyes are mirrored alike in training and everything after it."""

from __future__ import annotations

import csv
import io
import json

import cv2
import numpy as np
import pytest

from tests.conftest import SMALL
from tests.data.preprocessing.retina.test_eye import retina

FUNDUS = ("--preprocess", "fundus-local", "--align-eyes")
FAST = ("--layers", 18, "--no-report", "--no-shortcut", "--no-domain", "--epochs", 1, *SMALL)


@pytest.fixture(scope="module")
def eyes(tmp_path_factory):
    """A set of 16 SYNTHETIC eyes; ill ones are darker."""
    root = tmp_path_factory.mktemp("eyes") / "set"
    for split in ("train", "val"):
        for number in range(8):
            image = retina(-0.6 if number % 4 < 2 else 0.6, 64, number)
            folder = root / split / ("ill" if number % 2 else "normal")
            folder.mkdir(parents=True, exist_ok=True)
            image = (image * (0.6 if number % 2 else 1)).astype(np.uint8)
            cv2.imwrite(str(folder / f"{number}_{'left' if number % 4 < 2 else 'right'}.png"), image)
    return root


def test_a_left_eye_and_its_mirror_image_as_a_right_one_have_one_result(run_cli, eyes, tmp_path):
    done = run_cli("train", "--data", eyes, *FUNDUS, *FAST, "--output", "run")
    assert done.exit_code == 0, done.stderr
    assert "training images, eyes: 4 left and 4 right by file name\n" in done.stderr
    side_file = json.loads((tmp_path / "run" / "best.json").read_text())
    assert side_file["align_eyes"] is True
    assert side_file["format"] == 2  # an older pmtrain refuses it

    left = retina(-0.6, 64, 99)
    cv2.imwrite(str(tmp_path / "a_OS.png"), left)
    cv2.imwrite(str(tmp_path / "a_OD.png"), left[:, ::-1])
    cv2.imwrite(str(tmp_path / "by disc.png"), left[:, ::-1])
    cv2.imwrite(str(tmp_path / "centre.png"), retina(None, 64, 1))
    names = ["a_OS.png", "a_OD.png", "by disc.png", "centre.png"]
    done = run_cli("predict", "run", *names, "--workers", 0)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(row["eye"], row["eye_from"]) for row in rows] == [
        ("left", "file name"),
        ("right", "file name"),
        ("right", "optic disc"),
        ("unknown", ""),
    ]
    assert float(rows[1]["probability"]) == pytest.approx(float(rows[0]["probability"]), abs=1e-3)
    assert float(rows[2]["probability"]) == float(rows[1]["probability"])
    assert "the eye of 2 images is taken from the file name: another name changes the result" in done.stderr
    done = run_cli("predict", "run", *names, "--workers", 0, "--format", "json")
    first = json.loads(done.stdout)["predictions"][0]
    assert (first["eye"], first["eye_from"]) == ("left", "file name")

    # The right eye's map lies over the right eye's picture.
    done = run_cli("explain", "run", *names[:2], "--layer", "bb_1_1", "--output", "maps")
    assert done.exit_code == 0, done.stderr
    of_left, of_right = (np.load(tmp_path / "maps" / f"{name}.gradcam.npy") for name in names[:2])
    assert np.abs(of_left - of_left[:, ::-1]).max() > 0.01 * of_left.max() > 0
    np.testing.assert_allclose(of_right, of_left[:, ::-1], rtol=1e-4)

    done = run_cli("eval", "run", "--tta")
    assert done.exit_code == 2
    assert "was trained with --align-eyes" in done.stderr
    assert run_cli("eval", "run").exit_code == 0


def test_other_preprocessing_is_refused_before_anything_is_written(run_cli, eyes, tmp_path):
    done = run_cli("train", "--data", eyes, "--align-eyes", *FAST, "--output", "run")
    assert done.exit_code == 2
    assert "--align-eyes with --preprocess notes" in done.stderr
    assert not (tmp_path / "run").exists()


def test_the_contact_sheet_names_the_eyes(run_cli, eyes, tmp_path, monkeypatch):
    from pmtrain.data import preview

    seen = []
    monkeypatch.setattr(preview, "sheet", lambda rows, title, heads, names: seen.append((rows, names)) or b"")
    done = run_cli("data", "preview", eyes, *FUNDUS, "--augment", "none", "--versions", 1, "--image-size", 64)
    assert done.exit_code == 0, done.stderr
    (rows, names), *_ = seen
    assert len(rows) == 8
    for (plain, shown), name in zip(rows, names, strict=True):
        assert name.endswith(("_left.png   eye: left (file name)", "_right.png   eye: right (file name)"))
        np.testing.assert_array_equal(shown, plain if "_left" in name else plain[:, ::-1])
