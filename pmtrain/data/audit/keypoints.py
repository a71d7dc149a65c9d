"""Copies that were cropped, turned, mirrored or given another contrast: found by the points where structures meet.

The vessels of a retina, like a fingerprint, meet and fork in places of their own. ORB (Rublee et al. 2011) describes
up to POINTS such places of an image by 256 bits each, whatever the light, the angle and, within limits, the scale.
Images that share many descriptors are compared point by point: they show the same where one similarity transform
(scale, angle, shift) maps enough points of one onto points of the other.

Measured: in 800 and 596 fundus photographs of 224 and 768 pixels, 16 and 6 pairs beyond those that are equal in every
pixel, all of one eye by a look at the pictures; a pair of different eyes agreed in 10 points at most. Of 50 copies at
JPEG quality 60 in each of the sets, found at 224 and at 768 pixels: mirrored 82 and 100 %, with CLAHE 80 and 88 %,
cropped to 80 % of the sides 84 and 100 %, to 60 % 2 and 86 %, turned by 10 degrees 90 and 100 %, mirrored and with
CLAHE 72 and 80 %.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from scipy.sparse import csr_array

SIDE = 256  # pixels: the longer side at which points are looked for
SMALLEST = 128  # pixels: the shorter side of an image that is looked at
POINTS = 250  # an image
MOST_IMAGES = 20_000  # 14 KB an image
FLAT = 3.0  # levels: the local standard deviation below which there is no structure

TABLES = 12  # each with three of a descriptor's 32 bytes as its key
COMMON = 30  # images that share a key, from which on it says nothing
VOTES = 5  # shared keys from which on two images are compared
BEST = 2  # images, at most, that each is compared with, as it is and mirrored
AT_A_TIME = 512  # images whose votes are counted at a time

NEAR_BITS = 64  # by which matching descriptors differ at most,
RATIO = 0.85  # and to the second best by more than that, divided by this
OFF = 4.0  # pixels: how far a mapped point may be from its match
AGREEING = 12  # points that one transform maps, at least,
SPREAD = 0.1  # over this share of the side, in both directions


class Points(NamedTuple):
    """Where an image's points are, float32 (K, 2) as x and y at SIDE, and their descriptors, uint8 (K, 32), as the
    image is and mirrored."""

    places: np.ndarray
    descriptors: np.ndarray
    mirrored: np.ndarray


NONE = Points(np.zeros((0, 2), np.float32), np.zeros((0, 32), np.uint8), np.zeros((0, 32), np.uint8))


def points_of(image: np.ndarray) -> Points:
    """The points of uint8 (H, W, 3), BGR, of which nothing but the field of view should be handed in."""
    if min(image.shape[:2]) < SMALLEST:
        return NONE
    green = cv2.extractChannel(image, 1)  # in which vessels are seen best
    while max(green.shape) >= 2 * SIDE:
        green = cv2.resize(green, (green.shape[1] // 2, green.shape[0] // 2), interpolation=cv2.INTER_AREA)
    scale = SIDE / max(green.shape)
    green = cv2.resize(green, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    lit = cv2.erode((green > 12).astype(np.uint8), np.ones((9, 9), np.uint8))
    even = _even(green)
    orb = cv2.ORB.create(POINTS, 1.25, 4, edgeThreshold=16, fastThreshold=12, scoreType=cv2.ORB_FAST_SCORE)
    found, descriptors = orb.detectAndCompute(even, lit)
    if not found:
        return NONE
    places = np.array(cv2.KeyPoint.convert(found), np.float32)
    last = even.shape[1] - 1
    for number, point in enumerate(found):  # changed in place, which is quicker than new ones
        x, y = point.pt
        point.pt, point.angle, point.class_id = (last - x, y), (180 - point.angle) % 360, number
    turned, mirrored = orb.compute(cv2.flip(even, 1), found)
    kept = [p.class_id for p in turned]  # all but those at the very edge
    return Points(places[kept], descriptors[kept], mirrored) if kept else NONE


def _even(grey: np.ndarray) -> np.ndarray:
    """uint8 (H, W) less its local mean, by its local standard deviation: 128 + 40 x, so that contrast counts little."""
    size = (SIDE // 16, SIDE // 16)
    detail = grey.astype(np.float32)
    detail -= cv2.boxFilter(detail, -1, size)
    spread = cv2.sqrt(cv2.max(cv2.boxFilter(detail * detail, -1, size), 0))
    spread += FLAT
    detail /= spread
    detail *= 40
    detail += 128
    return cv2.blur(np.clip(detail, 0, 255, out=detail).astype(np.uint8), (3, 3))


def same_pairs(
    images: Sequence[Points], progress: Callable[[int], object] = lambda done: None
) -> list[tuple[int, int]]:
    """(i, j), i < j, of images that show the same.

    Keys are sorted, O(N log N), and images counted that share one, COMMON x N at most a key; then each image is
    compared with 2 x BEST others at most, a millisecond each.

    Args:
        progress: is told how many images are done.
    """
    found = []
    for first, second, mirrored in candidates(images):
        progress(first)
        one, other = images[first], images[second]
        if agreeing(one, other, mirrored) >= AGREEING:
            found.append((min(first, second), max(first, second)))
    progress(len(images))
    return sorted(set(found))


def candidates(images: Sequence[Points]) -> Iterator[tuple[int, int, bool]]:
    """Images to compare: first, second, and whether the second is mirrored."""
    count = len(images)
    if count < 2:
        return
    owner = np.repeat(np.arange(count), [len(one.descriptors) for one in images])
    plain, mirrored = (np.concatenate([one[kind] for one in images]) for kind in (1, 2))
    rng, width = np.random.default_rng(0), 0
    found: list[tuple[np.ndarray, ...]] = []
    for _ in range(TABLES):
        three = rng.permutation(32)[:3]
        keys = np.concatenate([_key(plain[:, three]), _key(mirrored[:, three])])
        number, often = _numbered(keys)
        telling = (often > 1) & (often <= 2 * COMMON)
        column = np.cumsum(telling) - 1 + width
        width += int(telling.sum())
        for half in np.split(number, 2):
            kept = telling[half]
            found.append((owner[kept], column[half[kept]]))
    table, other = (
        _binary(
            np.concatenate([rows for rows, _ in half]), np.concatenate([columns for _, columns in half]), count, width
        )
        for half in (found[::2], found[1::2])
    )
    transposed, of_mirrored = table.T.tocsr(), other.T.tocsr()
    for start in range(0, count, AT_A_TIME):
        part = slice(start, start + AT_A_TIME)
        for flipped, votes in ((False, table[part] @ transposed), (True, table[part] @ of_mirrored)):
            votes = votes.tocsr()
            for row in range(votes.shape[0]):
                entries = slice(votes.indptr[row], votes.indptr[row + 1])
                others, counts = votes.indices[entries], votes.data[entries]
                keep = (counts >= VOTES) & (others > start + row)
                best = np.argsort(-counts[keep], kind="stable")[:BEST]
                yield from ((start + row, int(j), flipped) for j in others[keep][best])


def _numbered(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(K,) numbers of the keys, equal for equal keys, and how often each occurs; as np.unique, in half the time."""
    packed = np.sort(keys.astype(np.int64) << 32 | np.arange(len(keys)))
    ordered = packed >> 32
    ranks = np.concatenate([[0], np.cumsum(ordered[1:] != ordered[:-1])])[: len(keys)].astype(np.int64)
    number = np.empty_like(ranks)
    number[packed & 0xFFFFFFFF] = ranks
    return number, np.bincount(ranks)


