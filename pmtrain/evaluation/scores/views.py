"""Test-time augmentation: the views of an image whose logits are averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pmtrain.config import PredictConfig, ScoringOptions
from pmtrain.data.preprocessing.preprocess import Preprocess

Change = Callable[[np.ndarray], np.ndarray]  # (N, 3, S, S) -> the same shape


def as_it_is(images: np.ndarray) -> np.ndarray:
    """(N, 3, S, S), unchanged."""
    return images


def mirrored(images: np.ndarray) -> np.ndarray:
    """(N, 3, S, S), left and right exchanged: a right eye for a left one."""
    return np.ascontiguousarray(images[..., ::-1])


def turned(quarters: int, mirror: bool = False) -> Change:
    """(N, 3, S, S) -> the same, mirrored if `mirror`, then turned counterclockwise by so many right angles."""
    step = -1 if mirror else 1
    return lambda images: np.ascontiguousarray(np.rot90(images[..., ::step], quarters, axes=(2, 3)))


@dataclass(frozen=True)
class View:
    """One view of an image.

    Args:
        name: what reports call it.
        change: (N, 3, S, S) -> the same shape.
        scale: width and height as a multiple of the training size.
    """

    name: str
    change: Change = as_it_is
    scale: float = 1.0


PLAIN = (View("as it is"),)
MIRROR = (*PLAIN, View("mirrored", mirrored))
TURNS = tuple(View(f"turned by {90 * quarters} degrees", turned(quarters)) for quarters in (1, 2, 3))
VIEWS: dict[str, tuple[View, ...]] = {
    "mirror": MIRROR,
    "turns": (*PLAIN, *TURNS),
    "mirror-turns": (
        *(*MIRROR, *TURNS),
        *(View(f"mirrored, {view.name}", turned(place, mirror=True)) for place, view in enumerate(TURNS, 1)),
    ),
    "scales": (*PLAIN, View("at 9/8 of the size", scale=9 / 8)),
}
TEXTS = {
    "mirror": "each image and its mirror image (--tta)",
    "turns": "each image turned by 0, 90, 180 and 270 degrees (--tta-views turns)",
    "mirror-turns": "each image and its mirror image turned by 0, 90, 180 and 270 degrees (--tta-views mirror-turns)",
    "scales": "each image at the training size and at 9/8 of it (--tta-views scales)",
}


def views_of(options: ScoringOptions | PredictConfig) -> tuple[View, ...]:
    """The views that the options name: --tta-views, else the mirror image for --tta."""
    name = _name(options)
    return VIEWS[name] if name else PLAIN


def by_size(views: Sequence[View], preprocess: Preprocess) -> dict[Preprocess, list[Change]]:
    """The preprocessing at each size that the views need, in their order, with the views' changes at that size."""
    changes: dict[Preprocess, list[Change]] = {}
    for view in views:
        way = replace(preprocess, size=round(view.scale * preprocess.size))
        changes.setdefault(way, []).append(view.change)
    return changes


def views_stated(options: ScoringOptions | PredictConfig) -> list[str]:
    """The line that says what the scores are means of; none for plain scores."""
    name = _name(options)
    return [f"scores: mean logit of {TEXTS[name]}"] if name else []


def _name(options: ScoringOptions | PredictConfig) -> str | None:
    return options.tta_views or ("mirror" if options.tta else None)
