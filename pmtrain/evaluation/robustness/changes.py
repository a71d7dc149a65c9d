"""Changes of a decoded image, as other cameras, lamps, compressions and laboratories make them.

Each takes a `Scene`, an amount and a random generator, and returns a new uint8 (h, w, 3) BGR image. Lengths are shares
of the field of view, so that an amount means the same at every resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from pmtrain.data.preprocessing.retina.field_of_view import Box, field_of_view
from pmtrain.data.preprocessing.stain import with_amounts

DISPLAY_GAMMA = 2.2  # a stored value is about light ** (1 / 2.2)
GRAIN = 256  # noise: grains along the image's shorter side, or one for each pixel of a smaller image
VEIL = 4  # haze: its density is drawn on a grid of 4 x 4 and interpolated
OFF_CENTRE = 0.25  # vignette: how far the brightest point may be from the middle, as a share of the field's radius
CORNER, DARK_CORNER = 0.03, 0.15  # share of a side; share of the bright pixels' brightness below which a corner is dark
HAEMATOXYLIN, EOSIN, DAB = range(3)


@dataclass(frozen=True, eq=False)
class Scene:
    """A decoded image, uint8 (H, W, 3) BGR, and its field of view."""

    image: np.ndarray

    @cached_property
    def box(self) -> Box:
        """The box of the field of view; the whole image where no dark ground surrounds one."""
        return field_of_view(self.image)

    @cached_property
    def surrounded(self) -> bool:
        """Whether the field of view is a disc on a dark ground: the four corners of its box are dark."""
        brightness = self.box.of(self.image).max(axis=2)
        rows, columns = (max(1, round(CORNER * side)) for side in brightness.shape)
        corners = [brightness[y, x] for y in _ends(rows) for x in _ends(columns)]
        return max(float(corner.mean()) for corner in corners) < DARK_CORNER * np.percentile(brightness, 95)

    @property
    def radius(self) -> float:
        """Half of the field's longer side: that of the disc, also where its top and bottom are cut off."""
        return max(self.box.height, self.box.width) / 2

    @cached_property
    def inside(self) -> np.ndarray:
        """(H, W, 1) bool: the pixels of the field of view; all where nothing surrounds it."""
        if not self.surrounded:
            return np.ones((*self.image.shape[:2], 1), bool)
        disc = np.zeros((*self.image.shape[:2], 1), bool)
        self.box.of(disc)[:] = self.box.of(self.distance() <= self.radius)[..., None]
        return disc

    def distance(self, right: float = 0.0, down: float = 0.0) -> np.ndarray:
        """(H, W) float32: pixels from the middle of the field, or from a point that far from it."""
        rows, columns = (np.arange(side, dtype=np.float32) for side in self.image.shape[:2])
        y = rows - (self.box.top + (self.box.height - 1) / 2 + down)
        x = columns - (self.box.left + (self.box.width - 1) / 2 + right)
        return np.hypot(y[:, None], x)


