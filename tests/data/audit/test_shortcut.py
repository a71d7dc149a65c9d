"""The shortcut baseline: it finds what is planted, nothing where nothing is, and its numbers are scikit-learn's."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from pmtrain.data.audit import shortcut
from pmtrain.data.audit.shortcut import (
    Features,
    Shortcut,
    cross_validate,
    cross_validate_features,
    draw,
    fit_pipeline,
    measure,
    training_samples,
)
from pmtrain.data.dataset import DataSet, Sample
from pmtrain.data.images import file_table
from pmtrain.data.images.read import ImageFile, read_image
from pmtrain.data.images.shortcut_features import GROUPS, TOGETHER, FeatureTable, columns_of, features_of
from pmtrain.data.layouts.readers import read_dataset
from pmtrain.data.loading.cache import Cache

CLASSES = ("well", "ill")


def photographs(root: Path, count: int, tint: int = 0, patients: bool = False) -> DataSet:
    """Noise in a dark frame, every other image ill; the ill ones are redder by `tint`."""
    rng, samples = np.random.default_rng(1), []
    for number in range(count):
        image = np.zeros((40, 48, 3), np.int64)
        image[4:36, 8:40] = rng.integers(40, 130, 3) + rng.integers(-20, 20, (32, 32, 3))
        label = number // 2 % 2 if patients else number % 2
        image[4:36, 8:40, 2] += tint * label
        path = root / f"{number:03}.png"
        path.write_bytes(cv2.imencode(".png", image.clip(0, 255).astype(np.uint8))[1].tobytes())
        samples.append(Sample(path, label, "train", f"patient {number // 2}" if patients else ""))
    return DataSet(root, "folder", CLASSES, tuple(samples))


def noise(count: int, seed: int, per_patient: int = 1) -> Features:
    """Features that know nothing of the labels."""
    rng = np.random.default_rng(seed)
    samples = [
        Sample(Path(f"{n}.png"), int(rng.integers(2)), "train", f"{n // per_patient}" if per_patient > 1 else "")
        for n in range(count)
    ]
    values = rng.normal(size=(count, columns_of(TOGETHER).stop)).astype(np.float32)
    return Features(tuple(samples), values, {}, count)


def test_a_planted_tint_is_found_and_named(tmp_path):
    found = cross_validate(photographs(tmp_path, 60, tint=100))
    assert found.auc > 0.95
    assert found.areas["colour"].auc > 0.95
    assert found.areas["size"].auc < 0.8
    assert found.suspicious
    assert "tint can be learned in place of the disease" in found.describe()
    assert found == cross_validate(photographs(tmp_path, 60, tint=100))


def test_a_planted_file_size_is_found_in_its_group(tmp_path):
    data = photographs(tmp_path, 60)
    for sample in data.samples:
        image = read_image(sample.path)
        sample.path.write_bytes(
            cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 9 * sample.label])[1].tobytes()
        )
    found = cross_validate(data)
    assert found.areas["size"].auc > 0.95 > found.areas["colour"].auc
    assert found.suspicious


@pytest.mark.parametrize("per_patient", [1, 3])
def test_where_nothing_is_planted_the_interval_holds_a_half(per_patient):
    held = 0
    for seed in range(4):
        found = cross_validate_features(noise(150, seed, per_patient), CLASSES)
        interval = found.areas[TOGETHER].interval
        held += interval.low <= 0.5 <= interval.high
        assert not found.suspicious
        assert found.patients == (None if per_patient == 1 else 50)
    assert held >= 3


def test_a_patients_own_look_is_not_mistaken_for_the_class(tmp_path):
    """Features that name the patient alone would give 1.0, were the second image scored by a fit on the first."""
    rng = np.random.default_rng(0)
    of_patient = np.repeat(rng.normal(size=(60, columns_of(TOGETHER).stop)), 2, axis=0).astype(np.float32)
    labels = np.repeat(rng.integers(0, 2, 60), 2)
    named = [Sample(Path(f"{n}.png"), int(label), "train", str(n // 2)) for n, label in enumerate(labels)]
    nameless = [Sample(sample.path, sample.label, "train") for sample in named]
    honest, fooled = (
        cross_validate_features(Features(tuple(these), of_patient, {}, 120), CLASSES).auc for these in (named, nameless)
    )
    assert fooled > 0.9
    assert honest < 0.7


def test_its_numbers_score_as_the_pipeline_does():
    features = noise(90, 5)
    values = features.values * np.linspace(0.01, 50, features.values.shape[1], dtype=np.float32) + 7
    values[:, 1] = 5.5  # every image of one height
    model = Shortcut.fit(values, features.labels)
    again = Shortcut.from_json(json.loads(json.dumps(model.as_json())))
    pipeline = fit_pipeline(values, features.labels)
    by_hand = StandardScaler().fit_transform(values.astype(float)) @ pipeline[-1].coef_[0] + pipeline[-1].intercept_[0]
    expected = pipeline.decision_function(values.astype(float))
    assert by_hand == pytest.approx(expected, abs=1e-6)
    assert again.logits(values) == pytest.approx(expected, abs=1e-6)
    assert again.probabilities(values) == pytest.approx(pipeline.predict_proba(values.astype(float))[:, 1], abs=1e-7)


@pytest.mark.parametrize(
    "damage",
    [
        {},
        {"weights": {}, "intercept": 0},
        {"weights": dict.fromkeys(GROUPS, [1.0]), "intercept": 0},
        {"weights": {name: [float("nan")] * group.width for name, group in GROUPS.items()}, "intercept": 0},
    ],
)
def test_numbers_that_are_no_model_are_refused(damage):
    with pytest.raises((ValueError, KeyError)):
        Shortcut.from_json(damage)


@pytest.mark.parametrize(("ill", "well"), [(4, 20), (0, 20), (20, 0), (0, 0)])
def test_too_few_of_a_class_is_a_reason_and_no_crash(tmp_path, ill, well):
    labels = [1] * ill + [0] * well
    samples = tuple(Sample(Path(f"{n}.png"), label, "train") for n, label in enumerate(labels))
    features = Features(samples, np.ones((len(labels), columns_of(TOGETHER).stop), np.float32), {}, len(labels))
    found = cross_validate_features(features, CLASSES)
    assert (found.auc, found.areas, found.suspicious) == (None, {}, False)
    assert "images, and 5 folds need 5" in found.reason
    assert found.reason in found.describe()


def test_patients_are_what_is_too_few():
    samples = tuple(Sample(Path(f"{n}.png"), n // 2 % 2, "train", f"{n // 10}") for n in range(40))
    found = cross_validate_features(Features(samples, noise(40, 0).values, {}, 40), CLASSES)
    assert found.auc is None
    assert "4 patients" in found.reason


def test_bad_images_are_left_out_and_counted(tmp_path):
    data = photographs(tmp_path, 20, tint=100)
    data.samples[3].path.write_bytes(b"no image")
    (tmp_path / "007.png").unlink()
    found = measure(data.samples)
    assert list(found.left_out) == [data.samples[3], data.samples[7]]
    assert found.samples == tuple(sample for sample in data.samples if sample not in found.left_out)
    assert found.values[3] == pytest.approx(features_of(ImageFile(data.samples[4].path)))
    assert ", 2 left out" in cross_validate(data).describe()


def test_what_on_image_raises_ends_the_measuring(tmp_path):
    seen = []

    def stop() -> None:
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(photographs(tmp_path, 10).samples, stop)
    assert len(seen) == 3


def test_a_sample_keeps_patients_whole_and_the_share_of_classes():
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.random(2500) < 0.2, 4).astype(int)
    samples = [Sample(Path(f"{n}.png"), int(label), "train", f"{n // 4}") for n, label in enumerate(labels)]
    drawn = draw(samples, seed=3, most=1000)
    assert 1000 <= len(drawn) <= 1008
    assert np.mean([sample.label for sample in drawn]) == pytest.approx(labels.mean(), abs=0.005)
    assert set(Counter(sample.patient for sample in drawn).values()) == {4}
    assert drawn == draw(samples, seed=3, most=1000) != draw(samples, seed=4, most=1000)
    places = [int(sample.path.stem) for sample in drawn]
    assert places == sorted(places)
    assert draw(samples[:10], seed=0, most=10) == samples[:10]


def test_it_learns_from_the_training_split_or_from_all_where_there_is_none():
    samples = tuple(Sample(Path(f"{split}.png"), 0, split) for split in ("train", "val", "test", None))
    data = DataSet(Path(), "csv", CLASSES, samples)
    assert [sample.split for sample in training_samples(data)] == ["train"]
    assert [s.split for s in training_samples(DataSet(Path(), "csv", CLASSES, samples[1:]))] == [None]


def test_six_colour_figures_tell_the_challenges_training_images_apart(real_data):
    """The features that are known of this data set, found by other code."""
    data = read_dataset(real_data / "ichallenge-pm-224")
    train, val = measure(data.split("train")), measure(data.split("val"))
    found = cross_validate_features(train, data.classes)
    assert found.areas["colour"].auc == pytest.approx(0.975, abs=0.02)
    assert found.suspicious
    colour = columns_of("colour")
    logits = Shortcut.fit(train.values[:, colour], train.labels).logits(val.values[:, colour])
    assert roc_auc_score(val.labels, logits) == pytest.approx(0.970, abs=0.02)
    assert np.mean((logits > 0) == val.labels) == pytest.approx(0.9325, abs=0.02)


def test_features_come_the_same_from_a_table_and_from_the_cache_and_decode_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(file_table, "SETTLED", -1.0)
    samples = photographs(tmp_path, 6).samples
    plain = measure(samples).values
    table = FeatureTable(sample.path for sample in samples[:2])
    for sample in samples:
        table.fill(ImageFile(sample.path))
    assert list(table.rows) == [sample.path for sample in samples[:2]]
    for _ in range(2):
        cache = Cache(tmp_path / "cache", 2**30, warn=pytest.fail)
        np.testing.assert_array_equal(measure(samples, known=table, cache=cache).values, plain)
        cache.close()
        # The second time the table has two of them and the cache the others.
        monkeypatch.setattr(shortcut, "ImageFile", lambda *_: pytest.fail("nothing is left to decode"))
