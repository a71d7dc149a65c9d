"""Draw synthetic fundus photographs with NumPy and OpenCV.

Lengths are in radii of the field of view unless stated in pixels; colours are RGB, 0 to 1.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class View:
    """The position of the eye in the frame."""

    size: int  # pixels
    centre: Array  # (2,) pixels
    radius: float  # pixels
    disc: Array  # (2,) from the centre
    fovea: Array  # (2,) from the centre
    axes: Array  # (2, 2): rows point from the disc to the fovea, and downwards; their length is the zoom

    def pixels(self, points: Array) -> Array:
        """Points (..., 2) of the field, in pixels."""
        return self.centre + points * self.radius


# The lowest and highest visibility of the choroidal vessels.
TESSELLATION = {"P": (0.5, 1.0), "H": (0.3, 0.6), "N": (0.0, 0.4)}


def photograph(rng: np.random.Generator, kind: str, size: int) -> tuple[Array, tuple[float, float]]:
    """Draw one photograph.

    Returns: uint8 (size, size, 3), BGR as in OpenCV; and the fovea's x and y in pixels.
    """
    view = _draw_view(rng, size)
    x, y = _field(view)
    radius = np.sqrt(x * x + y * y)
    choroid = _choroid_pattern(rng, view)

    image = _background(rng, view, x, y, choroid, rng.uniform(*TESSELLATION[kind]))
    if rng.random() < 0.25:
        _spots(rng, view, image)
    _lesions(rng, view, x, y, image, choroid, kind)
    _disc(rng, view, x, y, image)
    arteries, veins = _vessels(rng, view)
    image *= 1 - arteries[..., None] * _rgb(0.18, 0.42, 0.36)
    image *= 1 - veins[..., None] * _rgb(0.32, 0.56, 0.5)
    _reflections(rng, view, x, y, image, veins)
    _light(rng, x, y, radius, image)

    image = cv2.GaussianBlur(image, (0, 0), size / 256 * rng.uniform(0.3, 0.7))
    image += rng.standard_normal(image.shape[:2], dtype=np.float32)[..., None] * np.float32(rng.uniform(0.002, 0.008))
    image += rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(0.002, 0.006))
    _expose(rng, x, y, image, radius < 0.98)
    image *= np.clip((1 - radius) * view.radius / 1.5, 0, 1)[..., None]
    fovea = view.pixels(view.fovea)
    pixels = np.clip(image[..., ::-1] * 255 + 0.5, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels), (float(fovea[0]), float(fovea[1]))


def _draw_view(rng: np.random.Generator, size: int) -> View:
    side = rng.choice([-1.0, 1.0])  # the fovea is right or left of the disc
    zoom = rng.uniform(0.85, 1.15)
    tilt = np.deg2rad(rng.uniform(-10, 10))
    axes = zoom * np.array([[side * np.cos(tilt), np.sin(tilt)], [-side * np.sin(tilt), np.cos(tilt)]])
    between = 0.62 * axes[0] + rng.uniform(0.02, 0.12) * axes[1]
    # Most photographs are centred on the macula, some on the disc, some between the two.
    share = rng.choice([0.0, 0.5, 1.0], p=[0.6, 0.25, 0.15])
    fovea = share * between + rng.normal(0, 0.06, 2)
    centre = size / 2 + rng.normal(0, 0.012, 2) * size
    return View(size, centre, size * rng.uniform(0.45, 0.53), fovea - between, fovea, axes)


def _field(view: View) -> tuple[Array, Array]:
    """Each pixel's x and y in the field, float32 (size, size)."""
    across = np.arange(view.size, dtype=np.float32)
    x = (across - np.float32(view.centre[0])) / np.float32(view.radius)
    y = (across - np.float32(view.centre[1])) / np.float32(view.radius)
    return np.broadcast_to(x, (view.size, view.size)), np.broadcast_to(y[:, None], (view.size, view.size))


def _noise(rng: np.random.Generator, size: int, cells: int) -> Array:
    """Smooth noise with a standard deviation of about 1 and `cells` bumps per side."""
    grid = rng.standard_normal((cells, cells), dtype=np.float32)
    return cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)


def _rgb(red: float, green: float, blue: float) -> Array:
    return np.array([red, green, blue], np.float32)


def _from(point: Array, x: Array, y: Array) -> Array:
    """Distance of every pixel from a point."""
    return np.sqrt((x - np.float32(point[0])) ** 2 + (y - np.float32(point[1])) ** 2)


def _step(signed: Array, width: float) -> Array:
    """0 to 1 across an edge that is `width` wide at `signed` = 0."""
    return np.clip(signed / np.float32(width) + np.float32(0.5), 0, 1)


