"""Near duplicates: one photograph in several files, compressed again, resized, or made somewhat brighter or darker.

Photographs of the fundus look much alike, so two measures must agree: a perceptual hash of 256 bits finds candidates,
and the texture of 64 pixels' thumbnails, vessels above all, confirms them. Crops, mirror images and turns beyond a
degree are left to `keypoints`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

HASH_SIDE = 16
THUMBNAIL = 4 * HASH_SIDE  # pixels; what imagehash computes its cosine transform from
# Different photographs, 8.5 million pairs in three data sets (fundus of 224 and 768 pixels, blood cells of 50), came
# as near as 18 bits, and their textures correlated by 0.77 at most. Copies of 120 fundus photographs at JPEG quality 30
# and up, of a quarter to double size, 0.7 to 1.2 times as bright, of gamma 0.7 to 1.5, in another tint, with noise,
# blurred or turned by a degree were within 34 bits, and their textures correlated by 0.86 and more.
MAX_BITS = 36
MIN_CORRELATION = 0.85
BLUR = 2.0  # pixels of the thumbnail: what is broader is light and colour, not texture
FLOOR = 2.0  # grey levels: texture below it is noise
SCALE = 20  # steps of a texture's unit in int8

BLOCK = 2048  # hashes compared with as many others at a time
CONFIRM = 1024  # pairs of textures compared at a time


def thumbnail(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) -> uint8 (THUMBNAIL, THUMBNAIL, 3), stretched to a square."""
    smaller = min(image.shape[:2]) >= THUMBNAIL
    return cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def perceptual_hash(grey: np.ndarray) -> np.ndarray:
    """uint8 (THUMBNAIL, THUMBNAIL) -> the 256 bits of imagehash.phash, uint8 (32,)."""
    import imagehash  # here: it loads Pillow and PyWavelets
    from PIL import Image

    return np.packbits(imagehash.phash(Image.fromarray(grey), HASH_SIDE).hash)


def texture(grey: np.ndarray) -> np.ndarray:
    """uint8 (THUMBNAIL, THUMBNAIL) -> int8 of that shape: the image minus its blurred version, normalised.

    Normalised by the local standard deviation, so that the edge of the field of view and the optic disc, which are
    alike in all photographs, count no more than a vessel.
    """
    sharp = grey.astype(np.float32)
    detail = sharp - cv2.GaussianBlur(sharp, (0, 0), BLUR)
    even = detail / (np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), BLUR)) + FLOOR)
    return np.clip(np.rint((even - even.mean()) * SCALE), -127, 127).astype(np.int8)


def near_groups(
    hashes: np.ndarray, textures: np.ndarray, progress: Callable[[int], object] = lambda blocks: None
) -> list[list[int]]:
    """The images of each photograph that is there more than once, as sorted indices.

    Args:
        hashes: (N, 32) uint8.
        textures: (N, THUMBNAIL, THUMBNAIL) int8.
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
        same = [part[_textures_agree(textures, part)] for part in np.split(pairs, range(CONFIRM, len(pairs), CONFIRM))]
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
            # Of the flat array, in which NumPy finds what is true tens of times sooner than in two dimensions.
            places = np.divmod(np.flatnonzero(alike >= least), alike.shape[1])
            pairs = np.stack(places, axis=1) + (first, second)
            yield pairs[pairs[:, 0] < pairs[:, 1]]


def _textures_agree(textures: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """(K,) bool: the textures of each pair correlate by MIN_CORRELATION or more."""
    left, right = (textures[side].reshape(len(pairs), -1).astype(np.float32) for side in pairs.T)
    product, one, other = (np.einsum("kp,kp->k", a, b) for a, b in ((left, right), (left, left), (right, right)))
    return product >= MIN_CORRELATION * np.sqrt(np.maximum(one * other, 1e-6))
