"""The changes of the suites: hand-computed values, and that an amount means the same at every resolution."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pmtrain.evaluation.robustness import changes
from pmtrain.evaluation.robustness.changes import Scene

RNG = np.random.default_rng


def disc(side: int = 120, value: int = 150, margin: int = 10) -> np.ndarray:
    """A disc of noise about `value` on black."""
    image = np.zeros((side, side, 3), np.uint8)
    cv2.circle(image, (side // 2, side // 2), side // 2 - margin, (255, 255, 255), -1)
    noise = RNG(0).integers(value - 40, value + 40, image.shape).astype(np.uint8)
    return np.where(image > 0, noise, 0).astype(np.uint8)


def flat(value: int, side: int = 40) -> np.ndarray:
    return np.full((side, side + 10, 3), value, np.uint8)


@pytest.mark.parametrize(
    ("change", "amount"),
    [
        *((changes.white_balance, 0), (changes.exposure, 0), (changes.gamma, 1), (changes.contrast, 1)),
        *((changes.saturation, 1), (changes.noise, 0), (changes.vignette, 0), (changes.haze, 0), (changes.framing, 1)),
        *((changes.field_size, 1), (changes.field_cut, 0), (changes.haematoxylin, 0), (changes.eosin, 0)),
        (changes.stains, 0),
    ],
)
def test_no_change_is_none(change, amount):
    for image in (disc(margin=0), RNG(1).integers(0, 256, (50, 64, 3), np.uint8)):
        before = image.copy()
        changed = change(Scene(image), amount, RNG(2))
        assert changed.dtype == np.uint8
        # A field drawn as a disc again may lose pixels of its rim.
        assert np.mean(np.abs(changed.astype(int) - image) > 1) <= (0.02 if change is changes.field_size else 0)
        assert (image == before).all()


def test_the_gains_of_white_balance_have_the_length_asked_for_and_leave_the_mean():
    directions = set()
    for seed in range(8):
        gains = np.log(changes.white_balance(Scene(flat(120)), 0.3, RNG(seed))[0, 0] / 120)
        assert np.linalg.norm(gains) == pytest.approx(0.3, abs=0.01)
        assert gains.mean() == pytest.approx(0, abs=0.005)
        directions.add(int(np.argmax(gains)))
    assert directions == {0, 1, 2}


def test_light_by_hand():
    # 2.2 stops double or halve a stored value; 64 / 255 to the power 2 is 16, and its root is 128.
    assert {int(changes.exposure(Scene(flat(60)), 2.2, RNG(s))[0, 0, 0]) for s in range(9)} == {30, 120}
    assert {int(changes.gamma(Scene(flat(64)), 2, RNG(s))[0, 0, 0]) for s in range(9)} == {16, 128}


def test_contrast_keeps_the_mean_of_the_field_and_the_ground_black():
    image = disc()
    field = image.max(axis=2) > 0
    changed = changes.contrast(Scene(image), 0.5, RNG(0))
    assert changed[field].mean() == pytest.approx(image[field].mean(), abs=2)  # its rim counts too
    assert changed[field].std() == pytest.approx(image[field].std() / 2, rel=0.05)
    assert changed[:8, :8].max() == 0


def test_saturation_ends_in_grey():
    image = RNG(0).integers(0, 256, (20, 30, 3), np.uint8)
    grey = changes.saturation(Scene(image), 0, RNG(0))
    assert np.abs(grey.astype(int) - cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[..., None]).max() <= 1


@pytest.mark.parametrize("side", [100, 400])
def test_blur_is_a_share_of_the_field(side):
    """The slope of a blurred edge is that of a Gaussian of 0.02 x side."""
    image = np.full((side, side, 3), 20, np.uint8)
    image[:, side // 2 :] = 220
    line = changes.blur(Scene(image), 0.02, RNG(0))[side // 2, :, 0].astype(float)
    assert np.diff(line).max() == pytest.approx(200 / (0.02 * side * np.sqrt(2 * np.pi)), rel=0.15)


def test_noise_survives_area_averaging():
    for side in (64, 512):
        changed = changes.noise(Scene(np.full((side, side, 3), 128, np.uint8)), 0.1, RNG(0))
        small = cv2.resize(changed, (min(side, 256),) * 2, interpolation=cv2.INTER_AREA)
        assert small.std() == pytest.approx(25.5, rel=0.03)


def test_jpeg_is_what_opencv_saves():
    image = disc()
    assert (changes.jpeg(Scene(image), 10, RNG(0)) != image).any()
    read = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 10])[1], cv2.IMREAD_COLOR)
    assert (changes.jpeg(Scene(image), 10, RNG(0)) == read).all()


def test_a_vignette_takes_its_amount_at_the_edge_of_the_field():
    changed = changes.vignette(Scene(np.full((201, 201, 3), 200, np.uint8)), 0.5, RNG(0))
    assert changed.min() == 100
    assert changed.max() == 200
    y, x = np.unravel_index(changed[..., 0].argmax(), (201, 201))
    assert max(abs(y - 100), abs(x - 100)) <= 26  # a quarter of the radius


def test_haze_lies_on_the_field_alone():
    image = disc(value=100)
    changed = changes.haze(Scene(image), 0.6, RNG(0))
    assert changed[:8, :8].max() == 0
    field = image.max(axis=2) > 0
    assert changed[field].mean() > image[field].mean()
    assert 0.4 * image[field].std() < changed[field].std() < 0.75 * image[field].std()


def test_framing_crops_or_adds_a_margin_and_resamples_nothing():
    image = disc(margin=1)
    shapes = set()
    for seed in range(8):
        changed = changes.framing(Scene(image), 1.2, RNG(seed))
        shapes.add(changed.shape)
        if changed.shape[0] < 120:
            match = cv2.matchTemplate(image, changed, cv2.TM_SQDIFF)
        else:
            match = cv2.matchTemplate(changed, image, cv2.TM_SQDIFF)
            assert np.count_nonzero(changed) == np.count_nonzero(image)  # the margin is black
        assert match.min() < 1e-6 * match.max()  # of squared differences, summed in float32
    assert shapes == {(100, 100, 3), (144, 144, 3)}
    mirrored = changes.framing(Scene(flat(200)), 1.2, RNG(1)), changes.framing(Scene(flat(200)), 1.2, RNG(0))
    assert all((each == 200).all() for each in mirrored)


def test_a_narrower_field_shows_the_middle_in_a_disc():
    image = disc(200, margin=0)
    changed = changes.field_size(Scene(image), 0.5, RNG(0))
    assert changed.shape == (100, 100, 3)
    assert (changed[30:70, 30:70] == image[80:120, 80:120]).all()
    assert changed[:8, :8].max() == 0 and changed[-8:, -8:].max() == 0
    square = RNG(0).integers(90, 200, (80, 80, 3), np.uint8)  # no dark ground: cropped alone
    assert (changes.field_size(Scene(square), 0.5, RNG(0)) == square[20:60, 20:60]).all()


def test_a_cut_field_loses_its_share_at_one_or_two_sides():
    image = disc(200, margin=20)
    kinds = set()
    for seed in range(40):
        changed = changes.field_cut(Scene(image), 0.1, RNG(seed))
        rows, columns = (np.flatnonzero(changed.max(axis=(2, axis)) > 0) for axis in (1, 0))
        ends = (rows[0] - 20, 180 - rows[-1], columns[0] - 20, 180 - columns[-1])
        kinds.add(tuple(int(end > 8) for end in ends))
        assert all(end <= 2 or 14 <= end <= 18 for end in ends)  # 160 pixels across
    assert kinds == {(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (1, 1, 0, 0), (0, 0, 1, 1)}
    square = RNG(0).integers(90, 200, (80, 80, 3), np.uint8)
    assert changes.field_cut(Scene(square), 0.1, RNG(0)).shape in {(72, 80, 3), (80, 72, 3), (64, 80, 3), (80, 64, 3)}


def test_stain_amounts_by_hand():
    """A pixel of haematoxylin alone keeps its hue as its optical density grows; white stays white."""
    density = np.array([0.65, 0.70, 0.29])  # RGB, Ruifrok and Johnston
    image = np.full((8, 8, 3), np.rint(255 * np.exp(-density))[::-1], np.uint8)
    seen = {tuple(changes.haematoxylin(Scene(image), 0.5, RNG(s))[0, 0].tolist()) for s in range(9)}
    expected = [255 * np.exp(-factor * density)[::-1] for factor in (0.5, 1.5)]
    assert len(seen) == 2
    for pixel, values in zip(sorted(seen, reverse=True), expected, strict=True):
        assert np.array(pixel) == pytest.approx(values, abs=2)
    assert {tuple(changes.eosin(Scene(image), 0.5, RNG(s))[0, 0].tolist()) for s in range(9)} != seen
    assert (changes.haematoxylin(Scene(flat(255)), 0.5, RNG(0)) == 255).all()
