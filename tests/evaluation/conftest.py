"""What tests of several folders of evaluation share."""

from __future__ import annotations

import numpy as np
import pytest

from pmtrain.evaluation.robustness.conditions import over_conditions
from pmtrain.evaluation.robustness.shift import Shifted
from pmtrain.evaluation.robustness.suite import SHIFTS
from pmtrain.metrics import Bootstrap


@pytest.fixture(scope="session")
def shift_result() -> Shifted:
    """The stain suite at severities 1 and 5 on 40 images whose scores were drawn at random."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 20)
    clean = np.clip(rng.normal(0.3 + 0.4 * labels, 0.15), 0, 1)
    changed = {
        (name, severity): np.clip(clean + rng.normal(0, 0.08 * severity, 40), 0, 1)
        for name in SHIFTS["stain"]
        for severity in (1, 5)
    }
    reached = over_conditions(labels, clean, changed, 0.5, bootstrap=Bootstrap(n_boot=100))
    return Shifted("stain", (1, 5), 0.5, 40, np.zeros((40, len(changed))), reached)
