"""How often pmtrain's 95 % intervals hold the true value: simulated, with seeds, in some minutes.

    python scripts/simulate_coverage.py [--repeats 500] [--n-boot 1000]

A positive's evidence is normal about d, a negative's about 0, both of spread 1. The network is overconfident: its logit
is 1.5 times the true one (once it is calibrated, for the calibration error's sake). The truth is had from two million
images. With two eyes a patient, the label is the patient's and the eyes' evidence correlates by 0.7.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import NamedTuple

import numpy as np

from pmtrain.metrics import (
    MEASURES,
    Bootstrap,
    bootstrap_intervals,
    delong_interval,
    evaluate_measures,
    wilson,
)

PROPORTIONS = ("accuracy", "sensitivity", "specificity", "ppv", "npv")


class Setting(NamedTuple):
    title: str
    n: int
    prevalence: float
    distance: float
    eyes: int = 1
    confidence: float = 1.5


SETTINGS = [
    Setting("400 images, half positive, AUC 0.92", 400, 0.5, 2.0),
    Setting("400 images, a tenth positive, AUC 0.92", 400, 0.1, 2.0),
    Setting("400 images, half positive, AUC 0.99", 400, 0.5, 3.3),
    Setting("100 images, half positive, AUC 0.92", 100, 0.5, 2.0),
    Setting("2 eyes of each of 200 patients, half positive, AUC 0.92", 400, 0.5, 2.0, eyes=2),
    Setting("400 images, half positive, AUC 0.92, calibrated", 400, 0.5, 2.0, confidence=1.0),
]


def draw(setting: Setting, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities and patients of n images."""
    patients = np.arange(n) // setting.eyes
    labels = (rng.random(patients[-1] + 1) < setting.prevalence).astype(int)[patients]
    share = 0.7 if setting.eyes > 1 else 0.0
    noise = np.sqrt(share) * rng.normal(size=patients[-1] + 1)[patients] + np.sqrt(1 - share) * rng.normal(size=n)
    evidence = noise + setting.distance * labels
    odds = np.log(setting.prevalence / (1 - setting.prevalence))
    logit = odds + setting.distance * evidence - setting.distance**2 / 2
    return labels, 1 / (1 + np.exp(-setting.confidence * logit)), patients


def coverage(setting: Setting, repeats: int, n_boot: int) -> dict[str, tuple[float, int]]:
    """By interval: the share that hold the true value, and how many there were."""
    rng = np.random.default_rng(1)
    threshold = 0.5  # of the overconfident logit and of the true one alike
    y, p, _ = draw(setting, 2_000_000, rng)
    truth = {name: value.value for name, value in evaluate_measures(y, p, threshold).items()}
    held: dict[str, list[bool]] = {}
    for repeat in range(repeats):
        y, p, patients = draw(setting, setting.n, rng)
        groups = patients if setting.eyes > 1 else None
        found = dict(bootstrap_intervals(y, p, threshold, groups, Bootstrap(0.95, n_boot, repeat)))
        found["auc, DeLong"] = delong_interval(y, p, groups)
        values = evaluate_measures(y, p, threshold)
        for name in PROPORTIONS:
            found[f"{name}, Wilson"] = wilson(values[name].k, values[name].n)
        for name, i in found.items():
            if i.low is not None:
                held.setdefault(name, []).append(i.low <= truth[name.split(",")[0]] <= i.high)
    return {name: (float(np.mean(inside)), len(inside)) for name, inside in held.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=500)
    parser.add_argument("--n-boot", type=int, default=1000)
    options = parser.parse_args()
    columns = []
    for setting in SETTINGS:
        start = time.perf_counter()
        columns.append(coverage(setting, options.repeats, options.n_boot))
        print(f"{setting.title}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    error = 100 * np.sqrt(0.95 * 0.05 / options.repeats)
    print(f"Coverage in %, {options.repeats} repeats (standard error {error:.1f}), {options.n_boot} resamples each.")
    for number, setting in enumerate(SETTINGS, 1):
        print(f"  [{number}] {setting.title}")
    print(f"{'':26s}" + "".join(f"{f'[{number}]':>7s}" for number in range(1, len(SETTINGS) + 1)))
    rows = [*MEASURES, "auc, DeLong", *(f"{name}, Wilson" for name in PROPORTIONS)]
    for name in rows:
        cells = [f"{100 * column[name][0]:7.1f}" if name in column else f"{'-':>7s}" for column in columns]
        print(f"{name:26s}" + "".join(cells))


if __name__ == "__main__":
    main()
