"""Samples to batches: seeded order, decoding beside the main thread, each image decoded once."""

from __future__ import annotations

import functools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from pmtrain.data.dataset import Sample
from pmtrain.data.images.read import BadImage
from pmtrain.data.images.shortcut_features import FEATURES_KIND, FeatureTable
from pmtrain.data.loading.balance import SAMPLERS
from pmtrain.data.loading.cache import Cache
from pmtrain.data.loading.slots import Look, Place
from pmtrain.data.loading.workers import Decoded, DecodingProcesses, DecodingThread
from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.data.preprocessing.retina.eye import Eye, aligned, find_eye
from pmtrain.system import console
from pmtrain.system.errors import PmtrainError
from pmtrain.system.hardware import available_memory, use_every_core

ON_BAD_IMAGE = ("stop", "skip")

MEMORY_BESIDE = 512 * 2**20  # bytes: for images that the cache on disk doesn't take
PATIENCE = 30.0  # seconds of waiting for one image until it is named
NEW = 16  # images that are written to disk at once
# When worker processes pay: after so many images, if decoding one takes longer than sending it through a pipe, and
# decoding all that are left longer than two processes take to start and share them (seconds).
PROBES, WORTH_A_PIPE, WORTH_A_START = 8, 0.003, 3.0

Result = TypeVar("Result")
# A training image, uint8 (S, S, 3), its epoch, its place among the samples, and how often the epoch has shown it before
# -> as the epoch shows it.
Change = Callable[[np.ndarray, int, int, int], np.ndarray]


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """What one training step sees."""

    index: int  # its place in the epoch, from 0
    images: np.ndarray  # (N, 3, S, S) float32; (2 N, 3, S, S) where a loader makes two versions of each
    labels: np.ndarray  # (N, 1) float32, 0 or 1
    samples: list[Sample]
    pixels: np.ndarray | None = None  # (N, S, S, 3) uint8, BGR: the images before they were normalised


def batches_in(images: int, batch_size: int, drop_last: bool = False) -> int:
    """Batches in an epoch; with `drop_last` only complete ones, but for an only one."""
    return images // batch_size or min(images, 1) if drop_last else -(-images // batch_size)


