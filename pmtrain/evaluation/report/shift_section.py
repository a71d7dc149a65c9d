"""The section on `--shift`: curves and a table of a network on changed images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from markupsafe import Markup

from pmtrain.evaluation.report.drawing import Table, draw
from pmtrain.evaluation.robustness.conditions import Metrics
from pmtrain.evaluation.robustness.shift import SHOWN, Shifted, cell_text
from pmtrain.evaluation.robustness.shift_chart import panel

SIZE = (2.5, 2.1)  # inches: two side by side on a phone
CLOSE = {"font.size": 11, "axes.labelsize": 11}


@dataclass(frozen=True)
class Panel:
    """The curves of one change, by severity."""

    title: str
    svg: Markup


@dataclass(frozen=True)
class ShiftSection:
    """Panels, the table of means, and the table of the AUC at each severity with the amounts and sources."""

    suite: str
    mean: str
    loss: str
    severities: str
    panels: list[Panel]
    means: Table
    details: Table


def shift_section(shifted: Shifted | None) -> ShiftSection | None:
    """None where the suites weren't asked for."""
    if shifted is None:
        return None
    reached = shifted.reached
    panels = []
    for number, change in enumerate(shifted.changes):
        svg, title = draw(f"shift-{number}", partial(panel, shifted=shifted, change=change), SIZE, (), **CLOSE)
        panels.append(Panel(title, svg))
    rows: dict[str, tuple[Metrics, Metrics | None]] = {"clean": (reached.clean, None)}
    rows |= {name: (reached.by_change[name], reached.loss_by_change[name]) for name in shifted.changes}
    rows["mean of all"] = reached.mean, reached.loss
    means = [
        [name, *(cell_text(of[key]) for key in SHOWN), cell_text(loss["auc"]) if loss else ""]
        for name, (of, loss) in rows.items()
    ]
    details = [
        [name, *(cell_text(reached.cells[name, severity]["auc"]) for severity in shifted.severities), change.source]
        for name, change in shifted.changes.items()
    ]
    return ShiftSection(
        shifted.suite,
        cell_text(reached.mean["auc"]),
        cell_text(reached.loss["auc"]),
        ", ".join(map(str, shifted.severities)),
        panels,
        Table(("Change", "AUC", "Sensitivity", "Specificity", "Loss of AUC"), means),
        Table(("Change", *(f"AUC, severity {severity}" for severity in shifted.severities), "Source"), details),
    )
