"""Where in a fundus photograph the retina is: the bright disc, or what the frame leaves of it, on a plain ground."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np


class Box(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, image: np.ndarray) -> np.ndarray:
        return image[self.top : self.top + self.height, self.left : self.left + self.width]


class Field(NamedTuple):
    """The box around the retina, and how many photographs it holds; 0: no ground surrounds one."""

    box: Box
    photographs: int


WORKING_SIDE = 512  # pixels: of the copy that is searched; finer edges than that are noise
LIT = 0.06  # of the way from the dark ground to the brightest: from there on a pixel belongs to the retina,
NOISE = 4  # and this many levels above the ground at least
DARK = 0.25  # of the brightest: a ground above this is no dark ground
DARKER = 0.7  # of the field's mean brightness: a ground that is no darker than this is none, where it isn't dark
FILLED = 0.10  # share of the image that a field of view fills at least,
FILLED_ROUND = 0.02  # and where its outline is a circle
CROSSED = 0.04  # share of the longest row (column) of the field that a row (column) has inside the box

PAPER = 150  # levels: a white or light grey ground is at least that bright in every channel,
COLOURLESS = 24  # its channels differ by no more than this,
EVEN = 8  # and it by no more than this from its median along the border
PAPER_BORDER = 0.1  # share of the border that it covers

ROUND = 0.03  # of the radius: how far the outline may be from a circle, root mean square
PART, WHOLE = 0.33, 0.9  # share of a circle that is seen of a large field at least, and of a small one
CORNER = 0.04  # of the shorter side: the corners' size
SECOND = 0.5  # of the largest part's area: another part of that size is a second photograph
LONG = 1.5  # longer side to shorter: a field above this may be two photographs that touch
WAIST = 0.6  # of the longest column on either side: the most that two photographs touch in

COARSE = 2  # working pixels to one of the copy on which ordinary photographs are recognised
BAND = 6  # working pixels on either side of an edge, found on that copy, that are looked at again


def field_of_view(image: np.ndarray) -> Box:
    """The box around the field of view of uint8 (H, W, 3); the whole image where no plain ground surrounds one."""
    return find_field(image).box


def find_field(image: np.ndarray) -> Field:
    """The field of view of uint8 (H, W, 3), in any order of channels.

    A pixel's brightness is its greatest channel. The ground is its 1st percentile, the brightest its 95th; the
    largest connected part above LIT of the way between them is the field. Rows and columns that it only just
    reaches, as with a camera's notch or printed text that touches it, are left out. A white or light grey ground or
    bar counts as dark. Where that gives no field, or one that reaches the corners, a level above the corners and then
    Otsu's are tried, and what is round is the field. Several photographs in one image are one field.
    """
    return _quickly(image) or _thoroughly(image)


def _quickly(image: np.ndarray) -> Field | None:
    """What `_thoroughly` finds in a large image with one field on a dark ground; None for any other image.

    The field is found on a coarse copy, and only its edges are looked at as `_thoroughly` looks at them: on 596
    photographs of 768 x 514 both found the same boxes.
    """
    height, width = image.shape[:2]
    size = _working_size(height, width)
    if size == (width, height) or min(size) < 4 * BAND:
        return None
    coarse = cv2.resize(image, (size[0] // COARSE, size[1] // COARSE), interpolation=cv2.INTER_NEAREST)
    brightness = _smoothed(_brightness(coarse))
    ground, brightest = _percentiles(brightness)
    low, high = (_level_between(ground, brightest + off) for off in (-1, 1))
    # Where the exact copy's level could be another whole number, its box could be another one.
    if low is None or high is None or math.floor(low) != math.floor(high) or _has_paper(coarse):
        return None
    level = math.floor(low)
    lit = (brightness > level).astype(np.uint8)
    rows, columns = (cv2.reduce(lit, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel() for axis in (1, 0))
    most = int(np.argmax(rows))
    seed = np.flatnonzero(lit[most])
    if not len(seed) or rows.sum() < FILLED * lit.size or _corners(lit):
        return None
    area, *_, (_, _, *sides) = cv2.floodFill(lit.copy(), None, (int(seed[len(seed) // 2]), most), 2, flags=4)
    if area < rows.sum() or max(sides) >= LONG * min(sides):
        return None
    across = _fine_extent(image, columns, size, level)
    down = _fine_extent(image.swapaxes(0, 1), rows, size[::-1], level)
    return Field(_box(down, across, image.shape, size), 1)


def _fine_extent(image: np.ndarray, coarse: np.ndarray, size: tuple[int, int], level: int) -> tuple[float, float]:
    """`_extent` of the working copy's columns, of which only those near the edges are computed.

    Args:
        coarse: how many pixels of each of the coarse copy's columns are lit.
        size: width and height of the working copy.
    """
    width, height = size
    counts = np.repeat(coarse * (height / (height // COARSE)), COARSE)
    counts = np.concatenate([counts, counts[-1:].repeat(width - len(counts))])
    for edge in _extent(counts):
        if BAND < edge < width - BAND or not counts[0 if edge < BAND else -1] > 2 * CROSSED * counts.max():
            first, last = max(0, round(edge) - BAND), min(width, round(edge) + BAND)
            counts[first:last] = _lit_in_columns(image, first, last, size, level)
    return _extent(counts)


def _lit_in_columns(image: np.ndarray, first: int, last: int, size: tuple[int, int], level: int) -> np.ndarray:
    """How many pixels of the working copy's columns first to last (exclusive) are lit."""
    scale = image.shape[1] / size[0]
    start, end = max(0, first - 2), min(size[0], last + 2)  # what the median takes in
    left, right = math.floor(start * scale), min(image.shape[1], math.ceil(end * scale))
    band = _brightness(np.ascontiguousarray(image[:, left:right])).astype(np.float32)
    # The share of each of the image's columns in each of the copy's.
    ends = np.arange(start, end + 1) * scale
    pixel = np.arange(left, right)[:, None]
    shares = np.clip(np.minimum(pixel + 1, ends[1:]) - np.maximum(pixel, ends[:-1]), 0, None) / scale
    mean = cv2.resize(band @ shares.astype(np.float32), (end - start, size[1]), interpolation=cv2.INTER_AREA)
    smooth = cv2.medianBlur(cv2.transpose(np.floor(mean + 0.5).astype(np.uint8)), 5)  # long rows are quicker
    return (smooth[first - start : last - start] > level).sum(axis=1)