class Loader:
    """Batches of samples, in an order that depends on the seed and the epoch's number alone.

    So an epoch can be started at any batch, with any number of workers. Decoded images are kept at training size, as
    bytes: in the cache on disk, or in memory what the cache doesn't take, up to a limit. Workers are started for the
    first image that isn't kept and stopped when all are.

    Args:
        batch_size: images a batch; the last one of an epoch may be shorter.
        workers: processes that decode; 0: a thread of this process does.
        shuffle: a new order every epoch; otherwise the samples' own.
        sampler: a row of SAMPLERS: which images a shuffled epoch contains.
        augment: changes each image at random, and may change its size, alike for all of an epoch.
        again: changes each image a second time: a batch then has the second versions of all its images after the first.
        on_bad_image: a value of ON_BAD_IMAGE: raise, or leave the image out of its batch and list it in `bad_images`.
        name_of: how a sample is named in errors; its path if not given.
        drop_last: leave out an epoch's last batch if it is incomplete, unless it is the only one.
        cache_limit_bytes: memory for decoded images; None: a quarter of what is available now.
        cache: where decoded images are kept on disk, also for later runs; memory then takes at most MEMORY_BESIDE.
        patient: a thread decodes first, and workers are started only if images turn out slow enough to pay for it.
        features: gets the shortcut features that it wants of each image that is decoded.
        share: this process's number and the number of processes that load the same samples. When shuffling, each gets
            its part of every batch, which may be empty; otherwise whole batches in turn.
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
        augment: Change | None = None,
        again: Change | None = None,
        on_bad_image: str = "stop",
        name_of: Callable[[Sample], str] | None = None,
        drop_last: bool = False,
        cache_limit_bytes: int | None = None,
        cache: Cache | None = None,
        patient: bool = False,
        features: FeatureTable | None = None,
        share: tuple[int, int] = (0, 1),
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
        self.augment, self.again = augment, again
        self.on_bad_image = on_bad_image
        self.drop_last = drop_last
        # Enough under way that a training step's time is never idle for the workers, and no more.
        self._ahead = max(2 * batch_size, 4 * workers)
        self._name_of = name_of or (lambda sample: str(sample.path))
        limit = available_memory() // 4 if cache_limit_bytes is None else cache_limit_bytes
        self.rank, self.processes = share
        limit = (min(limit, MEMORY_BESIDE) if cache else limit) // self.processes
        shape = (preprocess.size, preprocess.size, 3)
        room = min(len(self.samples), limit // int(np.prod(shape)))
        self.features = features
        self._cache = np.empty((room, *shape), np.uint8)  # memory is taken as it fills
        self.eyes: dict[int, Eye] = {}  # index of a sample -> which eye it is, where eyes are aligned
        self._cached: dict[int, int] = {}  # index of a sample -> its place in the cache
        self.bad: dict[int, str] = {}  # index of a sample -> why it can't be read
        self._decoding: dict[int, Future[Decoded]] = {}
        self._pool: DecodingProcesses | DecodingThread | None = None
        self._disk = cache
        self._kind = preprocess.pixels_key
        self._places: dict[int, Place] = {}  # index of a sample -> its place on disk
        self._looks: dict[int, Future[Look | None]] = {}  # files being read to find their images by content
        self._looker: ThreadPoolExecutor | None = None
        self._starting = threading.Lock()  # over the start of the workers
        self._new: dict[int, tuple[Look, np.ndarray]] = {}  # decoded images that aren't on disk yet
        self._patient = patient
        self._first: DecodingThread | None = None  # which the workers have replaced

    def __len__(self) -> int:
        """Batches in an epoch, including those that bad images may leave empty."""
        return batches_in(len(self.samples), self.batch_size, self.drop_last)

    @property
    def bad_images(self) -> list[tuple[Sample, str]]:
        """The images left out so far, each with the reason, in the order of the samples."""
        return [(self.samples[index], self.bad[index]) for index in sorted(self.bad)]

    def own_places(self) -> list[int]:
        """The indices of the samples that this process has read, without shuffling and bad images, in order."""
        spans = [self._span(index, len(self.samples)) for index in range(len(self))]
        return [place for start, end in spans for place in range(start, end) if place not in self.bad]

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, from `first_batch` on; the next is made in a thread while this one is used.

        Raises:
            PmtrainError: an image is bad and `on_bad_image` is `stop`; all of them are bad; a worker died.
        """
        with ThreadPoolExecutor(1, thread_name_prefix="batch", initializer=use_every_core) as thread:
            waiting: Future[Batch] | None = None
            failed: PmtrainError | None = None
            try:
                for make in self._batches(epoch, first_batch):
                    ready, waiting = waiting, thread.submit(make)
                    if ready:
                        yield ready.result()
            except PmtrainError as error:  # of an image of the next batch: the one before comes first
                failed = error
            if waiting:
                yield waiting.result()
            if failed:
                raise failed

    def _batches(self, epoch: int, first_batch: int) -> Iterator[Callable[[], Batch]]:
        """For each batch of an epoch whose images are read, a function that makes it."""
        order = self._order(epoch)
        shown = Counter(order[: first_batch * self.batch_size])
        spans = [self._span(index, len(order)) for index in range(first_batch, len(self))]
        coming = [place for start, end in spans for place in order[start:end]]
        done = 0
        for index, (start, end) in enumerate(spans, first_batch):
            mine = coming[done : done + end - start]
            self._request(coming[done : done + len(mine) + self._ahead])
            # A balanced batch may hold an image twice.
            taken = {place: self._take(place) for place in dict.fromkeys(mine)}
            done += len(mine)
            self._release_workers()
            read, repeats = [], []
            first = index * self.batch_size
            for position, place in enumerate(order[first : first + self.batch_size], first):
                if start <= position < end and (image := taken[place]) is not None:
                    read.append((place, image))
                    repeats.append(shown[place])
                shown[place] += 1
            if read or (self.shuffle and self.processes > 1):  # all processes take every training step
                yield functools.partial(self._batch, index, read, epoch, repeats)
        self.require_images()

    def require_images(self) -> None:
        """
        Raises:
            PmtrainError: all samples are bad, as far as this process knows.
        """
        if len(self.bad) == len(self.samples) > 0:
            sample, reason = self.bad_images[0]
            raise PmtrainError(
                f"none of the {len(self.samples)} images can be read; the first is {self._name_of(sample)}: {reason}"
            )

    def pixels(self, chosen: Sequence[int] | None = None) -> Iterator[np.ndarray]:
        """Every image once, uint8 (S, S, 3), in the order of the samples; the epochs then needn't decode them.

        Args:
            chosen: places of the samples to take; None: all.
        Raises:
            PmtrainError: an image is bad and `on_bad_image` is `stop`; a worker died.
        """
        order = list(range(len(self.samples)) if chosen is None else chosen)
        for place, index in enumerate(order):
            self._request(order[place : place + self._ahead])
            if (image := self._take(index)) is not None:
                yield image
        self._release_workers()

    def close(self) -> None:
        """Stop the workers; those not closed end with the program."""
        self._store()
        if self._looker:
            self._looker.shutdown(cancel_futures=True)
        self._looker = None
        self._looks.clear()
        for pool in (self._first, self._pool):
            if pool:
                pool.close()
        self._first = self._pool = None
        self._decoding.clear()
        if self._disk:
            self._disk.close()

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _span(self, index: int, images: int) -> tuple[int, int]:
        """Where this process's part of a batch begins and ends in an epoch's order of so many images."""
        start, end = index * self.batch_size, min((index + 1) * self.batch_size, images)
        if not self.shuffle:
            return (start, end) if index % self.processes == self.rank else (start, start)
        size = end - start
        return start + size * self.rank // self.processes, start + size * (self.rank + 1) // self.processes

    def _order(self, epoch: int) -> list[int]:
        """The samples' indices in the order of one epoch."""
        if not self.shuffle:
            return list(range(len(self.samples)))
        labels = np.array([sample.label for sample in self.samples], np.int64)
        return SAMPLERS[self.sampler](labels, self.seed, epoch).tolist()

    def _request(self, indices: list[int]) -> None:
        """Start decoding those of these images that are neither kept nor being decoded."""
        for index in indices:
            kept = index in self._places or index in self._cached or index in self._new or index in self.bad
            if kept or index in self._looks or index in self._decoding:
                continue
            if self._disk is None:
                self._decode(index)
            elif place := self._disk.find(self.samples[index].path, self._kind):
                self._places[index] = place
            else:
                self._looker = self._looker or ThreadPoolExecutor(1, thread_name_prefix="look")
                self._looks[index] = self._looker.submit(self._look, index, self._disk)

    def _look(self, index: int, disk: Cache) -> Look | None:
        """In a thread: look for the image by the content of its file, and have it decoded if it isn't there."""
        look = disk.look(self.samples[index].path, self._kind)
        if look is None or look.place is None:
            self._decode(index, look.data if look else None)
        return look._replace(data=None) if look else None

    def _decode(self, index: int, data: bytes | None = None) -> None:
        with self._starting:
            if self._pool is None:
                in_thread = self._patient or not self.workers
                self._pool = DecodingThread(self.preprocess, self.features) if in_thread else self._start()
            elif isinstance(self._pool, DecodingThread) and self._workers_pay(self._pool):
                self._first, self._pool = self._pool, self._start()
            self._decoding[index] = self._pool.submit(self.samples[index].path, data)

    def _start(self) -> DecodingProcesses:
        return DecodingProcesses(min(self.workers, len(self.samples)), self.preprocess, self.features)

    def _workers_pay(self, thread: DecodingThread) -> bool:
        """Whether decoding the rest takes the thread longer than workers take to start and do it."""
        if not self.workers or thread.decoded < PROBES:
            return False
        each = thread.seconds / thread.decoded
        left = len(self.samples) - len(self._places) - len(self._cached) - len(self.bad)
        return each > WORTH_A_PIPE and each * left > WORTH_A_START

    def _take(self, index: int) -> np.ndarray | None:
        """One image, uint8 (S, S, 3), mirrored where eyes are aligned; None where it is bad and left out."""
        image = self._read(index)
        if image is None or not self.preprocess.align_eyes:
            return image
        if index not in self.eyes:
            sample = self.samples[index]
            self.eyes[index] = find_eye(image, sample.path, sample.columns)
        return aligned(image, self.eyes[index])

    def _read(self, index: int) -> np.ndarray | None:
        """One image as `Preprocess.read` gives it."""
        if index in self._cached:
            return self._cache[self._cached[index]]
        if index in self._new:
            return self._new[index][1]
        if index in self.bad:
            return None
        look = self._awaited(self._looks.pop(index), index) if index in self._looks else None
        if look and look.place:
            self._places[index] = look.place
        if self._disk and index in self._places:
            if (pixels := self._disk.read(self._places[index])) is not None:
                return pixels.reshape(self._cache.shape[1:])
            del self._places[index]  # damaged, or another run took its room
            look = self._disk.look(self.samples[index].path, self._kind)
            self._decode(index, look.data if look else None)
            look = look and look._replace(data=None)
        decoded = self._awaited(self._decoding.pop(index), index)
        if isinstance(decoded, str):
            if self.on_bad_image == "stop":
                raise BadImage(
                    self._name_of(self.samples[index]),
                    decoded,
                    "put a whole copy in its place, or leave such images out: --on-bad-image skip",
                )
            self.bad[index] = decoded
            return None
        if look:
            self._new[index] = look, decoded
            if len(self._new) >= NEW:
                self._store()
        else:
            self._keep(index, decoded)
        return decoded

    def _awaited(self, future: Future[Result], index: int) -> Result:
        """The future's result; a file that lets wait long, as on a network drive that hangs, is named in a warning."""
        try:
            return future.result(PATIENCE)
        except FutureTimeout:
            name = self._name_of(self.samples[index])
            console.warn(f"{name}: waiting for it for {PATIENCE:g} s; does its drive answer? (Ctrl-C stops)")
        return future.result()

    def _keep(self, index: int, image: np.ndarray) -> None:
        """Keep an image in memory while there is room."""
        if len(self._cached) < len(self._cache):
            self._cached[index] = len(self._cached)
            self._cache[self._cached[index]] = image

    def _store(self) -> None:
        """Write the decoded images to disk, or keep in memory what the disk doesn't take."""
        if self._disk and self._new:
            for index, place in zip(self._new, self._disk.store(self._kind, list(self._new.values())), strict=True):
                if place:
                    self._places[index] = place
                else:
                    self._keep(index, self._new[index][1])
            if self.features:
                rows = [(look, self.features.rows.get(look.path)) for look, _ in self._new.values()]
                self._disk.store(FEATURES_KIND, [(look, row) for look, row in rows if row is not None])
            self._new.clear()

    def _release_workers(self) -> None:
        self._store()
        if len(self._places) + len(self._cached) + len(self.bad) == len(self.samples):
            self.close()

    def _batch(self, index: int, read: list[tuple[int, np.ndarray]], epoch: int, repeats: list[int]) -> Batch:
        """A batch of images as this epoch changes them; it has shown each so often (`repeats`) before."""
        samples = [self.samples[place] for place, _ in read]
        if not read:
            size = self.preprocess.size
            return Batch(index, np.empty((0, 3, size, size), np.float32), np.empty((0, 1), np.float32), [])

        def version(change: Change | None) -> np.ndarray:
            images = [
                change(image, epoch, place, repeat) if change else image
                for (place, image), repeat in zip(read, repeats, strict=True)
            ]
            return np.stack(images)

        pixels = version(self.augment)
        images = self.preprocess.normalise(pixels)
        if self.again:
            images = np.concatenate([images, self.preprocess.normalise(version(self.again))])
        labels = np.array([[sample.label] for sample in samples], np.float32)
        return Batch(index, images, labels, samples, None if self.augment else pixels)


def read_one(sample: Sample, preprocess: Preprocess, cache: Cache | None) -> np.ndarray:
    """One image as a loader gives it, which may have decoded it already: uint8 (S, S, 3), from the cache if there.

    Raises:
        BadImage: as `Preprocess.read`.
    """
    place = cache.find(sample.path, preprocess.pixels_key) if cache else None
    pixels = cache.read(place) if cache and place else None
    if pixels is None:
        image = preprocess.read(sample.path)
    else:
        image = pixels.reshape(preprocess.size, preprocess.size, 3)
    eye = preprocess.eye(image, sample.path, sample.columns)
    return aligned(image, eye) if eye else image
