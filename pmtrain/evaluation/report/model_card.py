"""MODEL_CARD.md: what a model is, what it was trained and tested on, and its limits, as the Hugging Face hub reads it.

The sections follow Mitchell et al. 2019 (Model Cards for Model Reporting); the front matter is that of
https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pmtrain.config import EvalConfig, ExportConfig, TrainConfig, flag_of, load_config
from pmtrain.data.dataset import SPLITS
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.evaluation.domain.domain_file import load_domain
from pmtrain.evaluation.evaluate.measuring import Evaluation, examine
from pmtrain.evaluation.evaluate.results import as_report
from pmtrain.evaluation.report.external.external_sets import ExternalSet
from pmtrain.evaluation.report.page import SPLIT_WORDS, initialized, measure_row
from pmtrain.evaluation.report.verdict import verdict
from pmtrain.metrics import MEASURES
from pmtrain.metrics.text import Notes, counts_text, method_lines, percent
from pmtrain.runs.calibrator import Calibrator
from pmtrain.runs.checkpoint import Checkpoint, Networks, architecture
from pmtrain.runs.run_folder import RunFolder
from pmtrain.system import console
from pmtrain.system.version import NOTICE, __version__

FILE = "MODEL_CARD.md"
# Our measures that the hub knows -> its names.
HUB_METRICS = {"auc": "roc_auc", "accuracy": "accuracy", "sensitivity": "recall", "ppv": "precision", "f1": "f1"}
# Options that name files of this machine, or don't change what is trained.
UNTOLD = {
    "data", "val_data", "root", "output", "device", "threads", "workers", "cache_limit", "report", "track", "log_every",
    "save_every", "backend", "weights",
}  # fmt: skip
ALWAYS_TOLD = {"layers", "image_size", "preprocess", "epochs", "lr", "seed"}


def of_checkpoint(path: Path, config: ExportConfig) -> str:
    """The card of a checkpoint, with its figures on the images that the options name."""
    fields = {name: getattr(config, name) for name in EvalConfig.model_fields if name in ExportConfig.model_fields}
    options = load_config(EvalConfig, {**fields, "output": None, "device": "cpu"})
    with console.silent():  # the export has chosen the same images, and said what there is to say of them
        found = examine(path, options)
        return model_card(RunFolder.around(path) if isinstance(found.checkpoint, Checkpoint) else None, found)


def model_card(run: RunFolder | None, evaluation: Evaluation, externals: Sequence[ExternalSet] = ()) -> str:
    """The card as Markdown. What users named (classes, folders) is escaped.

    Args:
        run: the checkpoint's own run; None where it lies in none.
        externals: external sets beside the evaluation.
    """
    info, found = evaluation.checkpoint.info, evaluation.found
    negative, positive = map(escaped, info.class_names)
    synthetic = info.synthetic or evaluation.images.data.synthetic
    row = Preprocess.of(info).row
    lines = [
        f"# {architecture(evaluation.checkpoint)}: {positive} against {negative}",
        "",
        *["**SYNTHETIC**: images drawn by a program were used. No clinical claim can rest on this model.", ""]
        * synthetic,
        NOTICE,
        "",
        "## Use",
        f"- Input: a photograph; {row.geometry}, to {info.image_size} x {info.image_size} pixels.",
        *["- Eyes: right ones are mirrored, so that all look like left ones; see `--align-eyes`."] * info.align_eyes,
        f"- Values: {row.values}.",
        f"- Output: one logit; {_probability(info.calibration)} the probability of {positive}.",
        f"- Threshold: {positive} from {info.decision_threshold:.6g} on ({escaped(info.threshold_rule)}).",
        _domain(evaluation.checkpoint),
        "",
        "## Training data",
        *(_training_data(run) if run else [_unknown(evaluation.checkpoint)]),
        "",
        "## Training",
        *(_recipe(run) if run else [_unknown(evaluation.checkpoint)]),
        "",
        "## Results",
        f"Tested on {_split(evaluation)}; {evaluation.word}s: {counts_text(found, (negative, positive))}.",
        "",
        *(line for why in evaluation.reasons for line in (f"**EXPLORATORY**: {escaped(why)}: likely too good.", "")),
        *_results(evaluation),
        "",
        *_external_results(externals),
        "## Limits",
        *_limits(run, evaluation, [each.name for each in externals]),
        "",
        "## Origin",
        f"- pmtrain {__version__}; SHA-256 of the weights: `{info.weights_sha256 or 'not known'}`",
        "",
    ]
    return f"---\n{_front_matter(evaluation, synthetic)}---\n" + "\n".join(lines)


def _unknown(checkpoint: Networks) -> str:
    if len(checkpoint.members) > 1:
        return "- Of each of the networks, its own card tells it."
    return "- Not known: the checkpoint lies in no run folder."


def _probability(calibrator: Calibrator | None) -> str:
    if calibrator is None:
        return "its sigmoid is"
    line = f"sigmoid({calibrator.slope:.6g} x logit {calibrator.intercept:+.6g}) ({calibrator.method})"
    by = "its map by isotonic regression" if calibrator.knots else line
    return f"{by} is, for a prevalence of {calibrator.prevalence:.4g},"


def _domain(checkpoint: Networks) -> str:
    if not all(load_domain(member)[0] for member in checkpoint.members):
        return "- Every image gets a result, also one of another kind than the training images."
    return (
        "- Images of another kind than the training images are called unusual, or refused, by pmtrain; other programs"
        " that run the model give every image a result."
    )


def escaped(text: str) -> str:
    """Text as Markdown shows it letter by letter, on one line."""
    text = _printable(text)
    return re.sub(r"([\\`*_{}\[\]()#!|~>])", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;"))


def _front_matter(evaluation: Evaluation, synthetic: bool) -> str:
    info, found = evaluation.checkpoint.info, evaluation.found
    values = {hub: found.measures[name].value.value for name, hub in HUB_METRICS.items()}
    measured = {hub: round(value, 4) for hub, value in values.items() if value is not None}
    name = f"{architecture(evaluation.checkpoint)}, {info.class_names[1]}"
    data = {"name": evaluation.images.data.root.resolve().name, "type": "private", "split": evaluation.images.split}
    content: dict[str, Any] = {
        "license": "unknown",  # the hub's word for: the author has still to choose one
        "library_name": "pmtrain",
        "pipeline_tag": "image-classification",
        "tags": ["medical", "resnet", "paddlepaddle", *["synthetic"] * synthetic],
        "metrics": list(measured),
        "model-index": [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": "image-classification"},
                        "dataset": data,
                        "metrics": [{"type": hub, "value": value} for hub, value in measured.items()],
                    }
                ],
            }
        ],
    }
    text = io.StringIO()
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style, yaml.allow_unicode, yaml.sort_base_mapping_type_on_output = False, True, False
    yaml.dump(_printable(content), text)
    return text.getvalue()


def _printable(value: Any) -> Any:
    """The same with every unprintable character of a text as a blank: a file name needn't be UTF-8."""
    if isinstance(value, str):
        return "".join(each if each.isprintable() else " " for each in value)
    if isinstance(value, dict):
        return {key: _printable(each) for key, each in value.items()}
    return [_printable(each) for each in value] if isinstance(value, list) else value