def _paint(image: Array, colour: Array, cover: Array) -> None:
    image += (colour - image) * cover[..., None]


def _choroid_pattern(rng: np.random.Generator, view: View) -> Array:
    """Choroidal vessels, a network that spreads out from the macula: 1 on a vessel, 0 between vessels."""
    scale, strokes, steps = 2, 260, 12
    middle = view.disc * 0.3 + view.fovea * 0.7
    far, turn = np.sqrt(rng.uniform(0, 1.2, strokes)), rng.uniform(0, 2 * np.pi, strokes)
    starts = np.stack([far * np.cos(turn), far * np.sin(turn)], axis=1)
    outwards = np.arctan2(*(starts - middle).T[::-1]) + rng.normal(0, 0.6, strokes)
    headings = outwards[:, None] + np.cumsum(rng.normal(0, 0.25, (strokes, steps)), axis=1)
    strides = np.stack([np.cos(headings), np.sin(headings)], axis=2) * rng.uniform(0.02, 0.05, (strokes, 1, 1))
    paths = np.rint(view.pixels(starts[:, None] + np.cumsum(strides, axis=1)) * scale * 8).astype(np.int32)
    widths = np.maximum(1, np.rint(rng.uniform(0.018, 0.045, strokes) * view.radius * scale)).astype(int)
    shades = rng.integers(130, 256, strokes)
    layer = np.zeros((view.size * scale,) * 2, np.uint8)
    for path, width, shade in zip(paths, widths, shades, strict=True):
        cv2.polylines(layer, [path], False, int(shade), int(width), cv2.LINE_AA, 3)
    reduced = cv2.resize(layer, (view.size,) * 2, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return cv2.GaussianBlur(reduced, (0, 0), view.size / 400)


def _background(rng: np.random.Generator, view: View, x: Array, y: Array, choroid: Array, tessellated: float) -> Array:
    n = view.size
    base = _rgb(0.62, 0.32, 0.17)
    mottle = 1 + np.float32(0.05) * _noise(rng, n, 5) + np.float32(0.03) * _noise(rng, n, 60)
    image = mottle[..., None] * base
    where = np.clip(np.float32(0.9) + np.float32(0.3) * _noise(rng, n, 4), 0, 1.2)
    macula = np.exp(-((_from(view.fovea, x, y) / np.float32(0.3)) ** 2))
    depth = np.float32(tessellated) * where * (1 - np.float32(0.5) * macula)
    image *= 1 + depth[..., None] * (choroid - choroid.mean())[..., None] * _rgb(0.5, 0.75, 0.6)
    dark = np.exp(-((_from(view.fovea, x, y) / np.float32(rng.uniform(0.1, 0.18))) ** 2))
    image *= 1 - dark[..., None] * _rgb(0.38, 0.5, 0.4) * np.float32(rng.uniform(0.6, 1.0))
    return image


def _outline(rng: np.random.Generator, x: Array, y: Array, point: Array, reach: float, rough: float) -> Array:
    """An irregular blob, as a signed distance in radii: positive inside, about 0 at the border."""
    stretch, turn = rng.uniform(0.75, 1.3), rng.uniform(0, np.pi)
    dx, dy = x - np.float32(point[0]), y - np.float32(point[1])
    c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    d = np.sqrt(((c * dx + s * dy) * np.float32(stretch)) ** 2 + ((c * dy - s * dx) / np.float32(stretch)) ** 2)
    return np.float32(reach) - d + np.float32(rough * reach) * _noise(rng, len(x), 14)


def _lesions(rng: np.random.Generator, view: View, x: Array, y: Array, image: Array, choroid: Array, kind: str) -> None:
    """Pale areas around the disc and elsewhere: atrophy in P; in the others, glare with the same places and sizes."""
    zoom = float(np.hypot(*view.axes[0]))
    n = view.size
    beside = view.disc + view.axes[0] * rng.uniform(0.0, 0.08) + view.axes[1] * rng.uniform(-0.03, 0.03)
    ring = _outline(rng, x, y, beside, zoom * rng.uniform(0.2, 0.36), 0.1)
    patches = rng.choice([0, 1, 2, 3, 4], p=[0.25, 0.3, 0.25, 0.12, 0.08])
    areas = [ring] if patches == 0 or rng.random() < 0.9 else []
    for _ in range(patches):
        angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.55)
        point = view.fovea + far * np.array([np.cos(angle), np.sin(angle)])
        areas.append(_outline(rng, x, y, point, zoom * rng.uniform(0.08, 0.24), 0.22))
    pale = _rgb(0.95, 0.8, 0.52) * np.float32(rng.uniform(0.85, 1.05))
    if kind == "P":
        signed = np.maximum.reduce(areas)
        cover = _step(signed, 0.03) * np.float32(rng.uniform(0.7, 0.95))
        border = np.exp(-((signed / np.float32(0.03)) ** 2)) * np.clip(_noise(rng, n, 26) + np.float32(0.2), 0, 1)
        inside = 1 - np.float32(rng.uniform(0.4, 0.7)) * choroid[..., None] * _rgb(0.9, 1, 1)
        pigment = _step(_noise(rng, n, 40) - np.float32(rng.uniform(1.2, 1.7)), 0.4)
        _paint(image, pale * inside, cover)
        image *= 1 - (np.maximum(border, pigment * cover) * np.float32(0.75))[..., None] * _rgb(0.75, 1, 1)
        return
    for area in areas:
        if rng.random() < 0.75:
            width = rng.uniform(0.16, 0.3)
            glow = np.clip(area / np.float32(width) + np.float32(0.5), 0, 1)
            glow = cv2.GaussianBlur(glow * glow * (3 - 2 * glow), (0, 0), n / 40)
            _paint(image, pale, glow * np.float32(rng.uniform(0.35, 0.75)))
    if kind == "H":  # a thin temporal crescent is common in high myopia without being pathological
        rim = zoom * 0.12 + zoom * rng.uniform(0.015, 0.04) - _from(view.disc + view.axes[0] * 0.03, x, y)
        _paint(image, pale, _step(rim, 0.02) * np.float32(0.7))


