"""The synthetic example set: fundus photographs drawn by a program, in the iChallenge-PM layout.

It is for trying every command without a data set. The classes differ in texture and outline: atrophy has sharp borders
with choroidal vessels and pigment inside, while glare in healthy eyes, with the same places and sizes, is smooth.
Colour, exposure, framing and file size are independent of the label, so they don't reveal it.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from pmtrain.data.dataset import SYNTHETIC_NOTE as MARKER
from pmtrain.data.synthetic.fundus import Array, photograph
from pmtrain.system.errors import PmtrainError
from pmtrain.system.files import rename
from pmtrain.system.hardware import available_cpus, worker_processes

VERSION = 1  # version of the images: increase it with every change that alters a byte of them
TRAINING, VALIDATION = "PALM-Training400", "PALM-Validation400"
# Class shares of the real set: 213 P, 26 H and 161 N of 400 for training, 211 positive of 400 for validation.
SHARES = {TRAINING: (213 / 400, 26 / 400), VALIDATION: (211 / 400, 26 / 400)}
STALE_AFTER = 3600.0  # seconds; a newer temporary folder may belong to a process that is still running


@dataclass(frozen=True)
class Job:
    """One image to render: `kind` is P (pathological myopia), H (high myopia) or N (normal)."""

    number: int
    kind: str
    name: str  # the path inside the set, with forward slashes


# --- the data set on disk


def render(
    folder: Path,
    seed: int = 0,
    train: int = 400,
    val: int = 400,
    size: int = 224,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Render the example set into `folder`, unless it already holds exactly this set.

    Args:
        folder: created completely or not at all, with its parent folders.
        seed: the same seed gives the same bytes, for any number of workers.
        train: photographs in the training split, at least 2.
        val: photographs in the validation split, at least 2.
        size: side of the square photographs in pixels, 64 to 2048.
        workers: number of processes; None: one per core; 1: render in this process.
        progress: called with (images done, images in total), in this process.
    Returns: `folder`.
    Raises: PmtrainError: an argument is out of range, `folder` holds something else, or it can't be written.
    """
    folder = Path(folder)
    for name, value, low, high in (
        ("seed", seed, 0, 2**63),
        ("train", train, 2, 4999),
        ("val", val, 2, 4999),
        ("size", size, 64, 2048),
        ("workers", 1 if workers is None else workers, 1, 256),
    ):
        if not low <= value <= high:
            raise PmtrainError(f"{name} {value} of the synthetic set is out of range", f"choose {low} to {high}")
    recipe = _recipe(seed, train, val, size)
    if _holds(folder, recipe):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        scratch = Path(tempfile.mkdtemp(prefix=_prefix(folder), dir=folder.parent))
    except OSError as error:
        raise PmtrainError(
            f"{folder} can't be created: {error.strerror}", "choose a folder that you can write to"
        ) from error
    try:
        _fill(scratch, seed, train, val, size, available_cpus() if workers is None else workers, progress)
        (scratch / MARKER).write_text(_marker_text(recipe), encoding="utf-8", newline="\n")
        scratch.chmod(0o755)  # mkdtemp makes a folder that only its owner can read
        _publish(scratch, folder, recipe)
    except OSError as error:
        raise PmtrainError(
            f"the synthetic set can't be written to {folder}: {error.strerror}",
            "free some space, or choose another folder",
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def is_synthetic(folder: Path) -> bool:
    """Whether `folder` is marked as synthetic."""
    return (Path(folder) / MARKER).is_file()


def is_complete(folder: Path) -> bool:
    """Whether `folder` holds a complete synthetic set, of any seed, size and version."""
    recipe = _stated_recipe(Path(folder))
    if recipe is None or not (Path(folder) / "labels.csv").is_file():
        return False
    for split, key in ((TRAINING, "training"), (VALIDATION, "validation")):
        found = sum(1 for _ in (Path(folder) / split).glob("*.jpg"))
        if str(found) != recipe.get(key):
            return False
    return True


def _recipe(seed: int, train: int, val: int, size: int) -> dict[str, str]:
    """The settings that determine every byte of a set."""
    values = {"version": VERSION, "seed": seed, "training": train, "validation": val, "size": size}
    return {name: str(value) for name, value in values.items()}


def _marker_text(recipe: dict[str, str]) -> str:
    lines = "\n".join(f"- {name}: {value}" for name, value in recipe.items())
    return (
        "# Synthetic photographs\n\n"
        "Every image in this folder was drawn by a program (pmtrain's built-in example set). None shows an eye, no\n"
        "patient stands behind any of them, and the labels say only how each was drawn. They show that the software\n"
        "works; no clinical claim can rest on them, nor on a model trained on them.\n\n"
        f"{lines}\n"
    )


def _stated_recipe(folder: Path) -> dict[str, str] | None:
    try:
        lines = (folder / MARKER).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    pairs = (line[2:].partition(": ") for line in lines if line.startswith("- "))
    return {name: value.strip() for name, _, value in pairs}


def _holds(folder: Path, recipe: dict[str, str]) -> bool:
    """Whether the set already exists.

    Raises: PmtrainError: `folder` holds something else.
    """
    if is_complete(folder):
        stated = _stated_recipe(folder)
        if stated == recipe:
            return True
        have, want = (", ".join(f"{k} {v}" for k, v in r.items()) for r in (stated or {}, recipe))
        raise PmtrainError(
            f"{folder} holds a synthetic set with {have}, not {want}",
            "choose another folder, or delete this one",
        )
    if folder.is_dir() and not any(folder.iterdir()):
        return False
    if folder.exists() or folder.is_symlink():
        what = "an incomplete synthetic set" if is_synthetic(folder) else "something other than a synthetic set"
        raise PmtrainError(f"{folder} holds {what}; it is not overwritten", "choose another folder, or delete this one")
    return False


def _publish(scratch: Path, folder: Path, recipe: dict[str, str]) -> None:
    """Rename the finished set in one step; if another process was faster, keep its set."""
    if _holds(folder, recipe):
        return
    if folder.is_dir():
        folder.rmdir()  # it is empty, and Windows can't rename onto an existing folder
    try:
        rename(scratch, folder)
    except PmtrainError:
        if not _holds(folder, recipe):
            raise


def _prefix(folder: Path) -> str:
    return f".{folder.name}.rendering-"


def _sweep(folder: Path) -> None:
    """Remove what killed processes left next to `folder`."""
    for left in folder.parent.glob(f"{_prefix(folder)}*"):
        newest = max(p.stat().st_mtime for p in (left, *left.glob("*")))
        if time.time() - newest > STALE_AFTER:
            shutil.rmtree(left, ignore_errors=True)


def _fill(
    folder: Path,
    seed: int,
    train: int,
    val: int,
    size: int,
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    for split in (TRAINING, VALIDATION):
        (folder / split).mkdir()
    jobs = _plan(seed, train, val)
    foveae: dict[int, tuple[float, float]] = {}
    with _mapped(partial(_render_one, folder, seed, size), jobs, workers) as results:
        for done, (number, fovea) in enumerate(results, start=1):
            foveae[number] = fovea
            if progress is not None:
                progress(done, len(jobs))
    rows = ["ID,imgName,Label,Fovea_X,Fovea_Y"]
    for row, job in enumerate((job for job in jobs if job.name.startswith(VALIDATION)), start=1):
        x, y = foveae[job.number]
        rows.append(f"{row},{job.name.rpartition('/')[2]},{int(job.kind == 'P')},{x:.2f},{y:.2f}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8", newline="\n")


def _plan(seed: int, train: int, val: int) -> list[Job]:
    """Every image of the set, training images first, each with its own number."""
    jobs: list[Job] = []
    for kind, count in _counts(TRAINING, train).items():
        for i in range(1, count + 1):
            jobs.append(Job(len(jobs), kind, f"{TRAINING}/{kind}{i:04d}.jpg"))
    kinds = [kind for kind, count in _counts(VALIDATION, val).items() for _ in range(count)]
    order = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,))).permutation(val)
    for i, k in enumerate(order, start=1):
        jobs.append(Job(len(jobs), kinds[k], f"{VALIDATION}/V{i:04d}.jpg"))
    return jobs