def _split(evaluation: Evaluation) -> str:
    return {"all": "all images"}.get(evaluation.images.split, f"{SPLIT_WORDS[evaluation.images.split]} images") + (
        f" of {escaped(evaluation.images.data.root.resolve().name)}"
    )


def _training_data(run: RunFolder) -> list[str]:
    data, lines = run.info()["data"], []
    for split in SPLITS:
        if counts := data["images"].get(split):
            told = ", ".join(f"{count} {escaped(str(label))}" for label, count in counts.items())
            lines.append(f"- {SPLIT_WORDS[split].capitalize()}: {sum(counts.values())} images ({told})")
    return [*lines, f"- Fingerprint of the list of images: `{data['fingerprint']}`"]


def _recipe(run: RunFolder) -> list[str]:
    """The options that aren't the defaults, and the main ones."""
    kept, fields = run.config(), TrainConfig.model_fields
    began = f"- Weights {escaped(initialized(run.info().get('weights'), kept.seed))}"
    return [began] + [
        f"- `{flag_of(name)}`" + ("" if value is True else f" {escaped(str(value))}")
        for name, value in kept.model_dump(mode="json").items()
        if name not in UNTOLD and (value != fields[name].default or name in ALWAYS_TOLD)
    ]


def _results(evaluation: Evaluation) -> list[str]:
    notes, found = Notes(), evaluation.found
    lines = [f"| measure | value | {percent(evaluation.config.ci)} interval |", "|---|---|---|"]
    for name in MEASURES:
        row = measure_row(name, found, notes)
        lines.append(f"| {row.title} | {row.value} | {row.interval or row.reason}{row.note} |")
    return [*lines, "", *(escaped(line) + "  " for line in notes.lines() + method_lines(found, evaluation.config.seed))]


def _external_results(externals: Sequence[ExternalSet]) -> list[str]:
    lines = ["## Results on images of other places"] if externals else []
    for each in externals:
        found, classes = each.evaluation.found, each.evaluation.images.data.classes
        lines.append(f"- **{escaped(each.name)}**: {counts_text(found, (escaped(classes[0]), escaped(classes[1])))}.")
        lines += [f"  {escaped(text)}" for text in each.lines()]
    return [*lines, ""] if lines else []


def _limits(run: RunFolder | None, evaluation: Evaluation, others: Sequence[str]) -> list[str]:
    if run is None and len(evaluation.checkpoint.members) > 1:
        return [_unknown(evaluation.checkpoint)]
    if run is None:
        return ["- The training data isn't known, so it can't be checked whether these images were among it."]
    info, written = run.info(), as_report(evaluation)
    leakage = info.get("leakage") or info["data"].get("leakage")
    external = written["data_fingerprint"] != info["data"]["fingerprint"] and not evaluation.reasons
    said = verdict(run, evaluation, external, leakage is not None, written.get("shortcut"), list(map(escaped, others)))
    return [
        *(f"- Not tested: {text}" for text in said.not_tested),
        *[f"- Shortcut baseline: {said.shortcut}"] * bool(said.shortcut),
    ]
