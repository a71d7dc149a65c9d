"""The charts of an evaluation, drawn with matplotlib."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from pmtrain.metrics import (
    BOOTSTRAP,
    MEASURES,
    Assessment,
    Bootstrap,
    DecisionCurve,
    calibration_bins,
    decision_curve,
    pr_points,
    roc_band,
    roc_points,
)
from pmtrain.metrics.curves import RocBand
from pmtrain.metrics.text import ends, percent
from pmtrain.system.files import write_atomic
from pmtrain.system.fonts import font_families

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which people of any colour vision tell apart: negative, positive, and what isn't data.
NEGATIVE, POSITIVE, GUIDE = "#0072B2", "#D55E00", "#767676"
# Of several curves on one chart: colour and line, so that they are told apart in print too.
SERIES = (
    (POSITIVE, "-"), (NEGATIVE, "--"), ("#009E73", "-."), ("#CC79A7", ":"), ("#E69F00", "-"), ("#56B4E9", "--"),
)  # fmt: skip
SIDE = 5.6  # inches
STYLE = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: it can be searched, read out and edited
    "svg.hashsalt": "pmtrain",  # the same chart is the same file
}


@dataclass(frozen=True, eq=False)
class ChartData:
    """The data of the charts.

    Args:
        labels: (N,) int, 1 is the positive class.
        probabilities: (N,) float, P(positive), in [0, 1].
        groups: (N,) the patient of each image, or None.
        classes: names, negative and positive.
        assessment: of these scores.
        bootstrap: of the ROC curve's band and the decision curve.
        marks: words to print on every chart, such as SYNTHETIC.
        posteriors, prevalence: (N,) the probabilities shifted to another prevalence, which the decision curve is for.
        unit: what one score is of.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    groups: Sequence | None
    classes: tuple[str, str]
    assessment: Assessment
    bootstrap: Bootstrap = BOOTSTRAP
    marks: tuple[str, ...] = ()
    posteriors: np.ndarray | None = None
    prevalence: float | None = None
    unit: str = "image"

    def titled(self, name: str, digits: int = 3) -> str:
        """`AUC 0.981 (95 % CI 0.970 to 0.990)`."""
        measured = self.assessment.measures[name]
        value, interval = measured.value, measured.interval
        if value.value is None:
            return f"{MEASURES[name].title} undefined"
        between = "" if interval.low is None else f" ({percent(interval.level)} CI {ends(interval, digits)})"
        return f"{MEASURES[name].title} {value.value:.{digits}f}{between}"

    @property
    def missing(self) -> str:
        """Why there is no curve; empty where there is."""
        return self.assessment.measures["auc"].value.reason

    @cached_property
    def band(self) -> RocBand:
        """Of the ROC curve; there is one where nothing is `missing`."""
        return roc_band(self.labels, self.probabilities, self.groups, self.bootstrap)

    @cached_property
    def decisions(self) -> DecisionCurve:
        """Net benefit by threshold, at another prevalence where there are posteriors for it."""
        if self.posteriors is None:
            return decision_curve(self.labels, self.probabilities, self.groups, self.bootstrap)
        return decision_curve(self.labels, self.posteriors, self.groups, self.bootstrap, prevalence=self.prevalence)

    @property
    def elsewhere(self) -> str:
        """For the title of a chart that is at another prevalence."""
        return "" if self.posteriors is None else f",\nat a prevalence of {self.prevalence:g}"

    @property
    def threshold_text(self) -> str:
        return f"threshold {self.assessment.threshold:.4g}"


def roc(axes: Axes, data: ChartData) -> None:
    """The ROC curve with its pointwise band and the point of the threshold."""
    axes.set(xlabel="1 − specificity", ylabel="Sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_title("ROC: " + data.titled("auc"))
    if data.missing:
        return _no_curve(axes, data)
    band, curve = data.band, roc_points(data.labels, data.probabilities)
    tp, fp, fn, tn = data.assessment.confusion
    reached = f"{data.threshold_text}:\nsensitivity {tp / (tp + fn):.3f}, specificity {tn / (tn + fp):.3f}"
    axes.plot([0, 1], [0, 1], color=GUIDE, linestyle=":", label="chance")
    label = f"{percent(data.bootstrap.level)} pointwise band"
    axes.fill_between(band.fpr, band.low, band.high, color=POSITIVE, alpha=0.2, linewidth=0, label=label)
    axes.plot(curve.fpr, curve.tpr, color=POSITIVE, linewidth=1.8)
    axes.plot(fp / (fp + tn), tp / (tp + fn), "o", color="black", markersize=6, label=reached)
    axes.legend(loc="lower right")


@dataclass(frozen=True, eq=False)
class RocLine:
    """One of several ROC curves on a chart.

    Args:
        label: for the legend.
        labels, probabilities: (N,) each.
        threshold: its point is marked on the curve; None: no point.
        style: of matplotlib's `plot`.
    """

    label: str
    labels: np.ndarray
    probabilities: np.ndarray
    threshold: float | None
    style: dict[str, Any]


def rocs(axes: Axes, title: str, lines: Sequence[RocLine]) -> None:
    """Several ROC curves; one that lacks a class is left out."""
    axes.set(xlabel="1 − specificity", ylabel="Sensitivity", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_title(title)
    axes.plot([0, 1], [0, 1], color=GUIDE, linestyle=":")
    for line in lines:
        if len(np.unique(line.labels)) < 2:
            continue
        curve = roc_points(line.labels, line.probabilities)
        axes.plot(curve.fpr, curve.tpr, label=line.label, **line.style)
        if line.threshold is not None:
            called = line.probabilities >= line.threshold
            shares = [called[line.labels == label].mean() for label in (0, 1)]
            axes.plot(*shares, "o", color=line.style["color"], markersize=6, markeredgecolor="black")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), fontsize="small")  # below: curves lie anywhere


