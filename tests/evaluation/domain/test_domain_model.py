"""Distances against scikit-learn's and SciPy's, and verdicts on points whose place is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf, ledoit_wolf
from sklearn.neighbors import NearestNeighbors

from pmtrain.evaluation.domain.domain_model import (
    IN_DOMAIN,
    REFUSED,
    UNUSUAL,
    DomainModel,
    Familiarity,
    Measured,
    Spread,
    agreed,
    as_other_cameras,
    neighbour_distances,
    packed,
    shrunk_covariance,
    unit,
)
from pmtrain.evaluation.domain.image_statistics import LEAST, STATISTICS, image_statistics

K = len(STATISTICS)


@pytest.fixture(scope="module")
def model() -> DomainModel:
    """Features about one direction, statistics about 0.5 with a standard deviation of 0.1, of other cameras of 0.3."""
    rng = np.random.default_rng(0)

    def measured(count: int) -> Measured:
        features = 1 + 0.1 * rng.random((count, 32), np.float32)
        return Measured(features, rng.normal(0.5, 0.1, (count, K)), rng.normal(0.5, 0.3, (count, K)))

    return DomainModel.fit(measured(200), measured(100), kept=50)


def test_neighbour_distances_are_scikit_learns():
    rng = np.random.default_rng(1)
    features, reference = rng.random((20, 16)), rng.random((60, 16))
    length = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (features, reference)]
    wanted = NearestNeighbors(n_neighbors=5).fit(length[1]).kneighbors(length[0])[0].mean(axis=1)
    np.testing.assert_allclose(neighbour_distances(features, unit(reference)), wanted, atol=1e-4)
    assert neighbour_distances(features, unit(reference[:2])).shape == (20,)


def test_packed_features_keep_their_direction():
    features = np.random.default_rng(2).gamma(0.3, size=(40, 512)).astype(np.float32)
    assert packed(features).dtype == np.uint8
    cosines = np.sum(features * packed(features), axis=1) / (
        np.linalg.norm(features, axis=1) * np.linalg.norm(packed(features).astype(float), axis=1)
    )
    assert cosines.min() > 0.9999
    assert not packed(np.zeros((1, 4), np.float32)).any()


def test_distances_are_of_mahalanobis_with_ledoit_and_wolfs_shrinkage():
    values = np.random.default_rng(3).normal(size=(50, K)) * np.arange(1, K + 1)
    std = np.sqrt(values.var(axis=0) + LEAST**2)
    covariance = ledoit_wolf((values - values.mean(axis=0)) / std)[0] + np.diag(LEAST**2 / std**2)
    inverse = np.linalg.inv(covariance * np.outer(std, std))
    wanted = [mahalanobis(row, values.mean(axis=0), inverse) for row in values]
    np.testing.assert_allclose(Spread.fit(values).distances(values), wanted, rtol=1e-9)


def test_a_statistic_that_never_varies_does_not_decide_alone():
    values = np.random.default_rng(4).normal(size=(50, K))
    values[:, 0] = 0.3
    near = values[:1] + np.eye(K)[0] * LEAST[0]
    difference = Spread.fit(values).distances(near) - Spread.fit(values).distances(values[:1])
    assert abs(difference[0]) < 1


def test_verdicts(model):
    features = np.ones((3, 32), np.float32)
    middle = np.full(K, 0.5)
    odd, far = middle.copy(), middle.copy()
    odd[0] += 0.8  # 8 of the standard deviations of the images, 2.7 of those of other cameras
    far[:] += 2.0
    known, unusual, refused = model.judge(features, np.array([middle, odd, far]))
    assert (known.share, known.verdict, known.reason) == (1.0, IN_DOMAIN, "")
    assert (unusual.verdict, unusual.reason) == (UNUSUAL, "unlike the training images: overexposed")
    assert (refused.share, refused.verdict) == (0.0, REFUSED)
    assert refused.reason.startswith("unlike the training images: ")


def test_one_image_in_twenty_of_the_validation_images_is_unusual(model):
    """By each of the two distances, so between 5 and 10 % by the greater of them."""
    share = np.mean(model.strangeness > 1)
    assert 0.05 <= share <= 0.1


def test_features_alone_make_an_image_unusual(model):
    features = np.zeros((1, 32), np.float32)
    features[0, 0] = 1
    (found,) = model.judge(features, np.full((1, K), 0.5))
    assert (found.share, found.verdict) == (0.0, REFUSED if "refused" in found.verdict else UNUSUAL)
    assert "features" in found.reason


def test_blank_is_refused_with_its_reason(model):
    blank = image_statistics(np.full((64, 64, 3), 90, np.uint8))
    (found,) = model.judge(np.ones((1, 32), np.float32), blank[None])
    assert (found.verdict, found.reason) == (REFUSED, "blank: all pixels are nearly the same")


def test_other_cameras_are_the_same_for_the_same_seed():
    images = list(np.random.default_rng(5).integers(0, 256, (3, 40, 40, 3), np.uint8))
    first = as_other_cameras(images, 7, draws=2)
    assert first.shape == (6, K) and np.isfinite(first).all()
    np.testing.assert_array_equal(first, as_other_cameras(images, 7, draws=2))
    assert not np.allclose(first, as_other_cameras(images, 8, draws=2))


def test_several_networks_say_what_most_of_them_say():
    def said(*verdicts):
        judged = [[Familiarity(share, verdict, f"by {n}")] for n, (share, verdict) in enumerate(verdicts)]
        (found,) = agreed(judged)
        return found.verdict, found.share, found.reason

    assert said((0.5, "in domain"), (0.1, "refused"), (0.0, "refused")) == ("refused", pytest.approx(0.2), "by 1")
    assert said((0.5, "in domain"), (0.1, "refused")) == ("in domain", pytest.approx(0.3), "by 0")
    assert said((0.5, "in domain"), (0.1, "unusual"), (0.0, "refused"))[0] == "unusual"
    assert agreed([]) == []


def test_the_shrunk_covariance_is_scikit_learns():
    rng = np.random.default_rng(3)
    for values in (rng.normal(size=(40, 7)) @ rng.normal(size=(7, 7)), rng.normal(size=(12, 30)), np.ones((5, 3))):
        np.testing.assert_allclose(shrunk_covariance(values), LedoitWolf().fit(values).covariance_, atol=1e-9)


def test_fundus_photographs_are_known_by_their_statistics(model):
    assert model.of_fundus is False
    red = dict.fromkeys(STATISTICS, 0.2) | {"corners": 0.0, "red": 0.1, "blue": -0.1}
    assert replace(model, training=np.tile(list(red.values()), (5, 1))).of_fundus is True


def test_grey_is_refused_where_all_training_images_are_coloured():
    rng = np.random.default_rng(8)
    grey = np.repeat(rng.integers(60, 200, (40, 16, 16, 1), np.uint8), 3, axis=3)
    coloured = (grey * np.array([0.5, 0.7, 1.0])).astype(np.uint8)  # BGR

    def model_of(images: np.ndarray) -> DomainModel:
        values = np.array([image_statistics(image) for image in images])
        features = 1 + 0.1 * rng.random((len(values), 8), np.float32)
        return DomainModel.fit(Measured(features, values, values), Measured(features, values, values), 20)

    features, values = np.ones((1, 8), np.float32), image_statistics(grey[0])[None]
    (found,) = model_of(coloured).judge(features, values)
    assert found == Familiarity(0.0, REFUSED, "grey, and all training images are coloured")
    some_grey = model_of(np.concatenate([coloured[:36], grey[:4]]))
    assert some_grey.least_colour < 0.001
    assert all("grey," not in each.reason for each in some_grey.judge(features, values))