def white_balance(scene: Scene, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Gains by channel: the length of their logarithms is `amount`, their mean is 0, their direction is random."""
    angle = rng.uniform(0, 2 * np.pi)
    plane = np.array([[1, -1, 0], [1, 1, -2]]) / np.sqrt([[2], [6]])  # of logarithms whose mean is 0
    return _by_table(scene.image, _VALUES[:, None] * np.exp(amount * np.array([np.cos(angle), np.sin(angle)]) @ plane))


def exposure(scene: Scene, amount: float, rng: np.random.Generator) -> np.ndarray:
    """`amount` stops more or less light."""
    return _by_table(scene.image, _VALUES * 2.0 ** (_either(rng) * amount / DISPLAY_GAMMA))


def gamma(scene: Scene, amount: float, rng: np.random.Generator) -> np.ndarray:
    """x ** amount or x ** (1 / amount), for x in [0, 1]."""
    return _by_table(scene.image, 255 * (_VALUES / 255) ** amount ** _either(rng))


def contrast(scene: Scene, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Distances from the field's mean times `amount`."""
    mean = float(np.mean(cv2.mean(scene.image, mask=scene.inside.astype(np.uint8))[:3]))
    return np.where(scene.inside, _by_table(scene.image, mean + amount * (_VALUES - mean)), scene.image)


def saturation(scene: Scene, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Distances from grey times `amount`; 0: grey."""
    grey = np.tile([0.114, 0.587, 0.299], (3, 1))  # of BGR, ITU-R BT.601
    return cv2.transform(scene.image, amount * np.eye(3) + (1 - amount) * grey)


def blur(scene: Scene, amount: float, rng: np.random.Generator) -> np.ndarray:
    """A Gaussian whose standard deviation is `amount` times the field's diameter."""
    return cv2.GaussianBlur(scene.image, (0, 0), 2 * scene.radius * amount)


def noise(scene: Scene, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Normally distributed noise in each channel, of standard deviation `amount` for values in [0, 1]."""
    height, width = scene.image.shape[:2]
    scale = min(1.0, GRAIN / min(height, width))
    grains = rng.standard_normal((max(1, round(height * scale)), max(1, round(width * scale)), 3), np.float32)
    if scale < 1:
        grains = cv2.resize(grains, (width, height), interpolation=cv2.INTER_NEAREST)
    return _as_bytes(scene.image + np.float32(255 * amount) * grains)


def jpeg(scene: Scene, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Saved as a JPEG of this quality and read again."""
    saved = cv2.imencode(".jpg", scene.image, [cv2.IMWRITE_JPEG_QUALITY, round(amount)])[1]
    return np.asarray(cv2.imdecode(saved, cv2.IMREAD_COLOR))


def vignette(scene: Scene, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Light falls off with the square of the distance from a point near the middle, by `amount` at the field's edge."""
    right, down = OFF_CENTRE * scene.radius * rng.uniform(-1, 1, 2)
    fall = np.minimum((scene.distance(right, down) / scene.radius) ** 2, 1)
    return _as_bytes(scene.image * (1 - np.float32(amount) * fall[..., None]))


def haze(scene: Scene, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Mixed with a bright veil of uneven density, `amount` where it is densest and half of that where least."""
    height, width = scene.image.shape[:2]
    density = cv2.resize(rng.random((VEIL, VEIL), np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    share = np.float32(amount) * (1 + density[..., None]) / 2
    veil = np.percentile(cv2.cvtColor(scene.box.of(scene.image), cv2.COLOR_BGR2GRAY), 95).astype(np.float32)
    return np.where(scene.inside, _as_bytes((1 - share) * scene.image + share * veil), scene.image)


def framing(scene: Scene, amount: float, rng: np.random.Generator) -> np.ndarray:
    """`amount` times nearer, so that the edges are lost, or further away, and off the middle.

    Nothing is resampled: the image is cropped, or gets a margin: black on a dark ground, mirrored elsewhere.
    """
    height, width = scene.image.shape[:2]
    near, place = _either(rng) > 0, rng.random(2)
    if near:
        rows, columns = max(1, round(height / amount)), max(1, round(width / amount))
        top, left = (
            int(share * (free + 1)) for share, free in zip(place, (height - rows, width - columns), strict=True)
        )
        return Box(top, left, rows, columns).of(scene.image)
    more = np.rint((amount - 1) * np.array([height, width])).astype(int)
    top, left = np.rint(place * more).astype(int)
    how = cv2.BORDER_CONSTANT if scene.surrounded else cv2.BORDER_REFLECT
    return cv2.copyMakeBorder(scene.image, top, more[0] - top, left, more[1] - left, how)


def field_size(scene: Scene, amount: float, rng: np.random.Generator) -> np.ndarray:
    """A camera of a narrower angle: `amount` of the field's diameter fills the frame as the whole field did."""
    image = scene.image
    if scene.surrounded:
        image = np.where((scene.distance() <= amount * scene.radius)[..., None], image, np.uint8(0))
    top, bottom = _narrowed(scene.box.top + scene.box.height / 2, amount * image.shape[0] / 2, image.shape[0])
    left, right = _narrowed(scene.box.left + scene.box.width / 2, amount * image.shape[1] / 2, image.shape[1])
    return image[top:bottom, left:right]


def field_cut(scene: Scene, amount: float, rng: np.random.Generator) -> np.ndarray:
    """`amount` of the field lost at one side, or at top and bottom, or at left and right: black, or cropped."""
    lost = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0], [0, 0, 1, 1]][rng.integers(6)]
    box = scene.box
    top, bottom = (round(amount * box.height * side) for side in lost[:2])
    left, right = (round(amount * box.width * side) for side in lost[2:])
    kept = Box(box.top + top, box.left + left, max(1, box.height - top - bottom), max(1, box.width - left - right))
    if not scene.surrounded:
        return kept.of(scene.image)
    black = np.zeros_like(scene.image)
    kept.of(black)[:] = kept.of(scene.image)
    return black


def haematoxylin(scene: Scene, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Its amount in each pixel times 1 + amount or 1 - amount."""
    return _stained(scene, amount, rng, HAEMATOXYLIN)


def eosin(scene: Scene, amount: float, rng: np.random.Generator) -> np.ndarray:
    """As `haematoxylin`."""
    return _stained(scene, amount, rng, EOSIN)


def stains(scene: Scene, amount: float, rng: np.random.Generator) -> np.ndarray:
    """All three of Tellez's stains: factors from 1 - amount to 1 + amount, and constants from -amount to amount."""
    alpha, beta = amount * rng.uniform(-1, 1, (2, 3)) + [[1], [0]]
    return _as_bytes(with_amounts(scene.image, alpha, beta))


def _stained(scene: Scene, amount: float, rng: np.random.Generator, stain: int) -> np.ndarray:
    alpha = np.ones(3)
    alpha[stain] += _either(rng) * amount
    return _as_bytes(with_amounts(scene.image, alpha, np.zeros(3)))


_VALUES = np.arange(256.0)


def _ends(length: int) -> tuple[slice, slice]:
    """The first and the last pixels of a side."""
    return slice(length), slice(-length, None)


def _either(rng: np.random.Generator) -> float:
    """1 or -1."""
    return 1.0 if rng.random() < 0.5 else -1.0


def _as_bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _by_table(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Each value replaced by the table's: (256,) for all channels, or (256, 3)."""
    return cv2.LUT(image, _as_bytes(table).reshape(1, 256, -1))


def _narrowed(middle: float, half: float, side: int) -> tuple[int, int]:
    """First and behind the last of the rows (columns) that are at most `half` from the middle; one at least."""
    first = min(max(0, round(middle - half)), side - 1)
    return first, max(first + 1, min(side, round(middle + half)))
