"""What can go wrong in a command, turned into a message and an exit code."""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import typer

from pmtrain.system import console, parallel
from pmtrain.system.errors import PmtrainError

# What Paddle, OpenCV, onnxruntime and the system's loader of libraries say of lack of memory, in errors of other kinds.
OUT_OF_MEMORY = (
    "ResourceExhausted", "Cannot allocate memory", "bad allocation", "bad_alloc", "failed to map segment",
    "Failed to allocate memory", "can't start new thread", "Insufficient memory", "Out of memory", "out of memory",
    "Failed to serialize proto",
)  # fmt: skip
INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def guarded(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command, with a message and an exit code for every failure; a traceback only with --debug."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (typer.Exit, typer.Abort):
            raise
        except BaseException as error:
            show_traceback()
            raise typer.Exit(_report(error)) from None

    return run


def set_debug() -> None:
    """Show tracebacks from now on, in processes started from here too."""
    os.environ["PMTRAIN_DEBUG"] = "1"


def show_traceback() -> None:
    """Print the traceback of the exception being handled, if --debug was given."""
    if os.environ.get("PMTRAIN_DEBUG"):
        traceback.print_exc()


def _report(error: BaseException) -> int:
    """Tell the person what went wrong; return the exit code."""
    own = parallel.here()
    if isinstance(error, PmtrainError):
        if not (isinstance(error, parallel.LostProcess) and own.rank):  # the first process says it
            console.error(f"process {own.rank}: {error}" if own.rank else str(error))
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        console.notice("interrupted")
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):  # the reader, such as `head`, has closed the pipe
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # so that closing the old one can't fail again
        return 1
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, ImportError) and ("libGL" in str(error) or "libgthread" in str(error)):
        console.notice(
            f"error: OpenCV can't be loaded, because libGL is missing on this machine: {error}\n"
            "hint: install the build that doesn't need it: `pip uninstall -y opencv-python`, then "
            "`pip install opencv-python-headless`"
        )
    elif isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
        console.error("out of memory\nhint: try a smaller --batch-size or --image-size")
    elif isinstance(error, OSError) and error.strerror:
        console.error(f"{error.filename or 'the system'}: {error.strerror}")
    else:
        detail = " ".join(str(error).split())[:500]
        console.error(
            f"{type(error).__name__}: {detail}\n"
            "hint: this is a bug in pmtrain. `pmtrain --debug ...` shows where; "
            "please report that together with the output of `pmtrain env`"
        )
    return 1
