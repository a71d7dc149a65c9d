"""Near duplicates: one photograph in several files, compressed again, resized, or made somewhat brighter or darker.

Photographs of the fundus look much alike, so two measures must agree: a perceptual hash of 256 bits finds candidates,
and the fine detail of 64 pixels' thumbnails, which is vessels and texture, confirms them. Crops, mirror images and
turns beyond a degree are other images to both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

HASH_SIDE = 16
THUMBNAIL = 4 * HASH_SIDE  # pixels; what imagehash computes its cosine transform from
# Copies at JPEG quality 30 and up, half or double size, 0.7 to 1.2 times the brightness, or another tint differ in 22
# bits at most and their details correlate by 0.96 and more, in fundus photographs of 224 and 768 pixels. Different
# photographs, 13 million pairs of three data sets, came to 18 bits or to 0.97, yet within 34 bits never above 0.94.
MAX_BITS = 24
MIN_DETAIL = 0.95

BLOCK = 2048  # hashes compared with as many others at a time
CONFIRM = 1024  # pairs of thumbnails compared at a time


def thumbnail(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) -> uint8 (THUMBNAIL, THUMBNAIL, 3), stretched to a square."""
    smaller = min(image.shape[:2]) >= THUMBNAIL
    return cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def perceptual_hash(grey: np.ndarray) -> np.ndarray:
    """uint8 (THUMBNAIL, THUMBNAIL) -> the 256 bits of imagehash.phash, uint8 (32,)."""
    import imagehash  # here: it loads Pillow and PyWavelets
    from PIL import Image

    return np.packbits(imagehash.phash(Image.fromarray(grey), HASH_SIDE).hash)


def near_groups(
    hashes: np.ndarray, thumbnails: np.ndarray, progress: Callable[[int], object] = lambda blocks: None
) -> list[list[int]]:
    """The images of each photograph that is there more than once, as sorted indices.

    Args:
        hashes: (N, 32) uint8.
        thumbnails: (N, THUMBNAIL, THUMBNAIL) uint8, grey.
        progress: is told how many blocks of `block_pairs(N)` are done.
    """
    count = len(hashes)
    group = np.arange(count)
    for done, pairs in enumerate(close_pairs(hashes, MAX_BITS), 1):
        progress(done)
        # What is known to be one photograph isn't compared again: thousands of copies stay thousands of comparisons.
        pairs = pairs[group[pairs[:, 0]] != group[pairs[:, 1]]]
        if not len(pairs):
            continue
        same = [part[_detail_agrees(thumbnails, part)] for part in np.split(pairs, range(CONFIRM, len(pairs), CONFIRM))]
        found = np.concatenate(same)
        if len(found):
            edges = np.concatenate([found, np.stack([np.arange(count), group], axis=1)])
            links = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), (count, count))
            # A group goes by its first image, so that it is an index as well.
            _, part_of = connected_components(links, directed=False)
            group = np.unique(part_of, return_index=True)[1][part_of]
    members = np.argsort(group, kind="stable")
    runs = np.split(members, np.flatnonzero(np.diff(group[members])) + 1)
    return [run.tolist() for run in runs if len(run) > 1]


def block_pairs(count: int) -> int:
    """How many blocks `close_pairs` compares."""
    blocks = -(-count // BLOCK)
    return blocks * (blocks + 1) // 2


def close_pairs(hashes: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """(K, 2) indices i < j of hashes that differ in `most` bits or fewer, a block after the other.

    Bits as +1 and -1 have the dot product bits - 2 x differing ones, and matrix products are what a processor does
    quickest: 100,000 images are 5 x 10^9 pairs and 2.6 x 10^12 operations.

    Args:
        hashes: (N, bytes) uint8.
    """
    signs = np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1
    least = signs.shape[1] - 2 * most
    for first in range(0, len(signs), BLOCK):
        for second in range(first, len(signs), BLOCK):
            alike = signs[first : first + BLOCK] @ signs[second : second + BLOCK].T
            pairs = np.argwhere(alike >= least) + (first, second)
            yield pairs[pairs[:, 0] < pairs[:, 1]]


def _detail_agrees(thumbnails: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """(K,) bool: the details of the two thumbnails correlate by MIN_DETAIL or more."""
    used, places = np.unique(pairs, return_inverse=True)
    details = np.stack([_detail(thumbnails[index]) for index in used])
    left, right = places.reshape(pairs.shape).T
    return np.einsum("kp,kp->k", details[left], details[right]) >= MIN_DETAIL


def _detail(grey: np.ndarray) -> np.ndarray:
    """What a thumbnail has beyond its blurred self, float32 (pixels,), of mean 0 and length 1."""
    sharp = grey.astype(np.float32)
    detail = (sharp - cv2.GaussianBlur(sharp, (0, 0), 3)).ravel()
    detail -= detail.mean()
    return detail / max(float(np.linalg.norm(detail)), 1e-6)
