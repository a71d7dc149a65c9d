"""Augmentation: each operation against another library or plain arithmetic, and the same whatever loads the images."""

from __future__ import annotations

import typing
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from scipy import ndimage

from pmtrain.config import PreviewConfig, TrainConfig
from pmtrain.data.dataset import Sample
from pmtrain.data.images.read import read_image
from pmtrain.data.loading.balance import SAMPLERS
from pmtrain.data.loading.loader import Loader
from pmtrain.data.preprocessing.augment import AUGMENTATIONS, Augment, Augmentation
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.system.errors import UsageError

PREPROCESS = Preprocess(size=32)


class Draws:
    """Stands for a generator: what an operation draws is chosen here, all in the middle of its range if not given."""

    def __init__(self, flips=(1.0, 1.0), geometry=(0.0, 0.0, 0.0, 0.0), tones=(0.0,) * 5, blur=0.0) -> None:
        self.flips, self.blur = np.array(flips), blur
        self.by_count = {len(geometry): np.array(geometry), len(tones): np.array(tones)}

    def random(self, count=None):
        return self.blur if count is None else self.flips

    def uniform(self, low, high, count):
        assert (low, high) == (-1, 1)
        return self.by_count[count]


def smooth(size: int = 64) -> np.ndarray:
    """uint8 (S, S, 3), smooth, so that two interpolations of it differ by rounding alone."""
    y, x = np.mgrid[:size, :size] / size
    planes = [120 + 60 * np.sin(5 * x + k) + 50 * np.cos(4 * y - 2 * k) for k in range(3)]
    return np.rint(np.stack(planes, -1)).astype(np.uint8)


def inside(image: np.ndarray, radius: float = 0.4) -> np.ndarray:
    """The pixels well inside the inscribed circle, which no rotation or small shift takes out of the picture."""
    y, x = np.mgrid[: len(image), : len(image)] - (len(image) - 1) / 2
    return image[np.hypot(x, y) < radius * len(image)].astype(int)


def test_flips_are_numpys():
    image, both = smooth(), Augmentation(mirror=True, upside_down=True)
    np.testing.assert_array_equal(both(image, Draws(flips=(0.1, 0.9))), image[:, ::-1])
    np.testing.assert_array_equal(both(image, Draws(flips=(0.9, 0.1))), image[::-1])
    np.testing.assert_array_equal(both(image, Draws(flips=(0.9, 0.9))), image)
    np.testing.assert_array_equal(Augmentation()(image, Draws(flips=(0.1, 0.1))), image)


@pytest.mark.parametrize("degrees", [90.0, 30.0, -77.5, 180.0])
def test_a_rotation_is_scipys(degrees):
    turned = Augmentation(rotation=180)(smooth(), Draws(geometry=(degrees / 180, 0, 0, 0)))
    expected = ndimage.rotate(smooth().astype(float), degrees, reshape=False, order=1)
    assert np.abs(inside(turned) - inside(expected)).max() <= 2
    corners = turned[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 0).all() == (degrees % 90 != 0)


@pytest.mark.parametrize("draw", [1.0, -1.0, 0.5])
def test_scale_and_shift_are_scipys(draw):
    factor, pixels = 1.25**draw, 0.1 * 64 * draw
    centre = (64 - 1) / 2
    scaled = Augmentation(scale=1.25)(smooth(), Draws(geometry=(0, draw, 0, 0)))
    shifted = Augmentation(shift=0.1)(smooth(), Draws(geometry=(0, 0, draw, -draw / 2)))
    for plane in range(3):
        source = smooth()[..., plane].astype(float)
        larger = ndimage.affine_transform(source, np.full(2, 1 / factor), centre - centre / factor, order=1)
        assert np.abs(inside(scaled[..., plane], 0.35) - inside(larger, 0.35)).max() <= 2
        moved = ndimage.shift(source, (-pixels / 2, pixels), order=1)  # rows are y: down is plus
        assert np.abs(inside(shifted[..., plane], 0.35) - inside(moved, 0.35)).max() <= 2
    assert (shifted[:, 0 if draw > 0 else -1] == 0).all()