def _spots(rng: np.random.Generator, view: View, image: Array) -> None:
    """Drusen-like dots around the macula."""
    layer = np.zeros(image.shape[:2], np.uint8)
    for _ in range(rng.integers(5, 40)):
        point = view.pixels(view.fovea + rng.normal(0, 0.05, 2)) * 8
        radius = view.radius * rng.uniform(0.006, 0.02) * 8
        cv2.circle(layer, (int(point[0]), int(point[1])), int(radius), 255, -1, cv2.LINE_AA, 3)
    soft = cv2.GaussianBlur(layer, (0, 0), view.size / 300).astype(np.float32) / 255
    _paint(image, _rgb(0.9, 0.72, 0.4), soft * np.float32(rng.uniform(0.3, 0.7)))


def _disc(rng: np.random.Generator, view: View, x: Array, y: Array, image: Array) -> None:
    zoom = float(np.hypot(*view.axes[0]))
    dx, dy = x - np.float32(view.disc[0]), (y - np.float32(view.disc[1])) / np.float32(rng.uniform(1.02, 1.2))
    d = np.sqrt(dx * dx + dy * dy)
    reach = zoom * rng.uniform(0.105, 0.135)
    _paint(image, _rgb(0.95, 0.6, 0.36) * np.float32(rng.uniform(0.9, 1.1)), _step(reach - d, 0.03))
    cup = _from(view.disc + view.axes[0] * rng.uniform(0.0, 0.02), x, y)
    cover = _step(reach * rng.uniform(0.35, 0.6) - cup, 0.06) * np.float32(rng.uniform(0.6, 0.95))
    _paint(image, _rgb(1.0, 0.86, 0.62), cover)


# Vessels that start at the disc: direction and bend in degrees (0 points to the fovea), length. Mirrored below.
TRUNKS = ((70.0, -88.0, 1.75), (130.0, -25.0, 1.05), (100.0, 10.0, 0.75))


