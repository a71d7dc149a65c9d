"""Views of test-time augmentation, on images of numbers."""

from __future__ import annotations

import numpy as np
import pytest

from pmtrain.config import EvalConfig
from pmtrain.evaluation.scores.views import TEXTS, VIEWS, views_of, views_stated

IMAGE = np.array([[1, 2], [3, 4]], np.float32).reshape(1, 1, 2, 2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mirror", [[1, 2, 3, 4], [2, 1, 4, 3]]),
        ("turns", [[1, 2, 3, 4], [2, 4, 1, 3], [4, 3, 2, 1], [3, 1, 4, 2]]),
        (
            "mirror-turns",
            [
                *([1, 2, 3, 4], [2, 1, 4, 3], [2, 4, 1, 3], [4, 3, 2, 1], [3, 1, 4, 2]),
                *([1, 3, 2, 4], [3, 4, 1, 2], [4, 2, 3, 1]),
            ],
        ),
        ("scales", [[1, 2, 3, 4], [1, 2, 3, 4]]),
    ],
)
def test_each_view_shows_the_image_as_it_says(name, expected):
    seen = [view.change(IMAGE) for view in VIEWS[name]]
    assert [list(image.ravel()) for image in seen] == expected
    assert all(image.flags.c_contiguous for image in seen)  # as Paddle reads them
    assert len({view.name for view in VIEWS[name]}) == len(expected)


def test_only_scales_change_the_size():
    assert {name: [view.scale for view in views] for name, views in VIEWS.items()} == {
        **{"mirror": [1] * 2, "turns": [1] * 4, "mirror-turns": [1] * 8},
        "scales": [1, 1.125],
    }


def test_tta_alone_is_the_mirror_image_and_named_views_go_before_it():
    assert views_of(EvalConfig(tta=True)) == VIEWS["mirror"]
    assert views_of(EvalConfig(tta=True, tta_views="turns")) == VIEWS["turns"]
    assert [view.name for view in views_of(EvalConfig())] == ["as it is"]
    assert views_stated(EvalConfig(tta=True)) == ["scores: mean logit of each image and its mirror image (--tta)"]
    assert views_stated(EvalConfig()) == []


def test_all_views_have_their_words():
    assert TEXTS.keys() == VIEWS.keys()
