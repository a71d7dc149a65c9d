"""The box around the retina, on discs whose place is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pmtrain.data.preprocessing.field_of_view import field_of_view


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
