"""A saliency map as a picture: its colours over the image in grey, a colour bar, and captions."""

from __future__ import annotations

import cv2
import numpy as np

PERCENTILE = 99  # of a map's values over the image: this and all above get the last colour
STRENGTH = 0.7  # opacity of the colour from FULL of the scale upwards; below it falls to none at 0
FULL = 0.35
LONGEST_SIDE = (480, 1024)  # of a panel: smaller and larger images are scaled, so that the text can be read
NARROWEST, STRIP, GAP = 400, 36, 8  # pixels: a panel's least width, a caption's height, the space between panels
BAR = 14  # pixels: the colour bar's height in its strip


def scale_top(heat: np.ndarray) -> float:
    """The map's value that the last colour begins at: a high percentile, so that one peak doesn't leave the rest dark.

    Args:
        heat: float, not negative.
    Returns: not negative; 0 only where the whole map is 0.
    """
    top = float(np.percentile(heat, PERCENTILE))
    return top if top > 0 else float(heat.max())


def colours(share: np.ndarray) -> np.ndarray:
    """(H, W) in [0, 1] -> uint8 (H, W, 3), BGR."""
    # Turbo's last tenth darkens to brown, which is lost on the black around a fundus.
    return cv2.applyColorMap(np.rint(0.9 * 255 * share).astype(np.uint8), cv2.COLORMAP_TURBO)


def css_gradient() -> str:
    """The scale of `colours` from left to right, as CSS."""
    stops = colours(np.linspace(0, 1, 9)[None])[0, :, ::-1]
    return f"linear-gradient(to right, {', '.join(f'rgb({r},{g},{b})' for r, g, b in stops)})"


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The image in grey under the map in colours, from 0 to `scale_top`. Where the map is 0 there is no colour.

    Args:
        image: uint8 (H, W, 3), BGR.
        heat: float (h, w), not negative, over the whole of the image.
    Returns: uint8 (H, W, 3), BGR.
    """
    height, width = image.shape[:2]
    heat = cv2.resize(heat.astype(np.float32), (width, height))
    share = np.clip(heat / max(scale_top(heat), np.finfo(np.float32).tiny), 0, 1)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    opacity = STRENGTH * np.minimum(share / FULL, 1)[..., None]
    return np.rint((1 - opacity) * grey + opacity * colours(share)).astype(np.uint8)


def picture(image: np.ndarray, heat: np.ndarray, captions: tuple[str, str], ends: tuple[str, str]) -> np.ndarray:
    """The image, and beside it its overlay, each under its caption; below the overlay the colour bar.

    Args:
        image: uint8 (H, W, 3), BGR: what the network saw of the photograph (`Preprocess.seen`), so that the map lies
            on all of it.
        heat: as for `overlay`.
        captions: of the two, ASCII.
        ends: what stands left and right of the colour bar, ASCII.
    Returns: uint8 (., ., 3), BGR.
    """
    height, width = image.shape[:2]
    scale = np.clip(max(height, width), *LONGEST_SIDE) / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    plain = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    contents = (plain, overlay(plain, heat))
    panels = [_panel(content, caption) for content, caption in zip(contents, captions, strict=True)]
    wide = panels[0].shape[1]
    below = np.hstack([np.zeros((STRIP, wide + GAP, 3), np.uint8), _colour_bar(wide, ends)])
    return np.vstack([np.hstack([panels[0], np.zeros((len(panels[0]), GAP, 3), np.uint8), panels[1]]), below])


def _panel(content: np.ndarray, caption: str) -> np.ndarray:
    missing = max(0, NARROWEST - content.shape[1])
    panel = cv2.copyMakeBorder(
        content, STRIP, 0, missing // 2, missing - missing // 2, cv2.BORDER_CONSTANT, value=(0, 0, 0)
    )
    _write(panel, caption, GAP, panel.shape[1] - 2 * GAP, 0.7)
    return panel


def _colour_bar(wide: int, ends: tuple[str, str]) -> np.ndarray:
    strip = np.zeros((STRIP, wide, 3), np.uint8)
    side = wide // 4  # for the words at either end
    left = _write(strip, ends[0], GAP, side - 2 * GAP, 0.5) + GAP
    right = wide - side
    top = (STRIP - BAR) // 2
    strip[top : top + BAR, left:right] = colours(np.tile(np.linspace(0, 1, right - left), (BAR, 1)))
    _write(strip, ends[1], right + GAP, side - 2 * GAP, 0.5)
    return strip


def _write(strip: np.ndarray, text: str, x: int, room: int, largest: float) -> int:
    """White text in the first STRIP rows, at most `room` wide; return where it ends."""
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, 1
    (wide, high), _ = cv2.getTextSize(text, font, 1.0, thickness)
    scale = min(largest, room / max(wide, 1))
    place = (x, round((STRIP + scale * high) / 2))
    cv2.putText(strip, text, place, font, scale, (255, 255, 255), thickness, cv2.LINE_AA)
    return x + round(scale * wide)
