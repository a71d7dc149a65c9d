"""The built-in example set: what is on disk, that it is whole or absent, and that colour alone doesn't give it away."""

from __future__ import annotations

import csv
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from pmtrain.data.synthetic import synthetic
from pmtrain.system.errors import PmtrainError

ROOT = Path(synthetic.__file__).parents[2]


def small(folder: Path, **options) -> Path:
    return synthetic.render(folder, **{"train": 8, "val": 6, "size": 96, "workers": 1} | options)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def read(path: Path) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)


def validation_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    return small(tmp_path_factory.mktemp("one") / "set")


def test_layout(one):
    names = set(digests(one))
    training = {"P0001", "P0002", "P0003", "P0004", "H0001", "N0001", "N0002", "N0003"}
    assert names == {
        "labels.csv",
        "SYNTHETIC.md",
        *(f"PALM-Training400/{name}.jpg" for name in training),
        *(f"PALM-Validation400/V{i:04d}.jpg" for i in range(1, 7)),
    }
    assert all(read(one / name).shape == (96, 96, 3) for name in names if name.endswith(".jpg"))


def test_labels_file(one):
    first = (one / "labels.csv").read_bytes().split(b"\n")[0]
    assert first == b"ID,imgName,Label,Fovea_X,Fovea_Y"
    rows = validation_rows(one)
    assert [row["ID"] for row in rows] == [str(i) for i in range(1, 7)]
    assert [row["imgName"] for row in rows] == [f"V{i:04d}.jpg" for i in range(1, 7)]
    assert sorted(row["Label"] for row in rows) == ["0", "0", "0", "1", "1", "1"]
    assert all(0 < float(row[axis]) < 96 for row in rows for axis in ("Fovea_X", "Fovea_Y"))


def test_full_set_has_the_proportions_of_the_real_one():
    training = synthetic._counts(synthetic.TRAINING, 400)
    validation = synthetic._counts(synthetic.VALIDATION, 400)
    assert training == {"P": 213, "H": 26, "N": 161}
    assert validation["P"] == 211 and sum(validation.values()) == 400


def test_the_smallest_set_has_both_classes(tmp_path):
    folder = small(tmp_path / "set", train=2, val=2)
    assert sorted(p.name for p in (folder / "PALM-Training400").iterdir()) == ["N0001.jpg", "P0001.jpg"]
    assert sorted(row["Label"] for row in validation_rows(folder)) == ["0", "1"]


def test_says_that_it_is_synthetic(one, tmp_path):
    text = (one / "SYNTHETIC.md").read_text(encoding="utf-8")
    assert "no clinical claim" in text.lower() and "- seed: 0" in text and f"- version: {synthetic.VERSION}" in text
    assert synthetic.is_synthetic(one) and synthetic.is_complete(one)
    assert not synthetic.is_synthetic(tmp_path) and not synthetic.is_complete(tmp_path)


def test_same_bytes_whatever_the_workers(one, tmp_path):
    assert digests(small(tmp_path / "a", workers=2)) == digests(one)
    assert digests(small(tmp_path / "b", workers=3)) == digests(one)


def test_another_seed_gives_other_images(one, tmp_path):
    other = digests(small(tmp_path / "set", seed=1))
    same = {name for name, digest in digests(one).items() if other[name] == digest}
    assert same == set()


def test_images_differ_from_one_another(one):
    images = [digest for name, digest in digests(one).items() if name.endswith(".jpg")]
    assert len(set(images)) == len(images) == 14
    pixels = [read(path).astype(float) for path in sorted(one.rglob("*.jpg"))]
    closest = min(np.abs(a - b).mean() for i, a in enumerate(pixels) for b in pixels[:i])
    assert closest > 5


def test_black_round_the_field_and_colour_in_it(one):
    for path in one.rglob("*.jpg"):
        image = read(path)
        corners = image[[0, 0, -1, -1], [0, -1, 0, -1]]
        assert corners.max() < 25, path.name
        blue, green, red = image[32:64, 32:64].reshape(-1, 3).mean(axis=0)
        assert red > green > blue > 5, path.name


def test_a_darker_macula_lies_at_the_stated_fovea(tmp_path):
    """In healthy eyes; the median forgives flashes and vessels."""
    folder = small(tmp_path / "set", train=2, val=30, size=160)
    darker = []
    for row in validation_rows(folder):
        if row["Label"] == "1":
            continue
        green = read(folder / "PALM-Validation400" / row["imgName"])[..., 1].astype(float)
        y, x = np.mgrid[:160, :160]
        away = np.hypot(x - float(row["Fovea_X"]), y - float(row["Fovea_Y"]))
        darker.append(np.median(green[(away > 24) & (away < 34)]) - np.median(green[away < 8]))
    assert np.median(darker) > 3


def test_progress_counts_to_the_end(tmp_path):
    calls: list[tuple[int, int]] = []
    small(tmp_path / "set", progress=lambda done, total: calls.append((done, total)))
    assert calls == [(i, 14) for i in range(1, 15)]


def test_a_complete_set_is_not_rendered_again(one):
    before = {p: p.stat().st_mtime_ns for p in one.rglob("*")}
    assert small(one) == one
    assert {p: p.stat().st_mtime_ns for p in one.rglob("*")} == before


