"""Output for people: results on stdout in the notes' format, everything else on stderr."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from pmtrain.system.files import safe_cell

_hushed = False
_shown = True
_warnings: list[str] | None = None
_log = logging.getLogger("pmtrain")
_log.setLevel(logging.INFO)
_log.propagate = False
_log.addHandler(logging.NullHandler())


def batch_line(epoch: int, batch: int, loss: float) -> str:
    """The notes' line for one training batch."""
    return f"epoch: {epoch}, batch_id: {batch}, loss is: {loss:.4f}"


def validation_line(accuracy: float, loss: float) -> str:
    """The notes' line for one validation: accuracy in [0, 1], mean loss over images."""
    return f"[validation] accuracy/loss: {accuracy:.4f}/{loss:.4f}"


def csv_row(*values: object) -> str:
    """One line of CSV without its end; None is an empty field."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(map(safe_cell, values))
    return text.getvalue()


def quoted(*parts: Path | str) -> str:
    """Arguments as this system's shell takes them: on Windows, as PowerShell and cmd both do where that is possible."""
    texts = [str(part) for part in parts]
    return " ".join(map(_quoted_for_windows, texts)) if os.name == "nt" else shlex.join(texts)


def _quoted_for_windows(text: str) -> str:
    if re.fullmatch(r"[\w.\\/:=+-]+", text):  # a comma too needs quotes: PowerShell would make a list of it
        return text
    if any(mark in text for mark in '$`"'):  # PowerShell expands these between double quotes
        return "'" + text.replace("'", "''").replace('"', r"\"") + "'"
    # The called program takes a backslash before the closing quote for an escape, unless it is doubled.
    return '"' + text + text[len(text.rstrip("\\")) :] + '"'


def use_utf8() -> None:
    """Write UTF-8 whatever encoding the console or pipe has (GBK, say): file names may be in any script."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # As Python decodes file names here: one that isn't valid Unicode is written as the bytes that it has.
            stream.reconfigure(encoding="utf-8", errors=sys.getfilesystemencodeerrors())


def result(text: str) -> None:
    """A result: to stdout."""
    _write(text, sys.stdout)


def notice(text: str) -> None:
    """Anything that is not a result: to stderr."""
    if not _hushed:
        _write(text, sys.stderr)


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Suppress notices; results and warnings are still written."""
    global _hushed
    before, _hushed = _hushed, True
    try:
        yield
    finally:
        _hushed = before


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Write nothing but errors."""
    with collected(shown=False):
        yield


@contextlib.contextmanager
def collected(shown: bool) -> Iterator[list[str]]:
    """Collect the warnings; unless `shown`, write nothing to stdout and stderr, and to the log as ever."""
    global _shown, _warnings
    before = _shown, _warnings
    _shown, _warnings = shown, []
    try:
        yield _warnings
    finally:
        _shown, _warnings = before


def warn(text: str) -> None:
    """A problem to look at that doesn't stop the command: to stderr."""
    if _warnings is not None:
        _warnings.append(text)
    _write(f"warning: {text}", sys.stderr)


def error(text: str) -> None:
    """Why the command ends: to stderr, always."""
    global _shown
    _shown = True
    _write(f"error: {text}", sys.stderr)


def _write(text: str, stream: TextIO) -> None:
    if _shown:
        with tqdm.external_write_mode(file=stream):  # clears a progress bar and redraws it after
            print(text, file=stream, flush=True)
    _log.info(text)


def progress(total: int, unit: str, description: str, initial: int = 0, scaled: bool = False) -> tqdm:
    """A progress bar on stderr, `scaled` to k, M or G; nothing where stderr is not a terminal."""
    return tqdm(
        total=total,
        initial=initial,
        desc=description,
        unit=unit,
        unit_scale=scaled,
        leave=False,
        dynamic_ncols=True,
        file=sys.stderr,
        disable=not (_shown and sys.stderr.isatty()),
    )


@contextlib.contextmanager
def logged(file: Path) -> Iterator[None]:
    """Append everything that is printed to `file` too, with the time."""
    handler = logging.FileHandler(file, encoding="utf-8", errors=sys.getfilesystemencodeerrors())
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    _log.addHandler(handler)
    try:
        yield
    finally:
        _log.removeHandler(handler)
        handler.close()
