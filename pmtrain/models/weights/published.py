"""The ImageNet weights that paddle.vision publishes: one file a depth, in Paddle's own cache, checked by its MD5."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from pmtrain.system import console
from pmtrain.system.errors import PmtrainError
from pmtrain.system.files import cannot, discard, rename
from pmtrain.system.framework import paddle

CACHE_VARIABLE = "PMTRAIN_WEIGHTS"
TRIES = 3  # of a download that breaks; each goes on where the one before stopped
SECONDS = 30  # without an answer
PIECE = 1 << 18


def source_of(layers: int) -> tuple[str, str]:
    """The address and the MD5 of a depth's file, as Paddle itself states them; it publishes no SHA-256."""
    return paddle.vision.models.resnet.model_urls[f"resnet{layers}"]


def cache_folder() -> Path:
    """PMTRAIN_WEIGHTS, or where Paddle keeps the weights that it downloads."""
    return Path(os.environ.get(CACHE_VARIABLE) or paddle.utils.download.WEIGHTS_HOME)


def fetch(layers: int, download: bool = True) -> Path:
    """The file of a depth, downloaded unless it is in the cache folder.

    Raises:
        PmtrainError: it can't be downloaded, or isn't the file that Paddle published.
    """
    url, md5 = source_of(layers)
    path = cache_folder() / url.rpartition("/")[2]
    by_hand = (
        f"on a machine with a network, download {url}; then give it as --weights {path.name}, or put it into the folder"
        f" that {CACHE_VARIABLE} names"
    )
    if not path.is_file():
        if not download:
            raise PmtrainError(f"{path} isn't there, and is downloaded only by a real run", by_hand)
        console.notice(f"downloading {url} to {path}")
        _download(url, path, md5, by_hand)
    elif _md5_of(path) != md5:
        raise PmtrainError(
            f"{path} is not the file that Paddle published: its MD5 isn't {md5}",
            f"remove it, so that it is downloaded again; or {by_hand}",
        )
    return path


def _download(url: str, path: Path, md5: str, by_hand: str) -> None:
    """Download to `<name>.part`, going on with what is there, and rename it once its MD5 is right."""
    part = path.with_name(path.name + ".part")
    failure: Exception | None = None
    for _ in range(TRIES):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if _append(url, part):
                break
            failure = EOFError("the connection broke")
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            failure = error
        except OSError as error:
            raise cannot("write", part, error) from error
    else:
        reason = getattr(failure, "reason", None) or failure
        have = part.stat().st_size if part.is_file() else 0
        kept = f"; the first {have:,} bytes are kept" if have else ""
        again = "run the command again, which goes on from there; or " if have else ""
        raise PmtrainError(f"can't download {url}: {reason}{kept}", again + by_hand) from failure
    if _md5_of(part) != md5:
        discard(part)
        raise PmtrainError(f"what {url} gave is not the file that Paddle published: its MD5 isn't {md5}", by_hand)
    rename(part, path)


def _append(url: str, part: Path) -> bool:
    """Download what `part` lacks; whether it is complete."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return True  # nothing is left; the checksum decides
        raise
    with answer:
        if answer.status != http.client.PARTIAL_CONTENT:
            have = 0  # the whole file, from its start
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else 0
        with open(part, "ab" if have else "wb") as file, console.progress(total, "B", part.stem, have, True) as bar:
            while piece := answer.read(PIECE):
                file.write(piece)
                bar.update(len(piece))
                have += len(piece)
    return not total or have == total


def _md5_of(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with open(path, "rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    except OSError as error:
        raise cannot("read", path, error) from error
    return digest.hexdigest()
