"""`pmtrain explain`: a Grad-CAM of each image, as a picture beside the original and as numbers."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from scipy.special import expit

from pmtrain.config import ExplainConfig
from pmtrain.data.images.find import find_images
from pmtrain.data.images.read import BadImage, read_image
from pmtrain.data.select import warn_of_pages
from pmtrain.evaluation.classifier import Classifier
from pmtrain.evaluation.gradcam import grad_cam, layers_for
from pmtrain.runs.checkpoint import load_checkpoint
from pmtrain.system import console
from pmtrain.system.console import csv_row
from pmtrain.system.errors import UsageError
from pmtrain.system.files import new_file

PICTURE, NUMBERS = ".gradcam.png", ".gradcam.npy"  # appended to an image's own name
COLUMNS = ("file", "probability", "prediction", "picture", "map", "error")


def explain(checkpoint: Path, images: Sequence[str], config: ExplainConfig) -> int:
    """Write a picture and a map for each of the images into `config.output`, and a row for each to stdout.

    The map is as `grad_cam` gives it, float32 (h, w) at the layer's resolution, not scaled; the picture shows it
    stretched over the whole image, from 0 to its own greatest value, so that colours of two pictures don't compare.

    Returns: the exit code, 1 where an image couldn't be read.
    Raises:
        PmtrainError: the checkpoint can't be read, an argument names no image, there is no such layer, or a file
            to be written exists.
    """
    targets = _targets(find_images(images), config.output)
    warn_of_pages(targets)
    classifier = Classifier(load_checkpoint(checkpoint), config)
    layers = layers_for(classifier.model)
    name = config.layer or list(layers)[-1]
    if name not in layers:
        raise UsageError(f"--layer {name!r}: there is no such layer", f"the layers are {', '.join(layers)}")
    if classifier.info.synthetic:
        console.warn("the checkpoint was trained on SYNTHETIC photographs: no clinical claim can rest on this")
    bad = 0
    console.result(csv_row(*COLUMNS))
    with console.progress(len(targets), "image", "explanation") as bar:
        for path, target in targets.items():
            try:
                image = read_image(path)
            except BadImage as error:
                bad += 1
                console.warn(f"{path}: {error.reason}")
                console.result(csv_row(path, None, None, None, None, error.reason))
                bar.update()
                continue
            pixels = classifier.preprocess.normalise(classifier.preprocess.read(path)[None])
            (heat,), (logit,) = grad_cam(classifier.model, layers[name], pixels)
            classified = classifier.classify(path, float(expit(logit)))
            captions = _captions(classifier, float(expit(logit)), name, float(heat.max()))
            shown = picture(classifier.preprocess.seen(image), heat, captions)
            picture_file, map_file = _with(target, PICTURE), _with(target, NUMBERS)
            with new_file(map_file) as file:
                file.write(_npy(heat))
            with new_file(picture_file) as file:
                file.write(cv2.imencode(".png", shown)[1].tobytes())
            console.result(csv_row(path, classified.probability, classified.class_name, picture_file, map_file, None))
            bar.update()
    if bad:
        console.notice(f"{bad} of {len(targets)} images couldn't be read")
    return 1 if bad else 0


def _targets(paths: Sequence[Path], output: Path) -> dict[Path, Path]:
    """What each image's files are called, without their endings: its name, in its folders where two share a name."""
    folders = {path: Path(".") for path in paths}
    if len({path.name.casefold() for path in paths}) < len(paths):  # Windows and macOS take A.png and a.png for one
        whole = [os.path.abspath(path.parent) for path in paths]
        try:
            shared = os.path.commonpath(whole)
        except ValueError:
            raise UsageError("the images lie on several drives", "explain those of one drive at a time") from None
        folders = {path: Path(os.path.relpath(folder, shared)) for path, folder in zip(paths, whole, strict=True)}
    targets = {path: output / folder / path.name for path, folder in folders.items()}
    for target in targets.values():
        for ending in (PICTURE, NUMBERS):
            if os.path.lexists(_with(target, ending)):
                raise UsageError(
                    f"--output {output}: {_with(target, ending)} exists already, and results are never overwritten",
                    "give another folder",
                )
    return targets


def _with(target: Path, ending: str) -> Path:
    return target.with_name(target.name + ending)


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _captions(classifier: Classifier, probability: float, layer: str, greatest: float) -> tuple[str, str]:
    """What is written over the original and over the map: ASCII, since OpenCV draws nothing else."""
    positive = classifier.classes[1]
    named = positive if positive.isascii() and positive.isprintable() and len(positive) <= 40 else "positive"
    mark = "trained on SYNTHETIC images: " if classifier.info.synthetic else ""
    span = f"0 to {greatest:.3g}" if greatest > 0 else "0 everywhere"
    return (
        f"{mark}P({named}) = {probability:.3f}, threshold {classifier.threshold:.3g}",
        f"Grad-CAM {layer}, for positive: {span}",
    )


LONGEST_SIDE = (480, 1024)  # of a panel: smaller and greater images are scaled, so that text can be read
NARROWEST, STRIP, GAP = 400, 36, 8  # pixels: a panel's width at least, the text's height, between the panels
STRENGTH = 0.65  # share of colour where the map is greatest; none where it is 0


def picture(image: np.ndarray, heat: np.ndarray, captions: tuple[str, str]) -> np.ndarray:
    """The image, and beside it the image with the map in colours, each under its caption.

    Args:
        image: uint8 (H, W, 3), BGR: what the network saw of the photograph (`Preprocess.seen`), so that the map lies
            on all of it.
        heat: float (h, w), not negative, over the whole of the image.
    Returns: uint8 (., ., 3), BGR.
    """
    height, width = image.shape[:2]
    scale = np.clip(max(height, width), *LONGEST_SIDE) / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    plain = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    contents = (plain, overlay(plain, heat))
    panels = [_panel(content, caption) for content, caption in zip(contents, captions, strict=True)]
    return np.hstack([panels[0], np.zeros((len(panels[0]), GAP, 3), np.uint8), panels[1]])


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The image with the map in colours, from 0 to the map's own greatest value; arguments as `picture`'s."""
    height, width = image.shape[:2]
    share = cv2.resize(heat / max(float(heat.max()), np.finfo(np.float32).tiny), (width, height))  # in [0, 1]
    colours = cv2.applyColorMap(np.rint(255 * share).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    opacity = STRENGTH * share[..., None]
    return np.rint((1 - opacity) * image + opacity * colours).astype(np.uint8)


def _panel(content: np.ndarray, caption: str) -> np.ndarray:
    missing = max(0, NARROWEST - content.shape[1])
    panel = cv2.copyMakeBorder(
        content, STRIP, 0, missing // 2, missing - missing // 2, cv2.BORDER_CONSTANT, value=(0, 0, 0)
    )
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, 1
    (wide, high), _ = cv2.getTextSize(caption, font, 1.0, thickness)
    scale = min(0.7, (panel.shape[1] - 2 * GAP) / wide)
    place = (GAP, round((STRIP + scale * high) / 2))
    cv2.putText(panel, caption, place, font, scale, (255, 255, 255), thickness, cv2.LINE_AA)
    return panel
