"""Charts as inline SVG with the page's colours and unique ids, each with its data as a table."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from pmtrain.evaluation import charts
from pmtrain.evaluation.charts import GUIDE, NEGATIVE, POSITIVE, ChartData, RocLine
from pmtrain.metrics import calibration_bins, pr_points, roc_points
from pmtrain.metrics.text import percent

MAX_POINTS = 100  # of a curve in its table
WIDE = {"font.size": 12, "legend.fontsize": 11, "axes.labelsize": 12}  # read at half a page's width and on a phone
TALL, SQUARE, FLAT = (5.6, 5.8), (5.6, 5.2), (5.6, 4.2)  # inches

# The colours that charts are drawn in -> the page's own, which has two sets of them, for light and for dark.
COLOURS = {
    NEGATIVE.lower(): "var(--negative)",
    POSITIVE.lower(): "var(--positive)",
    GUIDE.lower(): "var(--guide)",
    "#b00000": "var(--mark)",
    "#000000": "currentColor",
}


@dataclass(frozen=True)
class Table:
    """Rows of cells under a row of headings; `note` says what isn't in it."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """A picture with its name for `id`s, its title, what it shows in words, and its numbers."""

    name: str
    title: str
    svg: Markup
    caption: str
    table: Table


def draw(
    name: str, paint: Callable[[Any], None], size: tuple[float, float], marks: Iterable[str], **style: Any
) -> tuple[Markup, str]:
    """What `paint` draws on axes, ready to stand in a page, and the title that it gave them.

    Args:
        name: of the chart in the page; its ids begin with it.
        marks: words that have to stand on the chart.
        style: matplotlib's settings, over WIDE.
    """
    content = io.StringIO()
    with charts.new_axes(size, **{**WIDE, **style}) as axes:
        paint(axes)
        # A line that ends in a colon or a comma goes on without another comma.
        title = re.sub(r"([:,])?\n", lambda end: f"{end[1] or ','} ", axes.get_title()).replace(
            " %", "\N{NO-BREAK SPACE}%"
        )
        axes.set_title("")
        if text := " · ".join(marks):
            axes.figure.suptitle(text, color="#B00000", fontsize=12, fontweight="bold")
        axes.figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    return Markup(inlined(content.getvalue(), name, title)), title


def inlined(svg: str, name: str, title: str) -> str:
    """A file's SVG as part of a page: one element, ids under `name`, the page's colours, `title` for who can't see."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-")
    for colour, own in COLOURS.items():
        svg = re.sub(re.escape(colour), own, svg, flags=re.IGNORECASE)
    svg = re.sub(r'(<svg [^>]*?)width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg [^>]*?)height="[^"]*"', r"\1", svg, count=1)
    label = Markup.escape(title)
    return re.sub(r"\s*\n\s*", "\n", svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)).strip()


def thinned(headings: Sequence[str], columns: Iterable[np.ndarray]) -> Table:
    """A curve's points, a row each: at most MAX_POINTS of them, the first and the last among them."""
    rows = [["above all" if value == np.inf else f"{value:.4f}" for value in row] for row in zip(*columns, strict=True)]
    if len(rows) <= MAX_POINTS:
        return Table(headings, rows)
    kept = np.unique(np.linspace(0, len(rows) - 1, MAX_POINTS).round().astype(int))
    note = (
        f"{len(kept)} of {len(rows)} thresholds, evenly spaced; pmtrain eval --output writes the score of every image."
    )
    return Table(headings, [rows[row] for row in kept], note)


def roc(data: ChartData) -> Chart:
    """The ROC curve with its band."""
    svg, title = draw("roc", lambda axes: charts.roc(axes, data), SQUARE, data.marks)
    level = percent(data.bootstrap.level)
    caption = (
        f"Each point is a threshold. Further up, more {data.classes[1]} images are detected; further right, more"
        f" {data.classes[0]} images are false positives. The shaded band is a pointwise {level} confidence band."
        " The dotted line is chance."
    )
    if data.missing:
        return Chart("roc", title, svg, f"No curve: {data.missing}.", Table((), ()))
    curve = roc_points(data.labels, data.probabilities)
    low, high = (np.interp(curve.fpr, data.band.fpr, ends) for ends in (data.band.low, data.band.high))
    headings = ("Threshold", "Sensitivity", "Specificity", f"Band ({level}), from", "to")
    return Chart("roc", title, svg, caption, thinned(headings, (curve.thresholds, curve.tpr, 1 - curve.fpr, low, high)))


def rocs(name: str, title: str, lines: Sequence[RocLine], caption: str, marks: Iterable[str]) -> Chart:
    """Several ROC curves, and as a table the sensitivity of each at the same specificities."""
    svg, _ = draw(name, lambda axes: charts.rocs(axes, title, lines), TALL, marks)
    drawn = [line for line in lines if len(np.unique(line.labels)) == 2]
    curves = [roc_points(line.labels, line.probabilities) for line in drawn]
    grid = np.linspace(0, 1, 21)
    # At a given share of false positives, the highest sensitivity that the curve reaches.
    reached = [curve.tpr[np.searchsorted(curve.fpr, grid + 1e-12, side="right") - 1] for curve in curves]
    rows = [[f"{1 - x:.2f}", *(f"{values[row]:.4f}" for values in reached)] for row, x in enumerate(grid)]
    headings = ("Specificity at least", *(f"Sensitivity, {line.label.split(':')[0]}" for line in drawn))
    return Chart(name, title, svg, caption, Table(headings, rows))


