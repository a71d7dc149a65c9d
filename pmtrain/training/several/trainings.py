"""`train --folds` and `train --seeds`: from options to several trainings and their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pmtrain.config import TrainConfig
from pmtrain.data.dataset import DataSet
from pmtrain.data.select import select
from pmtrain.runs.run_folder import RunFolder
from pmtrain.training import train as single
from pmtrain.training.run import WhenDone
from pmtrain.training.saving import RunState
from pmtrain.training.several import crossval, seeds
from pmtrain.training.several.members import Part, Prepared, Whole, begin, go, reopen


class Kind(NamedTuple):
    """What makes one kind of several trainings differ from another.

    Args:
        word: for one of them.
        check: raises a UsageError for options that don't go together.
        parts: the trainings' folders and own options.
        prepared: their data.
        conclude: prints and writes the results, given where each training stands.
    """

    word: str
    check: Callable[[TrainConfig], None]
    parts: Callable[[TrainConfig], list[Part]]
    prepared: Callable[[DataSet, TrainConfig], Prepared]
    conclude: Callable[[Whole, list[RunState]], None]


# By the option that asks for them; the check of `seeds` refuses both at once.
KINDS = {
    "seeds": Kind("seed", seeds.check, seeds.parts_of, seeds.prepared, seeds.conclude),
    "folds": Kind("fold", crossval.check, crossval.parts_of, crossval.prepared, crossval.conclude),
}


def kind_of(config: TrainConfig) -> Kind:
    """The row of KINDS that the options ask for."""
    return next(kind for option, kind in KINDS.items() if getattr(config, option))


def train(config: TrainConfig, when_done: WhenDone | None = None) -> int:
    """Train the networks and print their results; return the exit code as `train.train` does.

    Args:
        when_done: called at the end, as `Run.go` does.
    Raises:
        PmtrainError: as `train.train`; UsageError for options that don't go together.
    """
    kind = kind_of(config)
    kind.check(config)
    whole = begin(config, kind.word, kind.parts(config), kind.prepared(select(config), config))
    return go(whole, kind.conclude, when_done)


def resume(path: Path, flags: Mapping[str, Any], when_done: WhenDone | None = None) -> int:
    """Resume the trainings in the folder `path`, inside one of them; return the exit code as `train` does.

    Raises:
        PmtrainError: as `train.resume`.
    """
    kind = kind_of(RunFolder.open(path).config())
    return go(reopen(path, flags, kind.word, kind.parts), kind.conclude, when_done)


def dry_run(config: TrainConfig) -> int:
    """Check everything and train one step of the first network, without writing anything."""
    kind = kind_of(config)
    kind.check(config)
    return single.dry_run(config, lambda data, config: kind.prepared(data, config).splits[0])
