"""Learning rate schedules: the learning rate of each step, from the step's number alone.

So a resumed run has the same rates, and nothing of a schedule has to be saved.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from pmtrain.config import TrainConfig
from pmtrain.system.errors import UsageError


@dataclass(frozen=True)
class Schedule:
    """The learning rate by step.

    Args:
        kind: a row of SCHEDULES.
        lr: the peak learning rate, --lr.
        steps: steps in the whole run.
        warmup_steps: the rate rises linearly over the first so many steps; 0: no warm-up. --warmup-epochs is cut to
            half of the run, so that one recipe serves long and short runs.
        every: with `step`, steps between two reductions.
        factor: with `step`, what each reduction multiplies the rate by.
        hold_from: the step from which on the rate is constant (--swa-epochs); None: never.
        hold_lr: the rate then; None: what the schedule has come to.
    """

    kind: str
    lr: float
    steps: int
    warmup_steps: int = 0
    every: int = 1
    factor: float = 0.1
    hold_from: int | None = None
    hold_lr: float | None = None

    @classmethod
    def of(cls, config: TrainConfig, batches: int) -> Schedule:
        """The schedule of a run with so many batches an epoch.

        Raises:
            UsageError: the options contradict one another, or the warm-up doesn't end within the run.
        """
        steps = config.epochs * batches
        if config.warmup_steps and config.warmup_epochs:
            raise UsageError(
                f"--warmup-steps {config.warmup_steps} with --warmup-epochs {config.warmup_epochs}",
                "to warm up by steps, add --warmup-epochs 0",
            )
        if config.warmup_steps >= steps > 0:
            raise UsageError(
                f"--warmup-steps {config.warmup_steps}: the run has {steps} steps ({config.epochs} epochs of"
                f" {batches}), so the learning rate would never reach --lr",
                "give fewer warm-up steps or more --epochs",
            )
        if (config.schedule == "step") != (config.lr_step_epochs is not None):
            raise UsageError(
                f"--schedule {config.schedule} {'without' if config.lr_step_epochs is None else 'with'}"
                " --lr-step-epochs",
                "give both, such as --schedule step --lr-step-epochs 10; or neither",
            )
        every = (config.lr_step_epochs or 1) * batches
        warmup_steps = config.warmup_steps or min(config.warmup_epochs * batches, steps // 2)
        hold_from = (config.epochs - config.swa_epochs) * batches if config.swa_epochs else None
        if hold_from is not None and 0 <= hold_from < warmup_steps:
            raise UsageError(
                f"--swa-epochs {config.swa_epochs} of {config.epochs}: they begin within the warm-up",
                "give fewer, or a shorter warm-up",
            )
        return cls(config.schedule, config.lr, steps, warmup_steps, every, config.lr_factor, hold_from, config.swa_lr)

    @property
    def varies(self) -> bool:
        """Whether the rate is ever anything but `lr`."""
        return self.kind != "constant" or self.warmup_steps > 0 or self.hold_lr is not None

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        if self.hold_from is not None and step >= self.hold_from:
            if self.hold_lr is not None:
                return self.hold_lr
            step = self.hold_from
        warmup = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        return self.lr * warmup * SCHEDULES[self.kind](self, step)


def constant(schedule: Schedule, step: int) -> float:
    """1 at every step."""
    return 1.0


def cosine(schedule: Schedule, step: int) -> float:
    """From 1 at the first step towards 0 after the last one, along half a cosine.

    Source: Loshchilov and Hutter 2017 (SGDR), equation 5, without restarts.
    """
    return 0.5 * (1 + math.cos(math.pi * step / schedule.steps))


def stepwise(schedule: Schedule, step: int) -> float:
    """Multiplied by `factor` after every `every` steps, as PyTorch's StepLR does it by epochs."""
    return schedule.factor ** (step // schedule.every)


# (schedule, step from 0) -> the share of --lr at that step.
SCHEDULES: dict[str, Callable[[Schedule, int], float]] = {"constant": constant, "cosine": cosine, "step": stepwise}


def depends_on_length(config: TrainConfig) -> bool:
    """Whether the rates depend on the number of epochs, which a resumed run then can't change."""
    return config.schedule == "cosine" or 2 * config.warmup_epochs > config.epochs or config.swa_epochs > 0
