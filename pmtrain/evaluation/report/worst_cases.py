"""The worst cases: the images that a network gets wrong with the most confidence, and their Grad-CAM."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np

from pmtrain.config import ExplainConfig, load_config
from pmtrain.data.loading.cache_folder import open_cache
from pmtrain.data.loading.loader import read_one
from pmtrain.evaluation.evaluate.measuring import Evaluation
from pmtrain.evaluation.inference.classifier import Classifier
from pmtrain.evaluation.saliency.gradcam import grad_cam, layers_for
from pmtrain.evaluation.saliency.overlay import overlay

SIDES = (96, 256)  # pixels of a thumbnail: smaller and larger network inputs are scaled
QUALITY = 85  # of the JPEGs


@dataclass(frozen=True)
class WorstCase:
    """A misclassified image: its name, label and P(positive), and two JPEGs as data URIs."""

    name: str
    label: int
    probability: float
    image: str
    map: str


def worst_cases(evaluation: Evaluation, most: int) -> list[WorstCase]:
    """The most confident errors, worst first: up to half of `most` of each kind, more where the other has fewer.

    The pictures are the image after preprocessing, as the network sees it, and the Grad-CAM of the last block over it.
    """
    chosen = worst_rows(evaluation, most)
    if not chosen:
        return []
    scores, name_of = evaluation.scored.scores, evaluation.images.data.name_of
    first = evaluation.checkpoint.members[0]  # of several networks
    classifier = Classifier(first, load_config(ExplainConfig, {"device": evaluation.config.device}))
    last = list(layers_for(classifier.model).values())[-1]
    cache = open_cache(evaluation.config.cache_limit)
    found = []
    for row in chosen:
        sample = scores.samples[row]
        seen = read_one(sample, classifier.preprocess, cache)  # (S, S, 3)
        (heat,), _ = grad_cam(classifier.model, last, classifier.preprocess.normalise(seen[None]))
        side = int(np.clip(len(seen), *SIDES))
        seen = cv2.resize(seen, (side, side), interpolation=cv2.INTER_AREA if side < len(seen) else cv2.INTER_LINEAR)
        pictures = jpeg(seen), jpeg(overlay(seen, heat))
        label, probability = int(scores.labels[row]), float(scores.probabilities[row])
        found.append(WorstCase(name_of(sample), label, probability, *pictures))
    if cache:
        cache.close()
    return found


def worst_rows(evaluation: Evaluation, most: int) -> list[int]:
    """The row of each error to show."""
    labels, probabilities = evaluation.scored.scores.labels, evaluation.scored.scores.probabilities
    threshold = evaluation.threshold.value
    if evaluation.unit:  # that one is the unit's
        threshold = evaluation.checkpoint.info.decision_threshold
    return most_confident_errors(labels, probabilities, threshold, most)


def most_confident_errors(labels: np.ndarray, probabilities: np.ndarray, threshold: float, most: int) -> list[int]:
    """Rows of (N,) labels and probabilities: missed images and false alarms, worst first, half of `most` of each."""
    wrong = (probabilities >= threshold) != (labels == 1)
    order = np.argsort(-np.abs(probabilities - labels), kind="stable")
    missed, alarms = ([int(row) for row in order if wrong[row] and labels[row] == label] for label in (1, 0))
    half = max(most // 2, most - len(missed))  # of false alarms
    alarms = alarms[:half]
    return missed[: most - len(alarms)] + alarms


def jpeg(image: np.ndarray) -> str:
    """uint8 (H, W, 3) BGR as a data URI."""
    content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
    return "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")
