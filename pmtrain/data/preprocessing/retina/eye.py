"""Which eye a fundus photograph shows: by a table's column, by the file's name, or by the optic disc's side."""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from pmtrain.data.layouts.tables.column_names import EYE_NAMES, plain

LEFT, RIGHT, UNKNOWN = "left", "right", "unknown"
COLUMN, NAME, DISC = "column", "file name", "optic disc"

# Words for either eye, and names of the column that holds them, in lower case.
SIDES = {
    LEFT: {"left", "l", "os", "links", "gauche", "og", "izquierdo", "oi", "左", "左眼"},
    RIGHT: {"right", "r", "od", "rechts", "droite", "derecho", "右", "右眼"},
}

SIDE = 64  # pixels: of the copy that is searched for the disc
RIM = 0.93  # of the radius: what lies farther out is no retina to search
DARK = 12  # levels: a pixel whose channels are all at or below this is outside the field
NEAR, WIDE = 0.11, 0.18  # of the side: standard deviations of the Gaussians for the local mean and its deviation
BRIGHT, VESSELS = 0.035, 0.05  # of the side: standard deviations of the Gaussians over the disc and its vessels
VESSEL_WEIGHT = 0.3  # of the vessels beside the brightness
BELT = 0.6  # of the radius: the disc lies no farther above or below the centre
CLEAR = 0.4  # how much the best place of one half must exceed that of the other,
ASIDE = 0.25  # of the radius: and how far from the vertical centre line it must lie


class Eye(NamedTuple):
    """LEFT, RIGHT or UNKNOWN, and how that is known: COLUMN, NAME or DISC; empty if unknown."""

    side: str
    source: str = ""


def find_eye(image: np.ndarray, path: Path | None = None, columns: Sequence[tuple[str, str]] = ()) -> Eye:
    """Which eye an image shows.

    Args:
        image: uint8 (S, S, 3), BGR, of which the retina fills the square.
        path: of its file.
        columns: (name, cell) of a table.
    """
    for name, cell in columns:
        if plain(name) in EYE_NAMES and (side := _side(cell)):
            return Eye(side, COLUMN)
    if path is not None and (side := eye_in_name(path)):
        return Eye(side, NAME)
    side = eye_by_disc(image)
    return Eye(side, DISC if side != UNKNOWN else "")


def eye_in_name(path: Path) -> str:
    """LEFT or RIGHT if one of the words of the file's name says so (`12_left`, `12-OD`, `12L`), else ""."""
    return _side(path.stem)


def _side(text: str) -> str:
    words = re.findall(r"[^\W\d_]+", text.casefold())
    found = {side for word in words for side, names in SIDES.items() if word in names}
    return found.pop() if len(found) == 1 else ""


def eye_by_disc(image: np.ndarray) -> str:
    """The eye by the side of its optic disc, which is nasal: on the left in a left eye's photograph.

    The disc is where a copy of the image is bright compared with its surroundings and vessels are dense. UNKNOWN if it
    lies near the vertical centre line, or if both halves have such a place.

    Args:
        image: uint8 (S, S, 3), BGR, of which the retina fills the square.
    """
    score = _disc_score(image)
    column = int(np.argmax(score.max(axis=0)))
    half = SIDE // 2
    more_right = score[:, half:].max() - score[:, :half].max()
    if abs(more_right) <= CLEAR or abs(_offsets()[column]) <= ASIDE:
        return UNKNOWN
    return RIGHT if more_right > 0 else LEFT


def aligned(image: np.ndarray, eye: Eye) -> np.ndarray:
    """The image (H, W, ...) as a left eye's: mirrored if it shows a right eye."""
    return np.ascontiguousarray(image[:, ::-1]) if eye.side == RIGHT else image


def eyes_stated(eyes: Iterable[Eye]) -> str:
    """How many eyes are known, and how, in a line: `eyes: 3 left and 2 right by file name, 1 unknown`."""
    counts = Counter(eyes)
    parts = []
    for source in (COLUMN, NAME, DISC):
        known = [f"{counts[eye]} {side}" for side in (LEFT, RIGHT) if counts[eye := Eye(side, source)]]
        if known:
            parts.append(f"{' and '.join(known)} by {source}")
    if counts[Eye(UNKNOWN)]:
        parts.append(f"{counts[Eye(UNKNOWN)]} unknown, left as they are")
    return "eyes: " + ", ".join(parts)


@functools.cache
def _offsets() -> np.ndarray:
    """(SIDE,) of the copy's columns: how far right of the centre, in radii."""
    return (np.arange(SIDE) - (SIDE - 1) / 2) / (SIDE / 2)


def _disc_score(image: np.ndarray) -> np.ndarray:
    """float32 (SIDE, SIDE): how much each place of a copy looks like the optic disc."""
    offsets = _offsets()
    small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    inside = (small.max(axis=2) > DARK) & (np.hypot(offsets, offsets[:, None]) < RIM)
    field = cv2.erode(inside.astype(np.float32), np.ones((3, 3), np.uint8))
    green, red = small[..., 1].astype(np.float32), small[..., 2].astype(np.float32)
    brightness = (green + red) / 2
    mean = _local_mean(brightness, field, NEAR)
    std = np.sqrt(_local_mean((brightness - mean) ** 2, field, WIDE)) + 2
    bright = _blurred(np.clip((brightness - mean) / std, -1, 3) * field, BRIGHT)
    dark_lines = cv2.morphologyEx(green, cv2.MORPH_BLACKHAT, np.ones((5, 5), np.uint8)) / (mean + 10) * field
    vessels = _blurred(dark_lines, VESSELS)
    vessels /= vessels[field > 0].mean() + 1e-6 if field.any() else 1
    score = bright + VESSEL_WEIGHT * np.clip(vessels - 1, -1, 2)
    score[(field == 0) | (np.abs(offsets) > BELT)[:, None]] = -9
    return score


def _local_mean(values: np.ndarray, field: np.ndarray, width: float) -> np.ndarray:
    return _blurred(values * field, width) / np.maximum(_blurred(field, width), 1e-3)


def _blurred(values: np.ndarray, width: float) -> np.ndarray:
    return cv2.GaussianBlur(values, (0, 0), width * SIDE)
