"""The measures of an evaluation, for all images and for each subgroup, and what makes them too good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from pmtrain.config import MeasuringOptions
from pmtrain.evaluation import charts
from pmtrain.evaluation.calibration.calibrate import fingerprint_of
from pmtrain.evaluation.calibration.prior import held_prevalence
from pmtrain.evaluation.domain.compare_sets import SetComparison, compare_sets
from pmtrain.evaluation.domain.domain_model import DomainModel, agreed
from pmtrain.evaluation.domain.selective import Selective, selective
from pmtrain.evaluation.evaluate.network_pass import pass_over
from pmtrain.evaluation.robustness.baseline import ShortcutComparison, compare_with_shortcut
from pmtrain.evaluation.robustness.shift import Shifted, shifted
from pmtrain.evaluation.scores.chosen_images import Images, by_column, choose_images, patients
from pmtrain.evaluation.scores.ensemble import AnyPath, load_networks
from pmtrain.evaluation.scores.operating_point import OperatingPoint, operating_point
from pmtrain.evaluation.scores.prior_use import also_trained_on, seen_before
from pmtrain.evaluation.scores.score import Scores
from pmtrain.evaluation.scores.scoring import Scored
from pmtrain.evaluation.scores.units import UnitScores, by_unit, require_unit
from pmtrain.metrics import Assessment, AtPrevalence, assess, assess_at_prevalence, shift_prior
from pmtrain.models.backends.device import select_device
from pmtrain.runs.checkpoint import Networks
from pmtrain.system import console
from pmtrain.system.parallel import ALONE, Processes

NO_PRIOR = (
    "the prevalence that the probabilities hold for is unknown, so they aren't shifted\n"
    "hint: pmtrain calibrate makes them hold for the images that it is fitted on"
)


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation.

    `reasons` say why the results are likely too good (exploratory), `groups` the patient of each image,
    `subgroups` by the value of a column, `also_trained_on` how many images the run trained on as other files, and
    how many more of its patients, `shortcut` the shortcut baseline on the same images, `shift` the network on the same
    images changed (--shift), `domain` the images beside the training images (of other data than the run's, by the
    checkpoint's domain model), `selective` the metrics without the most doubtful images.
    """

    config: MeasuringOptions
    checkpoint: Networks
    images: Images
    scored: Scored
    unit: UnitScores | None
    threshold: OperatingPoint
    reasons: list[str]
    also_trained_on: tuple[int, int]
    groups: list[str] | None
    found: Assessment
    at_prevalence: AtPrevalence | None
    subgroups: dict[str, Assessment]
    shortcut: ShortcutComparison | None
    shift: Shifted | None
    domain: SetComparison | None
    selective: Selective

    @property
    def scores(self) -> Scores:
        """What is measured: the scores of the units, where there are any, else of the images."""
        return self.unit.scores if self.unit else self.scored.scores

    @property
    def word(self) -> str:
        """What one score is of: `image`, or the unit."""
        return self.unit.record.unit if self.unit else "image"

    @cached_property
    def posteriors(self) -> np.ndarray | None:
        """(N,) the probabilities shifted to --prevalence; None without it, or if it isn't known what they hold for."""
        before = held_prevalence(self.checkpoint)
        if self.config.prevalence is None or before is None:
            return None
        return shift_prior(self.scores.probabilities, before, self.config.prevalence)

    @cached_property
    def chart_data(self) -> charts.ChartData:
        """What the charts show."""
        scores, data = self.scores, self.images.data
        return charts.ChartData(
            scores.labels,
            scores.probabilities,
            self.groups,
            data.classes,
            self.found,
            self.config.bootstrap,
            ("SYNTHETIC images",) * data.synthetic + ("EXPLORATORY",) * bool(self.reasons),
            self.posteriors,
            self.config.prevalence,
            self.word,
        )


