"""Print an assessment: one aligned line per measure, and the methods of the intervals."""

from __future__ import annotations

from collections import Counter

from pmtrain.metrics.assessment import HALF_WIDTH, Assessed, Assessment
from pmtrain.metrics.decisions.prevalence import PER, AtPrevalence
from pmtrain.metrics.intervals import Interval
from pmtrain.metrics.measures import MEASURES

SYNTHETIC = "data: SYNTHETIC images, drawn by a program: no clinical claim can rest on them"
TITLE_WIDTH = max(len(measure.title) for measure in MEASURES.values())


class Notes:
    """Footnotes of a table, numbered in order of first use."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, text: str) -> str:
        """Return ` [1]`, the mark of this footnote; empty for an empty text."""
        if not text:
            return ""
        if text not in self.texts:
            self.texts.append(text)
        return f" [{self.texts.index(text) + 1}]"

    def lines(self) -> list[str]:
        return [f"[{number}] {text}" for number, text in enumerate(self.texts, 1)]


def percent(level: float) -> str:
    """0.95 -> `95 %`."""
    return f"{100 * level:g} %"


def ends(interval: Interval, digits: int = 3) -> str:
    """`0.970 to 0.990`."""
    return f"{interval.low:.{digits}f} to {interval.high:.{digits}f}"


def tally_text(n: int, positives: int, patients: int | None, classes: tuple[str, str]) -> str:
    """`400 of 212 patients (213 ill, 187 well), prevalence 0.5325`."""
    of_patients = "" if patients is None else f" of {patients} patients"
    return f"{n}{of_patients} ({positives} {classes[1]}, {n - positives} {classes[0]}), prevalence {positives / n:.4f}"


def counts_text(assessment: Assessment, classes: tuple[str, str]) -> str:
    """As `tally_text`."""
    return tally_text(assessment.n, assessment.positives, assessment.patients, classes)


def measure_lines(assessment: Assessment, notes: Notes) -> list[str]:
    """One line per measure: `AUC  0.9810 (95 % CI 0.970 to 0.990)`, then the second interval and the counts."""
    return [
        f"{MEASURES[name].title:<{TITLE_WIDTH}} {_value_text(measured, notes)}"
        for name, measured in assessment.measures.items()
    ]


def _value_text(measured: Assessed, notes: Notes) -> str:
    value, interval, second = measured.value, measured.interval, measured.second
    if value.value is None:
        return f"undefined: {value.reason}"
    text = f"{value.value:7.4f} "
    if interval.low is None:
        text += f"(no interval: {interval.note})"
    else:
        text += f"({percent(interval.level)} CI {ends(interval)})" + notes.mark(interval.note)
    if second is not None and second.low is not None:
        text += f"  {second.method.split(',')[0]} {ends(second)}" + notes.mark(second.note)
    return text + (f"  {value.k}/{value.n}" if value.k is not None else "")


def confusion_lines(assessment: Assessment, classes: tuple[str, str]) -> list[str]:
    """The confusion matrix: one row per class, one column per prediction."""
    tp, fp, fn, tn = assessment.confusion
    called = [f"called {name}" for name in classes]
    first = max(TITLE_WIDTH, *map(len, classes))
    rows = [("", *called), (classes[0], f"{tn}", f"{fp}"), (classes[1], f"{fn}", f"{tp}")]
    return [f"{row[0]:<{first}}  {row[1]:>{len(called[0])}}  {row[2]:>{len(called[1])}}" for row in rows]


def method_lines(assessment: Assessment, seed: int) -> list[str]:
    """The methods of the intervals."""
    methods = {name: measured.interval.method for name, measured in assessment.measures.items()}
    usual = Counter(methods.values()).most_common(1)[0][0]
    lines = [f"intervals: {usual}, seed {seed}; the threshold is held fixed"]
    lines += [f"  {MEASURES[name].title}: {method}" for name, method in methods.items() if method != usual]
    seconds: dict[str, list[str]] = {}
    for name, measured in assessment.measures.items():
        if measured.second is not None:
            seconds.setdefault(measured.second.method, []).append(MEASURES[name].title)
    return lines + [f"  {method}: {', '.join(titles)}" for method, titles in seconds.items()]


CALL_WORDS = {
    "called_positive": "called positive",
    "true_positives": "of these rightly",
    "false_positives": "of these wrongly",
    "missed": "missed",
}


def prevalence_lines(found: AtPrevalence, notes: Notes) -> list[str]:
    """Predictive values and calls at another prevalence."""
    lines = [f"at a prevalence of {found.prevalence:g} (of these images: {found.study:.4f}), at the same threshold:"]
    lines += [
        f"  {MEASURES[name].title:<{TITLE_WIDTH - 2}} {_value_text(measured, notes)}"
        for name, measured in found.measures.items()
    ]
    lines.append(f"  in {PER:,} patients:")
    for name, words in CALL_WORDS.items():
        value, interval = found.calls[name].value, found.calls[name].interval
        if value.value is None:
            lines.append(f"    {words:<{TITLE_WIDTH - 4}} undefined: {value.reason}")
        else:
            between = "" if interval.low is None else f" ({percent(interval.level)} CI {ends(interval, 1)})"
            lines.append(f"    {words:<{TITLE_WIDTH - 4}} {value.value:5.1f}{between}")
    return lines


def sample_size_lines(found: Assessment, level: float, unit: str = "image") -> list[str]:
    """How many images would make the interval of the sensitivity ±5 points wide; none without a sensitivity."""
    if found.sample_size is None:
        return []
    needed = found.sample_size
    return [
        f"sample size: for a {percent(level)} CI of ±{100 * HALF_WIDTH:g} points, this sensitivity needs"
        f" {needed.positives} independent positive {unit}s, {needed.images} {unit}s at this prevalence"
    ]
