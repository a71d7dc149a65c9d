"""`pmtrain predict`: write a probability for every image, in the order given, as it is computed."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pmtrain.config import PredictConfig, flag_of
from pmtrain.data.images.find import find_images
from pmtrain.data.preprocessing.retina.eye import NAME, Eye, eyes_stated
from pmtrain.data.select import warn_of_pages
from pmtrain.evaluation.domain.domain_model import REFUSED, VERDICTS
from pmtrain.evaluation.inference.classifier import Classifier, Prediction
from pmtrain.evaluation.inference.unit_predictions import UNIT_FORMATS, predict_units, units_of
from pmtrain.evaluation.scores.ensemble import load_networks
from pmtrain.evaluation.scores.scoring import adaptation_stated
from pmtrain.evaluation.scores.views import views_of, views_stated
from pmtrain.runs.checkpoint import EXPORTED, refuse_networks
from pmtrain.system import console
from pmtrain.system.console import csv_row, quoted
from pmtrain.system.errors import UsageError
from pmtrain.system.files import new_file
from pmtrain.system.parallel import Processes, join


def predict(checkpoint: Path, images: Sequence[str], config: PredictConfig) -> int:
    """Write one row per image, or per unit; return the exit code, 1 if an image couldn't be read.

    Raises:
        PmtrainError: the checkpoint can't be read, an argument matches no image, or `config.output` exists.
    """
    refuse_networks(map(Path, images))
    paths = find_images(images)
    if config.format == "palm":
        _check_names(paths)
    names = _units(paths, config)
    classifier = Classifier(load_networks(checkpoint), config, config.prevalence, views_of(config))
    if classifier.info.synthetic:
        console.warn("the checkpoint was trained on SYNTHETIC photographs: no clinical claim can rest on this")
    warn_of_pages(paths)
    if classifier.domain is None:
        pairs = zip(classifier.described, classifier.networks, strict=True)
        lacks = [each["path"] for each, network in pairs if not network.domains]
        lacking = Path(lacks[0] if classifier.several else checkpoint)
        mend = f"add one with: {quoted('pmtrain', 'fit-domain', lacking)}"
        if Path(lacks[0]).suffix == EXPORTED:
            mend = "an export has it beside its model where its checkpoints have one"
        console.notice(
            f"no domain model: {classifier.no_domain}, so nothing tells whether these images are of the kind that the"
            f" network was trained on; {mend}"
        )
    for line in views_stated(config):
        console.notice(f"{line}; threshold and calibration were chosen without")
    if config.adapt_bn:
        for line in adaptation_stated(classifier.adapt_bn(paths, config.batch_size, config.workers)):
            console.notice(line)
    bad = poor = 0
    verdicts: Counter[str] = Counter()
    eyes: Counter[Eye] = Counter()

    def watched(predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        nonlocal bad, poor
        for prediction in predictions:
            if prediction.error:
                bad += 1
                console.warn(f"{prediction.path}: {prediction.error}")
            elif prediction.verdict:
                verdicts[prediction.verdict] += 1
            poor += prediction.quality == "poor"
            if prediction.eye:
                eyes[Eye(prediction.eye, prediction.eye_from or "")] += 1
            yield prediction
            bar.update()

    force = config.force or config.format == "palm"  # a submission has a risk for every image
    with _sink(config.output) as write, console.progress(len(paths), "image", "prediction") as bar:
        processes = join()  # the others begin when all that can be wrong has been looked at
        processes.from_first((paths, force))
        predictions = shared(classifier, paths, force, config, processes)
        if names is None:
            lines = FORMATS[config.format](classifier, watched(predictions))
        else:
            record, units = predict_units(classifier, watched(predictions), names, config)
            shifted = classifier.prevalence is not None
            lines = UNIT_FORMATS[config.format](record, units, shifted, about(classifier))
        for line in lines:
            write(line)
    if config.output:
        console.notice(f"wrote {config.output}")
    if verdicts:
        counts = ", ".join(f"{verdicts[name]} {name}" for name in VERDICTS if verdicts[name])
        without = " (no class; --force gives it)" if verdicts[REFUSED] and not force else ""
        console.notice(f"of the kind trained on: {counts}{without}")
    if poor:
        console.notice(f"of poor quality: {poor} of {len(paths)} images (the column quality_reason says why)")
    if eyes:
        console.notice(eyes_stated(eyes.elements()))
        if by_name := sum(count for eye, count in eyes.items() if eye.source == NAME):
            console.notice(f"the eye of {by_name} images is taken from the file name: another name changes the result")
    if bad:
        console.notice(f"{bad} of {len(paths)} images couldn't be read")
    return 1 if bad else 0


def _units(paths: Sequence[Path], config: PredictConfig) -> list[str] | None:
    """(N,) the unit of each image; None where images are predicted one by one.

    Raises:
        UsageError: options that don't go together.
    """
    if config.unit is None:
        for name in ("table", "patient_pattern", "aggregate"):
            if (value := getattr(config, name)) is not None:
                raise UsageError(f"{flag_of(name)} {value}: it belongs to --unit", "give --unit patient")
        return None
    if config.format not in UNIT_FORMATS:
        raise UsageError(
            f"--unit {config.unit}: the format {config.format} has a row per image",
            f"give --format {' or '.join(UNIT_FORMATS)}",
        )
    return units_of(paths, config)


def follow(checkpoint: Path, config: PredictConfig) -> None:
    """Predict this process's share of the images, as one of several processes that isn't the first."""
    with console.silent():
        processes = join()
        paths, force = processes.from_first(None)
        classifier = Classifier(load_networks(checkpoint), config, config.prevalence, views_of(config))
        if config.adapt_bn:
            classifier.adapt_bn(paths, config.batch_size, config.workers)
        for _ in shared(classifier, paths, force, config, processes):
            pass


def shared(
    classifier: Classifier, paths: Sequence[Path], force: bool, config: PredictConfig, processes: Processes
) -> Iterator[Prediction]:
    """Every image's prediction, in order; each process computes whole batches in turn, the same as one would."""
    size = config.batch_size
    turn = size * processes.size
    own = [path for start in range(size * processes.rank, len(paths), turn) for path in paths[start : start + size]]
    with contextlib.closing(classifier.stream(own, size, config.workers, force)) as predictions:
        for _ in range(0, len(paths), turn):
            for part in processes.gathered(list(itertools.islice(predictions, size))):
                yield from part


