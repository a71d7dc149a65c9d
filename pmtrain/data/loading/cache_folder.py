"""Where the image cache is, how large it may become, and the command that shows and shrinks it."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import platformdirs

from pmtrain.data.loading.cache import Cache
from pmtrain.data.loading.slots import sizes

GIB = 2**30
SHARE, MOST = 0.2, 32 * GIB  # of the free disk, and in bytes: the limit where none is given


def cache_folder() -> Path:
    """PMTRAIN_CACHE, or else this system's folder for caches."""
    named = os.environ.get("PMTRAIN_CACHE")
    return Path(named) if named else platformdirs.user_cache_path("pmtrain", appauthor=False)


def open_cache(limit_gib: float | None = None) -> Cache | None:
    """The cache in `cache_folder()`; None where the limit is 0. Without a limit: `default_limit`."""
    if limit_gib == 0:
        return None
    folder = cache_folder()
    return Cache(folder, default_limit(folder) if limit_gib is None else int(limit_gib * GIB))


def default_limit(folder: Path) -> int:
    """A share of what is free on that disk, the cache's own files counted as free, and never more than MOST bytes."""
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        free = shutil.disk_usage(there).free
    except OSError:
        return MOST  # a folder that can't be used: the first use warns of it
    return min(MOST, int(SHARE * (free + sum(sizes(folder).values()))))


def clean(limit_gib: float | None) -> str:
    """Shrink the cache in `cache_folder()`, where a limit is given, and list what is left, a row for each kind."""
    folder = cache_folder()
    cache = Cache(folder, MOST)
    if not folder.exists():
        return f"{folder}: no images"
    if limit_gib is not None:
        cache.shrink(int(limit_gib * GIB))
    contents = cache.contents()
    cache.close()
    rows = [("preprocessing", "images", "MiB", "last used")]
    for content in contents:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(content.used))
        rows.append((content.kind, f"{content.images:,}", f"{content.bytes / 2**20:,.1f}", used))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{row[0]:{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}" for row in rows]
    images = sum(content.images for content in contents)
    return "\n".join([f"{folder}: {images:,} images, {cache.size() / 2**20:,.1f} MiB", *(lines if contents else ())])
