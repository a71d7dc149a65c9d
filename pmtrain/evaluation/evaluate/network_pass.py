"""The pass over the images: everything that the networks compute for an evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pmtrain.config import EvalConfig, MeasuringOptions
from pmtrain.evaluation.domain.compare_sets import Watcher
from pmtrain.evaluation.domain.domain_file import load_domain
from pmtrain.evaluation.domain.domain_model import DomainModel, parts_of
from pmtrain.evaluation.robustness.baseline import has_baseline
from pmtrain.evaluation.robustness.shift import shift_logits
from pmtrain.evaluation.scores.chosen_images import Images
from pmtrain.evaluation.scores.ensemble import AnyPath, load_networks
from pmtrain.evaluation.scores.prior_use import scorers
from pmtrain.evaluation.scores.scoring import Scored, ScoringPass, calibrated, score_networks
from pmtrain.models.backends.device import select_device
from pmtrain.runs.checkpoint import Networks
from pmtrain.system import console
from pmtrain.system.errors import UsageError
from pmtrain.system.parallel import ALONE, Processes, join


@dataclass(frozen=True)
class Passes:
    """What the network says of the images.

    `domains` are the networks' domain models, `watched` the features (N, F) and the statistics (N, K) that each of them
    judges, where they are asked, and `shift` the logits (N, C) of the images changed (--shift).
    """

    scored: Scored
    domains: list[DomainModel]
    watched: list[tuple[np.ndarray, np.ndarray]]
    shift: np.ndarray | None


def follow(path: AnyPath, config: EvalConfig) -> None:
    """Score this process's share of the images, as one of several processes that isn't the first."""
    with console.silent():
        processes = join()
        images = processes.from_first(None)
        pass_over(load_networks(path), images, config, processes)


def pass_over(
    checkpoint: Networks,
    images: Images,
    config: MeasuringOptions,
    processes: Processes = ALONE,
    scored: Scored | None = None,
) -> Passes:
    """Everything that the network computes for an evaluation; all processes take part and get the results."""
    device = select_device(config.device)
    watchers: list[Watcher] = []

    def watch(model: Any) -> Watcher:
        watchers.append(Watcher(model))
        return watchers[-1]

    other_data = images.run is None or images.run.data is None
    domains = [load_domain(member)[0] for member in checkpoint.members] if other_data else []  # several of an export
    if config.shift and not scorers(checkpoint, images).all():
        raise UsageError(
            f"--shift {config.shift}: some of these images were trained on by some of the networks",
            "evaluate a single network, or other images",
        )
    if scored is None:
        watching = watch if domains and all(domains) else None
        baseline = has_baseline(checkpoint.members[0])
        wanted = ScoringPass(images, config, device, baseline, watching, config.adapt_bn, processes)
        scored = score_networks(checkpoint, wanted)
    watched = []
    for models, watcher in zip(domains, watchers, strict=False):
        features, statistics = watcher.collected(processes)
        watched += [(part, statistics) for part in parts_of(features, models)]
    samples = scored.scores.samples
    shift = shift_logits(checkpoint, samples, config, device, processes) if config.shift else None
    return Passes(calibrated(scored, checkpoint), [model for models in domains for model in models], watched, shift)
