"""Options from a recipe, a YAML file and flags: each overrides those before it, and all override the defaults."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pmtrain.config.options import choices_of, flag_of
from pmtrain.config.values import RECIPES, RecipeName
from pmtrain.system.errors import UsageError

Config = TypeVar("Config", bound=BaseModel)

MOST_BYTES, DEEPEST = (
    1 << 16,
    8,
)  # of a YAML file of options: a run's has about 1,000 bytes and lists as its deepest values


def load_config(model: type[Config], flags: Mapping[str, Any], file: Path | None = None) -> Config:
    """`model`'s defaults, overridden by the recipe, by the YAML `file`, and by `flags` (those that are not None).

    A recipe is named by the option `recipe`, or in place of the file.

    Raises:
        UsageError: a file that can't be read, a key that doesn't exist, a wrong type or a value out of range;
            the message names the file or the flag, the key and the value. Two recipes.
    """
    from_flags = {key: value for key, value in flags.items() if value is not None}
    from_file = from_config(file) if file else {}
    if from_file.keys() == {"recipe"} and from_flags.get("recipe", from_file["recipe"]) != from_file["recipe"]:
        raise UsageError(
            f"--recipe {from_flags['recipe']} with --config {file}: those are two recipes", "give one of them"
        )
    return validated(
        model, from_file | from_flags, lambda key: flag_of(key) if key in from_flags else f"{file}: {key}:"
    )


def resumed(kept: Config, flags: Mapping[str, Any], changeable: Collection[str], kind: str = "run") -> Config:
    """The options that were kept, with those of `flags` (those that are not None) that may change.

    Args:
        changeable: options that don't alter the result.
        kind: what is resumed.
    Raises:
        UsageError: a flag would alter the result.
    """
    given = {key: value for key, value in flags.items() if value is not None}
    for key, value in given.items():
        if key not in changeable and value != getattr(kept, key):
            raise UsageError(
                f"{flag_of(key)} {_shown(value)}: the {kind} has {_shown(getattr(kept, key))}, and a resumed {kind}"
                " keeps it",
                f"only {', '.join(flag_of(name) for name in sorted(changeable))} can change; or start a new {kind}",
            )
    return load_config(type(kept), kept.model_dump() | given)


def _shown(value: Any) -> str:
    """An option's value as a person writes it."""
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def from_config(given: Path) -> dict[str, Any]:
    """The options in a YAML file, or where there is none, the recipe of that name (without `.yaml`).

    Raises:
        UsageError: the file can't be read; `given` is a bare name, and there is neither such a file nor such a recipe.
    """
    if given.exists() or given.suffix or len(given.parts) > 1:
        return read_yaml(given)
    recipes = RecipeName().names()
    if str(given) not in recipes:
        raise UsageError(
            f"--config {given}: there is no such file or recipe",
            f"give the path of a YAML file, or a recipe: {', '.join(recipes)}",
        )
    return {"recipe": str(given)}


def recipe_options(name: str) -> dict[str, Any]:
    """What the recipe of that name states, and what the recipe that it names states beside that."""
    stated = read_yaml(RECIPES / f"{name}.yaml")
    return recipe_options(stated.pop("recipe")) | stated if "recipe" in stated else stated


def validated(model: type[Config], values: Mapping[str, Any], where: Callable[[str], str]) -> Config:
    """The defaults, overridden by the recipe that `values` name, if any, and by `values`, checked against the fields.

    `where` says for people where a key was given.

    Raises:
        UsageError: a key that doesn't exist, a wrong type or a value out of range.
    """
    for key in values:
        if key not in model.model_fields:
            raise UsageError(f"{where(str(key))} there is no option {key!r}", _nearest(str(key), model))
    recipe = values.get("recipe")
    if isinstance(recipe, str) and recipe in choices_of(model.model_fields["recipe"]):
        values = {**recipe_options(recipe), **values}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        message = first["msg"].removeprefix("Value error, ")
        field, given = model.model_fields[key], first["input"]
        shown = " ".join(map(repr, given)) if isinstance(given, list) else repr(given)
        raise UsageError(
            f"{where(key)} {shown[:100]}: {message[0].lower()}{message[1:]}",
            f"{flag_of(key)}: {field.description}" if field.description else "",
        ) from None


def _nearest(key: str, model: type[BaseModel]) -> str:
    close = difflib.get_close_matches(key.replace("-", "_"), model.model_fields, n=1, cutoff=0.5)
    known = "the options are " + ", ".join(model.model_fields)
    return f"did you mean {close[0]!r}?" if close else known


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        UsageError: it can't be read, isn't YAML, names a key twice, holds no mapping, or is larger, deeper or more
            repetitive than options are.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.composer import Composer
    from ruamel.yaml.error import YAMLError
    from ruamel.yaml.events import AliasEvent

    depth = 0

    class Bounded(Composer):
        """Small files can stand for any amount of memory by aliases, and exhaust the stack by nesting."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            nonlocal depth
            if self.parser.check_event(AliasEvent):
                raise UsageError(f"{file}: has an alias (*name), which options don't need", "write the value itself")
            depth += 1
            if depth > DEEPEST:
                raise UsageError(f"{file}: is nested more than {DEEPEST} deep", "write one `option: value` a line")
            node = super().compose_node(parent, index)
            depth -= 1
            return node

    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = Bounded
    try:
        if file.stat().st_size > MOST_BYTES:
            raise UsageError(f"{file}: has more than {MOST_BYTES:,} bytes", "give a file of options")
        content = yaml.load(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{file}: can't be read: {error.strerror}", "give the path of a YAML file") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file}: isn't UTF-8 text", "save it as UTF-8 (in Notepad: Save as, Encoding)") from None
    except (YAMLError, ValueError, TypeError, LookupError, AttributeError, OverflowError, AssertionError) as error:
        detail = " ".join(str(error).split())[:300]
        raise UsageError(f"{file}: isn't YAML: {detail}", "write one `option: value` a line") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{file}: holds no options but {repr(content)[:100]}", "write one `option: value` a line")
    return content


def dump_yaml(config: BaseModel) -> str:
    """The whole configuration as YAML that `--config` reads back."""
    from io import StringIO

    from ruamel.yaml import YAML

    stream = StringIO()
    YAML().dump(config.model_dump(mode="json"), stream)  # the round-trip kind keeps the order, one option a line
    return stream.getvalue()
