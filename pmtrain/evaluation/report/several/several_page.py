"""The page on several trainings: every network's ROC curve and the joint one, spread, thresholds and worst cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pmtrain.config import ReportConfig, flag_of
from pmtrain.data.images.read import read_image
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.data.select import select
from pmtrain.evaluation.charts import GUIDE, POSITIVE, ChartData, RocLine
from pmtrain.evaluation.report import drawing
from pmtrain.evaluation.report.drawing import Table
from pmtrain.evaluation.report.page import common, measure_row, rendered
from pmtrain.evaluation.report.several.several_runs import FOLDS, Several
from pmtrain.evaluation.report.worst_cases import jpeg, most_confident_errors
from pmtrain.metrics import MEASURES
from pmtrain.metrics.text import Notes, counts_text, ends, method_lines
from pmtrain.runs.run_folder import RunFolder
from pmtrain.system import console
from pmtrain.system.console import quoted
from pmtrain.system.errors import PmtrainError

TEMPLATE = "several.html.j2"
HEADINGS = {
    "summary": "Key results",
    "curves": "ROC curves",
    "members": "Each network",
    "spread": "Spread",
    "thresholds": "Is the threshold stable?",
    "measures": "All metrics",
    "probabilities": "Calibration and score distribution",
    "errors": "Worst cases",
    "again": "How to reproduce this",
}


@dataclass(frozen=True)
class Case:
    """A misclassified image: its name, label, P(positive), the network that scored it, and a JPEG as a data URI."""

    name: str
    label: int
    probability: float
    network: str
    image: str


def several_page(folder: RunFolder, found: Several, config: ReportConfig) -> str:
    """The page as HTML."""
    return rendered(TEMPLATE, contents(folder, found, config))


def contents(folder: RunFolder, found: Several, config: ReportConfig) -> dict[str, Any]:
    """Everything that the template shows, by name."""
    shown, notes = common(folder, config), Notes()
    marks = ("SYNTHETIC images",) * found.synthetic + ("EXPLORATORY",) * found.exploratory
    drawn = ChartData(
        found.scores.labels,
        found.scores.probabilities,
        found.groups,
        found.classes,
        found.found,
        config.bootstrap,
        marks,
    )
    cases = worst_cases(folder, found, config.errors)
    auc = found.found.measures["auc"]
    spread = {name: row for name, row in found.spread().items() if row is not None}
    return {
        **shown,
        "folds": found.kind == FOLDS,
        "count": len(found.members),
        "found": found.found,
        "several": found,
        "classes": found.classes,
        "synthetic": found.synthetic,
        "marks": marks,
        "method": shown["run"].get("folds", {}).get("method", ""),
        "tested_on": f"images: {counts_text(found.found, found.classes)}",
        "cards": [measure_row(name, found.found, notes) for name in ("auc", "sensitivity", "specificity")],
        "auc_spread": spread.get("auc"),
        "roc": roc(found, marks, drawn),
        "members": members_table(found),
        "spread": Table(
            ("Metric", "Mean", "SD", "Lowest", "Highest"),
            [[MEASURES[name].title, *(f"{row[key]:.4f}" for key in row)] for name, row in spread.items()],
        ),
        "thresholds": thresholds_table(found),
        "threshold_words": threshold_words(found),
        "measures": [measure_row(name, found.found, notes) for name in MEASURES],
        "notes": notes,
        "methods": method_lines(found.found, config.seed),
        "probability_charts": [drawing.calibration(drawn), drawing.scores(drawn)],
        "auc_interval": ends(auc.interval) if auc.interval.low is not None else "",
        "cases": cases,
        "wrong": found.found.confusion.fp + found.found.confusion.fn,
        "again": command_again(folder, config),
        "headings": HEADINGS,
    }


def roc(found: Several, marks: tuple[str, ...], drawn: ChartData) -> drawing.Chart:
    """Every network's curve, thin, and the joint one."""
    thin = {"color": GUIDE, "linewidth": 0.9, "alpha": 0.75}
    lines = [
        RocLine(f"{each.name}: AUC {auc_text(each.found)}", each.scores.labels, each.scores.probabilities, None, thin)
        for each in found.members
    ]
    whole = "all folds' images" if found.kind == FOLDS else "mean logit of all"
    thick = {"color": POSITIVE, "linewidth": 2.2}
    label = f"{whole}: {drawn.titled('auc')}"
    lines.append(RocLine(label, found.scores.labels, found.scores.probabilities, 0.5, thick))
    caption = (
        "Thin lines: each fold's images, scored by the network that never saw them. Thick: all of them in one curve,"
        " which also asks that the networks' probabilities are comparable. The dot is the threshold 0.5."
        if found.kind == FOLDS
        else "Thin lines: each network. Thick: the mean of their logits. The dot is the threshold 0.5."
    )
    return drawing.rocs("roc", "ROC of each network and of all", lines, caption, marks)


