"""The content of the page: a run's files and its evaluation, as the template needs them."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib import resources
from pathlib import Path
from typing import Any

from pmtrain.config import AS_TRAINED, ReportConfig, flag_of
from pmtrain.config.stated import added_options, recipe_and_changes
from pmtrain.data.dataset import SPLITS, first_few
from pmtrain.evaluation.calibration.calibrate import before_and_after
from pmtrain.evaluation.domain.selective import COVERAGES
from pmtrain.evaluation.evaluate.measuring import Evaluation
from pmtrain.evaluation.evaluate.results import as_report
from pmtrain.evaluation.report import drawing
from pmtrain.evaluation.report.checklists import StudyFacts, checklists
from pmtrain.evaluation.report.drawing import Chart
from pmtrain.evaluation.report.external.external_section import external_section
from pmtrain.evaluation.report.external.external_sets import ExternalSet
from pmtrain.evaluation.report.shift_section import shift_section
from pmtrain.evaluation.report.verdict import verdict
from pmtrain.evaluation.report.worst_cases import worst_cases
from pmtrain.evaluation.saliency.overlay import css_gradient
from pmtrain.metrics import MEASURES, Assessed, Assessment, AtPrevalence
from pmtrain.metrics.decisions.prevalence import PER
from pmtrain.metrics.text import CALL_WORDS, Notes, ends, method_lines, percent, sample_size_lines
from pmtrain.runs.run_folder import RunFolder
from pmtrain.system.console import quoted
from pmtrain.system.version import __version__

TEMPLATE = "template.html.j2"
HEADLINE = ("auc", "sensitivity", "specificity")


def build(run: RunFolder, evaluation: Evaluation, config: ReportConfig, externals: Sequence[ExternalSet] = ()) -> str:
    """The report as HTML.

    Args:
        externals: external sets beside the evaluation.
    Raises:
        PmtrainError: a file of the run is damaged, or an image can no longer be read.
    """
    return rendered(TEMPLATE, contents(run, evaluation, config, externals))


def rendered(template: str, shown: Mapping[str, Any]) -> str:
    """A template of this folder with what it shows."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    def text_of_file(name: str) -> str:
        return resources.files("pmtrain.evaluation.report").joinpath(name).read_text(encoding="utf-8")

    environment = Environment(
        loader=FunctionLoader(text_of_file),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(shown)


def common(run: RunFolder, config: ReportConfig) -> dict[str, Any]:
    """What the page of a run and that of several trainings both show, by name."""
    info, trained = run.info(), run.config()
    return {
        "version": __version__,
        "made": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "trained_between": times(run),
        "folder": run.path.resolve().name,
        "typed": quoted(run.path),
        "run": info,
        "config": trained,
        "recipe": recipe_and_changes(trained),
        "loop": added_options(trained),
        "config_yaml": run.config_file.read_text(encoding="utf-8"),
        "network": f"ResNet-{trained.layers}",
        "origin": initialized(info.get("weights"), trained.seed),
        "environment": [(name, text_of(value)) for name, value in info["environment"].items()],
        "level": percent(config.ci),
        "gradient": css_gradient(),
    }


def contents(
    run: RunFolder, evaluation: Evaluation, config: ReportConfig, externals: Sequence[ExternalSet]
) -> dict[str, Any]:
    """Everything that the template shows, by name."""
    shown, written = common(run, config), as_report(evaluation)
    info, trained = shown["run"], shown["config"]
    data, found, checkpoint = evaluation.images.data, evaluation.found, evaluation.checkpoint
    notes = Notes()
    table = [measure_row(name, found, notes) for name in MEASURES]
    drawn = evaluation.chart_data
    history = read_history(run)
    wrong = found.confusion.fp + found.confusion.fn
    cases = worst_cases(evaluation, config.errors)
    shortcut = written.get("shortcut")
    leakage = info.get("leakage") or info["data"].get("leakage")
    threshold = f"{evaluation.threshold.value:.4g} ({evaluation.threshold.text})"
    counts = {split: info["data"]["images"][split] for split in SPLITS if split in info["data"]["images"]}
    splits = ", ".join(f"{sum(of_class.values())} {SPLIT_WORDS[split]} images" for split, of_class in counts.items())
    external = written["data_fingerprint"] != info["data"]["fingerprint"] and not evaluation.reasons
    facts = StudyFacts(
        network=shown["network"],
        image_size=checkpoint.info.image_size,
        preprocessing=checkpoint.info.preprocessing,
        epochs=len(history),
        counts=splits,
        threshold=f"Threshold {threshold}",
        intervals=f"{percent(config.ci)} intervals, bootstrapped by {written['bootstrap_unit']}",
        left_out=len(written["left_out"]),
        group_by=config.group_by or "",
        patients=found.patients is not None,
        errors=len(cases),
        leakage=leakage is not None,
        held_out=not evaluation.reasons,
        external=external or bool(externals),
        seed=trained.seed,
        origin=shown["origin"],
    )
    return {
        **shown,
        "written": written,
        "reasons": evaluation.reasons,
        "verdict": verdict(run, evaluation, external, leakage is not None, shortcut, [each.name for each in externals]),
        "synthetic": bool(written["synthetic"] or info["data"]["synthetic"]),
        "classes": data.classes,
        "found": found,
        "checkpoint": checkpoint.info,
        "counts": counts,
        "split_words": SPLIT_WORDS,
        "splits": splits,
        "threshold": threshold,
        "cards": [row for name in HEADLINE for row in table if row.name == name],
        "measures": table,
        "notes": notes,
        "methods": method_lines(found, config.seed) + sample_size_lines(found, config.ci, evaluation.word),
        "calibrator": checkpoint.info.calibration,
        "calibrated": before_and_after(checkpoint.info.calibration) if checkpoint.info.calibration else [],
        "unit": evaluation.unit,
        "word": evaluation.word,
        "prevalence": prevalence_rows(evaluation.at_prevalence, notes),
        "history": history,
        "epoch_charts": epoch_charts(history, checkpoint.info.epoch, drawn.marks) if history else [],
        "curves": [drawing.roc(drawn), drawing.precision_recall(drawn)],
        "probability_charts": [drawing.calibration(drawn), drawing.scores(drawn)],
        "decision_charts": [drawing.decision(drawn)],
        "marks": drawn.marks,
        "wrong": wrong,
        "errors": cases,
        "errors_wanted": config.errors,
        "group_by": config.group_by,
        "subgroups": subgroups(evaluation),
        "columns": sorted({name for sample in evaluation.images.samples for name, _ in sample.columns}),
        "leakage": leakage_rows(leakage),
        "shortcut": shortcut_rows(shortcut),
        "domain": written.get("domain"),
        "domain_lines": [line.strip() for line in evaluation.domain.lines() if line] if evaluation.domain else [],
        "selective": selective_rows(evaluation),
        "shift": shift_section(evaluation.shift),
        "external": external_section(evaluation, externals),
        "again": command_again(run, config),
        "checklists": checklists(facts),
        "headings": HEADINGS,
    }


def initialized(weights: Mapping[str, Any] | None, seed: int) -> str:
    """How the network's weights began, from the `weights` of run.json."""
    if weights is None:
        return f"randomly initialized (seed {seed})"
    # Not the whole path: it may tell a person's name.
    file = weights["given"] if weights["given"] == "imagenet" else re.split(r"[/\\]", weights["file"])[-1]
    return (
        f"initialized by {file} (names of {weights['names']}, SHA-256 {weights['sha256'][:12]}...,"
        f" {weights['classifier']} classifier)"
    )


SPLIT_WORDS = {"train": "training", "val": "validation", "test": "test", "all": "chosen"}
HEADINGS = {
    "summary": "Key results",
    "data": "Data and training",
    "training": "Training curves",
    "measures": "All metrics",
    "curves": "ROC and precision-recall",
    "probabilities": "Calibration and score distribution",
    "decisions": "Decision curve",
    "confusion": "Confusion matrix",
    "errors": "Worst cases",
    "selective": "Leaving doubtful images to a person",
    "subgroups": "Subgroups",
    "external": "Images of other places",
    "shift": "Changed images",
    "checks": "Data checks",
    "again": "How to reproduce this",
    "checklists": "Reporting checklists: STARD-AI and CLAIM",
}


@dataclass(frozen=True)
class Row:
    """A metric as a table row or a card shows it; `reason` says what is missing, `card` is the interval for a card."""

    name: str
    title: str
    value: str
    reason: str = ""
    interval: str = ""
    second: str = ""
    note: str = ""
    counts: str = ""
    card: str = ""


def measure_row(name: str, found: Assessment, notes: Notes) -> Row:
    """One metric of `found`; remarks go to `notes`."""
    return row_of(name, found.measures[name], notes)


def row_of(name: str, measured: Assessed, notes: Notes) -> Row:
    """One metric; remarks go to `notes`."""
    value, interval, second = measured.value, measured.interval, measured.second
    if value.value is None:
        return Row(name, MEASURES[name].title, "undefined", value.reason)
    row = Row(name, MEASURES[name].title, f"{value.value:.4f}")
    if value.k is not None:
        row = replace(row, counts=f"{value.k}/{value.n}")
    if interval.low is None:
        row = replace(row, reason=f"no interval: {interval.note}")
    else:
        row = replace(row, interval=ends(interval), card=ends(interval), note=notes.mark(interval.note))
    if second is not None and second.low is not None:
        name_of_it = second.method.split(",")[0]
        row = replace(row, second=f"{name_of_it} {ends(second)}", note=row.note + notes.mark(second.note))
        if interval.low == interval.high:  # where no image is wrong, no resample is
            row = replace(row, card=f"{ends(second)} ({name_of_it})")
    return row


def prevalence_rows(at: AtPrevalence | None, notes: Notes) -> dict[str, Any] | None:
    """Predictive values and calls at --prevalence, for a table; None without it."""
    if at is None:
        return None
    calls = []
    for name, words in CALL_WORDS.items():
        value, interval = at.calls[name].value, at.calls[name].interval
        shown = "undefined" if value.value is None else f"{value.value:.1f}"
        calls.append((words, shown, "" if interval.low is None else ends(interval, 1)))
    return {
        "value": f"{at.prevalence:g}",
        "study": f"{at.study:.4f}",
        "rows": [row_of(name, measured, notes) for name, measured in at.measures.items()],
        "calls": calls,
        "per": f"{PER:,}",
    }


def read_history(run: RunFolder) -> list[dict[str, str]]:
    """The rows of metrics.csv, one per epoch; none if there is no such file."""
    if not run.metrics.is_file():
        return []
    with open(run.metrics, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def epoch_charts(history: Sequence[dict[str, str]], best: int | None, marks: Sequence[str]) -> list[Chart]:
    """Loss, and accuracy with AUC; curves of the training itself carry no EXPLORATORY mark."""
    marks = [mark for mark in marks if mark != "EXPLORATORY"]
    loss = {"train_loss": "training", "val_loss": "validation"}
    quality = {"val_accuracy": "accuracy at 0.5", "val_auc": "AUC"}
    return [
        drawing.by_epoch("loss", "Loss by epoch", history, loss, best, marks),
        drawing.by_epoch("quality", "Accuracy and AUC on validation images", history, quality, best, marks),
    ]


def subgroups(evaluation: Evaluation) -> list[dict[str, Any]]:
    """One row for each value of the column: its images, and all metrics as `measure_row` returns them."""
    notes = Notes()
    return [
        {
            "name": kind or "(empty)",
            "n": part.n,
            "positives": part.positives,
            "measures": {name: measure_row(name, part, notes) for name in MEASURES},
        }
        for kind, part in evaluation.subgroups.items()
    ]


def selective_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Accuracy, sensitivity and specificity at each coverage; the first row with its intervals, and that of --defer."""
    found = evaluation.selective
    asked = [found.deferred] if found.deferred and found.deferred.coverage not in COVERAGES else []
    rows = sorted([*found.curve, *asked], key=lambda kept: -kept.coverage)
    return [
        {
            "coverage": percent(kept.coverage),
            "images": kept.accuracy.n,
            "shares": [share.text(found.level) for share in (kept.accuracy, kept.sensitivity, kept.specificity)],
        }
        for kept in rows
    ]


def leakage_rows(leakage: Mapping[str, Any] | None) -> list[tuple[str, str]] | None:
    """What the run recorded about images and patients in both training and validation; None if nothing was checked."""
    if leakage is None:
        return None

    def counted(number: str, names: str) -> str:
        named = [text_of(each) for each in leakage.get(names) or ()]
        return f"{leakage.get(number) or 'none'}" + (f": {first_few(named)}" if named else "")

    return [
        ("Identical files in both", counted("exact_duplicates", "files")),
        ("Patients in both", counted("patients", "patient_names")),
        ("Policy", f"--leakage {leakage.get('policy')}"),
        ("Training images left out", counted("dropped", "dropped_files")),
    ]


def shortcut_rows(shortcut: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The shortcut baseline: its AUC and accuracy, and the network's difference from it."""
    if shortcut is None:
        return None
    rows = []
    for name in ("auc", "accuracy"):
        of_it, more = shortcut.get(name) or {}, (shortcut.get("difference") or {}).get(name) or {}
        if of_it.get("value") is not None:
            p = "" if more.get("p") is None else "< 0.0001" if more["p"] < 0.0001 else f"{more['p']:.4f}"
            difference = _with_ends(more, "value", "+.4f")
            rows.append({"title": MEASURES[name].title, "value": _with_ends(of_it), "difference": difference, "p": p})
    return {
        "features": text_of(shortcut.get("features")),
        "method": shortcut.get("method") or "",
        "reason": shortcut.get("reason") or "",
        "rows": rows,
        "within": _within_text(shortcut.get("within_equal_score") or {}),
        "alone": [(each, _with_ends(of_it, "auc")) for each, of_it in (shortcut.get("cross_validated") or {}).items()],
    }


def _within_text(within: Mapping[str, Any]) -> str:
    """The network's AUC among images of about the same shortcut score, in words; empty where a run has none."""
    if within.get("auc") is None:
        return f"undefined: {within['reason']}" if within.get("reason") else ""
    return (
        f"{_with_ends(within, 'auc')} on {within['pairs']} pairs in {within['strata_of_both_classes']} of"
        f" {within['strata']} strata, where the shortcut score itself has {within['shortcut_auc']:.4f}"
    )


def _with_ends(of_it: Mapping[str, Any], key: str = "value", form: str = ".4f") -> str:
    """`0.7000 (0.600 to 0.800)`; empty where there is no value."""
    if of_it.get(key) is None:
        return ""
    text = format(of_it[key], form)
    known = of_it.get("low") is not None and of_it.get("high") is not None
    return f"{text} ({of_it['low']:.3f} to {of_it['high']:.3f})" if known else text


def text_of(value: Any) -> str:
    """A value of a record as text: lists joined, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {text_of(each)}" for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(text_of, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def times(run: RunFolder) -> str:
    """From the log's first line to its last, to the minute; empty if the log has no times."""
    if not run.log.is_file():
        return ""
    stamps = re.findall(r"^(\d{4}-\d\d-\d\d \d\d:\d\d):\d\d", run.log.read_text("utf-8", "replace"), re.MULTILINE)
    return f"{stamps[0]} to {stamps[-1]}" if stamps else ""


def command_again(run: RunFolder, config: ReportConfig) -> str:
    """The command that makes this page, with the options that differ from the run's own and the defaults."""
    kept, words = run.config(), []
    for name, value in config.model_dump(mode="json").items():
        usual = getattr(kept, name) if name in AS_TRAINED else ReportConfig.model_fields[name].default
        if value != usual:
            given = value if isinstance(value, list) else [value]
            words += [word for each in given for word in (flag_of(name), *([] if each is True else [str(each)]))]
    return quoted(Path("pmtrain"), "report", run.path, *words)
