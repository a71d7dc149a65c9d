"""export.json: everything that a program in another language needs to use an exported model."""

from __future__ import annotations

import json
from typing import Any

from pmtrain.data.preprocessing.per_image import PerImage
from pmtrain.evaluation.inference.export.exporters import EXPORTERS, Source
from pmtrain.evaluation.inference.export.side_files import SideFiles
from pmtrain.evaluation.scores.scoring import described
from pmtrain.models.backends.onnx_runtime import FEATURES, INPUT, LOGIT, PROBABILITY, SPREAD
from pmtrain.models.weights.names import LINEAR_WEIGHT
from pmtrain.runs.calibrator import END_SLOPE, Calibrator
from pmtrain.system.version import NOTICE, __version__


def describe(name: str, source: Source, check: dict[str, Any], beside: SideFiles) -> str:
    """The content of export.json.

    Args:
        name: a row of EXPORTERS.
        check: what the comparison with the checkpoint found.
        beside: what was written beside the model.
    """
    info, row, members = source.checkpoint.info, EXPORTERS[name], source.checkpoint.members
    network = ", ".join(f"ResNet-{member.info.layers}" for member in members)
    told = {
        "format": 1,
        "pmtrain": __version__,
        "notice": NOTICE,
        "synthetic": info.synthetic,
        "model": {"file": row.file, "format": name, "precision": source.precision, "network": network},
        "input": _input(source),
        "outputs": _outputs(name, source),
        "classes": {"negative": info.class_names[0], "positive": info.class_names[1]},
        "threshold": {
            "value": info.decision_threshold,
            "rule": info.threshold_rule,
            "meaning": f"positive ({info.class_names[1]}) if the probability is at least this",
            "on_sigmoid_of_logit": info.threshold,
        },
        "calibration": _calibration(info.calibration, row.probability),
        "preprocessing": _preprocessing(source),
        "domain_model": {"file": beside.domain, "meaning": beside.domain_meaning},
        "training_images": {"file": beside.images, "meaning": beside.images_meaning},
        "checkpoint": info.model_dump(mode="json"),
        "networks": described(source.checkpoint),
        "check": check,
    }
    return json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _input(source: Source) -> dict[str, Any]:
    size = source.preprocess.size
    if source.with_preprocessing:
        return {"name": INPUT, "type": "uint8", "shape": ["N", size, size, 3], "channels": "RGB, 0 to 255"}
    return {"name": INPUT, "type": "float32", "shape": ["N", 3, size, size], "channels": "as preprocessing says"}


def _outputs(name: str, source: Source) -> list[dict[str, Any]]:
    """Bare weights give the logit alone."""
    info, row = source.checkpoint.info, EXPORTERS[name]
    means = "sigmoid of the logit" if info.calibration is None else "the calibrated probability: see calibration"
    outputs: list[dict[str, Any]] = [
        {"name": LOGIT, "type": "float32", "shape": ["N", 1], "meaning": "the network's own, not calibrated"}
    ]
    several = len(source.checkpoint.members) > 1
    if several:
        outputs[0]["meaning"] = "the mean of the networks' logits, not calibrated"
    if row.probability:
        outputs.append({"name": PROBABILITY, "type": "float32", "shape": ["N", 1], "meaning": means})
    if several:
        means = "standard deviation of the networks' logits"
        outputs.append({"name": SPREAD, "type": "float32", "shape": ["N", 1], "meaning": means})
    if row.graph:
        means = "what enters the last layer, which the domain model looks at"
        if several:
            means = "what enters the networks' last layers, side by side, which the domain models look at"
        width = sum(len(member.state[LINEAR_WEIGHT]) for member in source.checkpoint.members)
        outputs.append({"name": FEATURES, "type": "float32", "shape": ["N", width], "meaning": means})
    return outputs


def _calibration(calibrator: Calibrator | None, built_in: bool) -> dict[str, Any] | None:
    """How a logit becomes a calibrated probability, whole; None without a calibration."""
    if calibrator is None:
        return None
    told = {"method": calibrator.method, "built_in": built_in, "holds_for_prevalence": calibrator.prevalence}
    if not calibrator.knots:
        line = {"slope": calibrator.slope, "intercept": calibrator.intercept}
        return told | {"formula": "probability = sigmoid(slope * logit + intercept)"} | line
    formula = (
        "probability = sigmoid(f(logit)); f is linear between the knots (logit, f), and beyond the first and the last"
        " rises by beyond_slope"
    )
    return told | {"formula": formula, "knots": calibrator.knots, "beyond_slope": END_SLOPE}


def _preprocessing(source: Source) -> dict[str, Any]:
    preprocess, row = source.preprocess, source.preprocess.row
    steps = [
        "decode to 8 bits per channel, turned upright by the EXIF orientation; transparent pixels become black",
        f"{row.geometry}; to {preprocess.size} x {preprocess.size} pixels",
    ]
    if preprocess.align_eyes:
        steps.append(
            "a right eye is mirrored (left and right exchanged), so that all look like left ones; which eye it is: by"
            " a label, else by the optic disc, which is on the left in a left eye; an unknown one is left as it is"
        )
    told: dict[str, Any] = {"name": preprocess.name, "left_to_the_caller": steps, "built_in": []}
    told["built_in" if source.with_preprocessing else "left_to_the_caller"].append(row.values)
    if isinstance(row.statistics, PerImage):
        told["local_radius"] = preprocess.size // row.statistics.local if row.statistics.local else 0
    elif row.statistics is not None:
        told |= dict(zip(("mean", "std"), (each.tolist() for each in preprocess.channel_statistics), strict=True))
    return told
