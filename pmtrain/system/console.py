"""What a person reads: results on stdout in the notes' format, everything else on stderr."""

from __future__ import annotations

import contextlib
import csv
import io
import logging
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

_hushed = False
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
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()


def quoted(*parts: Path | str) -> str:
    """Arguments as this system's shell takes them."""
    texts = [str(part) for part in parts]
    return subprocess.list2cmdline(texts) if os.name == "nt" else shlex.join(texts)


def use_utf8() -> None:
    """Write UTF-8 whatever encoding the console or pipe was opened with: file names and headings are any script."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # surrogateescape gives a file name that isn't UTF-8 back as the bytes it was.
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")


def result(text: str) -> None:
    """A result: to stdout."""
    _write(text, sys.stdout)


def notice(text: str) -> None:
    """Whatever is no result: to stderr."""
    if not _hushed:
        _write(text, sys.stderr)


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """No notices meanwhile; results and warnings go on."""
    global _hushed
    before, _hushed = _hushed, True
    try:
        yield
    finally:
        _hushed = before


def warn(text: str) -> None:
    """Something that the person should look at but that stops nothing: to stderr."""
    _write(f"warning: {text}", sys.stderr)


def _write(text: str, stream: TextIO) -> None:
    with tqdm.external_write_mode(file=stream):  # takes a bar that is on the terminal out of the way meanwhile
        print(text, file=stream, flush=True)
    _log.info(text)


def progress(total: int, unit: str, description: str, initial: int = 0) -> tqdm:
    """A progress bar on stderr; nothing where stderr is no terminal."""
    return tqdm(
        total=total,
        initial=initial,
        desc=description,
        unit=unit,
        leave=False,
        dynamic_ncols=True,
        file=sys.stderr,
        disable=not sys.stderr.isatty(),
    )


@contextlib.contextmanager
def logged(file: Path) -> Iterator[None]:
    """Everything printed meanwhile is appended to `file` too, with the time."""
    handler = logging.FileHandler(file, encoding="utf-8", errors="surrogateescape")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    _log.addHandler(handler)
    try:
        yield
    finally:
        _log.removeHandler(handler)
        handler.close()