def _vessels(rng: np.random.Generator, view: View) -> tuple[Array, Array]:
    """Arteries and veins, float32 (size, size), 0 to 1; they run in pairs, branch and taper."""
    scale = 2  # drawn larger and scaled down, for widths below a pixel
    layers = [np.zeros((view.size * scale,) * 2, np.uint8) for _ in range(2)]
    queue: deque[tuple[int, Array, float, float, float, float, int]] = deque()
    for sign in (1, -1):
        for heading, bend, length in TRUNKS:
            first, second = rng.normal(0, 9, 2)
            for layer, wide, apart in ((0, 0.018, -7.0), (1, 0.025, 7.0)):
                queue.append(
                    (
                        layer,
                        rng.normal(0, 0.012, 2),
                        np.deg2rad(sign * heading + first + apart + rng.normal(0, 4)),
                        np.deg2rad(sign * bend + second + rng.normal(0, 8)),
                        wide * rng.uniform(0.8, 1.15) * (1.0 if length > 1.2 else 0.7),
                        length * rng.uniform(0.85, 1.15),
                        0,
                    )
                )
    while queue:
        layer, start, heading, bend, width, length, depth = queue.popleft()
        steps = max(6, int(length / 0.035))
        t = np.linspace(0, 1, steps)
        headings = heading + bend * t**0.7 + np.cumsum(rng.normal(0, 0.07, steps))
        strides = np.stack([np.cos(headings), np.sin(headings)], axis=1) * (length / steps)
        points = start + np.vstack([np.zeros(2), np.cumsum(strides, axis=0)])
        drawn = np.rint(view.pixels(view.disc + points @ view.axes) * scale * 8).astype(np.int32)
        for piece in range(3):  # tapers in three segments
            a, b = piece * steps // 3, (piece + 1) * steps // 3 + 1
            thick = float(width * (1 - 0.25 * piece) * view.radius * scale)
            shade = int(255 * min(1.0, 0.35 + 0.3 * thick) * (1 - 0.12 * depth))
            cv2.polylines(layers[layer], [drawn[a:b]], False, shade, max(1, round(thick)), cv2.LINE_AA, 3)
        if depth < 3 and width > 0.005:
            for _ in range(rng.poisson(length * (2.6 if depth == 0 else 1.8))):
                at = rng.integers(2, steps)
                turn = rng.choice([-1, 1]) * rng.uniform(0.35, 1.0)
                queue.append(
                    (
                        layer,
                        points[at],
                        headings[at] + turn,
                        -turn * rng.uniform(0, 0.8),
                        width * rng.uniform(0.45, 0.7),
                        length * rng.uniform(0.25, 0.5),
                        depth + 1,
                    )
                )
    reduced = (cv2.resize(layer, (view.size,) * 2, interpolation=cv2.INTER_AREA) for layer in layers)
    arteries, veins = (layer.astype(np.float32) / 255 for layer in reduced)
    return arteries, veins


def _reflections(rng: np.random.Generator, view: View, x: Array, y: Array, image: Array, veins: Array) -> None:
    """The reflex of the nerve fibres along the vessels, and sometimes the foveal reflex."""
    if rng.random() < 0.35:
        along = cv2.GaussianBlur(veins, (0, 0), view.size / 60)
        broken = np.clip(_noise(rng, view.size, 10) - np.float32(0.2), 0, 1.5)
        _paint(image, _rgb(0.85, 0.82, 0.7), np.clip(along * broken * np.float32(rng.uniform(0.4, 1.2)), 0, 0.6))
    if rng.random() < 0.3:
        ring = np.exp(-(((_from(view.fovea, x, y) - np.float32(0.03)) / np.float32(0.012)) ** 2))
        _paint(image, _rgb(0.95, 0.9, 0.75), ring * np.float32(rng.uniform(0.2, 0.6)))


def _light(rng: np.random.Generator, x: Array, y: Array, radius: Array, image: Array) -> None:
    gx, gy = rng.normal(0, 0.05, 2)
    light = 1 + np.float32(gx) * x + np.float32(gy) * y - np.float32(rng.uniform(0.05, 0.25)) * radius * radius
    image *= np.clip(light, 0.15, 2)[..., None]
    if rng.random() < 0.3:  # stray light from the rim, greenish or blue
        turn = rng.uniform(0, 2 * np.pi)
        side = np.clip(x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn)) - np.float32(0.35), 0, 1)
        tint = _rgb(rng.uniform(0.2, 0.6), rng.uniform(0.4, 0.6), rng.uniform(0.2, 0.6))
        image += (side * side * np.float32(rng.uniform(0.1, 0.4)))[..., None] * tint


def _expose(rng: np.random.Generator, x: Array, y: Array, image: Array, seen: Array) -> None:
    """Set each channel's mean and standard deviation in the field to random values, independent of the class.

    Uneven illumination provides part of the standard deviation, contrast the rest.
    """
    red = rng.uniform(0.44, 0.56)
    green = red * rng.uniform(0.47, 0.57)
    means = np.array([red, green, green * rng.uniform(0.45, 0.6)], np.float32)
    spreads = means * rng.uniform(0.25, 0.32, 3).astype(np.float32)
    image *= means / image[seen].mean(axis=0)
    gx, gy = rng.normal(0, 1, 2).astype(np.float32)
    uneven = _noise(rng, len(x), 3) + gx * x + gy * y
    uneven -= uneven[seen].mean()
    green_now, wanted = image[..., 1][seen], float(spreads[1]) ** 2
    shift = uneven[seen] * means[1]
    a, b = float(shift.var()), 2 * float(np.mean(shift * (green_now - green_now.mean())))
    c = float(green_now.var()) - wanted
    if c < 0:
        image += (np.float32((-b + np.sqrt(b * b - 4 * a * c)) / (2 * a)) * uneven)[..., None] * means
    for _ in range(2):  # the second pass corrects for clipping in the first
        inside = image[seen]
        image -= inside.mean(axis=0)
        image *= spreads / inside.std(axis=0)
        image += means
        np.clip(image, 0, 1, out=image)
