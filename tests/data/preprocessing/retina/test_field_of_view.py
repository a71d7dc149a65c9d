"""The box around the retina, on discs whose place is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pmtrain.data.images.read import read_image
from pmtrain.data.preprocessing.retina.field_of_view import Box, field_of_view, find_field


def disc(
    width: int = 900, height: int = 600, centre: tuple[int, int] = (450, 300), radius: int = 250, ground: int = 3,
    brightness: int = 150, noise: float = 2.0,
) -> np.ndarray:  # fmt: skip
    """A noisy retina, dimmer towards its edge, on a noisy dark ground."""
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(x - centre[0], y - centre[1]) / radius
    image = np.where(distance < 1, brightness * (1 - 0.7 * distance**2), ground)[..., None] * [0.3, 0.6, 1.0]
    return np.clip(image + np.random.default_rng(0).normal(0, noise, image.shape), 0, 255).astype(np.uint8)


def expect(image: np.ndarray, left: int, top: int, right: int, bottom: int, off_by: float = 4) -> None:
    box = field_of_view(image)
    found = (box.left, box.top, box.left + box.width, box.top + box.height)
    assert np.abs(np.subtract(found, (left, top, right, bottom))).max() <= off_by, found


@pytest.mark.parametrize("brightness", [40, 90, 150, 250])
@pytest.mark.parametrize("ground", [0, 3, 8])
def test_a_whole_disc_whatever_its_brightness(brightness, ground):
    expect(disc(brightness=brightness, ground=ground), 200, 50, 700, 550)


def test_a_disc_that_the_frame_cuts_off():
    expect(disc(radius=380), 70, 0, 830, 600)
    expect(disc(centre=(100, 100), radius=200), 0, 0, 300, 300)


@pytest.mark.parametrize("scale", [0.1, 0.25, 1, 3])
def test_any_size_of_image(scale):
    image = cv2.resize(disc(), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    expect(image, *(round(side * scale) for side in (200, 50, 700, 550)), off_by=max(2, 4 * scale))


def test_text_a_spot_and_a_notch_do_not_count():
    image = disc()
    cv2.putText(image, "OD 2024-11-02", (5, 40), cv2.FONT_HERSHEY_SIMPLEX, 1, (255, 255, 255), 2)
    image[560:600, 860:900] = 200
    cv2.rectangle(image, (700, 296), (716, 304), (60, 90, 150), -1)  # a notch's tongue
    expect(image, 200, 50, 700, 550)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((40, 60, 3), np.uint8),
        np.full((40, 60, 3), 255, np.uint8),
        np.random.default_rng(0).integers(90, 250, (40, 60, 3), np.uint8),  # tissue, edge to edge
        cv2.circle(np.full((400, 600, 3), 3, np.uint8), (300, 200), 20, (200, 200, 200), -1),  # too small for a retina
        np.full((1, 1, 3), 9, np.uint8),
        np.full((1, 3000, 3), 9, np.uint8),
    ],
    ids=["black", "white", "no ground", "a spot", "a pixel", "a line"],
)
def test_the_whole_image_where_there_is_no_field(image):
    assert field_of_view(image) == (0, 0, *image.shape[:2])


def composed(
    texture: np.ndarray, size: tuple[int, int] = (768, 514), centre: tuple[float, float] = (384, 257),
    radius: float = 240, ground: int = 3, noise: float = 2,
) -> np.ndarray:  # fmt: skip
    """A disc of a photograph's texture, where and as large as it is told, on a grey ground, saved as a JPEG."""
    width, height = size
    scale = 2 * radius / min(texture.shape[:2])
    middle = np.array(texture.shape[1::-1]) / 2
    matrix = np.column_stack([np.eye(2) * scale, np.array(centre) - scale * middle])
    inside = cv2.warpAffine(texture, matrix, size, borderMode=cv2.BORDER_REFLECT_101)
    y, x = np.mgrid[:height, :width] + 0.5
    share = np.clip(radius - np.hypot(x - centre[0], y - centre[1]) + 0.5, 0, 1)[..., None]
    outside = ground + np.random.default_rng(0).normal(0, noise, (height, width, 1))
    return as_jpeg(np.clip(share * inside + (1 - share) * outside, 0, 255).astype(np.uint8))


def as_jpeg(image: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1], cv2.IMREAD_COLOR)


@pytest.fixture(params=["drawn", "real"])
def textures(request) -> list[np.ndarray]:
    """Retina from edge to edge: SYNTHETIC, and the middles of three real photographs."""
    if request.param == "drawn":
        y, x = np.mgrid[-1:1:300j, -1:1:300j]
        rng = np.random.default_rng(1)
        grain = cv2.resize(rng.uniform(0.7, 1.1, (30, 30)), (300, 300), interpolation=cv2.INTER_CUBIC)
        light = (170 - 80 * np.hypot(x, y)) * grain
        return [np.clip(light[..., None] * [0.3, 0.6, 1.0], 0, 255).astype(np.uint8)]
    photographs = sorted((request.getfixturevalue("real_data") / "dr-768" / "images").glob("*.jpg"))[::200]
    return [read_image(path)[17:497, 107:587] for path in photographs]