def _check_names(paths: Sequence[Path]) -> None:
    """Refuse files with equal names for the challenge's format, which has no folders."""
    seen: dict[str, Path] = {}
    for path in paths:
        if path.name in seen:
            raise UsageError(
                f"--format palm: {seen[path.name]} and {path} would both be listed as {path.name}",
                "predict one folder at a time, or use --format csv",
            )
        seen[path.name] = path


@contextlib.contextmanager
def _sink(output: Path | None) -> Iterator[Callable[[str], object]]:
    """Where to write lines: stdout, or a new file that appears when it is complete."""
    if output is None:
        yield console.result
        return
    with new_file(output) as file:
        yield lambda line: file.write((line + "\n").encode("utf-8", "surrogateescape"))


def columns(classifier: Classifier) -> list[str]:
    """The columns of the CSV."""
    return ["file", "probability", "prediction", "error", "familiarity", "verdict", "reason", *_more(classifier)]


def _as_csv(classifier: Classifier, predictions: Iterable[Prediction]) -> Iterator[str]:
    more = _more(classifier)
    yield csv_row(*columns(classifier))
    for each in predictions:
        judged = (each.familiarity, each.verdict, each.reason, *(getattr(each, name) for name in more))
        yield csv_row(each.path, each.probability, each.class_name, each.error, *judged)


def _more(classifier: Classifier) -> list[str]:
    """The fields of a prediction that only some predictions have."""
    return [
        *["quality", "quality_reason"] * classifier.judges_quality,
        *["eye", "eye_from"] * any(network.preprocess.align_eyes for network in classifier.networks),
        *["posterior"] * (classifier.prevalence is not None),
        *["spread"] * classifier.several,
    ]


def about(classifier: Classifier) -> dict[str, Any]:
    """What the JSON says of the classifier."""
    return {
        "checkpoint": str(classifier.path),
        "weights_sha256": classifier.info.weights_sha256,
        "classes": classifier.classes,
        "threshold": classifier.threshold,
        "calibration": classifier.info.calibration and classifier.info.calibration.method,
        "prevalence": classifier.prevalence,
        "probability_holds_for_prevalence": classifier.held_prevalence,
        "synthetic": classifier.info.synthetic,
        "domain_model": classifier.domain is not None,
        **({"networks": classifier.described} if len(classifier.networks) > 1 else {}),
    }


def _as_json(classifier: Classifier, predictions: Iterable[Prediction]) -> Iterator[str]:
    yield _json(about(classifier))[:-1] + ', "predictions": ['
    held = ""
    for each in predictions:
        if held:
            yield held + ","
        held = _json(
            {
                "file": str(each.path),
                "probability": each.probability,
                "prediction": each.class_name,
                "error": each.error,
                "familiarity": each.familiarity,
                "verdict": each.verdict,
                "reason": each.reason,
                **{name: getattr(each, name) for name in _more(classifier)},
            }
        )
    if held:
        yield held
    yield "]}"


def _json(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    # A file name that isn't UTF-8 is escaped, because JSON can't hold it otherwise.
    return text if text.isprintable() else json.dumps(value)


def _as_palm(classifier: Classifier, predictions: Iterable[Prediction]) -> Iterator[str]:
    """The iChallenge-PM submission; it has no column for errors, so the risk of an unreadable image is empty."""
    yield csv_row("FileName", "PM Risk")
    for each in predictions:
        yield csv_row(each.path and each.path.name, each.probability)


FORMATS: dict[str, Callable[[Classifier, Iterable[Prediction]], Iterator[str]]] = {
    "csv": _as_csv,
    "json": _as_json,
    "palm": _as_palm,
}