@pytest.mark.parametrize("options", [{"seed": 7}, {"train": 9}, {"val": 7}, {"size": 97}])
def test_another_set_in_the_place_is_refused(one, options):
    before = digests(one)
    with pytest.raises(PmtrainError, match=r"holds a synthetic set with version \d+, seed 0") as caught:
        small(one, **options)
    assert str(one) in str(caught.value)
    assert digests(one) == before


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(PmtrainError, match="something other than a synthetic set; it is not overwritten"):
        small(tmp_path / "set")
    assert (tmp_path / "set" / "thesis.txt").read_text(encoding="utf-8") == "years of work"
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_file_in_the_place_is_refused(tmp_path):
    (tmp_path / "set").write_text("years of work", encoding="utf-8")
    with pytest.raises(PmtrainError, match="not overwritten"):
        small(tmp_path / "set")


def test_a_set_with_an_image_missing_is_refused_as_incomplete(tmp_path):
    folder = small(tmp_path / "set")
    (folder / "PALM-Training400" / "P0002.jpg").unlink()
    assert not synthetic.is_complete(folder)
    with pytest.raises(PmtrainError, match="incomplete synthetic set"):
        small(folder)


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "set").mkdir()
    assert synthetic.is_complete(small(tmp_path / "set"))


def test_parents_are_made_and_names_may_be_chinese(tmp_path):
    folder = small(tmp_path / "数据" / "眼底 图像")
    assert synthetic.is_complete(folder)
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_a_rendering_that_fails_leaves_nothing(tmp_path):
    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    for workers in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            small(tmp_path / "set", workers=workers, progress=stop)
        assert list(tmp_path.iterdir()) == []


KILLED = """
import sys
from pathlib import Path
from pmtrain.data.synthetic import synthetic
def tell(done, total):
    print(done, flush=True)
if __name__ == "__main__":
    synthetic.render(Path(sys.argv[1]), train=400, val=400, size=96, workers=2, progress=tell)
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("end", ["SIGKILL", "SIGINT"])
def test_an_ended_rendering_leaves_no_set_and_no_process(tmp_path, end):
    script = tmp_path / "killed.py"
    script.write_text(KILLED, encoding="utf-8")
    place = tmp_path / "place"
    place.mkdir()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        [sys.executable, str(script), str(place / "set")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    assert child.stdout is not None
    child.stdout.readline()  # at work
    if end == "SIGINT":
        os.killpg(child.pid, signal.SIGINT)  # as a terminal does: every process of the group
    else:
        child.kill()
    _, errors = child.communicate(timeout=60)  # returns when the workers have closed their ends of the pipes
    assert child.returncode != 0
    assert b"Process SpawnPoolWorker" not in errors, errors.decode()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(child.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.05)
    else:
        pytest.fail("a worker outlived its parent")
    left = list(place.iterdir())
    assert not (place / "set").exists() and not any(synthetic.is_complete(p) for p in left)
    if end == "SIGINT":
        assert left == []
    small(place / "set")  # what was left is no hindrance
    assert synthetic.is_complete(place / "set")


def test_old_leftovers_are_swept_and_young_ones_spared(tmp_path):
    old, young = tmp_path / ".set.rendering-old", tmp_path / ".set.rendering-young"
    for folder in (old, young):
        (folder / "PALM-Training400").mkdir(parents=True)
    long_ago = time.time() - 2 * synthetic.STALE_AFTER
    os.utime(old / "PALM-Training400", (long_ago, long_ago))
    os.utime(old, (long_ago, long_ago))
    small(tmp_path / "set")
    assert not old.exists() and young.exists()


@pytest.mark.parametrize("name, value", [("train", 1), ("val", 5000), ("size", 63), ("seed", -1), ("workers", 0)])
def test_an_argument_out_of_range_is_named(tmp_path, name, value):
    with pytest.raises(PmtrainError, match=f"{name} {value} "):
        small(tmp_path / "set", **{name: value})
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(PmtrainError, match="can't be created"):
        small(tmp_path / "file" / "set")


# --- the full set


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    return synthetic.render(tmp_path_factory.mktemp("full") / "set")


def colours(image: np.ndarray) -> np.ndarray:
    """Channel means and deviations of the whole picture and of the field alone."""
    values = image.astype(float) / 255
    seen = values[image.max(axis=2) > 25]
    return np.concatenate([values.mean((0, 1)), values.std((0, 1)), seen.mean(0), seen.std(0)])


def thumbnail(image: np.ndarray) -> np.ndarray:
    return (cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA) / 255).ravel()


@pytest.mark.slow
@pytest.mark.parametrize("features", ["colours", "thumbnail", "both", "bytes"])
def test_colour_and_thumbnail_do_not_tell_the_classes_apart(full, features):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    training = sorted((full / "PALM-Training400").iterdir())
    rows = validation_rows(full)
    validation = [full / "PALM-Validation400" / row["imgName"] for row in rows]
    assert len(training) == len(validation) == 400

    def table(paths: list[Path]) -> np.ndarray:
        if features == "bytes":
            return np.array([[path.stat().st_size] for path in paths], float)
        images = [read(path) for path in paths]
        columns = {"colours": [colours], "thumbnail": [thumbnail], "both": [colours, thumbnail]}[features]
        return np.array([np.concatenate([column(image) for column in columns]) for image in images])

    y = np.array([path.name.startswith("P") for path in training])
    z = np.array([row["Label"] == "1" for row in rows])
    x, v = table(training), table(validation)
    scaled = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    for model in (LogisticRegression(max_iter=5000), scaled):
        area = roc_auc_score(z, model.fit(x, y).decision_function(v))
        assert area < 0.80, f"{features}: AUC {area:.3f}"
