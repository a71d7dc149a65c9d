"""`pmtrain report`: a run as one HTML file that opens from disk, on a phone and in print, without a network.

The results are those of `pmtrain eval` on the same images with the same options; nothing is computed here.
"""

from __future__ import annotations

from pathlib import Path

from pmtrain.config import ReportConfig, flag_of
from pmtrain.evaluation.evaluate.measuring import examine
from pmtrain.evaluation.report import model_card
from pmtrain.evaluation.report.external.external_sets import beside, examine_externals, written
from pmtrain.evaluation.report.page import build
from pmtrain.evaluation.report.several.several_page import several_page
from pmtrain.evaluation.report.several.several_runs import as_table, kind_of, read_several
from pmtrain.evaluation.scores.scoring import Scored
from pmtrain.runs.run_folder import RunFolder
from pmtrain.system.console import quoted
from pmtrain.system.errors import UsageError
from pmtrain.system.files import write_atomic

FILE = "report.html"
OF_ONE_RUN = ("data", "external", "group_by", "shift", "prevalence", "unit", "split")  # options


def report(path: Path, config: ReportConfig, scored: Scored | None = None) -> Path:
    """Write the report of the run in the folder `path`; return the file.

    The report can be made again at any time, so an older one is replaced. Without `config.output`, the model card in
    the run's folder is written too; with external sets, their figures as JSON and CSV beside the report.

    Args:
        scored: as of `examine`.
    Raises:
        PmtrainError: the folder is no run, no epoch of it has finished, or the data can't be read.
    """
    run = RunFolder.open(path)
    file = config.output or path / FILE
    if kind_of(run) is not None:
        return report_several(run, file, config)
    others = examine_externals(run.best, config)  # first: a name that is mistyped there is found at once
    evaluation = examine(run.best, config, scored)
    externals = beside(evaluation, others)
    text = build(run, evaluation, config, externals)
    file.parent.mkdir(parents=True, exist_ok=True)
    # A file name that isn't UTF-8 comes as lone surrogates: shown as \udcXX.
    write_atomic(file, text.encode("utf-8", errors="backslashreplace"))
    for kind, content in written(evaluation, externals).items() if externals else ():
        write_atomic(file.with_name(f"{file.stem}-external.{kind}"), content)
    if config.output is None:
        write_atomic(path / model_card.FILE, model_card.model_card(run, evaluation, externals))
    return file


def report_several(folder: RunFolder, file: Path, config: ReportConfig) -> Path:
    """Write the report of a folder of several trainings, and their figures as CSV beside it; return the file.

    Raises:
        PmtrainError: not all are trained, or a table of scores is damaged; UsageError: an option is for one run alone.
    """
    whole = quoted("pmtrain", "eval", folder.path)
    for name in OF_ONE_RUN:
        if getattr(config, name) != ReportConfig.model_fields[name].default:
            raise UsageError(
                f"{flag_of(name)}: {folder.path} holds several trainings, whose report is of their own images",
                f"give the folder of one of them{'' if name == 'external' else f', or {whole} {flag_of(name)} ...'}",
            )
    found = read_several(folder, config.bootstrap)
    text = several_page(folder, found, config)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, text.encode("utf-8", errors="backslashreplace"))
    table = "".join(line + "\n" for line in as_table(found))
    write_atomic(file.with_name(f"{file.stem}-networks.csv"), table.encode())
    return file
