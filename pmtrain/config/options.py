"""What an option is: a field with a type, a default, a help text and the head that it stands under in --help."""

from __future__ import annotations

import types
import typing
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from pmtrain.config.values import OneOf

# The heads of --help, in their order there.
HEADS = RUN, DATA, NETWORK, TRAINING, EVALUATION, OUTPUT, MACHINE = (
    *("Run", "Data", "Network", "Training", "Evaluation", "Output", "Machine"),
)

SHORT_FLAGS = {"batch_size": "-b", "workers": "-j"}


class Options(BaseModel):
    """A command's options, checked: unknown names and wrong types are refused."""

    # Checks are built when a command first needs them: the help of ten commands does not wait for them.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)


def option(head: str, text: str, **more: Any) -> Any:
    """The field of an option.

    Args:
        head: the one of HEADS that it stands under.
        text: its help; where no single value is the default, the text tells of it as `  [default: ...]`.
        more: its `default` and limits, as pydantic's `Field` takes them.
    """
    return Field(description=text, json_schema_extra={"head": head}, **more)


def head_of(field: FieldInfo) -> str:
    """The head that an option stands under."""
    return typing.cast(dict[str, str], field.json_schema_extra)["head"]


def flag_of(field: str) -> str:
    """`batch_size` -> `--batch-size`."""
    return "--" + field.replace("_", "-")


def off_flag_of(field: str) -> str:
    """The flag that turns a switch off: `nesterov` -> `--no-nesterov`, `no_decay_norms` -> `--decay-norms`."""
    return flag_of(field.removeprefix("no_")) if field.startswith("no_") else flag_of(f"no_{field}")


def kind_of(field: FieldInfo) -> type:
    """The type to read an option's command-line text as."""
    kind, _ = _inner(field)
    if typing.get_origin(kind) is typing.Literal:
        return str
    return list[str] if typing.get_origin(field.annotation) is list else kind


def choices_of(field: FieldInfo) -> tuple[str, ...]:
    """The values to choose from, as a person writes them; none where it isn't a choice."""
    kind, about = _inner(field)
    if typing.get_origin(kind) is typing.Literal:
        return typing.get_args(kind)
    return next((tuple(map(str, each.names())) for each in about if isinstance(each, OneOf)), ())


def _inner(field: FieldInfo) -> tuple[Any, list[Any]]:
    """A field's type inside `list`, `| None` and `Annotated`, and what those say of it."""
    kind: Any = field.annotation
    about = list(field.metadata)
    while True:
        if typing.get_origin(kind) in (typing.Union, types.UnionType):
            kind = next(part for part in typing.get_args(kind) if part is not type(None))
        elif typing.get_origin(kind) is Annotated:
            kind, *more = typing.get_args(kind)
            about += more
        elif typing.get_origin(kind) is list:
            (kind,) = typing.get_args(kind)
        else:
            return kind, about
