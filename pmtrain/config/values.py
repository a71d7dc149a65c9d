"""Kinds of values that options take, each with its check."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import sys
from importlib.abc import InspectLoader
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from pmtrain.system.errors import UsageError

MAX_CLASS_WEIGHT = 1000
RECIPES = Path(__file__).parent / "recipes"


class OneOf:
    """The name of a row in a table of the package: `Annotated[str, OneOf("pmtrain.module:TABLE")]`.

    A new row of the table is a new choice of the flag, the YAML key and the help, without a change here.

    Args:
        table: module and name of a literal dict, by its keys, or of a literal tuple.
        more: values that are allowed besides, put first.
    """

    def __init__(self, table: str, *more: str) -> None:
        self.table = table
        self.more = more

    def names(self) -> tuple[Any, ...]:
        """All allowed values, in the table's order."""
        return (*self.more, *_rows(self.table))

    def check(self, value: Any) -> Any:
        """The value itself.

        Raises:
            ValueError: it is not allowed.
        """
        names = self.names()
        if value not in names:
            raise ValueError(f"choose one of {', '.join(map(str, names))}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))


class RecipeName(OneOf):
    """The name of a recipe, a YAML file in `pmtrain/config/recipes/`."""

    def __init__(self) -> None:
        super().__init__("")

    def names(self) -> tuple[str, ...]:
        """All recipes, by name."""
        return tuple(sorted(path.stem for path in RECIPES.glob("*.yaml")))


def _rows(table: str) -> tuple[Any, ...]:
    """The names of a table's rows.

    As long as its module isn't imported they are read off its source: a command's --help then waits for neither
    OpenCV nor Paddle, and the thread count can still be set before Paddle loads.
    """
    module, name = table.split(":")
    if module not in sys.modules and (rows := _rows_in_source(module, name)) is not None:
        return rows
    return tuple(getattr(importlib.import_module(module), name))


@functools.cache
def _rows_in_source(module: str, name: str) -> tuple[Any, ...] | None:
    """None where there is no source, or no such literal in it."""
    spec = importlib.util.find_spec(module)
    source = spec.loader.get_source(module) if spec and isinstance(spec.loader, InspectLoader) else None
    for node in ast.parse(source or "").body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if [target.id for target in targets if isinstance(target, ast.Name)] == [name]:
                rows = node.value.keys if isinstance(node.value, ast.Dict) else getattr(node.value, "elts", [None])
                found = tuple(row.value for row in rows if isinstance(row, ast.Constant))
                return found if len(found) == len(rows) else None
    return None


def _known_rule(text: str) -> str:
    from pmtrain.metrics import parse_threshold_rule  # here: --help doesn't wait for NumPy

    try:
        parse_threshold_rule(text)
    except UsageError as error:
        raise ValueError(f"{error.message}; {error.hint}") from None
    return text


def _training_rule(text: str) -> str:
    if text.strip().lower() == "stored":
        raise ValueError("training stores the threshold, so it can't take a stored one")
    return _known_rule(text)


def _class_weight(value: Any) -> Any:
    """`balanced` or a number, kept as text."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):  # as YAML reads it
        value = str(value)
    if not isinstance(value, str) or value == "balanced":
        return value
    try:
        weight = float(value)
    except ValueError:
        raise ValueError("it must be balanced or a number") from None
    if not 0 < weight <= MAX_CLASS_WEIGHT:
        raise ValueError(f"a weight must be above 0 and at most {MAX_CLASS_WEIGHT}")
    return value


def _severities(value: Any) -> Any:
    """`1,3,5` or a list of numbers -> the numbers, each once, in order."""
    try:
        numbers = sorted({int(part) for part in (value.split(",") if isinstance(value, str) else value)})
    except (ValueError, TypeError):
        raise ValueError("give numbers from 1 to 5, such as 1,3,5") from None
    if not numbers or not set(numbers) <= {1, 2, 3, 4, 5}:
        raise ValueError("give numbers from 1 to 5, such as 1,3,5")
    return ",".join(map(str, numbers))


Severities = Annotated[str, BeforeValidator(_severities)]
ClassWeight = Annotated[str, BeforeValidator(_class_weight)]
ThresholdText = Annotated[str, AfterValidator(_known_rule)]
TrainingRule = Annotated[str, AfterValidator(_training_rule)]

# A number that older runs stored as null where it was off.
NoneIsZero = Annotated[float, BeforeValidator(lambda value: 0.0 if value is None else value)]

# A path may be given as text, although types are strict otherwise.
AnyPath = Annotated[Path, Field(strict=False)]
# A label may be a number, which YAML doesn't read as text.
LabelText = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) is int else value)]


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else [] if value is None else value


def _external(values: list[str]) -> list[str]:
    """`NAME=DATA`, each name once."""
    names: set[str] = set()
    for text in values:
        name, _, data = (part.strip() for part in text.partition("="))
        if not name or not data:
            raise ValueError(f"{text!r}: write NAME=DATA, such as clinic-b=data/clinic-b")
        if name in names or name == "internal":
            raise ValueError(f"{name!r}: give each set a name of its own, other than internal")
        names.add(name)
    return values


# One name or several.
Names = Annotated[list[str], BeforeValidator(_listed)]
ExternalSets = Annotated[list[str], BeforeValidator(_listed), AfterValidator(_external)]