def _key(three: np.ndarray) -> np.ndarray:
    """uint8 (K, 3) -> (K,) int32."""
    wide = three.astype(np.int32)
    return wide[:, 0] << 16 | wide[:, 1] << 8 | wide[:, 2]


def _binary(rows: np.ndarray, columns: np.ndarray, height: int, width: int) -> csr_array:
    table = csr_array((np.ones(len(rows), np.int32), (rows, columns)), (height, width))
    table.data[:] = 1  # however often it occurs in an image
    return table


def agreeing(one: Points, other: Points, mirrored: bool) -> int:
    """How many points of `one` a similarity transform maps onto matching points of `other`; 0 where they are few or
    close together."""
    descriptors = other.mirrored if mirrored else other.descriptors
    if min(len(one.places), len(other.places)) < AGREEING:
        return 0
    bits, which = cv2.batchDistance(one.descriptors, descriptors, cv2.CV_32S, normType=cv2.NORM_HAMMING, K=2)
    left = np.flatnonzero((bits[:, 0] <= NEAR_BITS) & (bits[:, 0] < RATIO * bits[:, 1]))
    if len(left) < AGREEING:
        return 0
    right = which[left, 0]
    there = other.places[right] * ((-1, 1) if mirrored else (1, 1))
    _, inside = cv2.estimateAffinePartial2D(one.places[left], there.astype(np.float32), ransacReprojThreshold=OFF)
    if inside is None:
        return 0
    used = inside.ravel() > 0
    spread = min(np.ptp(one.places[left][used], axis=0).min(), np.ptp(other.places[right][used], axis=0).min())
    return int(used.sum()) if spread >= SPREAD * SIDE else 0
