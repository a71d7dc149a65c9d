"""`pmtrain explain`: the Grad-CAM of each image, as a picture beside the original and as an array."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from pmtrain.config import ExplainConfig
from pmtrain.data.images.find import find_images
from pmtrain.data.images.read import BadImage, ImageFile
from pmtrain.data.preprocessing.retina.eye import UNKNOWN, Eye, aligned
from pmtrain.data.select import warn_of_pages
from pmtrain.evaluation.inference.classifier import Classifier
from pmtrain.evaluation.saliency.gradcam import grad_cam, layers_for
from pmtrain.evaluation.saliency.overlay import PERCENTILE, picture, scale_top
from pmtrain.evaluation.scores.ensemble import load_networks
from pmtrain.runs.checkpoint import Checkpoint
from pmtrain.system import console
from pmtrain.system.console import csv_row, quoted
from pmtrain.system.errors import UsageError
from pmtrain.system.files import new_file

PICTURE, NUMBERS = ".gradcam.png", ".gradcam.npy"  # appended to an image's own name
COLUMNS = ("file", "probability", "prediction", "picture", "map", "error")


def explain(checkpoint: Path, images: Sequence[str], config: ExplainConfig) -> int:
    """Write a picture and a map of each image into `config.output`, and print a CSV row for each to stdout.

    The map is what `grad_cam` returns: float32 (h, w) at the layer's resolution, unscaled. The picture shows it
    stretched over the whole image. Its colours run from 0 to that map's own 99th percentile, so colours can't be
    compared between pictures.

    Returns: the exit code, 1 where an image couldn't be read.
    Raises:
        PmtrainError: the checkpoint can't be read, an argument names no image, the layer doesn't exist, or an
            output file exists.
    """
    targets = _targets(find_images(images), config.output)
    warn_of_pages(targets)
    loaded = load_networks(checkpoint)
    if not isinstance(loaded, Checkpoint):
        raise UsageError(
            f"{checkpoint}: these are {len(loaded.members)} networks, and a map explains one network's score",
            f"explain one of them: {quoted('pmtrain', 'explain', loaded.members[0].path, *images)}",
        )
    if loaded.exported is not None:
        raise UsageError(
            f"{loaded.path}: an exported model has no gradients to explain",
            "give the checkpoint that it was exported from",
        )
    classifier = Classifier(loaded, config)
    layers = layers_for(classifier.model)
    name = config.layer or list(layers)[-1]
    if name not in layers:
        raise UsageError(f"--layer {name!r}: no such layer", f"the layers are {', '.join(layers)}")
    if classifier.info.synthetic:
        console.warn("the checkpoint was trained on SYNTHETIC photographs: draw no clinical conclusion from this")
    bad = 0
    console.result(csv_row(*COLUMNS))
    with console.progress(len(targets), "image", "explanation") as bar:
        for path, target in targets.items():
            try:
                file = ImageFile(path)
                image = file.decode()
            except BadImage as error:
                bad += 1
                console.warn(f"{path}: {error.reason}")
                console.result(csv_row(path, None, None, None, None, error.reason))
                bar.update()
                continue
            seen = classifier.preprocess.read_file(file)
            eye = classifier.preprocess.eye(seen, path) or Eye(UNKNOWN)
            pixels = classifier.preprocess.normalise(aligned(seen, eye)[None])
            (heat,), (logit,) = grad_cam(classifier.model, layers[name], pixels)
            heat = aligned(heat, eye)  # mirrored back
            probability = float(classifier.info.probabilities(logit))
            classified = classifier.classify(path, probability)
            captions = _captions(classifier, probability, name)
            shown = picture(classifier.preprocess.seen(image), heat, captions, _scale_ends(heat))
            picture_file, map_file = _with(target, PICTURE), _with(target, NUMBERS)
            with new_file(map_file) as output:
                output.write(_npy(heat))
            with new_file(picture_file) as output:
                output.write(cv2.imencode(".png", shown)[1].tobytes())
            console.result(csv_row(path, classified.probability, classified.class_name, picture_file, map_file, None))
            bar.update()
    if bad:
        console.notice(f"{bad} of {len(targets)} images could not be read")
    return 1 if bad else 0


def _targets(paths: Sequence[Path], output: Path) -> dict[Path, Path]:
    """The output path of each image, without suffix: its name, below its folders where two images share a name."""
    folders = {path: Path(".") for path in paths}
    if len({path.name.casefold() for path in paths}) < len(paths):  # Windows and macOS take A.png and a.png for one
        whole = [os.path.abspath(path.parent) for path in paths]
        try:
            shared = os.path.commonpath(whole)
        except ValueError:
            raise UsageError("the images are on several drives", "run explain once for each drive") from None
        folders = {path: Path(os.path.relpath(folder, shared)) for path, folder in zip(paths, whole, strict=True)}
    targets = {path: output / folder / path.name for path, folder in folders.items()}
    for target in targets.values():
        for ending in (PICTURE, NUMBERS):
            if os.path.lexists(_with(target, ending)):
                raise UsageError(
                    f"--output {output}: {_with(target, ending)} already exists, and results are never overwritten",
                    "choose another folder",
                )
    return targets


def _with(target: Path, ending: str) -> Path:
    return target.with_name(target.name + ending)


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _captions(classifier: Classifier, probability: float, layer: str) -> tuple[str, str]:
    """The text above the original and above the map: ASCII, since OpenCV draws nothing else."""
    positive = classifier.classes[1]
    named = positive if positive.isascii() and positive.isprintable() and len(positive) <= 40 else "positive"
    mark = "trained on SYNTHETIC images: " if classifier.info.synthetic else ""
    return (
        f"{mark}P({named}) = {probability:.3f}, threshold {classifier.threshold:.3g}",
        f"Grad-CAM of layer {layer}: evidence for the positive class",
    )


def _scale_ends(heat: np.ndarray) -> tuple[str, str]:
    """The text at the two ends of the colour bar."""
    top = scale_top(heat)
    return ("0", f">= {top:.3g} (p{PERCENTILE})") if top > 0 else ("0", "0 everywhere")
