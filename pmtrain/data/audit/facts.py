"""Facts about a data set: what its files and pixels are, and which photographs it holds more than once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from pmtrain.data.audit.keypoints import same_pairs
from pmtrain.data.audit.shortcut import CrossValidated, cross_validate, draw, training_samples
from pmtrain.data.audit.similar import block_pairs, near_groups
from pmtrain.data.audit.slides import slides_of
from pmtrain.data.audit.survey import Keeper, Survey, survey
from pmtrain.data.dataset import DataSet, Sample
from pmtrain.data.images.shortcut_features import FeatureTable
from pmtrain.system import console


@dataclass(frozen=True)
class Photograph:
    """Images that show one photograph, and in what they are equal."""

    samples: tuple[Sample, ...]
    alike: str


@dataclass(frozen=True)
class DatasetFacts:
    """What the checks read: the survey, the photographs that occur more than once, and the shortcut baseline."""

    survey: Survey
    equal: list[Photograph]
    near: list[Photograph]
    shortcut: CrossValidated

    @property
    def data(self) -> DataSet:
        return self.survey.data

    def samples(self, indices: Iterable[int]) -> tuple[Sample, ...]:
        """The samples at these places."""
        return _samples(self.survey, indices)


def gather(data: DataSet, threads: int = 1, keeper: Keeper | None = None) -> DatasetFacts:
    """Read and decode every image of `data` once; no file is changed."""
    features = FeatureTable(sample.path for sample in draw(training_samples(data), 0))
    found = survey(data, threads, keeper, features)
    near = _near_photographs(found)
    return DatasetFacts(
        found,
        _equal_photographs(found),
        [*near, *_same_structures(found, near)],
        cross_validate(data, known=features),
    )


def _equal_photographs(found: Survey) -> list[Photograph]:
    """The photographs that several files hold pixel for pixel. Images of one colour don't count."""
    groups = defaultdict(list)
    for index, _, look in found.seen():
        if not look.one_colour:
            groups[look.pixels].append(index)
    repeated = [group for group in groups.values() if len(group) > 1]
    alike = ("equal pixel for pixel, in different files", "equal byte for byte")
    return [
        Photograph(_samples(found, group), alike[len({found.looks[index].content for index in group}) == 1])
        for group in repeated
    ]


def _near_photographs(found: Survey) -> list[Photograph]:
    """The photographs that several files hold with small changes: compressed again, resized, brighter or darker."""
    same = defaultdict(list)
    for index, _, look in found.seen():
        if not look.one_colour:
            same[look.pixels].append(index)
    first = [group[0] for group in same.values()]
    with console.progress(block_pairs(len(first)), "block", "comparing images") as bar:
        groups = near_groups(found.hashes[first], found.textures[first], lambda done: bar.update(done - bar.n))
    # With each image come those that are equal to it.
    whole = [sorted(i for place in group for i in same[found.looks[first[place]].pixels]) for group in groups]
    return [Photograph(_samples(found, group), "nearly equal") for group in whole]


def _same_structures(found: Survey, near: list[Photograph]) -> list[Photograph]:
    """The eyes and tissues that several images show and that aren't known to be `near` already.

    Patches of one slide may overlap; that is told by their places.
    """
    first: dict[bytes, int] = {}
    for index, _, look in found.seen():
        if len(found.points[index].places):
            first.setdefault(look.pixels, index)
    indices = list(first.values())
    with console.progress(len(indices), "image", "comparing structures") as bar:
        pairs = same_pairs([found.points[index] for index in indices], lambda done: bar.update(done - bar.n))
    group_of = {sample: number for number, one in enumerate(near) for sample in one.samples}
    slides, _ = slides_of(found.data.samples)
    slide_of = {patch.sample: slide for slide, patches in slides.items() for patch in patches}
    parent = list(range(len(indices)))  # of each image, another one of its group

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for one, other in pairs:
        samples = [found.data.samples[indices[i]] for i in (one, other)]
        if all(
            known.get(samples[0], one) != known.get(samples[1], other) or samples[0] not in known
            for known in (group_of, slide_of)
        ):
            low, high = sorted((root(one), root(other)))
            parent[high] = low
    groups_of = defaultdict(list)
    for i, index in enumerate(indices):
        groups_of[root(i)].append(index)
    return [
        Photograph(_samples(found, sorted(group)), "the same structures: taken again, cropped, turned or mirrored")
        for group in groups_of.values()
        if len(group) > 1
    ]


def _samples(found: Survey, indices: Iterable[int]) -> tuple[Sample, ...]:
    return tuple(found.data.samples[index] for index in indices)
