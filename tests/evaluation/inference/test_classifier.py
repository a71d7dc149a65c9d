"""The Python API: three lines to a prediction."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from scipy.special import expit

import pmtrain
from pmtrain import load_classifier
from pmtrain.data.images.quality import fundus_quality
from pmtrain.evaluation.inference.predict import FORMATS
from pmtrain.models import build_model
from pmtrain.runs.formats.state_dict import load_state
from pmtrain.system.errors import PmtrainError, UsageError
from pmtrain.system.framework import paddle
from tests.conftest import environment
from tests.data.images.test_quality import eye


@pytest.fixture(scope="module")
def classifier(checkpoint):
    return load_classifier(checkpoint, backend="paddle")


@pytest.fixture(scope="module")
def paths(small_set):
    return sorted((small_set / "val").rglob("*.png"))


def by_hand(checkpoint, paths) -> np.ndarray:
    """P(positive) as the notes' script has it."""
    return expit(logits_by_hand(checkpoint, paths))


def logits_by_hand(checkpoint, paths, size=32, mirror=False) -> np.ndarray:
    """As the notes' script has them: OpenCV, their arithmetic, Paddle's own forward."""
    model = build_model(18)
    model.set_state_dict({name: paddle.to_tensor(array) for name, array in load_state(checkpoint).items()})
    model.eval()
    images = [cv2.resize(cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR), (size, size)) for path in paths]
    if mirror:
        images = [cv2.flip(image, 1) for image in images]
    batch = np.stack([np.transpose(image, (2, 0, 1)).astype("float32") / 255.0 * 2.0 - 1.0 for image in images])
    with paddle.no_grad():
        return model(paddle.to_tensor(batch)).numpy()[:, 0].astype(np.float64)


def test_probabilities_are_the_networks_in_the_order_given(classifier, checkpoint, paths):
    given = paths[::-1]
    predictions = classifier.predict(given, batch_size=3)
    assert [each.path for each in predictions] == given
    np.testing.assert_allclose([each.probability for each in predictions], by_hand(checkpoint, given), rtol=1e-5)


@pytest.mark.parametrize(("views", "other"), [("mirror", {"mirror": True}), ("scales", {"size": 36})])
def test_views_are_averaged(checkpoint, paths, views, other):
    predictions = load_classifier(checkpoint, backend="paddle", tta_views=views).predict(paths, batch_size=3)
    mean = (logits_by_hand(checkpoint, paths) + logits_by_hand(checkpoint, paths, **other)) / 2
    np.testing.assert_allclose([each.probability for each in predictions], expit(mean), rtol=1e-5)


def test_labels_follow_the_stored_threshold(classifier, paths):
    assert (classifier.classes, classifier.threshold) == (("healthy", "sick"), 0.4)
    predictions = classifier.predict(paths)
    assert {each.label for each in predictions} == {0, 1}
    for each in predictions:
        assert each.label == (each.probability >= 0.4)
        assert each.class_name == ("healthy", "sick")[each.label]
    assert classifier.classify(None, 0.4).label == 1


def test_one_path_text_or_array_is_one_image(classifier, paths):
    path = paths[0]
    expected = classifier.predict([path])
    assert classifier.predict(path) == expected
    assert classifier.predict(str(path)) == expected
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    for images in (image, [image], image[None]):
        (of_array,) = classifier.predict(images)
        assert (of_array.path, of_array.probability) == (None, expected[0].probability)
    assert classifier.predict([]) == []


def test_an_unreadable_file_has_its_error_and_stops_no_other(classifier, paths, tmp_path):
    bad = tmp_path / "坏.png"
    bad.write_bytes(paths[0].read_bytes()[:-20])
    given = [bad, paths[0], tmp_path / "none.png", paths[1], tmp_path]
    predictions = classifier.predict(given, batch_size=2)
    assert [each.path for each in predictions] == given
    assert [bool(each.error) for each in predictions] == [True, False, True, False, True]
    assert "truncated" in predictions[0].error
    for each in predictions[::2]:
        assert (each.probability, each.label, each.class_name) == (None, None, None)
    alone = [each.probability for each in classifier.predict(paths[:2])]
    assert [predictions[1].probability, predictions[3].probability] == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("workers", [0, 2])
def test_it_streams(classifier, paths, workers):
    """However many images there are, no more than a few batches are read ahead of what was handed out."""
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield paths[taken % len(paths)]

    stream = classifier.stream(endless(), batch_size=2, workers=workers)
    for count in range(1, 40):
        next(stream)
        assert taken <= count + 2 + max(4, 4 * workers)
    stream.close()


def test_gradients_are_as_on_as_before(classifier, paths):
    stream = classifier.stream(paths, batch_size=2)
    next(stream)
    assert paddle.is_grad_enabled()
    stream.close()


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 4), (0, 8, 3)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_arrays_that_are_no_images_are_refused(classifier, shape, dtype):
    with pytest.raises(PmtrainError, match="is not an image"):
        classifier.predict([np.zeros(shape, dtype)])
    with pytest.raises(PmtrainError, match="float32"):
        classifier.predict(np.zeros((8, 8, 3), np.float32))


def test_options_that_are_none_are_refused(checkpoint, tmp_path):
    for options in ({"device": "tpu"}, {"backend": "fast"}, {"precision": "fp8"}):
        with pytest.raises(UsageError, match=f"--{next(iter(options))}"):
            load_classifier(checkpoint, **options)
    with pytest.raises(PmtrainError, match="none.pdparams"):
        load_classifier(str(tmp_path / "none.pdparams"))


def test_importing_the_package_brings_no_paddle():
    code = "import sys, pmtrain; print('paddle' in sys.modules, 'cv2' in sys.modules, pmtrain.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment({}))
    assert done.stdout.split() == ["False", "False", pmtrain.__version__]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pmtrain.nothing  # noqa: B018


def test_three_lines_in_a_plain_script(checkpoint, paths, tmp_path):
    """Without a main guard: nothing spawns processes unless told to."""
    script = tmp_path / "script.py"
    script.write_text(
        "from pmtrain import load_classifier\n"
        f"c = load_classifier({os.fspath(checkpoint)!r})\n"
        f"print([p.class_name for p in c.predict({[os.fspath(path) for path in paths[:2]]!r})])\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment({}), timeout=600)
    assert done.returncode == 0, done.stderr
    assert set(eval(done.stdout)) <= {"healthy", "sick"}


def test_quality_is_told_of_networks_for_fundus_photographs_alone(checkpoint, monkeypatch):
    made = load_classifier(checkpoint, backend="paddle")
    assert not made.judges_quality  # 32 pixels wide
    monkeypatch.setattr("pmtrain.evaluation.inference.classifier.fundus_quality", lambda _: fundus_quality(next(given)))
    images = [eye(), (eye() * 0.15).astype(np.uint8)]
    given = iter(images)  # as they are, before the network's 32 pixels
    plain = made.predict(images)
    assert [each.quality for each in plain] == [None, None]
    made.judges_quality = True
    judged = made.predict(images)
    assert [(each.quality, each.quality_reason) for each in judged] == [("good", None), ("poor", "underexposed")]
    assert [each.probability for each in judged] == [each.probability for each in plain]
    header, *rows = FORMATS["csv"](made, judged)
    assert header.endswith("reason,quality,quality_reason") and rows[1].endswith(",poor,underexposed")
