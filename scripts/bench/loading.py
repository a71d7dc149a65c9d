"""Runners of bench_data.py: each loads every image of a folder, as float32 batches (N, 3, S, S) and labels.

A turn is one epoch, of which it says the seconds and the most memory that the process and its children took.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

Turn = Callable[[], dict[str, Any]]

opened = contextlib.ExitStack()  # loaders that live as long as the process
atexit.register(opened.close)


def loading(loader: str, later: bool) -> Callable[[dict[str, Any]], Turn]:
    """A loader's first epoch, everything new at each turn, or (`later`) the epochs after it."""

    def make(options: dict[str, Any]) -> Turn:
        if later:
            epochs = opened.enter_context(LOADERS[loader](options))
            before = measured(epochs)
            return lambda: measured(epochs) | {"before": before}

        def first() -> dict[str, Any]:
            with LOADERS[loader](options) as epoch:
                return measured(epoch)

        return first

    make.reports_seconds = True  # type: ignore[attr-defined]
    return make


def measured(epoch: Callable[[], int]) -> dict[str, Any]:
    """One epoch's seconds and images, and the memory meanwhile."""
    with Memory() as memory:
        started = time.perf_counter()
        images = epoch()
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "images": images, **memory.peaks}


@contextlib.contextmanager
def own(options: dict[str, Any], name: str) -> Iterator[Callable[[], int]]:
    """pmtrain's own, with a cache that is empty at first."""
    import numpy as np

    from pmtrain.data.dataset import Sample
    from pmtrain.data.loading.cache import Cache
    from pmtrain.data.loading.loader import Loader
    from pmtrain.data.preprocessing.preprocess import Preprocess

    samples = [Sample(path, 0) for path in files(options)]
    preprocess = Preprocess(name, options["image_size"])
    if getattr(preprocess, "lacks_statistics", False):  # any statistics will do: they don't alter the speed
        preprocess = preprocess.measured(np.array([[[[0] * 3]], [[[255] * 3]]], np.uint8))
    with (
        tempfile.TemporaryDirectory(dir=options["folder"]) as folder,
        Loader(
            samples,
            preprocess,
            options["batch_size"],
            workers=options["workers"],
            shuffle=True,
            cache=Cache(Path(folder), 64 * 2**30),
            patient=True,
        ) as loader,
    ):
        number = iter(range(10**9))
        yield lambda: sum(len(batch.labels) for batch in loader.epoch(next(number)))


@contextlib.contextmanager
def torchs(options: dict[str, Any], decoder: str) -> Iterator[Callable[[], int]]:
    """PyTorch's DataLoader, whose workers live on from epoch to epoch."""
    from torch.utils.data import DataLoader

    loader = DataLoader(
        TorchImages(files(options), options["image_size"], decoder),
        options["batch_size"],
        shuffle=True,
        num_workers=options["workers"],
        persistent_workers=options["workers"] > 0,
        worker_init_fn=one_thread,
    )
    yield lambda: sum(len(labels) for _, labels in loader)


@contextlib.contextmanager
def decoding(options: dict[str, Any], name: str) -> Iterator[Callable[[], int]]:
    """Nothing but reading, decoding and resizing, in processes that run already: what a loader can't undercut."""
    from pmtrain.data.preprocessing.preprocess import Preprocess

    paths, preprocess = files(options), Preprocess(name, options["image_size"])
    with ProcessPoolExecutor(max(1, options["workers"]), initializer=one_thread, initargs=(0,)) as pool:
        jobs = [(path, preprocess) for path in paths]
        list(pool.map(decode, jobs[:4]))
        yield lambda: sum(pool.map(decode, jobs))


LOADERS: dict[str, Callable[[dict[str, Any]], contextlib.AbstractContextManager[Callable[[], int]]]] = {
    "pmtrain-notes": lambda options: own(options, "notes"),
    "pmtrain-fundus": lambda options: own(options, "fundus"),
    "torch-opencv": lambda options: torchs(options, "opencv"),
    "torch-pillow": lambda options: torchs(options, "pillow"),
    "decoding-notes": lambda options: decoding(options, "notes"),
    "decoding-fundus": lambda options: decoding(options, "fundus"),
}
LOADING = {
    f"{loader}-{when}": loading(loader, when == "later")
    for loader in LOADERS
    for when in (("first",) if loader.startswith("decoding") else ("first", "later"))
}


class TorchImages:
    """The usual data set of a PyTorch training: a file to float32 (3, S, S) in [-1, 1]."""

    def __init__(self, paths: list[Path], size: int, decoder: str) -> None:
        self.paths, self.size, self.decoder = paths, size, decoder

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int):
        import numpy as np
        import torch

        if self.decoder == "opencv":
            import cv2

            image = cv2.imdecode(np.fromfile(self.paths[index], np.uint8), cv2.IMREAD_COLOR)
            image = cv2.resize(image, (self.size, self.size))
        else:
            from PIL import Image

            with Image.open(self.paths[index]) as opened:
                small = opened.convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR)
            image = np.asarray(small)
        pixels = image.transpose(2, 0, 1).astype(np.float32, order="C")
        return torch.from_numpy(pixels / 255.0 * 2.0 - 1.0), 0.0


def one_thread(_: int) -> None:
    """As pmtrain's workers: the cores are shared out among the processes already."""
    import cv2

    cv2.setNumThreads(1)


def decode(job: tuple[Path, Any]) -> int:
    from pmtrain.data.loading import workers

    return int(not isinstance(workers.decode(*job), str))


def files(options: dict[str, Any]) -> list[Path]:
    return sorted(Path(options["images"]).iterdir())


class Memory:
    """The most memory that this process and its children took at any one time, in MiB; Linux alone tells.

    `memory_mib` counts a page that several of them share once (PSS), `rss_mib` in each.
    """

    def __init__(self) -> None:
        self.peaks: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            totals = {"memory_mib": 0.0, "rss_mib": 0.0}
            for process in family(os.getpid()):
                with contextlib.suppress(OSError):
                    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                        for key, start in (("memory_mib", "Pss:"), ("rss_mib", "Rss:")):
                            if line.startswith(start):
                                totals[key] += int(line.split()[1]) / 1024
            if totals["rss_mib"]:
                self.peaks = {key: max(value, self.peaks.get(key, 0.0)) for key, value in totals.items()}
            if self._ended.wait(0.2):
                return


def family(process: int) -> list[int]:
    """A process and all below it."""
    found = [process]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, children.read_text().split())
    return found