def auc_text(found: Any) -> str:
    """An AUC, or that there is none."""
    value = found.measures["auc"].value.value
    return "undefined" if value is None else f"{value:.3f}"


def members_table(found: Several) -> Table:
    """A row a network: its images and what is measured on them at 0.5."""
    rows = []
    for each in found.members:
        auc, interval = each.found.measures["auc"], each.found.measures["auc"].second
        between = f" ({ends(interval)})" if interval is not None and interval.low is not None else ""
        shown = "undefined" if auc.value.value is None else f"{auc.value.value:.4f}{between}"
        tp, fp, fn, tn = each.found.confusion
        shares = [f"{k / n:.4f} ({k}/{n})" if n else "no such image" for k, n in ((tp, tp + fn), (tn, tn + fp))]
        rows.append([each.name, f"{each.found.n}", f"{each.found.positives}", shown, *shares])
    return Table(("Network", "Images", "Positive", "AUC (DeLong's interval)", "Sensitivity", "Specificity"), rows)


def thresholds_table(found: Several) -> Table:
    """A row a network: the threshold that it chooses, and what others' thresholds do on its images."""
    headings = ["Network", "Its own"]
    if found.kind == FOLDS:
        headings += ["That of the other folds", "Sensitivity there", "Specificity there"]
    headings += ["Sensitivity at the joint", "Specificity"]
    rows = []
    for each in found.members:
        others = [] if each.others is None else [f"{each.others.threshold:.4f}", *each.others.texts()]
        rows.append([each.name, f"{each.own.threshold:.4f}", *others, *each.pooled.texts()])
    if found.kind == FOLDS:
        honest = [] if found.honest is None else [share(found.honest, name) for name in ("sensitivity", "specificity")]
        rows.append(["all", f"{found.chosen.threshold:.4f} (joint)", "", *honest, *found.chosen.texts()])
    return Table(headings, rows)


def share(found: Any, name: str) -> str:
    """A proportion with its interval."""
    value, interval = found.measures[name].value, found.measures[name].interval
    if value.value is None:
        return "no such image"
    return f"{value.value:.4f}" + ("" if interval.low is None else f" ({ends(interval)})")


def threshold_words(found: Several) -> str:
    """How far the thresholds lie apart, and what comes of it."""
    apart = found.thresholds()
    text = (
        f"By the rule {found.rule}, the networks choose thresholds from {apart['min']:.3f} to {apart['max']:.3f}"
        f" (mean {apart['mean']:.3f}, SD {apart['std']:.3f}); on all images together the rule chooses"
        f" {found.chosen.threshold:.3f}."
    )
    if found.honest is None:
        return text
    return text + (
        f" If each fold takes the threshold that the other folds choose, sensitivity is"
        f" {share(found.honest, 'sensitivity')} and specificity {share(found.honest, 'specificity')}: what a new place"
        " can expect of a threshold chosen this way. The joint threshold was chosen on the images that it is measured"
        " on, so its figures are likely too good."
    )


def worst_cases(folder: RunFolder, found: Several, most: int) -> list[Case]:
    """The most confident errors at 0.5, with a picture where the data is still there."""
    rows = most_confident_errors(found.scores.labels, found.scores.probabilities, 0.5, most)
    if not rows:
        return []
    places = paths_by_name(folder)
    preprocess = Preprocess("notes", 128)
    cases = []
    for row in rows:
        name = str(found.scores.samples[row].path)
        network = "" if found.member_of is None else found.members[found.member_of[row]].name
        label, probability = int(found.scores.labels[row]), float(found.scores.probabilities[row])
        cases.append(Case(name, label, probability, network, thumbnail(places.get(name), preprocess)))
    return cases


def paths_by_name(folder: RunFolder) -> Mapping[str, Path]:
    """The data's files by name; none where the data isn't there any more."""
    try:
        with console.hushed():
            data = select(folder.config(), make_synthetic_set=False)
    except PmtrainError:
        return {}
    return {data.name_of(sample): sample.path for sample in data.samples}


def thumbnail(path: Path | None, preprocess: Preprocess) -> str:
    """A small JPEG as a data URI; empty where the file can't be read."""
    if path is None:
        return ""
    try:
        return jpeg(preprocess.resize(read_image(path)))
    except PmtrainError:
        return ""


def command_again(folder: RunFolder, config: ReportConfig) -> str:
    """The command that makes this page, with the options that differ from the defaults."""
    words: list[str] = []
    for name in ("ci", "n_boot", "seed", "errors", "output"):
        value = getattr(config, name)
        if value != ReportConfig.model_fields[name].default:
            words += [flag_of(name), str(value)]
    return quoted(Path("pmtrain"), "report", folder.path, *words)
