"""From options to flags: one for each field of a command's configuration, under its head in --help."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from pydantic import BaseModel
from typer.core import TyperCommand

from pmtrain.config.options import HEADS, SHORT_FLAGS, choices_of, flag_of, head_of, kind_of, off_flag_of
from pmtrain.system import parallel
from pmtrain.system.errors import UsageError
from pmtrain.system.hardware import thread_count
from pmtrain.system.parallel import Processes

ARGUMENTS, OTHER = "Arguments", "Options"
DATA_ARGUMENT = inspect.Parameter(
    "data_argument",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        Optional[Path],  # noqa: UP045
        typer.Argument(metavar="DATA", show_default=False, help="Images; the same as --data."),
    ],
)


class Command(TyperCommand):
    """A command with its options under heads, in plain help: the same on every terminal, and faster than Rich."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        fields = getattr(self.callback, "fields", {})
        sections: dict[str, list[tuple[str, str]]] = {head: [] for head in (ARGUMENTS, *HEADS, OTHER)}
        for param in self.get_params(ctx):
            # Only here: the other commands' choices aren't looked up.
            if choices := param.name in fields and choices_of(fields[param.name]):
                param.metavar = "|".join(choices)
            elif getattr(param, "multiple", False):
                param.metavar = "<str>"  # of each time that it is given
            if row := param.get_help_record(ctx):
                otherwise = ARGUMENTS if param.param_type_name == "argument" else OTHER
                sections[getattr(param, "rich_help_panel", None) or otherwise].append(row)
        for head, rows in sections.items():
            if rows:
                with formatter.section(head):
                    formatter.write_dl(rows)


def with_options(model: type[BaseModel]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command one flag for each field of `model`, after its own parameters.

    The command takes them as keywords, None where the flag isn't given, so that a file's value or the default counts.
    Where there is --data, the data can also be given as the last argument.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.kind is not p.VAR_KEYWORD]
        data = [DATA_ARGUMENT] if "data" in model.model_fields else []
        flags = [_flag(model, name) for name in model.model_fields]

        @functools.wraps(command)
        def run(**kwargs: Any) -> Any:
            folder = kwargs.pop(DATA_ARGUMENT.name, None)
            if folder is not None and kwargs["data"] is not None:
                raise UsageError(f"{folder} and --data {kwargs['data']}: the data is given twice", "give it once")
            if folder is not None:
                kwargs["data"] = folder
            return command(**{key: None if value == [] else value for key, value in kwargs.items()})

        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + data + flags
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        run.fields = model.model_fields  # type: ignore[attr-defined]
        return run

    return decorate


def _flag(model: type[BaseModel], name: str) -> inspect.Parameter:
    field = model.model_fields[name]
    # What is off by default can be on in a recipe, which flags override.
    can_be_on = field.default is True or (field.default is False and "recipe" in model.model_fields)
    off = f"/{off_flag_of(name)}" if can_be_on else ""
    names = [flag_of(name) + off, *([SHORT_FLAGS[name]] if name in SHORT_FLAGS else [])]
    # Typer is told no default: None must mean that the flag wasn't given.
    option = typer.Option(
        *names, help=f"{field.description}{_default(field.default)}", show_default=False, rich_help_panel=head_of(field)
    )
    kind = kind_of(field)
    annotation = Annotated[Optional[kind], option]  # type: ignore[valid-type]  # noqa: UP045 (kind is a value)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _default(value: Any) -> str:
    if value is None or value is False or value == []:
        return ""
    return f"  [default: {'on' if value is True else value}]"


def shared_threads(networks: int | None, threads: int | None) -> tuple[int, int]:
    """How many networks compute side by side, and each one's threads: a share of all of them, at least 1.

    Args:
        networks: as asked for; None: 2 where there are several threads.
        threads: all of them; None: OMP_NUM_THREADS, or every core.
    """
    threads = threads or thread_count()
    networks = networks or min(2, threads)
    return networks, max(1, threads // networks)


def use_processes(count: int, threads: int | None) -> Processes:
    """This command's processes: it runs on as one of them, or starts `count` of them, waits and ends.

    Args:
        threads: CPU threads of all processes together; None: OMP_NUM_THREADS, or every core.
    Raises:
        typer.Exit: they were started here and have ended.
    """
    here = parallel.here()
    if here.size == 1 and count > 1:
        raise typer.Exit(parallel.launch(count, max(1, (threads or thread_count()) // count), again))
    if here.size == 1:
        use_threads(threads)
    elif of_launcher := parallel.started_by_launcher():
        use_threads(max(1, (threads or thread_count()) // of_launcher))
    return here


def again(arguments: Sequence[str]) -> None:
    """Run the command with these arguments; the body of each process of --nproc."""
    sys.argv = list(arguments)
    from pmtrain.cli import main

    main()


def use_threads(count: int | None) -> None:
    """Set the thread count where Paddle's libraries read it, once, when they are loaded."""
    if count is not None:
        os.environ["OMP_NUM_THREADS"] = str(count)
