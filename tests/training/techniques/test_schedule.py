"""Learning rates, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from pmtrain.config import TrainConfig
from pmtrain.system.errors import UsageError
from pmtrain.training.techniques.schedule import SCHEDULES, Schedule, depends_on_length


def rates(batches: int, **options) -> list[float]:
    schedule = Schedule.of(TrainConfig(lr=0.1, **options), batches)
    return [schedule.rate(step) for step in range(schedule.steps)]


def test_a_constant_rate_is_the_rate_itself():
    assert rates(2, epochs=2) == [0.1] * 4
    assert not Schedule.of(TrainConfig(), 2).varies


def test_cosine_falls_from_the_peak_towards_zero():
    # (1 + cos(pi k / 4)) / 2 for k = 0 to 3
    assert rates(2, epochs=2, schedule="cosine") == pytest.approx([0.1, 0.08535534, 0.05, 0.01464466])


def test_warm_up_rises_linearly_over_the_schedule():
    assert rates(2, epochs=2, warmup_steps=3) == pytest.approx([0.1 / 3, 0.2 / 3, 0.1, 0.1])
    cosine = rates(2, epochs=2, schedule="cosine", warmup_steps=2)
    assert cosine == pytest.approx([0.05, 0.08535534, 0.05, 0.01464466])


def test_stochastic_weight_averaging_holds_the_rate():
    cosine = rates(2, epochs=4, schedule="cosine", swa_epochs=2)
    # (1 + cos(pi k / 8)) / 2 for k = 0 to 4
    assert cosine == pytest.approx([0.1, 0.09619398, 0.08535534, 0.06913417, 0.05, 0.05, 0.05, 0.05])
    assert rates(1, epochs=3, swa_epochs=1, swa_lr=0.02) == [0.1, 0.1, 0.02]
    assert Schedule.of(TrainConfig(swa_epochs=1, swa_lr=0.02), 2).varies
    assert depends_on_length(TrainConfig(swa_epochs=1))


@pytest.mark.parametrize(
    ("epochs", "warmup_epochs", "steps"),
    [(15, 3, 60), (6, 3, 60), (5, 3, 50), (1, 3, 10), (4, 0, 0)],  # of 20 a epoch: at most half of them
)
def test_a_warm_up_by_epochs_is_at_most_half_of_the_run(epochs, warmup_epochs, steps):
    schedule = Schedule.of(TrainConfig(epochs=epochs, warmup_epochs=warmup_epochs), 20)
    assert schedule.warmup_steps == steps
    assert depends_on_length(TrainConfig(epochs=epochs, warmup_epochs=warmup_epochs)) == (steps < 20 * warmup_epochs)


def test_warm_up_of_a_run_of_one_step_does_nothing():
    assert rates(1, epochs=1, warmup_epochs=3) == [0.1]


def test_steps_are_those_of_pytorchs_step_lr():
    # StepLR(step_size=2, gamma=0.5) by epochs: 0.1, 0.1, 0.05, 0.05, 0.025
    found = rates(3, epochs=5, schedule="step", lr_step_epochs=2, lr_factor=0.5)
    assert found[::3] == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025])
    assert found[3:6] == [0.1] * 3


@pytest.mark.parametrize("kind", SCHEDULES)
def test_no_rate_exceeds_the_peak_or_is_negative(kind):
    found = rates(7, epochs=6, schedule=kind, lr_step_epochs=2 if kind == "step" else None, warmup_steps=4)
    assert all(0 <= rate <= 0.1 for rate in found)
    assert found[0] < found[3]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"warmup_steps": 10}, "the run has 10 steps"),
        ({"warmup_steps": 1, "warmup_epochs": 1}, "--warmup-steps 1 with --warmup-epochs 1"),
        ({"schedule": "step"}, "without --lr-step-epochs"),
        ({"schedule": "cosine", "lr_step_epochs": 3}, "with --lr-step-epochs"),
    ],
)
def test_what_cannot_be_is_refused(options, said):
    with pytest.raises(UsageError, match=said):
        Schedule.of(TrainConfig(epochs=5, **options), 2)