def examine(
    path: AnyPath | Sequence[AnyPath],
    config: MeasuringOptions,
    scored: Scored | None = None,
    processes: Processes = ALONE,
) -> Evaluation:
    """Score the checkpoint at `path` and measure it, for all images and for each subgroup.

    Args:
        path: as of `load_networks`.
        scored: its scores of these very images by these very options, where they are known already.
        processes: those that share the images; the others are in `follow`.
    """
    select_device(config.device)
    checkpoint = load_networks(path)
    first = checkpoint.members[0]
    images = processes.from_first(choose_images(checkpoint, config))
    require_unit(images, config.unit)
    kinds = by_column(images, config.group_by) if config.group_by else {}
    passes = pass_over(checkpoint, images, config, processes, scored)
    scored, unit = passes.scored, None
    scores = scored.scores
    of_images = groups = patients(scores.samples, images.data.name_of)
    if config.unit:
        unit = by_unit(scores, images, config.unit, checkpoint.info, config.aggregate, config.unit_label)
        scores, groups = unit.scores, unit.groups()
    threshold = operating_point(config.threshold, checkpoint, scores, config.prevalence, unit.record if unit else None)
    image_threshold = checkpoint.info.decision_threshold if unit else threshold.value
    reasons = ["the threshold was chosen on these images"] * threshold.tuned + seen_before(checkpoint, images)
    calibration = checkpoint.info.calibration
    fitted_here = calibration is not None and calibration.data == fingerprint_of(images)
    reasons += ["the calibration was fitted on these images"] * fitted_here
    copies, related = also_trained_on(checkpoint, images)
    of_these = f"of these {len(images.samples)} images"
    reasons += [f"{copies} {of_these} are byte-for-byte copies of training images"] * bool(copies)
    reasons += [f"{related} {of_these} are of patients who also have training images"] * bool(related)

    def measured(rows: np.ndarray) -> Assessment:
        return assess(
            scores.labels[rows],
            scores.probabilities[rows],
            threshold.value,
            None if groups is None else [groups[row] for row in rows],
            config.bootstrap,
        )

    kind_of = np.array([kinds.get(sample, "") for sample in scores.samples], dtype=object)
    subgroups = {kind: measured(np.flatnonzero(kind_of == kind)) for kind in in_order(set(kind_of)) if kinds}
    found = measured(np.arange(len(scores.labels)))
    at_prevalence = None
    if config.prevalence is not None:
        at_prevalence = assess_at_prevalence(
            scores.labels,
            scores.probabilities,
            threshold.value,
            config.prevalence,
            groups,
            config.bootstrap,
        )
        if held_prevalence(checkpoint) is None:
            console.warn(NO_PRIOR)
    by_all = scores_by_all(scored.scores, checkpoint)
    shortcut = compare_with_shortcut(first, scored, of_images, config, images.data.classes) if by_all else None
    of_image = scored.scores  # what is said of single images stays by image
    shift = None
    if passes.shift is not None:
        shift = shifted(checkpoint, of_image, passes.shift, image_threshold, of_images, config)
    domain = compared(passes.domains, passes.watched, of_images, config.seed) if by_all and passes.watched else None
    familiar = domain.familiar if domain else None
    doubts = selective(
        of_image.labels,
        of_image.probabilities,
        image_threshold,
        config.defer,
        familiar,
        config.ci,
        of_image.spread,
    )
    return Evaluation(
        config,
        checkpoint,
        images,
        scored,
        unit,
        threshold,
        reasons,
        (copies, related),
        groups,
        found,
        at_prevalence,
        subgroups,
        shortcut,
        shift,
        domain,
        doubts,
    )


def scores_by_all(scores: Scores, checkpoint: Networks) -> bool:
    """Whether every image was scored by every network."""
    return scores.scored_by is None or bool((scores.scored_by == len(checkpoint.members)).all())


def compared(
    models: Sequence[DomainModel],
    watched: Sequence[tuple[np.ndarray, np.ndarray]],
    groups: list[str] | None,
    seed: int,
) -> SetComparison:
    """The images beside the training images; of several networks the set by the first, each image by all of them."""
    judged = [model.judge(*seen) for model, seen in zip(models, watched, strict=True)]
    return replace(compare_sets(models[0], *watched[0], groups, seed), familiar=agreed(judged))


def in_order(kinds: set[str]) -> list[str]:
    """Values of a column: numbers by size, others by the alphabet; an empty cell comes first."""
    try:
        return sorted(kinds, key=lambda kind: float(kind or "-inf"))
    except ValueError:
        return sorted(kinds)