def _thoroughly(image: np.ndarray) -> Field:
    height, width = image.shape[:2]
    size = _working_size(height, width)
    brightness = _brightness(image)
    if size != (width, height):
        brightness = cv2.resize(brightness, size, interpolation=cv2.INTER_AREA)
    paper = _paper(cv2.resize(image, size, interpolation=cv2.INTER_NEAREST))
    if paper is not None:
        brightness[paper > 0] = 0
    brightness = _smoothed(brightness)
    ground, brightest = _percentiles(brightness)
    level = _level_between(ground, brightest)
    field = None if level is None else _photographs(brightness > level)
    if (
        field and np.count_nonzero(field[0]) < FILLED * brightness.size
    ):  # the brightest pixels of the image aren't all in it
        level = _level_between(ground, float(np.percentile(brightness[field[0]], 95)))
        field = _photographs(brightness > level) or field
    if field is None or _corners(field[0]) > 2:
        field = _on_grey(brightness) or field
    if field is None:
        return Field(Box(0, 0, height, width), 0)
    mask, count = field
    if _corners(mask) > 2:
        count = 0
    rows, columns = mask.sum(axis=1), mask.sum(axis=0)
    return Field(_box(_extent(rows), _extent(columns), image.shape, size), count)


def _working_size(height: int, width: int) -> tuple[int, int]:
    """Width and height of the copy that is searched."""
    scale = min(1.0, WORKING_SIDE / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _brightness(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> (H, W): the greatest channel."""
    first, second, third = cv2.split(image)
    return cv2.max(cv2.max(first, second), third)


def _smoothed(brightness: np.ndarray) -> np.ndarray:
    return cv2.medianBlur(brightness, 5) if min(brightness.shape) >= 5 else brightness


def _percentiles(brightness: np.ndarray) -> tuple[float, float]:
    """The 1st and the 95th, as `np.percentile` has them, of a histogram, which is quicker."""
    below = np.cumsum(cv2.calcHist([brightness], [0], None, [256], [0, 256]).ravel().astype(np.int64))
    found = []
    for share in (0.01, 0.95):
        place = share * (brightness.size - 1)
        before, after = np.searchsorted(below, (math.floor(place), math.ceil(place)), side="right")
        found.append(float(before + (after - before) * (place % 1)))
    return found[0], found[1]


def _level_between(ground: float, brightest: float) -> float | None:
    return None if ground > DARK * brightest else ground + max(NOISE, LIT * (brightest - ground))


def _on_grey(brightness: np.ndarray) -> tuple[np.ndarray, int] | None:
    """A round field on a ground that is noisy or rather light; None where there is none."""
    corners = sorted(_corner_parts(brightness), key=np.median)[:2]  # printed text may be in the others
    noise = max(float(corner.std()) for corner in corners)
    otsu, _ = cv2.threshold(brightness, 0, 1, cv2.THRESH_OTSU)
    for level in (float(np.median(corners[1])) + max(NOISE, 4 * noise), otsu):
        field = _photographs(brightness > level)
        if field and _corners(field[0]) <= 2 and _is_round(field[0]):
            inside, outside = brightness[field[0]].mean(), brightness[~field[0]].mean()
            if outside < DARKER * inside:
                return field
    return None


def _paper(image: np.ndarray) -> np.ndarray | None:
    """(H, W) uint8, 1 where (H, W, 3) is a white or light grey ground or bar that touches the border; else None."""
    if not _has_paper(image):
        return None
    channels = cv2.split(image)
    least, most = (pick(pick(channels[0], channels[1]), channels[2]) for pick in (cv2.min, cv2.max))
    light = ((least >= PAPER) & (most - least <= COLOURLESS)).astype(np.uint8)
    _, parts = cv2.connectedComponents(light, connectivity=4)
    touching = np.zeros(parts.max() + 1, np.uint8)
    touching[np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])] = 1
    touching[0] = 0
    return cv2.dilate(touching[parts], np.ones((5, 5), np.uint8))  # with its blurred edge


def _has_paper(image: np.ndarray) -> bool:
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    least, most = border.min(axis=1), border.max(axis=1)
    light = least[(least >= PAPER) & (most - least <= COLOURLESS)]
    if len(light) < PAPER_BORDER * len(border):
        return False
    return bool((np.abs(light - np.median(light)) <= EVEN).mean() > 0.5)


def _photographs(lit: np.ndarray) -> tuple[np.ndarray, int] | None:
    """The field's mask (h, w) and the number of photographs in it; None where no part is large enough."""
    _, parts, statistics, _ = cv2.connectedComponentsWithStats(lit.astype(np.uint8), connectivity=4)
    if len(statistics) < 2:
        return None
    areas = statistics[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    largest = int(np.argmax(areas))
    field = parts == largest
    filled = areas[largest] / lit.size
    if filled < FILLED and not (filled >= FILLED_ROUND and _is_round(field, WHOLE)):
        return None
    several = [part for part in np.flatnonzero(areas >= SECOND * areas[largest]) if _compact(statistics[part])]
    if len(several) > 1:
        return np.isin(parts, several), len(several)
    width, height = (int(statistics[largest][i]) for i in (cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT))
    long = max(width, height) >= LONG * min(width, height)
    return field, 2 if long and _touching(field) else 1


def _compact(statistics: np.ndarray) -> bool:
    """Whether a part is about as wide as high, and fills its box as a disc does, or one cut by the frame."""
    width, height, area = (int(statistics[i]) for i in (cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT, cv2.CC_STAT_AREA))
    return max(width, height) < LONG * min(width, height) and area > 0.6 * width * height


def _touching(field: np.ndarray) -> bool:
    """Whether a long field has a waist in its middle, as two discs side by side have."""
    rows, columns = (np.trim_zeros(field.sum(axis=axis)) for axis in (1, 0))
    counts = max(rows, columns, key=len)
    third, middle = len(counts) // 3, len(counts) // 2
    waist = counts[third : len(counts) - third].min()
    return bool(waist < WAIST * min(counts[:middle].max(), counts[middle:].max()))


def _corners(field: np.ndarray) -> int:
    """How many corners of the image are in the field for the most part."""
    return sum(2 * np.count_nonzero(part) > part.size for part in _corner_parts(field))


def _corner_parts(image: np.ndarray) -> list[np.ndarray]:
    side = max(1, round(CORNER * min(image.shape)))
    ends = (slice(None, side), slice(-side, None))
    return [image[rows, columns] for rows in ends for columns in ends]


def _is_round(field: np.ndarray, share: float = PART) -> bool:
    """Whether the outline, without what the frame cuts off, lies on a circle, over `share` of one at least."""
    outlines, _ = cv2.findContours(field.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    points = max(outlines, key=len)[:, 0].astype(np.float64)
    inside = ((points > 0) & (points < np.array(field.shape[::-1]) - 1)).all(axis=1)
    points = points[inside]
    if len(points) < 16:
        return False
    # Kasa's circle: x^2 + y^2 = 2 a x + 2 b y + c, by least squares.
    middle = points.mean(axis=0)
    shifted = points - middle
    design = np.column_stack([2 * shifted, np.ones(len(shifted))])
    (a, b, c), *_ = np.linalg.lstsq(design, (shifted**2).sum(axis=1), rcond=None)
    radius = math.sqrt(max(c + a * a + b * b, 1e-9))
    off = np.hypot(*(shifted - (a, b)).T) - radius
    angles = np.arctan2(shifted[:, 1] - b, shifted[:, 0] - a)
    covered = len(np.unique(np.floor(angles / (2 * np.pi) * 36))) / 36
    return bool(np.sqrt((off**2).mean()) < max(ROUND * radius, 0.7) and covered > share)


def _extent(counts: np.ndarray) -> tuple[float, float]:
    """From the first to behind the last line that the field more than just reaches, to a fraction of a line.

    So the box hardly depends on the size at which the image was decoded.
    """
    level = CROSSED * counts.max()
    first, last = np.flatnonzero(counts >= level)[[0, -1]]
    padded = np.concatenate([[0], counts, [0]])  # line i at i + 1
    before, after = padded[first], padded[last + 2]
    start = first - (counts[first] - level) / (counts[first] - before)
    end = last + 1 + (counts[last] - level) / (counts[last] - after)
    return max(0.0, float(start)), min(float(len(counts)), float(end))


def _box(rows: tuple[float, float], columns: tuple[float, float], shape: tuple[int, ...], size: tuple[int, int]) -> Box:
    """From working pixels to the image's own."""
    y, x = shape[0] / size[1], shape[1] / size[0]
    top, bottom = (round(end * y) for end in rows)
    left, right = (round(end * x) for end in columns)
    return Box(top, left, max(1, bottom - top), max(1, right - left))