def test_tones_are_arithmetic():
    image = smooth()
    brighter = Augmentation(brightness=1.5)(image, Draws(tones=(1, 0, 0, 0, 0)))
    np.testing.assert_allclose(brighter, np.minimum(image * 1.5, 255), atol=0.501)
    darker = Augmentation(brightness=1.5)(image, Draws(tones=(-1, 0, 0, 0, 0)))
    np.testing.assert_allclose(darker, image / 1.5, atol=0.501)
    tinted = Augmentation(colour=1.2)(image, Draws(tones=(0, 0, 1, 0, -1)))
    np.testing.assert_allclose(tinted, np.minimum(image * np.array([1.2, 1, 1 / 1.2]), 255), atol=0.501)
    mean = image.mean((0, 1))
    for draw in (1, -1):
        changed = Augmentation(contrast=1.3)(image, Draws(tones=(0, draw, 0, 0, 0)))
        np.testing.assert_allclose(changed, np.minimum(mean * (image / mean) ** 1.3**draw, 255), atol=0.501)
        assert (changed.std() > image.std()) == (draw > 0)


def test_a_blur_is_scipys():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    blurred = Augmentation(blur=0.05)(image, Draws(blur=0.5))
    expected = ndimage.gaussian_filter(image.astype(float), (1.6, 1.6, 0))
    assert np.abs(inside(blurred) - inside(expected)).max() <= 2


def test_black_stays_black_and_nothing_else_comes_out_than_went_in():
    black = np.zeros((48, 48, 3), np.uint8)
    for name in AUGMENTATIONS:
        for epoch in range(20):
            changed = Augment(name, 0)(black, epoch, 0)
            assert changed.shape == black.shape and changed.dtype == np.uint8 and not changed.any()


def test_no_image_is_changed_in_place():
    image = smooth()
    image.flags.writeable = False
    for name in AUGMENTATIONS:
        Augment(name, 0)(image, 0, 0)


def test_ranges_are_filled_and_kept():
    """Of 400 draws of `fundus`: half flipped, every quarter turn, scales and shifts as far as they may go."""
    row = AUGMENTATIONS["fundus"]
    matrices = np.stack([row.geometry(np.random.default_rng(seed), 101) for seed in range(400)])
    linear = matrices[:, :, :2]
    scale = np.sqrt(np.abs(np.linalg.det(linear)))
    assert 1 / row.scale <= scale.min() < 0.95 and 1.05 < scale.max() <= row.scale
    assert 0.4 < np.mean(np.linalg.det(linear) < 0) < 0.6
    turn = np.degrees(np.arctan2(linear[:, 1, 0], linear[:, 0, 0])) % 360
    assert (np.histogram(turn, 4, (0, 360))[0] > 70).all()
    moved = linear @ [50, 50] + matrices[:, :, 2] - 50  # of the centre
    assert row.shift * 101 * 0.95 < np.abs(moved).max() <= row.shift * 101 + 1e-9


def test_the_order_of_channels_does_not_matter():
    light = Augment("light", 1)
    for index in range(5):
        np.testing.assert_array_equal(light(smooth()[..., ::-1], 0, index), light(smooth(), 0, index)[..., ::-1])
    # Colours are drawn for each channel alike: the same gains the other way round are as likely.
    row = Augmentation(colour=1.2)
    forth = row(smooth(), Draws(tones=(0, 0, 1, 0.2, -1)))
    back = row(np.ascontiguousarray(smooth()[..., ::-1]), Draws(tones=(0, 0, -1, 0.2, 1)))
    np.testing.assert_array_equal(forth, back[..., ::-1])


def test_the_generator_is_that_of_seed_epoch_and_index():
    image = smooth()
    for name in ("light", "fundus"):
        for seed, epoch, index in ((0, 0, 0), (7, 3, 12)):
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1, epoch, index)))
            np.testing.assert_array_equal(Augment(name, seed)(image, epoch, index), AUGMENTATIONS[name](image, rng))
        keys = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 0, 1), (0, 0, 2)]
        made = {Augment(name, seed)(image, *key).tobytes() for seed in (0, 1) for key in keys}
        assert len(made) == 2 * len(keys)


def test_threads_change_nothing():
    image = cv2.resize(smooth(), (224, 224))
    augment = Augment("fundus", 3)
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


def test_an_unknown_row_is_refused_and_the_options_offer_the_table():
    with pytest.raises(UsageError, match="'fundos'.*\n.*none, light, fundus"):
        Augment("fundos", 0)
    for config in (TrainConfig, PreviewConfig):
        assert typing.get_args(config.model_fields["augment"].annotation) == tuple(AUGMENTATIONS)
    assert typing.get_args(TrainConfig.model_fields["sampler"].annotation) == tuple(SAMPLERS)
    assert TrainConfig().augment == "none"


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