FULL = (144, 17, 624, 497)  # of the disc that `composed` makes unless told otherwise: left, top, right, bottom


def test_discs_cut_small_or_on_light_ground(textures):
    for texture in textures:
        expect(composed(texture), *FULL)
        expect(composed(texture, radius=300), 84, 0, 684, 514)
        expect(composed(texture, centre=(150, 257)), 0, 17, 390, 497)
        expect(composed(texture, centre=(300, 200), radius=80), 220, 120, 380, 280, off_by=8)  # 5 % of the frame
        for ground in (205, 235, 255):
            expect(composed(texture, ground=ground, noise=0.5), *FULL)
            expect(composed(texture, radius=300, ground=ground, noise=0.5), 84, 0, 684, 514)


def test_a_light_bar_with_text_and_a_logo(textures):
    for texture in textures:
        image = composed(texture)
        image[484:] = 240
        cv2.putText(image, "OD 12.03.2024", (10, 506), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 1)
        expect(as_jpeg(image), 144, 17, 624, 484)
        image = composed(texture)
        image[:30] = 255
        expect(as_jpeg(image), 144, 30, 624, 497)
        image = composed(texture)
        cv2.putText(image, "OD 45 deg", (5, 25), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 2)
        cv2.rectangle(image, (5, 450), (75, 505), (200, 120, 20), -1)
        expect(as_jpeg(image), *FULL)


def test_a_noisy_grey_ground(textures):
    expect(composed(textures[0], ground=60, noise=5), *FULL, off_by=8)


def test_an_ultra_wide_field_with_lashes(textures):
    for texture in textures:
        image = composed(texture, radius=700)
        y, x = np.mgrid[:514, :768] + 0.5
        image[np.hypot((x - 384) / 360, (y - 257) / 240) > 1] = 3
        for place in range(200, 400, 20):
            cv2.line(image, (place, 514), (place + 20, 400), (10, 12, 10), 2)
        expect(as_jpeg(image), 24, 17, 744, 497, off_by=10)


@pytest.mark.parametrize("gap", [0, 60])
@pytest.mark.parametrize("upright", [False, True])
def test_two_photographs_in_one_image(textures, gap, upright):
    for texture in textures:
        one = composed(texture, size=(514, 514), centre=(257, 257), radius=252)
        image = np.hstack([one, np.full((514, gap, 3), 3, np.uint8), one[:, ::-1]])
        image = np.ascontiguousarray(image.swapaxes(0, 1)) if upright else image
        field = find_field(image)
        assert field.photographs == 2
        along, across = 1028 + gap - 2 * 5, 514 - 2 * 5
        assert field.box[2:] == pytest.approx((along, across) if upright else (across, along), abs=8)


def test_retina_from_edge_to_edge_is_no_field(textures):
    for texture in textures:
        assert find_field(composed(texture, radius=700)) == (Box(0, 0, 514, 768), 0)


# Boxes as the first release found them, through NumPy's percentile and the sums of the whole mask.
def first_release(image: np.ndarray) -> Box:
    height, width = image.shape[:2]
    scale = min(1.0, 512 / max(height, width))
    small = cv2.resize(image.max(axis=2), (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    small = cv2.medianBlur(small, 5)
    ground, brightest = np.percentile(small, (1, 95))
    _, parts, statistics, _ = cv2.connectedComponentsWithStats(
        (small > ground + max(4, 0.06 * (brightest - ground))).astype(np.uint8), connectivity=4
    )
    field = parts == 1 + np.argmax(statistics[1:, cv2.CC_STAT_AREA])
    ends = []
    for axis in (1, 0):
        counts = field.sum(axis=axis)
        level = 0.04 * counts.max()
        inside = np.flatnonzero(counts >= level)
        padded = np.pad(counts, 1)
        for line, outer in ((inside[0], 0), (inside[-1] + 1, 2)):
            count, next_to = padded[line + (outer == 0)], padded[line + (outer == 2)]
            part = (count - level) / (count - next_to)
            ends.append(np.clip(line - part if outer == 0 else line + part, 0, len(counts)))
    y, x = height / small.shape[0], width / small.shape[1]
    top, bottom, left, right = (round(end * by) for end, by in zip(ends, (y, y, x, x), strict=True))
    return Box(top, left, bottom - top, right - left)


@pytest.mark.parametrize("step", [40, pytest.param(4, marks=pytest.mark.slow)])
def test_ordinary_photographs_keep_their_boxes(real_data, step):
    paths = [*(real_data / "dr-768").rglob("*.jpg"), *(real_data / "ichallenge-pm-224").rglob("*.jpg")]
    assert len(paths) > 1000
    for path in sorted(paths)[::step]:
        image = read_image(path)
        assert field_of_view(image) == first_release(image), path
