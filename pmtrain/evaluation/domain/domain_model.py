"""The domain model: how far an image lies from those that a network was trained on.

Three distances, each fitted on training images and cut on validation images, which the network hasn't seen:

- features: the mean distance to the nearest training images in the network's pooled features, scaled to unit length
  (Sun et al. 2022, "Out-of-distribution detection with deep nearest neighbors");
- statistics: the Mahalanobis distance of plain image statistics (Lee et al. 2018 use it on features), with a covariance
  shrunk as by Ledoit and Wolf 2004;
- other cameras: the same distance from training images whose light, colours and framing were changed at random, as if
  other cameras had taken them.

An image is `unusual` if it is stranger than 95 % of the validation images by the greater of the first two. It is
`refused` if it also lies further out, by the third, than 97.5 % of the validation images changed in the same way; where
its features are far as well, correspondingly less far is enough. It is refused, too, if it has no colour while all
training images have: no camera of one kind takes that away, so the picture is of another kind (X-ray, MR, ultrasound).
These shares and the strength of the changes were chosen by looking at photographs of one other fundus camera and at
blood cells, the limit of the colour by looking at DICOM files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from pmtrain.data.preprocessing.camera import Camera
from pmtrain.data.preprocessing.geometry import Geometry
from pmtrain.evaluation.domain.image_statistics import BLANK, LEAST, LIGHT, NOTABLE, STATISTICS, image_statistics

NEIGHBOURS = 5
FLAGGED = 0.05  # share of the validation images that are called unusual
BEYOND = 0.025  # share of the validation images changed as by other cameras that would be refused
# What other cameras may change: colours at 0.7 of the augmentation `camera`, and the framing.
OTHER_CAMERAS = Camera(colour=0.7)
OTHER_FRAMES = Geometry(mirror=True, rotation=10, scale=1.15, shift=0.04)
COLOURED = 0.01  # share of the training images that may have less colour than what "all" of them have
COLOURLESS = 0.25  # of that colour: an image with less is taken for grey
DRAWS = 1  # changed copies of each training image

IN_DOMAIN, UNUSUAL, REFUSED = "in domain", "unusual", "refused"
VERDICTS = (IN_DOMAIN, UNUSUAL, REFUSED)


@dataclass(frozen=True)
class Familiarity:
    """What the domain model says of an image.

    Args:
        share: of the validation images, how many are as strange or stranger, in [0, 1].
        verdict: one of VERDICTS.
        reason: why, in words; empty if the image is in the domain.
    """

    share: float
    verdict: str
    reason: str


@dataclass(frozen=True)
class Spread:
    """Where images lie in the space of statistics: mean (K,), standard deviation (K,), precision matrix (K, K)."""

    mean: np.ndarray
    std: np.ndarray
    precision: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray) -> Spread:
        """Fit (N, K) statistics, N at least 2."""
        mean, std = values.mean(axis=0), np.hypot(values.std(axis=0), LEAST)
        covariance = shrunk_covariance((values - mean) / std) + np.diag((LEAST / std) ** 2)
        return cls(mean, std, np.linalg.inv(covariance))

    def standardised(self, values: np.ndarray) -> np.ndarray:
        """(N, K) -> (N, K), in standard deviations from the mean."""
        return (values - self.mean) / self.std

    def distances(self, values: np.ndarray) -> np.ndarray:
        """(N, K) -> (N,) Mahalanobis distances."""
        z = self.standardised(values)
        return np.sqrt(np.maximum(np.einsum("nj,jk,nk->n", z, self.precision, z), 0))


def shrunk_covariance(values: np.ndarray) -> np.ndarray:
    """The covariance of (N, K), drawn towards a multiple of the identity (Ledoit and Wolf 2004): (K, K)."""
    centred = values - values.mean(axis=0)
    n, k = centred.shape
    covariance = centred.T @ centred / n
    scale = np.trace(covariance) / k
    noise = ((centred**2).T @ centred**2).sum() / n - (covariance**2).sum()  # n times that of the covariance
    apart = ((covariance - scale * np.eye(k)) ** 2).sum()
    share = min(1.0, noise / n / apart) if apart > 0 else 0.0
    return (1 - share) * covariance + share * scale * np.eye(k)


class Measured(NamedTuple):
    """What is measured of N images: features (R, F) of R of them, statistics (N, K), and those of changed copies."""

    features: np.ndarray
    statistics: np.ndarray
    changed: np.ndarray


@dataclass(frozen=True)
class DomainModel:
    """A fitted model; images are given as the network's features (N, F) and their statistics (N, K).

    Args:
        features: (R, F) uint8, the reference training images' features, each in units of its own greatest / 255.
        unseen: (V, F) uint8, the same of validation images.
        training: (N, K) statistics of training images.
        own: their spread.
        cameras: the spread of the training images as other cameras might have taken them.
        cuts: of the three distances, in the order of the module's list.
        strangeness: (V',) of the validation images, ascending.
    """

    features: np.ndarray
    unseen: np.ndarray
    training: np.ndarray
    own: Spread
    cameras: Spread
    cuts: np.ndarray
    strangeness: np.ndarray

    @classmethod
    def fit(cls, training: Measured, validation: Measured, kept: int) -> DomainModel:
        """Fit on training images and cut on validation images.

        Args:
            kept: validation images whose features are kept.
        """
        features = packed(training.features)
        reference = unit(features)
        own, cameras = Spread.fit(training.statistics), Spread.fit(training.changed)
        nearest, far = neighbour_distances(validation.features, reference), own.distances(validation.statistics)
        foreign = cameras.distances(validation.changed)
        cuts = np.array(
            [np.quantile(nearest, 1 - FLAGGED), np.quantile(far, 1 - FLAGGED), np.quantile(foreign, 1 - BEYOND)]
        )
        strangeness = np.sort(np.maximum(nearest / cuts[0], far / cuts[1]))
        unseen = packed(validation.features[:kept])
        return cls(features, unseen, training.statistics, own, cameras, cuts, strangeness)

    @property
    def of_fundus(self) -> bool:
        """Whether the training images are fundus photographs: dark corners, and more red than green than blue."""
        medians = dict(zip(STATISTICS, np.median(self.training, axis=0), strict=True))
        return bool(medians["corners"] < 0.1 and medians["red"] > 0.01 and medians["blue"] < -0.01)

    @cached_property
    def least_colour(self) -> float:
        """The colour, as of `colour`, that all but COLOURED of the training images have; 0 if some are grey."""
        return float(np.quantile(colour(self.training), COLOURED))

    @cached_property
    def reference(self) -> np.ndarray:
        """(R, F) float32, the reference training images' features at unit length."""
        return unit(self.features)

    def distances(self, features: np.ndarray, statistics: np.ndarray) -> np.ndarray:
        """The three distances in units of their cuts: (N, F), (N, K) -> (N, 3)."""
        found = [
            neighbour_distances(features, self.reference),
            self.own.distances(statistics),
            self.cameras.distances(statistics),
        ]
        return np.stack(found, axis=1) / self.cuts

    def judge(self, features: np.ndarray, statistics: np.ndarray) -> list[Familiarity]:
        """What to say of each image: (N, F) features and (N, K) statistics."""
        return [
            self._judge(row, values)
            for row, values in zip(self.distances(features, statistics), statistics, strict=True)
        ]

    def _judge(self, distances: np.ndarray, values: np.ndarray) -> Familiarity:
        nearest, far, foreign = distances
        strangeness = max(nearest, far)
        stranger = len(self.strangeness) - np.searchsorted(self.strangeness, strangeness, side="left")
        share = float(stranger / len(self.strangeness))
        if values[LIGHT].max() < BLANK:
            return Familiarity(share, REFUSED, "blank: all pixels are nearly the same")
        if colour(values) < COLOURLESS * self.least_colour:
            return Familiarity(0.0, REFUSED, "grey, and all training images are coloured")
        if share >= FLAGGED:
            return Familiarity(share, IN_DOMAIN, "")
        verdict = REFUSED if foreign * max(1.0, nearest) > 1 else UNUSUAL
        return Familiarity(share, verdict, self._reason(nearest, values))

    def _reason(self, nearest: float, values: np.ndarray) -> str:
        """The two statistics that are furthest from the training images, in words."""
        z = self.own.standardised(values[None])[0]
        rows = list(STATISTICS.values())
        notable = [place for place in np.argsort(-np.abs(z)) if abs(z[place]) >= NOTABLE]
        words = dict.fromkeys(rows[place].words(z[place]) for place in notable)
        if words:
            return "unlike the training images: " + ", ".join(list(words)[:2])
        if nearest > 1:
            return "the network's features are far from those of every training image"
        return "a mix of light, colour and detail that the training images don't have"


def judged_by_all(models: Sequence[DomainModel], features: np.ndarray, statistics: np.ndarray) -> list[Familiarity]:
    """What one network's domain model says of each image, or several networks' together.

    Args:
        features: (N, F1 + F2 + ...), the networks' side by side.
        statistics: (N, K).
    """
    return agreed(
        [model.judge(part, statistics) for model, part in zip(models, parts_of(features, models), strict=True)]
    )


def parts_of(features: np.ndarray, models: Sequence[DomainModel]) -> list[np.ndarray]:
    """Several networks' features (N, F1 + F2 + ...) apart: (N, F1), (N, F2), ..."""
    widths = [model.features.shape[1] for model in models]
    return np.split(features, np.cumsum(widths)[:-1], axis=1)


def agreed(judged: Sequence[Sequence[Familiarity]]) -> list[Familiarity]:
    """What M networks' domain models say together of N images each: the mean share, and the verdict of the majority.

    An image is refused if more than half refuse it, else in domain unless more than half call it unusual or refused.
    """
    found = []
    for of_image in zip(*judged, strict=True):
        ranks = sorted(VERDICTS.index(each.verdict) for each in of_image)
        verdict = VERDICTS[ranks[(len(ranks) - 1) // 2]]
        reason = next(each.reason for each in of_image if each.verdict == verdict)
        found.append(Familiarity(float(np.mean([each.share for each in of_image])), verdict, reason))
    return found


def colour(statistics: np.ndarray) -> np.ndarray:
    """The statistic of that name: (..., K) -> (...), 0 for grey."""
    return statistics[..., list(STATISTICS).index("colour")]


def packed(features: np.ndarray) -> np.ndarray:
    """(N, F) float -> (N, F) uint8: each row divided by its greatest and multiplied by 255.

    Pooled features follow a ReLU, so that none is negative. Their length doesn't count, and one byte each is enough: on
    the distances between images it makes a difference of a hundredth at most.
    """
    greatest = np.maximum(features.max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return np.rint(255 * np.maximum(features, 0) / greatest).astype(np.uint8)


def unit(features: np.ndarray) -> np.ndarray:
    """(N, F) -> (N, F) float32 of length 1; a row of zeros stays."""
    values = features.astype(np.float32)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), np.float32(1e-12))


def neighbour_distances(features: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The mean distance to the NEIGHBOURS nearest of `reference`, at unit length: (N, F), (R, F) -> (N,) float64.

    Args:
        reference: of unit length already.
    """
    count = min(NEIGHBOURS, len(reference))
    squares = np.maximum(2 - 2 * (unit(features) @ reference.T).astype(np.float64), 0)
    return np.sqrt(np.partition(squares, count - 1, axis=1)[:, :count]).mean(axis=1)


def as_other_cameras(images: Sequence[np.ndarray], seed: int, draws: int = 1) -> np.ndarray:
    """Statistics of uint8 (S, S, 3) images with light, colours and framing changed at random: (draws * N, K)."""
    rng = np.random.default_rng(seed)
    rows = []
    for image in images:
        for _ in range(draws):
            changed = OTHER_CAMERAS(image, OTHER_FRAMES.matrix(rng, image.shape[0]), rng)
            rows.append(image_statistics(np.clip(np.rint(changed), 0, 255).astype(np.uint8)))
    return np.array(rows)
