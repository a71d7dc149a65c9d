"""The built-in example set: photographs of the fundus that no camera took, in the iChallenge-PM layout.

They serve to try every command without a data set. What tells the two classes apart is texture and outline: atrophy
has sharp borders and choroidal vessels and pigment inside it, where the healthy eyes' glare, of the same places and
sizes, is smooth. Colour, exposure, framing and file size are drawn with no regard to the label, so it must be learned.
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

VERSION = 1  # of the pictures: raise it with every change that alters a byte of them
TRAINING, VALIDATION = "PALM-Training400", "PALM-Validation400"
# Shares of the real set: 213 P, 26 H and 161 N of 400 for training, 211 positives of 400 for validation.
SHARES = {TRAINING: (213 / 400, 26 / 400), VALIDATION: (211 / 400, 26 / 400)}
STALE_AFTER = 3600.0  # seconds; a younger temporary folder may be another process's, still at work


@dataclass(frozen=True)
class Job:
    """One photograph to render: `kind` is P (pathological myopia), H (high myopia) or N (normal)."""

    number: int
    kind: str
    name: str  # the path inside the set, with forward slashes


# --- the set on disk


def render(
    folder: Path,
    seed: int = 0,
    train: int = 400,
    val: int = 400,
    size: int = 224,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Render the example set into `folder`, unless it already holds this very set.

    Args:
        folder: created whole or not at all; its parents are created too.
        seed: the same seed gives the same bytes, however many workers render them.
        train: photographs in the training split, at least 2.
        val: photographs in the validation split, at least 2.
        size: side of the square photographs in pixels, 64 to 2048.
        workers: processes; None takes one a core, 1 renders in this process.
        progress: called with (photographs done, photographs in all), in this process.
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
            f"{folder} can't be created: {error.strerror}", "choose a folder that you may write to"
        ) from error
    try:
        _fill(scratch, seed, train, val, size, available_cpus() if workers is None else workers, progress)
        (scratch / MARKER).write_text(_marker_text(recipe), encoding="utf-8", newline="\n")
        scratch.chmod(0o755)  # mkdtemp keeps a folder to its owner
        _publish(scratch, folder, recipe)
    except OSError as error:
        raise PmtrainError(
            f"the synthetic set can't be written to {folder}: {error.strerror}", "free some space, or choose another"
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


def is_synthetic(folder: Path) -> bool:
    """Whether `folder` says of itself that its photographs are synthetic."""
    return (Path(folder) / MARKER).is_file()


def is_complete(folder: Path) -> bool:
    """Whether `folder` holds a whole synthetic set, of whatever seed, size and version."""
    recipe = _stated_recipe(Path(folder))
    if recipe is None or not (Path(folder) / "labels.csv").is_file():
        return False
    for split, key in ((TRAINING, "training"), (VALIDATION, "validation")):
        found = sum(1 for _ in (Path(folder) / split).glob("*.jpg"))
        if str(found) != recipe.get(key):
            return False
    return True


def _recipe(seed: int, train: int, val: int, size: int) -> dict[str, str]:
    """What decides every byte of a set."""
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
    """True where the set is there already, False where the place is free.

    Raises: PmtrainError: something else is there.
    """
    if is_complete(folder):
        stated = _stated_recipe(folder)
        if stated == recipe:
            return True
        have, want = (", ".join(f"{k} {v}" for k, v in r.items()) for r in (stated or {}, recipe))
        raise PmtrainError(
            f"{folder} holds a synthetic set of {have}; asked for was {want}",
            "choose another folder, or delete this one",
        )
    if folder.is_dir() and not any(folder.iterdir()):
        return False
    if folder.exists() or folder.is_symlink():
        what = "an incomplete synthetic set" if is_synthetic(folder) else "something other than a synthetic set"
        raise PmtrainError(f"{folder} holds {what}; it is not overwritten", "choose another folder, or delete this one")
    return False


def _publish(scratch: Path, folder: Path, recipe: dict[str, str]) -> None:
    """Give the finished set its name in one step; where another process was quicker, keep that one's."""
    if _holds(folder, recipe):
        return
    if folder.is_dir():
        folder.rmdir()  # empty, and Windows renames over nothing
    try:
        rename(scratch, folder)
    except PmtrainError:
        if not _holds(folder, recipe):
            raise


def _prefix(folder: Path) -> str:
    return f".{folder.name}.rendering-"


def _sweep(folder: Path) -> None:
    """Remove what killed renderings left beside `folder`."""
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
    """Every photograph of the set, training first, each with a number of its own."""
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
    """Results of `function` over `jobs`, in any order, from `workers` processes that never outlive this one."""
    workers = min(worker_processes(workers), len(jobs))
    if workers == 1:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            yield map(function, jobs)
        finally:
            cv2.setNumThreads(threads)
        return
    # Spawned on every system: a fork beside Paddle's threads may hang.
    with multiprocessing.get_context("spawn").Pool(workers, _start_worker) as pool:
        yield pool.imap_unordered(function, jobs, chunksize=4)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
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
    """Encoded at the quality that comes nearest to a drawn file size: the size tells nothing of the content."""
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
    # Colour at full resolution: halved, it would lose more of the textured images' deviation than of the smooth ones'.
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality, *sampling])[1].tobytes()
