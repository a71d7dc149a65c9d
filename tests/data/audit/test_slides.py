"""Patches of slides by their names, and which of them overlap."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pmtrain.data.audit.slides import overlapping, slides_of
from pmtrain.data.dataset import Sample


def patches(*names: str) -> list[Sample]:
    return [Sample(Path("patches") / f"{name}.png", 0) for name in names]


@pytest.mark.parametrize(
    "name", ["slide{s}_x{x}_y{y}", "9035_idx{s}_x{x}_y{y}_class0", "S-{s}-X{x}-Y{y}", "TCGA-3C-AALI-{s}_{x}_{y}"]
)
def test_slides_and_the_pattern_that_finds_them(name):
    samples = patches(*(name.format(s=s, x=x, y=y) for s in (1, 2) for x in (0, 64) for y in (0, 64, 128)))
    slides, pattern = slides_of(samples)
    assert [len(theirs) for theirs in slides.values()] == [6, 6]
    assert [(one.x, one.y) for one in next(iter(slides.values()))][:3] == [(0, 0), (0, 64), (0, 128)]
    for slide, theirs in slides.items():
        assert {re.search(pattern, patch.sample.path.name, re.IGNORECASE)[1] for patch in theirs} == {slide}


def test_names_without_places():
    assert slides_of(patches("IMG_2020_1123", "IMG_2021_1124", "scan 1", "scan 2")) == ({}, "")
    assert slides_of([]) == ({}, "")
    # Dates and numbers: no name has several.
    assert slides_of(patches(*(f"eye{n}_{n}_2020" for n in range(9)))) == ({}, "")


def test_patches_that_share_pixels():
    names = ["s_x0_y0", "s_x96_y0", "s_x0_y128", "s_x224_y0", "s_x96_y127", "s_x500_y500"]
    slides, _ = slides_of(patches(*names))
    found = {(one.sample.path.stem, two.sample.path.stem) for one, two in overlapping(slides["s"], 128, 128)}
    corners = [(name, *map(int, re.findall(r"\d+", name))) for name in names]
    expected = {
        frozenset((a, b))
        for a, ax, ay in corners
        for b, bx, by in corners
        if a != b and abs(ax - bx) < 128 and abs(ay - by) < 128
    }
    assert {frozenset(pair) for pair in found} == expected and len(found) == len(expected) == 4


def test_rows_and_columns_are_no_pixels():
    slides, _ = slides_of(patches(*(f"s_{x}_{y}" for x in range(3) for y in range(3))))
    assert not list(overlapping(slides["s"], 128, 128))
