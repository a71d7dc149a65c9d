"""The section on `--external`: each external set beside the internal images, in one table and one ROC chart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from pmtrain.evaluation.charts import SERIES, RocLine
from pmtrain.evaluation.domain.domain_model import VERDICTS
from pmtrain.evaluation.evaluate.measuring import Evaluation
from pmtrain.evaluation.report.drawing import Chart, rocs
from pmtrain.evaluation.report.external.external_sets import INTERNAL, SHOWN, ExternalSet, main_interval
from pmtrain.metrics import MEASURES
from pmtrain.metrics.text import ends

DIGITS = {"calibration_slope": 2, "calibration_intercept": 2}  # 4 for the others


class Cell(NamedTuple):
    """A figure, and what stands below it in small: its interval and the change against the internal images."""

    value: str
    interval: str = ""
    change: str = ""


@dataclass(frozen=True)
class ExternalSection:
    """The table (a row a figure, a column a set), the chart, and what each set says in sentences."""

    names: list[str]
    rows: list[tuple[str, list[Cell]]]
    chart: Chart
    marks: tuple[str, ...]
    said: list[tuple[str, str, list[str]]]  # name, folder, sentences


def external_section(internal: Evaluation, sets: Sequence[ExternalSet]) -> ExternalSection | None:
    """None where no external set was asked for."""
    if not sets:
        return None
    evaluations = [internal, *(each.evaluation for each in sets)]
    names = [INTERNAL, *(each.name for each in sets)]
    rows = [
        ("Images" if internal.unit is None else f"{internal.word.capitalize()}s", _cells(evaluations, _count)),
        ("Patients", _cells(evaluations, _patients)),
        ("Prevalence", _cells(evaluations, lambda each: f"{each.found.prevalence:.4f}")),
        *((MEASURES[name].title, _measure_cells(name, internal, sets)) for name in SHOWN),
        ("Told from the training images (AUC)", _cells(evaluations, _distance)),
        *((f"Images {verdict}", _cells(evaluations, partial(_share, verdict))) for verdict in VERDICTS),
    ]
    marks = tuple(dict.fromkeys(mark for each in evaluations for mark in each.chart_data.marks))
    lines = [
        RocLine(
            f"{name}: {each.chart_data.titled('auc')}",
            each.scores.labels,
            each.scores.probabilities,
            internal.threshold.value,
            {"color": SERIES[place % len(SERIES)][0], "linestyle": SERIES[place % len(SERIES)][1], "linewidth": 1.8},
        )
        for place, (name, each) in enumerate(zip(names, evaluations, strict=True))
    ]
    caption = (
        f"The network on its own images and on each external set. A dot is the threshold"
        f" {internal.threshold.value:.4g}, the same for all: where the dots lie apart, the threshold means something"
        " else there."
    )
    title = "ROC: internal and external images"
    said = [(each.name, str(each.evaluation.images.data.root), each.lines()) for each in sets]
    return ExternalSection(names, rows, rocs("external", title, lines, caption, marks), marks, said)


def _cells(evaluations: Sequence[Evaluation], text: Callable[[Evaluation], str]) -> list[Cell]:
    return [Cell(text(each)) for each in evaluations]


def _count(evaluation: Evaluation) -> str:
    return f"{evaluation.found.n} ({evaluation.found.positives} positive)"


def _patients(evaluation: Evaluation) -> str:
    return "unknown" if evaluation.found.patients is None else f"{evaluation.found.patients}"


def _measure_cells(name: str, internal: Evaluation, sets: Sequence[ExternalSet]) -> list[Cell]:
    digits = DIGITS.get(name, 4)
    short = min(digits, 3)
    cells = []
    for evaluation, change in [(internal, None), *((each.evaluation, each.changes[name]) for each in sets)]:
        measured = evaluation.found.measures[name]
        if measured.value.value is None:
            cells.append(Cell("undefined", measured.value.reason))
            continue
        shown = main_interval(measured)
        interval = "no interval" if shown.low is None else ends(shown, short)
        told = ""
        if change is not None and change.value is not None:
            used = main_interval(change)
            between = "" if used.low is None else f" ({used.low:+.{short}f} to {used.high:+.{short}f})"
            told = f"change {change.value:+.{digits}f}{between}"
        cells.append(Cell(f"{measured.value.value:.{digits}f}", interval, told))
    return cells


def _distance(evaluation: Evaluation) -> str:
    if evaluation.domain is None:
        return "–"
    apart = evaluation.domain.statistics
    if apart is None:
        return "not tested"
    return f"{apart.auc:.3f}" + ("" if apart.interval.low is None else f" ({ends(apart.interval)})")


def _share(verdict: str, evaluation: Evaluation) -> str:
    if evaluation.domain is None:
        return "–"
    familiar = evaluation.domain.familiar
    return f"{100 * sum(each.verdict == verdict for each in familiar) / len(familiar):.1f} %"
