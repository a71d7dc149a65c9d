"""Augmentation: the same whatever loads the images."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from pmtrain.data.dataset import Sample
from pmtrain.data.images.read import read_image
from pmtrain.data.loading.balance import SAMPLERS
from pmtrain.data.loading.loader import Loader
from pmtrain.data.preprocessing.augment import AUGMENTATIONS, Augment
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.system.errors import UsageError
from tests.data.preprocessing.drawn import smooth

PREPROCESS = Preprocess(size=32)


def test_an_augmentation_is_its_geometry_then_its_values():
    """Where the image's edge goes is black by either kind of values, and its middle is not."""
    for name in AUGMENTATIONS:
        image = np.full((48, 48, 3), 200, np.uint8)
        for epoch in range(20):
            key = np.random.SeedSequence(3, spawn_key=(1, epoch, 0))
            matrix = AUGMENTATIONS[name].geometry.matrix(np.random.default_rng(key), 48)
            place = np.linalg.solve(matrix[:, :2], np.array([[1.0], [1.0]]) - matrix[:, 2:]).ravel()  # (1, 1) shows it
            changed = Augment(name, 3)(image, epoch, 0)
            assert changed.shape == image.shape and changed.dtype in (np.uint8, np.float32)
            assert changed.min() >= 0 and changed.max() <= 255 and (changed[24, 24] > 20).all()
            if ((place < -2) | (place > 49)).any():
                assert name != "none" and (changed[1, 1] < changed[24, 24]).all()


def test_at_no_strength_the_geometry_is_left():
    image = smooth()
    for name, row in AUGMENTATIONS.items():
        for epoch in range(3):
            key = np.random.SeedSequence(0, spawn_key=(1, epoch, 5))
            matrix = row.geometry.matrix(np.random.default_rng(key), 64)
            expected = cv2.warpAffine(image.astype(np.float32), matrix, (64, 64))
            changed = Augment(name, 0, strength=0)(image, epoch, 5)
            assert np.abs(changed - expected).max() <= 1.01, name


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS.keys() - {"none"}))
def test_more_strength_changes_more(name):
    """By the change of the image's mean in 40 epochs, at half, the whole and twice the strength."""

    def means(strength: float) -> np.ndarray:
        return np.array([Augment(name, 0, strength)(smooth(), epoch, 0).mean() for epoch in range(40)])

    half, whole, twice = (np.abs(means(strength) - means(0)).mean() for strength in (0.5, 1, 2))
    assert 0 < half < whole < twice


def test_no_image_is_changed_in_place():
    image = smooth()
    image.flags.writeable = False
    for name in AUGMENTATIONS:
        Augment(name, 0)(image, 0, 0)


def test_the_generator_is_that_of_seed_epoch_and_index():
    image = smooth()
    for name in AUGMENTATIONS.keys() - {"none"}:
        for seed, epoch, index in ((0, 0, 0), (7, 3, 12)):
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1, epoch, index)))
            np.testing.assert_array_equal(Augment(name, seed)(image, epoch, index), AUGMENTATIONS[name](image, rng))
        keys = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 0, 1), (0, 0, 2)]
        made = {Augment(name, seed)(image, *key).tobytes() for seed in (0, 1) for key in keys}
        assert len(made) == 2 * len(keys), name


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_threads_change_nothing(name):
    image = cv2.resize(smooth(), (224, 224))
    augment = Augment(name, 3)
    assert cv2.getNumThreads() == 1
    alone = [augment(image, 0, index) for index in range(24)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda index: augment(image, 0, index), range(24)))
    cv2.setNumThreads(4)
    try:
        inner = [augment(image, 0, index) for index in range(24)]
    finally:
        cv2.setNumThreads(1)
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_array_equal(alone, inner)


def test_an_unknown_row_is_refused():
    with pytest.raises(UsageError, match="'fundos'.*\n.*none, light, fundus, camera"):
        Augment("fundos", 0)


@pytest.fixture
def samples(tmp_path, make_image) -> list[Sample]:
    """23 images, six of them positive."""
    paths = [make_image(tmp_path / f"{number}.png", number) for number in range(23)]
    return [Sample(path, int(number % 4 == 1)) for number, path in enumerate(paths)]


def flat(batches) -> tuple[list[Sample], np.ndarray]:
    batches = list(batches)
    return [s for batch in batches for s in batch.samples], np.concatenate([batch.images for batch in batches])


def same(ours, theirs) -> None:
    (samples, images), (other_samples, other_images) = flat(ours), flat(theirs)
    assert samples == other_samples
    np.testing.assert_array_equal(images, other_images)


def loader(samples, batch_size=4, workers=0, **options) -> Loader:
    options = {"seed": 5, "shuffle": True, "augment": Augment("fundus", 5)} | options
    return Loader(samples, PREPROCESS, batch_size, workers=workers, **options)


def test_the_loader_gives_each_image_as_its_epoch_has_it(samples):
    augment = Augment("fundus", 5)
    with loader(samples) as batches:
        for epoch in (0, 1):
            found, images = flat(batches.epoch(epoch))
            for sample, image in zip(found, images, strict=True):
                pixels = augment(PREPROCESS.resize(read_image(sample.path)), epoch, samples.index(sample))
                np.testing.assert_array_equal(image, PREPROCESS.normalise(pixels[None])[0])


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_workers_batch_size_cache_and_epochs_before_change_nothing(samples, sampler):
    with loader(samples, sampler=sampler) as batches:
        whole = [list(batches.epoch(epoch)) for epoch in range(3)]
        same(batches.epoch(1), whole[1])
    for options in ({"workers": 2}, {"batch_size": 7}, {"batch_size": 23, "cache_limit_bytes": 0}):
        with loader(samples, sampler=sampler, **options) as other:
            same(other.epoch(2), whole[2])


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_an_augmented_epoch_is_resumed_at_any_batch(samples, sampler):
    with loader(samples, sampler=sampler) as batches:
        whole = list(batches.epoch(1))
    for first in range(1, 6):
        with loader(samples, sampler=sampler) as fresh:
            same(fresh.epoch(1, first), whole[first:])


def test_an_image_that_comes_again_in_an_epoch_is_changed_in_another_way(samples):
    few = samples[:2] + samples[2:20:4]  # one positive image of seven
    with loader(few, sampler="balanced") as batches:
        found, images = flat(batches.epoch(0))
    again = [image.tobytes() for sample, image in zip(found, images, strict=True) if sample.label]
    assert len(again) == len(few) // 2 and len(set(again)) == len(again)


def test_nothing_is_the_same_as_none(samples):
    with loader(samples, augment=None) as plain, loader(samples, augment=Augment("none", 5)) as none:
        same(none.epoch(0), plain.epoch(0))
