"""The domain model's file beside a checkpoint: `best.domain.safetensors` for `best.pdparams`.

Beside an exported model of several networks it holds a domain model for each of them, in their order. It names the
weights that it belongs to by their SHA-256 and is written whole or not at all. One that belongs to other weights (a run
goes on and finds better ones) is not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pmtrain.evaluation.domain.domain_model import DomainModel, Spread
from pmtrain.evaluation.domain.image_statistics import RULES, STATISTICS
from pmtrain.runs.checkpoint import Checkpoint, sha256_of
from pmtrain.runs.formats.state_dict import parse_state
from pmtrain.system.errors import PmtrainError
from pmtrain.system.files import read_bytes, write_atomic

SUFFIX = ".domain.safetensors"
FORMAT, FORMAT_OF_SEVERAL = 1, 2  # raised when an older pmtrain could misread the file
MAX_BYTES = 64 << 20
SPREADS = ("own", "cameras")
PLAIN = ("features", "unseen", "training", "cuts", "strangeness")


def domain_path(checkpoint: Path) -> Path:
    """Where the domain model of a checkpoint lies."""
    return checkpoint.with_suffix(SUFFIX)


def weights_sha256(checkpoint: Checkpoint) -> str:
    """Of the weights' file, in hex; a checkpoint without a side file is read again."""
    return checkpoint.info.weights_sha256 or sha256_of(read_bytes(checkpoint.path))


def save_domain(checkpoint: Checkpoint, *models: DomainModel) -> Path:
    """Write the domain model of a checkpoint, in place of one that is there; return the file.

    Args:
        models: one for each network.

    Raises:
        PmtrainError: it can't be written.
    """
    import safetensors.numpy

    path = domain_path(checkpoint.path)
    several = len(models) > 1
    arrays: dict[str, np.ndarray] = {}
    for number, model in enumerate(models):
        own = {name: getattr(model, name) for name in PLAIN}
        for name in SPREADS:
            own |= {f"{name}.{part}": value for part, value in vars(getattr(model, name)).items()}
        arrays |= {_prefix(number, several) + name: value for name, value in own.items()}
    floats = {name: value.astype(np.float32) for name, value in arrays.items() if value.dtype != np.uint8}
    identity = {
        "format": np.array([FORMAT_OF_SEVERAL if several else FORMAT, RULES], np.int32),
        "weights_sha256": np.frombuffer(bytes.fromhex(weights_sha256(checkpoint)), np.uint8),
    }
    contiguous = {name: np.ascontiguousarray(value) for name, value in (arrays | floats | identity).items()}
    write_atomic(path, safetensors.numpy.save(contiguous))
    return path


def _prefix(number: int, several: bool) -> str:
    """What stands before the names of a network's arrays."""
    return f"{number}." if several else ""


def load_domain(checkpoint: Checkpoint) -> tuple[list[DomainModel], str]:
    """The domain model of a checkpoint, of an export of several networks one for each; or none and the reason why.

    Raises:
        PmtrainError: the file is damaged, or of a newer format.
    """
    path = domain_path(checkpoint.path)
    if not path.exists():
        return [], f"there is no {path.name} beside the checkpoint"
    arrays = parse_state(read_bytes(path, MAX_BYTES), path)
    hint = f"remove {path.name}, or make it again: pmtrain fit-domain"
    try:
        found, rules = arrays["format"].tolist()
        if found > FORMAT_OF_SEVERAL:
            raise PmtrainError(
                f"{path} has format {found}; this pmtrain reads formats up to {FORMAT_OF_SEVERAL}", "upgrade pmtrain"
            )
        if arrays["weights_sha256"].tobytes().hex() != weights_sha256(checkpoint):
            return [], f"{path.name} belongs to other weights"
        if rules != RULES:
            return [], f"{path.name} was made by another version of pmtrain"
        several = found == FORMAT_OF_SEVERAL
        count = len({name.partition(".")[0] for name in arrays if name[0].isdigit()}) if several else 1
        models = [_model(arrays, _prefix(number, several)) for number in range(count)]
        if not models:
            raise ValueError("it holds no network's")
    except (KeyError, ValueError, AttributeError) as error:
        raise PmtrainError(f"{path} is not a domain model: {type(error).__name__}: {error}", hint) from None
    return models, ""


def _model(arrays: Mapping[str, np.ndarray], prefix: str) -> DomainModel:
    """
    Raises:
        KeyError, ValueError: an array is missing, has another shape, or a number that isn't finite.
    """
    spreads = {name: Spread(*(_finite(arrays[f"{prefix}{name}.{part}"]) for part in _PARTS)) for name in SPREADS}
    plain = {name: _finite(arrays[prefix + name]) for name in PLAIN}
    model = DomainModel(**plain, **spreads)  # type: ignore[arg-type]
    _check_shapes(model)
    return model


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