def _counts(split: str, total: int) -> dict[str, int]:
    pathological, high = SHARES[split]
    p = min(max(round(pathological * total), 1), total - 1)
    h = min(round(high * total), total - p)
    return {"P": p, "H": h, "N": total - p - h}


@contextmanager
def _mapped(function: Callable, jobs: list[Job], workers: int) -> Iterator[Iterator]:
    """Map `function` over `jobs` in `workers` processes; results come in any order. The processes end with this one."""
    workers = min(worker_processes(workers), len(jobs))
    if workers == 1:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            yield map(function, jobs)
        finally:
            cv2.setNumThreads(threads)
        return
    # Spawned on every system: a fork of a process with Paddle's threads may hang.
    with multiprocessing.get_context("spawn").Pool(workers, _start_worker) as pool:
        yield pool.imap_unordered(function, jobs, chunksize=4)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the parent, which ends its workers
    cv2.setNumThreads(1)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _render_one(folder: Path, seed: int, size: int, job: Job) -> tuple[int, tuple[float, float]]:
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0, job.number)))
    image, fovea = photograph(rng, job.kind, size)
    (folder / job.name).write_bytes(_jpeg(rng, image))
    return job.number, fovea


def _jpeg(rng: np.random.Generator, image: Array) -> bytes:
    """Encode at the quality closest to a random file size, so that the size doesn't reveal the content."""
    target = image.shape[0] * image.shape[1] * rng.uniform(0.36, 0.48)
    low, high = 60, 100
    while low < high:
        middle = (low + high + 1) // 2
        if len(_encode(image, middle)) <= target:
            low = middle
        else:
            high = middle - 1
    return _encode(image, low)


def _encode(image: Array, quality: int) -> bytes:
    # Colour at full resolution: subsampling would reduce the colour variation of textured images more than of smooth.
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality, *sampling])[1].tobytes()
