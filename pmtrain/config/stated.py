"""What a run says of its options: its recipe, and what it adds to the notes' loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pmtrain.config.commands.train_options import LoopOptions, TrainConfig
from pmtrain.config.load import recipe_options
from pmtrain.config.options import flag_of, off_flag_of


def recipe_stated(config: TrainConfig) -> str:
    """The line that says the run's recipe, as `recipe_and_changes`; empty without one."""
    told = recipe_and_changes(config)
    return told and f"recipe: {told}"


def recipe_and_changes(config: TrainConfig) -> str:
    """The run's recipe, with the flags of what it has in place of the recipe's own values; empty without one."""
    if config.recipe is None:
        return ""
    own = recipe_options(config.recipe)
    values = {name: getattr(config, name) for name in own}
    # None can't be given as a flag: a member of several trainings has no `seeds` of its own.
    changed = {name: value for name, value in values.items() if value not in (own[name], None)}
    return config.recipe + (f", but {_as_flags(changed)}" if changed else "")


def added_options(config: TrainConfig) -> str:
    """The flags of what the run adds to the notes' loop; empty if nothing."""
    values = {name: getattr(config, name) for name in LoopOptions.model_fields}
    return _as_flags({name: value for name, value in values.items() if value != LoopOptions.model_fields[name].default})


def _as_flags(values: Mapping[str, Any]) -> str:
    def flag(name: str, value: Any) -> str:
        if isinstance(value, bool):
            return flag_of(name) if value else off_flag_of(name)
        return f"{flag_of(name)} {value}"

    return " ".join(flag(name, value) for name, value in values.items())
