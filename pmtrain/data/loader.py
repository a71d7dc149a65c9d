"""Samples to batches: seeded order, decoding beside the main thread, every image decoded once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from pmtrain.data.augment import Augment
from pmtrain.data.balance import SAMPLERS
from pmtrain.data.images import BadImage
from pmtrain.data.samples import Sample
from pmtrain.data.transforms import Preprocess
from pmtrain.data.workers import Decoded, DecodingProcesses, DecodingThread
from pmtrain.errors import PmtrainError
from pmtrain.hardware import available_memory

ON_BAD_IMAGE = ("stop", "skip")


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """What one training step sees."""

    index: int  # its place in the epoch, from 0
    images: np.ndarray  # (N, 3, S, S) float32
    labels: np.ndarray  # (N, 1) float32, 0 or 1
    samples: list[Sample]


class Loader:
    """Batches of samples, in an order that depends on nothing but the seed and the epoch's number.

    So any epoch can be had from any batch on, with any number of workers. Decoded images are kept at training
    size, as bytes, up to the memory limit; when all are kept, the workers are let go.

    Args:
        batch_size: images a batch; the last one of an epoch may be shorter.
        workers: processes that decode; 0: a thread of this process does.
        shuffle: a new order every epoch; otherwise the samples' own.
        sampler: a row of SAMPLERS: which images a shuffled epoch has.
        augment: changes each image at random.
        on_bad_image: a row of ON_BAD_IMAGE: raise, or leave the image out of its batch and note it in `bad_images`.
        name_of: how a sample is named in errors; its path if not given.
        cache_limit_bytes: memory for decoded images; None: a quarter of what is available now.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        preprocess: Preprocess,
        batch_size: int,
        *,
        workers: int = 0,
        seed: int = 0,
        shuffle: bool = False,
        sampler: str = "shuffle",
        augment: Augment | None = None,
        on_bad_image: str = "stop",
        name_of: Callable[[Sample], str] | None = None,
        cache_limit_bytes: int | None = None,
    ) -> None:
        if on_bad_image not in ON_BAD_IMAGE:
            raise ValueError(f"on_bad_image must be one of {ON_BAD_IMAGE}, not {on_bad_image!r}")
        self.samples = tuple(samples)
        self.preprocess = preprocess
        self.batch_size = batch_size
        self.workers = workers
        self.seed = seed
        self.shuffle = shuffle
        self.sampler = sampler
        self.augment = augment
        self.on_bad_image = on_bad_image
        self._name_of = name_of or (lambda sample: str(sample.path))
        limit = available_memory() // 4 if cache_limit_bytes is None else cache_limit_bytes
        shape = (preprocess.size, preprocess.size, 3)
        room = min(len(self.samples), limit // int(np.prod(shape)))
        self._cache = np.empty((room, *shape), np.uint8)  # memory is taken as it fills
        self._cached: dict[int, int] = {}  # index of a sample -> its place in the cache
        self._bad: dict[int, str] = {}  # index of a sample -> why it can't be read
        self._decoding: dict[int, Future[Decoded]] = {}
        self._pool: DecodingProcesses | DecodingThread | None = None

    def __len__(self) -> int:
        """Batches in an epoch, those counted that bad images may leave empty."""
        return -(-len(self.samples) // self.batch_size)

    @property
    def bad_images(self) -> list[tuple[Sample, str]]:
        """The images left out so far, each with the reason, in the order of the samples."""
        return [(self.samples[index], self._bad[index]) for index in sorted(self._bad)]

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, from `first_batch` on.

        Raises:
            PmtrainError: an image is bad and `on_bad_image` is `stop`; all of them are bad; a worker died.
        """
        order = self._order(epoch)
        shown = Counter(order[: first_batch * self.batch_size])
        # Enough under way that a training step's time is never idle for the workers, and no more.
        ahead = max(2 * self.batch_size, 4 * self.workers)
        for index in range(first_batch, len(self)):
            start, end = index * self.batch_size, (index + 1) * self.batch_size
            self._request(order[start : end + ahead])
            # A balanced batch may hold an image twice.
            taken = {place: self._take(place) for place in dict.fromkeys(order[start:end])}
            read = [(place, image) for place in order[start:end] if (image := taken[place]) is not None]
            self._release_workers()
            if read:
                yield self._batch(index, self._augmented(read, epoch, shown))
        if len(self._bad) == len(self.samples) > 0:
            sample, reason = self.bad_images[0]
            raise PmtrainError(
                f"none of the {len(self.samples)} images can be read; the first is {self._name_of(sample)}: {reason}"
            )

    def pixels(self) -> Iterator[np.ndarray]:
        """Every image once, uint8 (S, S, 3), in the order of the samples; the epochs find them decoded.

        Raises:
            PmtrainError: an image is bad and `on_bad_image` is `stop`; a worker died.
        """
        ahead = max(2 * self.batch_size, 4 * self.workers)
        for index in range(len(self.samples)):
            self._request(list(range(index, min(index + ahead, len(self.samples)))))
            if (image := self._take(index)) is not None:
                yield image
        self._release_workers()

    def close(self) -> None:
        """Stop the workers; those not closed end with the program."""
        if self._pool:
            self._pool.close()
        self._pool = None
        self._decoding.clear()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _order(self, epoch: int) -> list[int]:
        """The samples' indices in the order of one epoch."""
        if not self.shuffle:
            return list(range(len(self.samples)))
        labels = np.array([sample.label for sample in self.samples], np.int64)
        return SAMPLERS[self.sampler](labels, self.seed, epoch).tolist()

    def _request(self, indices: list[int]) -> None:
        """Have decoded what of these isn't at hand or under way."""
        for index in indices:
            if index in self._cached or index in self._bad or index in self._decoding:
                continue
            if self._pool is None:
                if self.workers:
                    self._pool = DecodingProcesses(min(self.workers, len(self.samples)), self.preprocess)
                else:
                    self._pool = DecodingThread(self.preprocess)
            self._decoding[index] = self._pool.submit(self.samples[index].path)

    def _take(self, index: int) -> np.ndarray | None:
        """One image, uint8 (S, S, 3); None where it is bad and left out."""
        if index in self._cached:
            return self._cache[self._cached[index]]
        if index in self._bad:
            return None
        decoded = self._decoding.pop(index).result()
        if isinstance(decoded, str):
            if self.on_bad_image == "stop":
                raise BadImage(
                    self._name_of(self.samples[index]),
                    decoded,
                    "put a whole copy in its place, or leave such images out: --on-bad-image skip",
                )
            self._bad[index] = decoded
            return None
        if len(self._cached) < len(self._cache):
            self._cached[index] = len(self._cached)
            self._cache[self._cached[index]] = decoded
        return decoded

    def _release_workers(self) -> None:
        if len(self._cached) + len(self._bad) == len(self.samples):
            self.close()

    def _augmented(
        self, read: list[tuple[int, np.ndarray]], epoch: int, shown: Counter[int]
    ) -> list[tuple[int, np.ndarray]]:
        """The images as this epoch changes them; `shown` counts how often it has had each so far."""
        if self.augment is None:
            return read
        changed = []
        for place, image in read:
            changed.append((place, self.augment(image, epoch, place, shown[place])))
            shown[place] += 1
        return changed

    def _batch(self, index: int, read: list[tuple[int, np.ndarray]]) -> Batch:
        samples = [self.samples[place] for place, _ in read]
        return Batch(
            index,
            self.preprocess.normalise(np.stack([image for _, image in read])),
            np.array([[sample.label] for sample in samples], np.float32),
            samples,
        )
