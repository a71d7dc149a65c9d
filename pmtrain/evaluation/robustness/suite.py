"""The suites of `--shift`: which changes, how strong at severities 1 to 5, and where each is from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pmtrain.evaluation.robustness import changes
from pmtrain.evaluation.robustness.changes import Scene

SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Change:
    """A row of a suite.

    Args:
        apply: a function of `changes`, which says what its amount means.
        amounts: at severities 1 to 5.
        source: the publication that the kind of change is from; amounts are its own only where it says so.
    """

    apply: Callable[[Scene, float, np.random.Generator], np.ndarray]
    amounts: tuple[float, float, float, float, float]
    source: str


# The strengths are chosen so that a person still sees the findings at severity 3, with a little more on both sides.
SHIFTS: dict[str, dict[str, Change]] = {
    "camera": {
        "white balance": Change(changes.white_balance, (0.1, 0.2, 0.3, 0.4, 0.5), "Afifi and Brown 2019, ICCV"),
        "exposure": Change(changes.exposure, (0.5, 1, 1.5, 2, 2.5), "Shen et al. 2021, IEEE TMI"),
        "gamma": Change(changes.gamma, (1.15, 1.35, 1.6, 1.9, 2.3), "Tellez et al. 2019, Med Image Anal"),
        "contrast": Change(changes.contrast, (0.8, 0.65, 0.5, 0.35, 0.25), "Hendrycks and Dietterich 2019, ICLR"),
        "saturation": Change(changes.saturation, (0.8, 0.6, 0.4, 0.2, 0), "Geirhos et al. 2018, NeurIPS"),
        "blur": Change(
            changes.blur,
            (1 / 224, 2 / 224, 3 / 224, 4 / 224, 6 / 224),
            "Hendrycks and Dietterich 2019, ICLR: its Gaussian blur at 224 px",
        ),
        "noise": Change(
            changes.noise,
            (0.04, 0.06, 0.09, 0.13, 0.19),
            "Hendrycks and Dietterich 2019, ICLR: half of its Gaussian noise",
        ),
        "jpeg": Change(changes.jpeg, (25, 18, 15, 10, 7), "Hendrycks and Dietterich 2019, ICLR: its JPEG qualities"),
        "vignette": Change(changes.vignette, (0.2, 0.35, 0.5, 0.65, 0.8), "Shen et al. 2021, IEEE TMI"),
        "haze": Change(changes.haze, (0.1, 0.2, 0.35, 0.5, 0.65), "Peli and Peli 1989, IEEE TMI"),
        "framing": Change(changes.framing, (1.05, 1.1, 1.2, 1.3, 1.45), "Engstrom et al. 2019, ICML"),
        "field size": Change(changes.field_size, (0.95, 0.88, 0.8, 0.7, 0.6), "Panwar et al. 2016, Telemed J E Health"),
        "field cut": Change(changes.field_cut, (0.03, 0.06, 0.1, 0.14, 0.18), "Panwar et al. 2016, Telemed J E Health"),
    },
    "stain": {
        "haematoxylin": Change(changes.haematoxylin, (0.1, 0.2, 0.3, 0.4, 0.5), "Tellez et al. 2019, Med Image Anal"),
        "eosin": Change(changes.eosin, (0.1, 0.2, 0.3, 0.4, 0.5), "Tellez et al. 2019, Med Image Anal"),
        "stains": Change(
            changes.stains,
            (0.05, 0.1, 0.15, 0.2, 0.3),
            "Tellez et al. 2019, Med Image Anal: 0.05 is its HED-light, 0.2 its HED-strong",
        ),
        "white balance": Change(changes.white_balance, (0.05, 0.1, 0.15, 0.2, 0.3), "Afifi and Brown 2019, ICCV"),
        "brightness": Change(changes.exposure, (0.15, 0.3, 0.5, 0.7, 1), "Zhang et al. 2022, MICCAI"),
        "contrast": Change(changes.contrast, (0.9, 0.8, 0.65, 0.5, 0.35), "Tellez et al. 2019, Med Image Anal"),
        "saturation": Change(changes.saturation, (0.8, 0.6, 0.4, 0.2, 0), "Zhang et al. 2022, MICCAI"),
        "blur": Change(changes.blur, (1 / 224, 2 / 224, 3 / 224, 4 / 224, 6 / 224), "Zhang et al. 2022, MICCAI"),
        "noise": Change(changes.noise, (0.02, 0.04, 0.06, 0.09, 0.13), "Tellez et al. 2019, Med Image Anal"),
        "jpeg": Change(changes.jpeg, (60, 40, 25, 15, 10), "Zhang et al. 2022, MICCAI"),
        "magnification": Change(changes.framing, (1.05, 1.1, 1.2, 1.3, 1.45), "Tellez et al. 2019, Med Image Anal"),
    },
}
