"""`pmtrain report`: a run as one HTML file that opens from disk, on a phone and in print, without a network.

The results are those of `pmtrain eval` on the same images with the same options; nothing is computed here.
"""

from __future__ import annotations

from pathlib import Path

from pmtrain.config import ReportConfig
from pmtrain.evaluation.evaluate import examine
from pmtrain.evaluation.report.page import build
from pmtrain.evaluation.scores.scoring import Scored
from pmtrain.runs.run_folder import RunFolder
from pmtrain.system.files import write_atomic

FILE = "report.html"


def report(path: Path, config: ReportConfig, scored: Scored | None = None) -> Path:
    """Write the report of the run in the folder `path`; return the file.

    The report can be made again at any time, so an older one is replaced.

    Args:
        scored: as of `examine`.
    Raises:
        PmtrainError: the folder is no run, no epoch of it has finished, or the data can't be read.
    """
    run = RunFolder.open(path)
    file = config.output or path / FILE
    text = build(run, examine(run.best, config, scored), config)
    file.parent.mkdir(parents=True, exist_ok=True)
    # A file name that isn't UTF-8 comes as lone surrogates: shown as \udcXX.
    write_atomic(file, text.encode("utf-8", errors="backslashreplace"))
    return file
