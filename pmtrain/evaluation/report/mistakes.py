"""The images that a checkpoint is wrong about and surest of, with what it looked at."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np

from pmtrain.config import ExplainConfig, load_config
from pmtrain.evaluation.classifier import Classifier
from pmtrain.evaluation.evaluate import Evaluation
from pmtrain.evaluation.explain import overlay
from pmtrain.evaluation.gradcam import grad_cam, layers_for

SIDES = (96, 256)  # pixels of a thumbnail: smaller and greater inputs of the network are scaled
QUALITY = 85  # of the JPEGs


@dataclass(frozen=True)
class Mistake:
    """An image that is called wrongly: its name, label and P(positive), and two JPEGs as data URIs."""

    name: str
    label: int
    probability: float
    image: str
    map: str


def mistakes(evaluation: Evaluation, most: int) -> list[Mistake]:
    """The most confident errors of either kind, the surest first: half of `most` each, more where one kind has fewer.

    The pictures are what the network sees, after its preprocessing, and the Grad-CAM of the last block over it.
    """
    chosen = worst_cases(evaluation, most)
    if not chosen:
        return []
    scores, name_of = evaluation.scored.scores, evaluation.images.data.name_of
    classifier = Classifier(evaluation.checkpoint, load_config(ExplainConfig, {"device": evaluation.config.device}))
    last = list(layers_for(classifier.model).values())[-1]
    found = []
    for row in chosen:
        sample = scores.samples[row]
        seen = classifier.preprocess.read(sample.path)  # (S, S, 3)
        (heat,), _ = grad_cam(classifier.model, last, classifier.preprocess.normalise(seen[None]))
        side = int(np.clip(len(seen), *SIDES))
        seen = cv2.resize(seen, (side, side), interpolation=cv2.INTER_AREA if side < len(seen) else cv2.INTER_LINEAR)
        pictures = jpeg(seen), jpeg(overlay(seen, heat))
        label, probability = int(scores.labels[row]), float(scores.probabilities[row])
        found.append(Mistake(name_of(sample), label, probability, *pictures))
    return found


def worst_cases(evaluation: Evaluation, most: int) -> list[int]:
    """The rows of the errors to show."""
    labels, probabilities = evaluation.scored.scores.labels, evaluation.scored.scores.probabilities
    wrong = (probabilities >= evaluation.threshold.value) != (labels == 1)
    order = np.argsort(-np.abs(probabilities - labels), kind="stable")
    missed, alarms = ([int(row) for row in order if wrong[row] and labels[row] == label] for label in (1, 0))
    half = max(most // 2, most - len(missed))  # of false alarms
    alarms = alarms[:half]
    return missed[: most - len(alarms)] + alarms


def jpeg(image: np.ndarray) -> str:
    """uint8 (H, W, 3) BGR as a data URI."""
    content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
    return "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")
