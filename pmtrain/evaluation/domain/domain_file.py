"""The domain model's file beside a checkpoint: `best.domain.safetensors` for `best.pdparams`.

It names the weights that it belongs to by their SHA-256 and is written whole or not at all. One that belongs to other
weights (a run goes on and finds better ones) is not used.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pmtrain.evaluation.domain.domain_model import DomainModel, Spread
from pmtrain.evaluation.domain.image_statistics import RULES, STATISTICS
from pmtrain.runs.checkpoint import Checkpoint, sha256_of
from pmtrain.runs.formats.state_dict import parse_state
from pmtrain.system.errors import PmtrainError
from pmtrain.system.files import read_bytes, write_atomic

SUFFIX = ".domain.safetensors"
FORMAT = 1  # raised when an older pmtrain could misread the file
MAX_BYTES = 64 << 20
SPREADS = ("own", "cameras")
PLAIN = ("features", "unseen", "training", "cuts", "strangeness")


def domain_path(checkpoint: Path) -> Path:
    """Where the domain model of a checkpoint lies."""
    return checkpoint.with_suffix(SUFFIX)


def weights_sha256(checkpoint: Checkpoint) -> str:
    """Of the weights' file, in hex; a checkpoint without a side file is read again."""
    return checkpoint.info.weights_sha256 or sha256_of(read_bytes(checkpoint.path))


def save_domain(checkpoint: Checkpoint, model: DomainModel) -> Path:
    """Write the domain model of a checkpoint, in place of one that is there; return the file.

    Raises:
        PmtrainError: it can't be written.
    """
    import safetensors.numpy

    path = domain_path(checkpoint.path)
    arrays = {name: getattr(model, name) for name in PLAIN}
    for name in SPREADS:
        arrays |= {f"{name}.{part}": value for part, value in vars(getattr(model, name)).items()}
    floats = {name: value.astype(np.float32) for name, value in arrays.items() if value.dtype != np.uint8}
    identity = {
        "format": np.array([FORMAT, RULES], np.int32),
        "weights_sha256": np.frombuffer(bytes.fromhex(weights_sha256(checkpoint)), np.uint8),
    }
    contiguous = {name: np.ascontiguousarray(value) for name, value in (arrays | floats | identity).items()}
    write_atomic(path, safetensors.numpy.save(contiguous))
    return path


def load_domain(checkpoint: Checkpoint) -> tuple[DomainModel | None, str]:
    """The domain model of a checkpoint, or None and the reason why there is none.

    Raises:
        PmtrainError: the file is damaged, or of a newer format.
    """
    path = domain_path(checkpoint.path)
    if not path.exists():
        return None, f"there is no {path.name} beside the checkpoint"
    arrays = parse_state(read_bytes(path, MAX_BYTES), path)
    hint = f"remove {path.name}, or make it again: pmtrain fit-domain"
    try:
        found, rules = arrays["format"].tolist()
        if found > FORMAT:
            raise PmtrainError(f"{path} has format {found}; this pmtrain reads format {FORMAT}", "upgrade pmtrain")
        if arrays["weights_sha256"].tobytes().hex() != weights_sha256(checkpoint):
            return None, f"{path.name} belongs to other weights"
        if rules != RULES:
            return None, f"{path.name} was made by another version of pmtrain"
        spreads = {name: Spread(*(_finite(arrays[f"{name}.{part}"]) for part in _PARTS)) for name in SPREADS}
        plain = {name: _finite(arrays[name]) for name in PLAIN}
        model = DomainModel(**plain, **spreads)  # type: ignore[arg-type]
        _check_shapes(model)
    except (KeyError, ValueError, AttributeError) as error:
        raise PmtrainError(f"{path} is not a domain model: {type(error).__name__}: {error}", hint) from None
    return model, ""


_PARTS = ("mean", "std", "precision")


def _finite(array: np.ndarray) -> np.ndarray:
    """The array, floats as float64.

    Raises:
        ValueError: a number isn't finite.
    """
    if array.dtype == np.uint8:
        return array
    if not np.isfinite(array).all():
        raise ValueError("it holds numbers that are NaN or infinite")
    return array.astype(np.float64)


def _check_shapes(model: DomainModel) -> None:
    """
    Raises:
        ValueError: an array has another shape than the others ask for.
    """
    k, width = len(STATISTICS), model.features.shape[-1]
    wanted: dict[str, tuple[np.ndarray, tuple[int | None, ...]]] = {
        "features": (model.features, (None, width)),
        "unseen": (model.unseen, (None, width)),
        "training": (model.training, (None, k)),
        "cuts": (model.cuts, (3,)),
        "strangeness": (model.strangeness, (None,)),
    }
    for name in SPREADS:
        spread: Spread = getattr(model, name)
        wanted |= {f"{name}.mean": (spread.mean, (k,)), f"{name}.std": (spread.std, (k,))}
        wanted[f"{name}.precision"] = spread.precision, (k, k)
    for name, (array, shape) in wanted.items():
        fits = array.ndim == len(shape) and all(map(_fits, shape, array.shape))
        if not fits or not array.size:
            raise ValueError(f"{name} has shape {array.shape}")


def _fits(wanted: int | None, side: int) -> bool:
    return wanted in (None, side)
