"""export.json: everything that a program in another language needs to use an exported model."""

from __future__ import annotations

import json
from typing import Any

from pmtrain.data.preprocessing.per_image import PerImage
from pmtrain.evaluation.inference.export.exporters import EXPORTERS, Source
from pmtrain.models.backends.onnx_runtime import INPUT, LOGIT, PROBABILITY
from pmtrain.system.version import __version__

FILE = "export.json"
NOTICE = "Research software, not a medical device: no clinical decision may rest on it alone."


def describe(name: str, source: Source, check: dict[str, Any]) -> str:
    """The content of export.json.

    Args:
        name: a row of EXPORTERS.
        check: what the comparison with the checkpoint found.
    """
    info, row = source.checkpoint.info, EXPORTERS[name]
    described = {
        "format": 1,
        "pmtrain": __version__,
        "notice": NOTICE,
        "synthetic": info.synthetic,
        "model": {"file": row.file, "format": name, "precision": source.precision, "network": f"ResNet-{info.layers}"},
        "input": _input(source),
        "outputs": _outputs(row.graph or name == "paddle"),
        "classes": {"negative": info.class_names[0], "positive": info.class_names[1]},
        "threshold": {
            "value": info.threshold,
            "rule": info.threshold_rule,
            "meaning": f"positive ({info.class_names[1]}) if the probability is at least this",
        },
        "preprocessing": _preprocessing(source),
        "checkpoint": info.model_dump(mode="json"),
        "check": check,
    }
    return json.dumps(described, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _input(source: Source) -> dict[str, Any]:
    size = source.preprocess.size
    if source.with_preprocessing:
        return {"name": INPUT, "type": "uint8", "shape": ["N", size, size, 3], "channels": "RGB, 0 to 255"}
    return {"name": INPUT, "type": "float32", "shape": ["N", 3, size, size], "channels": "as preprocessing says"}


def _outputs(named: bool) -> list[dict[str, Any]]:
    """A graph has two outputs; bare weights give the logit alone."""
    logit = {"name": LOGIT, "type": "float32", "shape": ["N", 1]}
    probability = {"name": PROBABILITY, "type": "float32", "shape": ["N", 1], "meaning": "sigmoid of the logit"}
    return [logit, probability] if named else [logit]


def _preprocessing(source: Source) -> dict[str, Any]:
    preprocess, row = source.preprocess, source.preprocess.row
    steps = [
        "decode to 8 bits per channel, turned upright by the EXIF orientation; transparent pixels become black",
        f"{row.geometry}; to {preprocess.size} x {preprocess.size} pixels",
    ]
    told: dict[str, Any] = {"name": preprocess.name, "left_to_the_caller": steps, "built_in": []}
    told["built_in" if source.with_preprocessing else "left_to_the_caller"].append(row.values)
    if isinstance(row.statistics, PerImage):
        told["local_radius"] = preprocess.size // row.statistics.local if row.statistics.local else 0
    elif row.statistics is not None:
        told |= dict(zip(("mean", "std"), (each.tolist() for each in preprocess.channel_statistics), strict=True))
    return told