def precision_recall(data: ChartData) -> Chart:
    """The precision-recall curve."""
    svg, title = draw("pr", lambda axes: charts.precision_recall(axes, data), SQUARE, data.marks)
    if data.missing:
        return Chart("pr", title, svg, f"No curve: {data.missing}.", Table((), ()))
    prevalence = percent(round(data.assessment.prevalence, 4))
    caption = (
        f"Precision is the share of images predicted {data.classes[1]} that are correct; recall is the share of all"
        f" {data.classes[1]} images that are detected. Precision depends on the prevalence, here {prevalence}."
    )
    curve = pr_points(data.labels, data.probabilities)
    table = thinned(("Threshold", "Recall", "Precision"), (curve.thresholds, curve.recall, curve.precision))
    return Chart("pr", title, svg, caption, table)


def calibration(data: ChartData) -> Chart:
    """Predicted against observed."""
    svg, figures = draw("calibration", lambda axes: charts.calibration(axes, data), TALL, data.marks)
    caption = (
        f"{figures}. On the dotted line the probabilities are right: of images with 0.8, eight in ten are"
        f" {data.classes[1]}. Above the line the network's probabilities are too low; below it, too high."
    )
    bins = calibration_bins(data.labels, data.probabilities, data.bootstrap.level)
    rows = [
        [
            f"{each.low:.1f} to {each.high:.1f}",
            f"{each.n}",
            f"{each.positives}",
            "" if each.mean_probability is None else f"{each.mean_probability:.3f}",
            "" if each.observed is None else f"{each.observed:.3f}",
        ]
        for each in bins
    ]
    headings = ("Probability", "Images", "Positive", "Mean probability", "Positive share")
    return Chart("calibration", "Calibration", svg, caption, Table(headings, rows))


def decision(data: ChartData) -> Chart:
    """Net benefit by threshold probability."""
    svg, title = draw("decision", lambda axes: charts.decision(axes, data), TALL, data.marks)
    curve = data.decisions
    caption = (
        f"Choose the risk of {data.classes[1]} at which you would just treat (or refer) a patient; read the curves"
        " there. A net benefit of 0.10 is worth as much as 10 true positives in 100 patients and no false positive."
        " The network is worth using where its curve lies above treating all and treating none. "
    )
    places = " and ".join(
        f"{100 * first:.0f} %" if first == last else f"{100 * first:.0f} to {100 * last:.0f} %"
        for first, last in curve.useful()
    )
    if curve.note:
        caption += f"There is no interval: {curve.note}."
    else:
        level = percent(data.bootstrap.level)
        caption += (
            f"The {level} interval of its gain over both lies above 0 at thresholds of {places}."
            if places
            else f"At no threshold does the {level} interval of its gain over both lie above 0."
        )
    headings = ("Threshold", "Network", "from", "to", "Treat all", "Gain over the better of all and none", "from", "to")
    columns = (curve.model, curve.low, curve.high, curve.treat_all, curve.gain, curve.gain_low, curve.gain_high)
    return Chart("decision", title, svg, caption, thinned(headings, (curve.thresholds, *columns)))


def scores(data: ChartData) -> Chart:
    """How the probabilities of each class are spread."""
    svg, title = draw("scores", lambda axes: charts.scores(axes, data), TALL, data.marks)
    caption = (
        f"The number of images of each class by predicted probability of {data.classes[1]}. Images to the right of the"
        f" dashed line are predicted {data.classes[1]}. Where the classes overlap, no threshold separates them."
    )
    edges = np.linspace(0, 1, 21)
    counts = [np.histogram(data.probabilities[data.labels == label], edges)[0] for label in (0, 1)]
    rows = [
        [f"{low:.2f} to {high:.2f}", f"{negative}", f"{positive}"]
        for low, high, negative, positive in zip(edges, edges[1:], *counts, strict=False)
    ]
    return Chart("scores", title, svg, caption, Table(("Probability", *data.classes), rows))


def by_epoch(
    name: str,
    title: str,
    history: Sequence[dict[str, str]],
    lines: dict[str, str],
    best: int | None,
    marks: Iterable[str],
) -> Chart:
    """Two columns of metrics.csv over the epochs, the epoch `best` marked; `lines` gives the columns their labels."""
    styles = ({"color": NEGATIVE, "marker": "s", "linestyle": "--"}, {"color": POSITIVE, "marker": "o"})
    epochs = [int(row["epoch"]) for row in history]

    def paint(axes: Any) -> None:
        for (column, label), style in zip(lines.items(), styles, strict=True):
            values = [float(row[column]) if row[column] else np.nan for row in history]
            axes.plot(epochs, values, markersize=5, label=label, **style)
        if best is not None:
            axes.axvline(best, color=GUIDE, linestyle=":", label="saved weights")
        axes.set(xlabel="Epoch", title=title)
        axes.locator_params(axis="x", integer=True)
        axes.margins(x=0.06, y=0.08)
        axes.grid(axis="y", color=GUIDE, alpha=0.25, linewidth=0.8)
        axes.legend()

    svg, title = draw(name, paint, FLAT, marks)
    rows = [
        [row["epoch"], *(f"{float(row[column]):.4f}" if row[column] else "undefined" for column in lines)]
        for row in history
    ]
    return Chart(name, title, svg, "", Table(("Epoch", *lines.values()), rows))