def precision_recall(axes: Axes, data: ChartData) -> None:
    """The precision-recall curve as the steps that the average precision is the area under."""
    axes.set(xlabel="Recall (sensitivity)", ylabel="Precision (PPV)", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.set(aspect="equal", title="Precision-recall:\n" + data.titled("average_precision"))
    if data.missing:
        return _no_curve(axes, data)
    curve = pr_points(data.labels, data.probabilities)
    tp, fp, fn, _ = data.assessment.confusion
    axes.axhline(data.assessment.prevalence, color=GUIDE, linestyle=":", label="chance (prevalence)")
    recall, precision = np.append(0, curve.recall), np.append(curve.precision[0], curve.precision)
    axes.step(recall, precision, where="pre", color=POSITIVE, linewidth=1.8)
    if tp + fp:
        axes.plot(tp / (tp + fn), tp / (tp + fp), "o", color="black", markersize=6, label=data.threshold_text)
    axes.legend(loc="lower left")


def calibration(axes: Axes, data: ChartData) -> None:
    """Predicted against observed in ten bins, with Wilson's intervals if the images are independent."""
    axes.set(xlabel="Mean predicted probability in the bin", ylabel=f"Share of positive {data.unit}s", aspect="equal")
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    slope, intercept = (data.titled(name, 2) for name in ("calibration_slope", "calibration_intercept"))
    axes.set_title(f"{data.titled('ece')}\n{slope}\n{intercept}")
    bins = [b for b in calibration_bins(data.labels, data.probabilities, data.bootstrap.level) if b.n]
    x, y, low, high = np.array(
        [(b.mean_probability, b.observed, b.interval.low, b.interval.high) for b in bins], float
    ).T
    independent = data.assessment.patients in (None, data.assessment.n)
    axes.plot([0, 1], [0, 1], color=GUIDE, linestyle=":", label="ideal")
    if independent:
        reach = np.maximum([y - low, high - y], 0)
        label = f"ten bins with {data.unit} counts, Wilson's {percent(data.bootstrap.level)} intervals"
        axes.errorbar(x, y, yerr=reach, color=POSITIVE, fmt="o", capsize=2, label=label)
    else:
        label = "ten bins with image counts (no intervals: patients have several images)"
        axes.plot(x, y, "o", color=POSITIVE, label=label)
    for b in bins:
        axes.annotate(
            f"{b.n}", (b.mean_probability, b.observed), (6, -10), textcoords="offset points", fontsize="small"
        )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), fontsize="small")  # below: points may lie anywhere


def decision(axes: Axes, data: ChartData) -> None:
    """Net benefit by threshold probability against treating all and none, with the network's pointwise interval."""
    curve = data.decisions
    percents = 100 * curve.thresholds
    top = max(curve.prevalence, 0.01)
    axes.set(xlabel="Threshold probability (%)", ylabel="Net benefit", xlim=(0, 100))
    axes.set(ylim=(-0.15 * top, 1.1 * top), title="Decision curve: net benefit by threshold" + data.elsewhere)
    axes.plot(percents, curve.treat_all, color=NEGATIVE, linestyle="--", label="treat all")
    axes.axhline(0, color=GUIDE, linestyle=":", label="treat none")
    if not curve.note:
        label = f"{percent(data.bootstrap.level)} pointwise interval"
        axes.fill_between(percents, curve.low, curve.high, color=POSITIVE, alpha=0.2, linewidth=0, label=label)
    axes.plot(percents, curve.model, color=POSITIVE, linewidth=1.8, label="treat by the network")
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.13), fontsize="small", ncols=2
    )  # below: curves lie anywhere


