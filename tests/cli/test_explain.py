"""`pmtrain explain`: the picture, the numbers, and what it refuses."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from pmtrain.evaluation.inference.explain import _targets
from pmtrain.evaluation.saliency.overlay import GAP, STRIP


@pytest.fixture
def photos(small_set, tmp_path) -> Path:
    folder = tmp_path / "眼底"
    folder.mkdir()
    for number in range(2):
        shutil.copy(next((small_set / "val").rglob(f"{number}.png")), folder / f"图 {number}.png")
    return folder


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def decoded(path: str) -> np.ndarray:
    return cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)


def test_it_writes_a_picture_and_a_map_for_every_image(run_cli, checkpoint, photos, tmp_path):
    done = run_cli("explain", checkpoint, photos, "--output", "解释")
    assert (done.exit_code, done.stderr) == (0, "")
    rows = rows_of(done.stdout)
    assert [row["file"] for row in rows] == [str(photos / "图 0.png"), str(photos / "图 1.png")]
    written = sorted(path.name for path in (tmp_path / "解释").iterdir())
    assert written == [f"图 {i}.png.gradcam.{kind}" for i in (0, 1) for kind in ("npy", "png")]
    predicted = rows_of(run_cli("predict", checkpoint, photos, "--workers", 0).stdout)
    for row, expected in zip(rows, predicted, strict=True):
        assert float(row["probability"]) == pytest.approx(float(expected["probability"]), rel=1e-3)
        assert row["prediction"] == expected["prediction"]
        heat = np.load(row["map"])
        assert (heat.dtype, heat.shape) == (np.float32, (1, 1))
        panels = decoded(row["picture"])
        assert panels.shape == (STRIP + 432 + STRIP, 2 * 480 + GAP, 3)  # a 40 x 36 image, its longer side 480
        original = panels[STRIP:-STRIP, :480]
        np.testing.assert_array_equal(original, cv2.resize(decoded(row["file"]), (480, 432)))


def test_the_layer_decides_the_maps_size(run_cli, checkpoint, photos):
    for layer, side in (("conv", 16), ("bb_1_1", 4), ("bb_2_1", 2)):
        done = run_cli("explain", checkpoint, photos / "图 1.png", "--layer", layer, "--output", layer)
        assert np.load(rows_of(done.stdout)[0]["map"]).shape == (side, side), done.stderr


def test_a_layer_that_is_not_there_is_refused_with_those_that_are(run_cli, checkpoint, photos):
    done = run_cli("explain", checkpoint, photos, "--layer", "bb_4_0")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "'bb_4_0'" in done.stderr
    assert "conv, bb_0_0, bb_0_1" in done.stderr


def test_a_bad_image_is_a_row_with_its_error(run_cli, checkpoint, photos, tmp_path):
    (photos / "图 0b.png").write_bytes(b"nothing")
    done = run_cli("explain", checkpoint, photos)
    assert done.exit_code == 1
    rows = rows_of(done.stdout)
    assert [bool(row["error"]) for row in rows] == [False, True, False]
    assert rows[1]["picture"] == rows[1]["map"] == rows[1]["probability"] == ""
    assert len(list((tmp_path / "gradcam").iterdir())) == 4


def test_nothing_is_overwritten(run_cli, checkpoint, photos, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "图 1.png.gradcam.npy").write_text("mine")
    done = run_cli("explain", checkpoint, photos, "--output", "out")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "never overwritten" in done.stderr
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_images_of_one_name_keep_their_folders(run_cli, checkpoint, small_set, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(small_set / "val/sick/1.png", tmp_path / folder)
    done = run_cli("explain", checkpoint, "a", "b", "--output", "out")
    assert done.exit_code == 0, done.stderr
    assert sorted(path.parent.name for path in (tmp_path / "out").rglob("*.npy")) == ["a", "b"]


@pytest.mark.parametrize("options", [("--backend", "onednn"), ("--precision", "bf16")], ids=" ".join)
def test_what_has_no_gradients_is_refused(run_cli, checkpoint, photos, options):
    done = run_cli("explain", checkpoint, photos, *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert options[0] in done.stderr


def test_of_several_networks_one_is_asked_for(run_cli, checkpoint, photos):
    done = run_cli("explain", f"{checkpoint},{checkpoint}", photos)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "these are 2 networks" in done.stderr and f"explain one of them: pmtrain explain {checkpoint}" in done.stderr


def test_names_that_differ_in_case_alone_keep_their_folders(tmp_path):
    """On Windows and macOS A.png and a.png would be one file."""
    out = tmp_path / "out"
    assert list(_targets([Path("left/A.png"), Path("right/a.png")], out).values()) == [
        out / "left" / "A.png",
        out / "right" / "a.png",
    ]
    assert list(_targets([Path("left/A.png"), Path("right/b.png")], out).values()) == [out / "A.png", out / "b.png"]
