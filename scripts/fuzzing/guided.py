"""atheris chooses the changes, by the lines of pmtrain that they reach."""

from __future__ import annotations

import math
from pathlib import Path

from fuzzing.kinds import KINDS
from fuzzing.watching import SECONDS, Reader


def guided(name: str, examples: int, seed: int, folder: Path, minutes: float) -> None:
    """Read what atheris makes of the kind's files, in this process, which it ends, at the first fault or at the end."""
    import atheris

    kind = KINDS[name]
    with atheris.instrument_imports(include=["pmtrain"]):
        files = kind.files()
        reader = Reader(kind, folder / "example")
        for warm in files:
            reader(warm)
    corpus = folder / f"corpus-{name}"
    corpus.mkdir(parents=True, exist_ok=True)
    main, *_ = files[0]
    for number, example in enumerate(files):
        (corpus / f"given-{number}").write_bytes(example[next(iter(example))])

    def one(data: bytes) -> None:
        outcome = reader(files[0] | {main: data})
        if "fault" in outcome.result:
            raise RuntimeError(outcome.result)

    limits = [f"-runs={examples}", f"-seed={seed + 1}", "-max_len=65536", f"-timeout={SECONDS}", "-rss_limit_mb=2048"]
    if math.isfinite(minutes):
        limits.append(f"-max_total_time={60 * minutes:.0f}")
    atheris.Setup(["fuzz", str(corpus), *limits, f"-artifact_prefix={folder}/{name}-"], one)
    atheris.Fuzz()