def scores(axes: Axes, data: ChartData) -> None:
    """Histogram of the probabilities of each class."""
    edges = np.linspace(0, 1, 21).tolist()
    kinds = ((0, NEGATIVE, "//"), (1, POSITIVE, "\\\\"))
    for label, colour, hatch in kinds:
        of_class = data.probabilities[data.labels == label]
        name = f"{data.classes[label]} ({len(of_class)})"
        axes.hist(of_class, edges, color=colour, alpha=0.25, hatch=hatch, edgecolor=colour, label=name)
        axes.hist(of_class, edges, color=colour, histtype="step", linewidth=1.6)
    axes.axvline(data.assessment.threshold, color="black", linestyle="--", label=data.threshold_text)
    axes.set(
        xlabel=f"Predicted probability of {data.classes[1]}",
        ylabel=f"{data.unit.capitalize()}s",
        title="Score distribution by class",
        xlim=(0, 1),
    )
    axes.locator_params(axis="y", integer=True)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), fontsize="small")  # below: the threshold lies anywhere


def confusion(axes: Axes, data: ChartData) -> None:
    """The four counts, each with its share of the images of its class."""
    tp, fp, fn, tn = data.assessment.confusion
    counts = np.array([[tn, fp], [fn, tp]])
    of_class = counts.sum(1, keepdims=True)
    shares = np.divide(counts, of_class, out=np.zeros((2, 2)), where=of_class > 0)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        share = f"\n{shares[row, column]:.1%} of class" if of_class[row, 0] else ""
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, f"{count}{share}", ha="center", va="center", color=colour, fontsize=12)
    names = [fill(name, 16, break_long_words=False, break_on_hyphens=False) for name in data.classes]
    axes.set(
        xticks=[0, 1],
        yticks=[0, 1],
        xticklabels=names,
        yticklabels=names,
        xlabel="Predicted class",
        ylabel="True class",
    )
    axes.set_title(f"Confusion matrix at {data.threshold_text}:\n{data.titled('accuracy')}")
    axes.tick_params(length=0)


CHARTS: dict[str, Callable[[Any, ChartData], None]] = {
    "roc": roc,
    "precision_recall": precision_recall,
    "calibration": calibration,
    "decision": decision,
    "scores": scores,
    "confusion": confusion,
}
FORMATS = ("svg", "png")
FILES = tuple(f"{name}.{kind}" for name in CHARTS for kind in FORMATS)


@contextlib.contextmanager
def new_figure(size: tuple[float, float], **style: Any) -> Iterator[Any]:
    """A figure, `size` inches, to draw on and save while the block lasts; `style` is over STYLE."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**STYLE, "font.family": font_families(), **style}), warnings.catch_warnings():
        # A letter that no font has is drawn as a box in the PNG; in the SVG it is text and the viewer's to draw.
        warnings.filterwarnings("ignore", r"Glyph \d+.*missing from")
        # Without pyplot: no window, no state shared with whatever else draws in this process.
        yield Figure(figsize=size, layout="constrained")


@contextlib.contextmanager
def new_axes(size: tuple[float, float], **style: Any) -> Iterator[Any]:
    """Axes on a figure of its own, as `new_figure` makes it."""
    with new_figure(size, **style) as figure:
        yield figure.add_subplot()


def draw(name: str, data: ChartData, kind: str = "svg") -> bytes:
    """One chart of CHARTS as the content of a file of one of FORMATS."""
    content = io.BytesIO()
    with new_axes((SIDE, SIDE)) as axes:
        figure = axes.figure
        CHARTS[name](axes, data)
        n, positives = data.assessment.n, data.assessment.positives
        figure.supxlabel(f"{n} {data.unit}s, {positives} {data.classes[1]}", x=0.01, ha="left", fontsize=8, color=GUIDE)
        if data.marks:
            figure.suptitle(" · ".join(data.marks), color="#B00000", fontsize=11, fontweight="bold")
        # A date would make each file another one; PNG and SVG name theirs differently.
        metadata = {"Title": axes.get_title()} | ({"Date": None} if kind == "svg" else {"Software": None})
        figure.savefig(content, format=kind, dpi=150, metadata=metadata)
    return content.getvalue()


def write_charts(folder: Path, data: ChartData) -> None:
    """Every chart of CHARTS in each of FORMATS."""
    for name in CHARTS:
        for kind in FORMATS:
            write_atomic(folder / f"{name}.{kind}", draw(name, data, kind))


def _no_curve(axes: Axes, data: ChartData) -> None:
    axes.text(0.5, 0.5, f"undefined:\n{data.missing}", ha="center", va="center", color=GUIDE)
