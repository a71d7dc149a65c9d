"""The curves of `--shift`: a panel for each change, its metrics by severity."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pmtrain.evaluation.charts import FORMATS, GUIDE, NEGATIVE, POSITIVE, new_figure
from pmtrain.evaluation.robustness.shift import SHOWN, Shifted
from pmtrain.metrics.text import percent
from pmtrain.system.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "shift"
FILES = (f"{NAME}.csv", *(f"{NAME}.{kind}" for kind in FORMATS))
COLUMNS, WIDTH, HEIGHT = 4, 2.9, 2.3  # panels in a row, and inches of each
STYLES: dict[str, dict[str, Any]] = {
    "auc": {"color": POSITIVE, "marker": "o", "linewidth": 1.8},
    "sensitivity": {"color": NEGATIVE, "marker": "^", "linestyle": "--", "linewidth": 1.2},
    "specificity": {"color": GUIDE, "marker": "s", "linestyle": ":", "linewidth": 1.4},
}


def panel(axes: Axes, shifted: Shifted, change: str) -> None:
    """One change: each metric at severity 0, the images as they are, and at the others; the AUC with its interval."""
    severities = (0, *shifted.severities)
    rows = [shifted.reached.clean, *(shifted.reached.cells[change, severity] for severity in shifted.severities)]
    for name, style in STYLES.items():
        values = [_or_nan(row[name].value.value) for row in rows]
        axes.plot(severities, values, markersize=3.5, label=SHOWN[name], clip_on=False, zorder=3, **style)
    low, high = ([_or_nan(getattr(row["auc"].interval, end)) for row in rows] for end in ("low", "high"))
    level = percent(rows[0]["auc"].interval.level)
    label = f"AUC, {level} interval"
    axes.fill_between(severities, low, high, color=POSITIVE, alpha=0.2, linewidth=0, label=label)
    axes.set(title=change, xticks=severities, ylim=(0, 1), xlim=(-0.15, max(severities) + 0.15))
    axes.set_xticklabels(["clean", *map(str, shifted.severities)])
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    axes.grid(axis="y", color=GUIDE, alpha=0.25, linewidth=0.8)


def draw(shifted: Shifted, marks: tuple[str, ...], kind: str = "svg") -> bytes:
    """All panels as the content of a file of one of FORMATS.

    Args:
        marks: words that have to stand on the chart.
    """
    content, count = io.BytesIO(), len(shifted.changes)
    rows = math.ceil((count + 1) / COLUMNS)  # one place is the legend's
    with new_figure((COLUMNS * WIDTH, rows * HEIGHT + 0.5)) as figure:
        places = figure.subplots(rows, COLUMNS).ravel()
        for axes, change in zip(places, shifted.changes, strict=False):
            panel(axes, shifted, change)
        for axes in places[count:]:
            axes.set_axis_off()
        places[count].legend(*places[0].get_legend_handles_labels(), loc="center")
        figure.supxlabel(
            f"Severity; {shifted.n} images, threshold {shifted.threshold:.4g}",
            x=0.01,
            ha="left",
            fontsize=9,
            color=GUIDE,
        )
        title = f"{shifted.suite.capitalize()} suite: mean AUC {_text(shifted.reached.mean['auc'].value.value)}"
        title += f", clean {_text(shifted.reached.clean['auc'].value.value)}"
        figure.suptitle(" · ".join([*marks, title]), fontsize=12, **({"color": "#B00000"} if marks else {}))
        metadata = {"Title": title} | ({"Date": None} if kind == "svg" else {"Software": None})
        figure.savefig(content, format=kind, dpi=150, metadata=metadata)
    return content.getvalue()


def write_shift(folder: Path, shifted: Shifted, marks: tuple[str, ...]) -> None:
    """shift.csv and the chart in each of FORMATS."""
    write_atomic(folder / FILES[0], shifted.table().encode("utf-8"))
    for kind in FORMATS:
        write_atomic(folder / f"{NAME}.{kind}", draw(shifted, marks, kind))


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


def _text(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
