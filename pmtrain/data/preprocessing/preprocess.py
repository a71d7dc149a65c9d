"""From a file to the network's input, the same in training, evaluation and everything after: see PREPROCESSING."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import cv2
import numpy as np

from pmtrain.data.images.read import ImageFile
from pmtrain.data.preprocessing.per_image import PerImage
from pmtrain.data.preprocessing.retina.eye import Eye, find_eye
from pmtrain.data.preprocessing.retina.field_of_view import Box, field_of_view
from pmtrain.system.errors import PmtrainError, UsageError

if TYPE_CHECKING:
    from pmtrain.runs.records import CheckpointInfo

RULES = 2  # raised when the bytes that `Preprocess.read` makes of a file change

FRACTIONS = (8, 4, 2, 1)  # by which a JPEG's decoder can divide both sides

RGB = tuple[float, float, float]


def _whole(image: np.ndarray) -> Box:
    return Box(0, 0, *image.shape[:2])


def _middle(image: np.ndarray) -> Box:
    """The square in the middle, 224/256 of the shorter side."""
    height, width = image.shape[:2]
    side = max(1, round(min(height, width) * 224 / 256))
    return Box((height - side) // 2, (width - side) // 2, side, side)


def _squared(image: np.ndarray) -> np.ndarray:
    """Black on both sides of what is shorter, so that height and width are the same."""
    height, width = image.shape[:2]
    rows, columns = max(0, width - height), max(0, height - width)
    return cv2.copyMakeBorder(
        image, rows // 2, rows - rows // 2, columns // 2, columns - columns // 2, cv2.BORDER_CONSTANT, value=(0, 0, 0)
    )


def _shrunk(image: np.ndarray, by: int) -> np.ndarray:
    """The mean of every `by` x `by` pixels; sides are rounded up, as a JPEG's decoder does, by repeating the last."""
    if by == 1:
        return image
    height, width = (-(-side // by) for side in image.shape[:2])
    rows, columns = by * height - image.shape[0], by * width - image.shape[1]
    if rows or columns:
        image = cv2.copyMakeBorder(image, 0, rows, 0, columns, cv2.BORDER_REPLICATE)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _minus_one_to_one(images: np.ndarray) -> np.ndarray:
    """(N, S, S, 3), 0 to 255 -> float32 (N, 3, S, S) in [-1, 1], in the notes' order of operations."""
    values = images.transpose(0, 3, 1, 2).astype(np.float32, order="C")
    values /= 255.0
    values *= 2.0
    values -= 1.0
    return values


def _by_statistics(images: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """(N, S, S, 3), BGR, 0 to 255 -> float32 (N, 3, S, S), RGB: (x / 255 - mean) / std."""
    values = images[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32, order="C")
    values /= 255.0
    values -= mean.reshape(3, 1, 1)
    values /= std.reshape(3, 1, 1)
    return values


@dataclass(frozen=True)
class Preprocessing:
    """A preprocessing.

    Args:
        part: the box of a uint8 (H, W, 3) image that the network gets to see.
        by_area: that part is resized by area, so that the image may be brought to a fraction of its size first;
            otherwise bilinear.
        squared: the part is made square by black first; otherwise it is stretched.
        statistics: RGB mean and standard deviation, in [0, 1], to normalise by; `own`: those of the training set;
            PerImage: each image's own; None: [-1, 1], BGR.
        geometry, values: what happens to the shape and to the pixel values, in words for people who do it elsewhere.
    """

    part: Callable[[np.ndarray], Box]
    by_area: bool
    squared: bool
    statistics: tuple[RGB, RGB] | str | PerImage | None
    geometry: str
    values: str


PREPROCESSING: dict[str, Preprocessing] = {
    # The notes' own pixels.
    "notes": Preprocessing(
        *(_whole, False, False, None),
        "the whole image, stretched to the square, bilinear",
        "BGR; value / 255 x 2 - 1",
    ),
    # The black ones of its training-size images count in the training set's mean and standard deviation, too.
    "fundus": Preprocessing(
        *(field_of_view, True, True, "own"),
        "the box around the field of view, made square by black on both sides of what is shorter, resized by area",
        "RGB; (value / 255 - mean) / std, by the training set's mean and standard deviation of each channel",
    ),
    # Which is: the shorter side to S x 256/224, then the centre S x S, in one step.
    "imagenet": Preprocessing(
        *(_middle, True, True, ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))),
        "the middle square of 224/256 of the shorter side, resized by area",
        "RGB; (value / 255 - mean) / std, by ImageNet's mean and standard deviation of each channel",
    ),
    "fundus-local": Preprocessing(
        *(field_of_view, True, False, PerImage(disc=True, local=10, least=0.01, clip=3)),
        "the box around the field of view, stretched to the square, resized by area",
        "RGB; value / 255; inside the disc that touches the square's sides, less the local mean (Gaussian, normalised"
        " by its weight inside the disc), by the image's own mean and standard deviation, 3 x tanh(x / 3); 0 outside",
    ),
    "standardised": Preprocessing(
        *(_whole, True, False, PerImage(disc=False, local=0, least=0.02, clip=0)),
        "the whole image, stretched to the square, resized by area",
        "RGB; value / 255, by the image's own mean and standard deviation of each channel (+ 0.02)",
    ),
}


@dataclass(frozen=True)
class Preprocess:
    """A row of PREPROCESSING at one image size in pixels, with the training set's own statistics where it has some.

    Args:
        mean, std: RGB, of values in [0, 1]: where the row takes the training set's own.
        built_in: the network itself normalises, and takes RGB from 0 to 255.
        align_eyes: right eyes are mirrored, so that all look like left ones. What `read` gives is not mirrored yet:
            which eye it is may depend on the file's name, on which the cache must not depend; see `retina.eye`.
    Raises:
        UsageError: no such row, a size below 1, or eyes in a row that doesn't find the retina.
    """

    name: str = "notes"
    size: int = 224
    mean: RGB | None = None
    std: RGB | None = None
    built_in: bool = False
    align_eyes: bool = False

    def __post_init__(self) -> None:
        if self.name not in PREPROCESSING:
            raise UsageError(f"no preprocessing {self.name!r}", f"one of: {', '.join(PREPROCESSING)}")
        if self.size < 1:
            raise UsageError(f"image size {self.size} is below 1 pixel")
        if self.align_eyes and self.row.part is not field_of_view:
            fundus = [name for name, row in PREPROCESSING.items() if row.part is field_of_view]
            raise UsageError(
                f"--align-eyes with --preprocess {self.name}: eyes are told apart in photographs of the retina only",
                f"give --preprocess {' or '.join(fundus)}, or leave --align-eyes out",
            )

    @classmethod
    def of(cls, info: CheckpointInfo) -> Preprocess:
        """What a checkpoint was trained with."""
        return cls(
            info.preprocessing,
            info.image_size,
            info.pixel_mean,
            info.pixel_std,
            info.normalisation_built_in,
            info.align_eyes,
        )

    @property
    def row(self) -> Preprocessing:
        return PREPROCESSING[self.name]

    def eye(self, image: np.ndarray, path: Path | None = None, columns: Sequence[tuple[str, str]] = ()) -> Eye | None:
        """Which eye an image that `read` gave shows, as `find_eye`; None where eyes aren't aligned."""
        return find_eye(image, path, columns) if self.align_eyes else None

    @property
    def pixels_key(self) -> str:
        """Names all that decides the bytes that `read` makes of a file; fit for a file's name."""
        return f"{self.name}-{self.size}-rules{RULES}-opencv{cv2.__version__}"

    def read(self, path: str | os.PathLike[str]) -> np.ndarray:
        """The one way from a file to training-size bytes: uint8 (S, S, 3), BGR.

        It is `resize` of the decoded image, except that a JPEG's decoder itself brings it to the fraction that
        `resize` would. On 16 photographs of 3872 x 2592, at 224, its bytes differ from those of full decoding by 0.08
        (fundus) and 0.11 (imagenet) of 255 levels in the mean, and by 2 at most.

        Raises:
            BadImage: the file can't be decoded whole.
        """
        return self.read_file(ImageFile(path))

    def read_file(self, file: ImageFile) -> np.ndarray:
        """`read` of a file whose bytes have been read already.

        Raises:
            BadImage: as `read`.
        """
        if self.row.by_area and file.scalable_sides:
            return self._by_area(*self._part(file.scalable_sides, file.decode)[:2])
        return self.resize(file.decode())

    def resize(self, image: np.ndarray) -> np.ndarray:
        """A decoded image, uint8 (H, W, 3) -> uint8 (S, S, 3), the channels as they come (BGR).

        Where the row resizes by area, the image is first brought to 1/8, 1/4 or 1/2 of its size, as long as
        both sides of the part that the network sees keep at least twice the training size.
        """
        if not self.row.by_area:
            return cv2.resize(self.row.part(image).of(image), (self.size, self.size))
        return self._by_area(*self._part(image.shape[:2], lambda by: _shrunk(image, by))[:2])

    def reduced(self, file: ImageFile) -> np.ndarray:
        """The whole decoded image, uint8 (h, w, 3), at the fraction of its size at which `read_file` takes its part.

        Raises:
            BadImage: as `read`.
        """
        if not self.row.by_area:
            return file.decode()
        if file.scalable_sides:
            return self._part(file.scalable_sides, file.decode)[0]
        image = file.decode()
        return self._part(image.shape[:2], lambda by: _shrunk(image, by))[0]

    def resize_reduced(self, image: np.ndarray) -> np.ndarray:
        """What `reduced` gave, maybe changed since, as uint8 (S, S, 3): unchanged, it is what `read_file` gives."""
        if self.row.by_area:
            return self._by_area(image, self.row.part(image))
        return cv2.resize(self.row.part(image).of(image), (self.size, self.size))

    def seen(self, image: np.ndarray) -> np.ndarray:
        """What the network gets to see of a decoded image, at the image's own size: uint8 (H, W, 3) -> (h, w, 3)."""
        if not self.row.by_area:
            return self.row.part(image).of(image)
        _, box, by = self._part(image.shape[:2], lambda by: _shrunk(image, by))
        part = Box(*(by * length for length in box)).of(image)
        return _squared(part) if self.row.squared else part

    def _part(self, sides: Sequence[int], at: Callable[[int], np.ndarray]) -> tuple[np.ndarray, Box, int]:
        """The image at the least fraction 1 / `by` that leaves its part twice the training size, the part, and `by`.

        Args:
            sides: height and width of the whole image, in either order.
            at: gives the image at 1 / `by` of its size.
        """
        least = 2 * self.size
        for by in FRACTIONS:
            if by == 1 or min(sides) >= by * least:
                image = at(by)
                box = self.row.part(image)
                if min(box.height, box.width) >= least:
                    break
        return image, box, by

    def _by_area(self, image: np.ndarray, box: Box) -> np.ndarray:
        seen = _squared(box.of(image)) if self.row.squared else box.of(image)
        interpolation = cv2.INTER_AREA if min(seen.shape[:2]) > self.size else cv2.INTER_LINEAR
        return cv2.resize(seen, (self.size, self.size), interpolation=interpolation)

    def normalise(self, images: np.ndarray) -> np.ndarray:
        """(N, S, S, 3), BGR, uint8 or float32 from 0 to 255 -> float32 (N, 3, S, S).

        Raises:
            PmtrainError: as `channel_statistics`.
        """
        if self.built_in:
            return np.ascontiguousarray(images[..., ::-1].transpose(0, 3, 1, 2), np.float32)
        statistics = self.row.statistics
        if statistics is None:
            return _minus_one_to_one(images)
        if isinstance(statistics, PerImage):
            return statistics(images)
        return _by_statistics(images, *self.channel_statistics)

    @property
    def channel_statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """The mean and std of each channel that a row normalises by, RGB, of values in [0, 1]: (3,) float32 each.

        Raises:
            PmtrainError: they are the training set's own, and aren't known.
        """
        statistics = self.row.statistics
        mean, std = statistics if isinstance(statistics, tuple) else (self.mean, self.std)
        if mean is None or std is None:
            raise PmtrainError(
                f"the preprocessing {self.name!r} needs the training set's mean and std, and none are stored",
                "bring back the checkpoint's side file as it was saved",
            )
        return np.array(mean, np.float32), np.array(std, np.float32)

    @property
    def lacks_statistics(self) -> bool:
        """Whether the training images must be measured before anything can be normalised."""
        return self.row.statistics == "own" and None in (self.mean, self.std)

    def measured(self, images: Iterable[np.ndarray]) -> Preprocess:
        """The same with the mean and std of uint8 (S, S, 3) images, summed in whole numbers: exact in any order.

        Raises:
            PmtrainError: there are no images.
        """
        sums = np.zeros((2, 3), np.int64)  # of the values and of their squares, BGR
        count = 0
        for image in images:
            # How often each byte occurs in each channel.
            counts = np.stack([np.bincount(image[..., channel].ravel(), minlength=256) for channel in range(3)])
            sums += np.stack([counts @ _BYTES, counts @ _BYTES**2])
            count += image.shape[0] * image.shape[1]
        if not count:
            raise PmtrainError("no training image could be decoded", "look at the files, or give other --data")
        mean = [int(total) / count / 255 for total in sums[0, ::-1]]
        # N * sum(x * x) - sum(x) ** 2 in whole numbers of any length: nothing cancels.
        spread = [count * int(square) - int(total) ** 2 for total, square in sums.T[::-1]]
        # A channel that never changes is left as it is.
        std = [value**0.5 / count / 255 if value else 1.0 for value in spread]
        return replace(self, mean=cast(RGB, tuple(mean)), std=cast(RGB, tuple(std)))


_BYTES = np.arange(256, dtype=np.int64)
