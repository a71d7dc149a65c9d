"""State dicts to bytes and back: Paddle's `.pdparams` and `.pdopt`, which are pickles.

`.safetensors` and PyTorch's `.pth` and `.pt` are read too.
"""

from __future__ import annotations

import hashlib
import pickle  # for the names of its opcodes; nothing here loads with it
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pmtrain.runs.formats.pickle_reader import NUMBERS, read_pickle
from pmtrain.runs.formats.torch_reader import OLD, ZIP, read_torch
from pmtrain.runs.formats.untrusted import Refused, shown
from pmtrain.system.errors import PmtrainError
from pmtrain.system.files import read_bytes

NAME_TABLE = "StructuredToParameterName@@"  # Paddle's own key: structured name -> parameter name

LARGE = 1 << 16  # bytes of an array from which it is written from where it lies, without a copy

# First bytes of files that are often mistaken for a checkpoint.
LOOKALIKES = {
    b"\x89HDF": "an HDF5 file, as Keras writes it",
    b"version https://git-lfs": "a Git LFS pointer, not the file that it stands for",
    b"<": "a web page or another text in angle brackets",
}


# ---------------------------------------------------------------------------------------------------------------------
# Arrays -> bytes
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StateDump:
    """The bytes of a `.pdparams` or `.pdopt`, in pieces: large arrays are not copied, so they must not change."""

    pieces: tuple[bytes | memoryview, ...]

    @cached_property
    def sha256(self) -> str:
        """Of all the bytes, in hex; computed once."""
        digest = hashlib.sha256()
        for piece in self.pieces:
            digest.update(piece)
        return digest.hexdigest()

    def __bytes__(self) -> bytes:
        return b"".join(self.pieces)


def dump_state(arrays: Mapping[str, Any], parameter_names: Mapping[str, str] | None = None) -> StateDump:
    """Put a state dict into the form that paddle.load and set_state_dict take.

    The same content gives the same bytes under every version of NumPy and Paddle. NumPy's modules have the names of
    its version 1 (`numpy.core`), which version 2 still reads.

    Args:
        arrays: name -> array; also plain values and containers of them (an optimizer's `LR_Scheduler`).
        parameter_names: structured name -> parameter name (`conv._conv.weight` -> `conv2d_0.w_0`), which
            paddle.load gives to its tensors.
    Raises:
        TypeError: a value is neither an array of numbers nor plain.
    """
    table = {} if parameter_names is None else {NAME_TABLE: dict(parameter_names)}
    pieces: list[bytes | memoryview] = [pickle.PROTO + b"\x04"]
    _write({**arrays, **table}, pieces)
    pieces.append(pickle.STOP)
    # Everything between two large arrays is one piece.
    large = [place for place, piece in enumerate(pieces) if isinstance(piece, memoryview)]
    joined: list[bytes | memoryview] = []
    for start, end in zip([-1, *large], [*large, len(pieces)], strict=True):
        joined += [b"".join(pieces[start + 1 : end]), *pieces[end : end + 1]]
    return StateDump(tuple(joined))


def _write(value: Any, out: list[bytes | memoryview]) -> None:
    """Append the pickle steps that build `value`."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        out.append(pickle.NONE)
    elif isinstance(value, bool):
        out.append(pickle.NEWTRUE if value else pickle.NEWFALSE)
    elif isinstance(value, int):
        digits = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        out.append(pickle.LONG1 + struct.pack("<B", len(digits)) + digits)
    elif isinstance(value, float):
        out.append(pickle.BINFLOAT + struct.pack(">d", value))
    elif isinstance(value, str):
        text = value.encode("utf-8")
        out.append(pickle.BINUNICODE + struct.pack("<I", len(text)) + text)
    elif isinstance(value, bytes):
        out += [pickle.BINBYTES8 + struct.pack("<Q", len(value)), value]
    elif isinstance(value, (list, tuple)):
        out.append(pickle.MARK)
        for item in value:
            _write(item, out)
        out.append(pickle.TUPLE if isinstance(value, tuple) else pickle.LIST)
    elif isinstance(value, Mapping):
        out += [pickle.EMPTY_DICT, pickle.MARK]
        for key, item in value.items():
            _write(key, out)
            _write(item, out)
        out.append(pickle.SETITEMS)
    elif isinstance(value, np.ndarray):
        _write_array(value, out)
    else:
        raise TypeError(f"a state dict can't hold a {type(value).__name__}")


def _write_array(array: np.ndarray, out: list[bytes | memoryview]) -> None:
    """Append what `ndarray.__reduce__` and `dtype.__reduce__` stand for: _reconstruct(...), then its state."""
    code = f"{array.dtype.kind}{array.dtype.itemsize}"
    if code not in NUMBERS:
        raise TypeError(f"a state dict can't hold an array of {array.dtype}")
    out.append(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R")
    out.append(pickle.MARK)
    _write(1, out)
    _write(array.shape, out)
    out.append(b"cnumpy\ndtype\n")
    _write((code, False, True), out)
    out.append(pickle.REDUCE)
    _write((3, "<" if array.dtype.itemsize > 1 else "|", None, None, None, -1, -1, 0), out)
    out.append(pickle.BUILD)
    _write(False, out)  # not in Fortran's order
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    out.append(pickle.BINBYTES8 + struct.pack("<Q", array.nbytes))
    out.append(array.data.cast("B") if array.nbytes >= LARGE else array.tobytes())
    out.append(pickle.TUPLE + pickle.BUILD)


# ---------------------------------------------------------------------------------------------------------------------
# Bytes -> arrays
# ---------------------------------------------------------------------------------------------------------------------


def load_state(path: Path) -> dict[str, Any]:
    """Read a `.pdparams`, `.pdopt`, `.safetensors`, `.pth` or `.pt` without running anything that it holds.

    Returns: name -> array (read-only), and the plain values that the file holds beside them.
    Raises:
        PmtrainError: the file can't be read, is damaged, or asks for anything but arrays and plain values; the
            message names the file and what it asked for.
    """
    return parse_state(read_bytes(path), path)


def parse_state(data: bytes, path: Path) -> dict[str, Any]:
    """As load_state, from bytes read before; `path` tells a `.safetensors`, and is named in messages."""
    try:
        if path.suffix == ".safetensors":
            return _parse_safetensors(data)
        if data.startswith((ZIP, OLD)):
            return _state_dict(read_torch(data))
        _check_start(data)
        return _state_dict(read_pickle(data))
    except Refused as refusal:
        raise PmtrainError(f"{path} {refusal}", refusal.hint) from None


def _state_dict(state: Any) -> dict[str, Any]:
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise Refused(f"is not a state dict: its content has type {type(state).__name__}")
    state.pop(NAME_TABLE, None)
    return state


def _parse_safetensors(data: bytes) -> dict[str, Any]:
    import safetensors
    import safetensors.numpy

    try:
        return safetensors.numpy.load(data)
    except KeyError as error:
        raise Refused(f"holds numbers of type {error}, which NumPy doesn't have; save them as float32") from None
    except (safetensors.SafetensorError, ValueError, TypeError, OverflowError) as error:
        raise Refused(f"is not a complete .safetensors file: {shown(str(error), 200)}") from None


def _check_start(data: bytes) -> None:
    if not data:
        raise Refused("is empty")
    for start, what in LOOKALIKES.items():
        if data.startswith(start):
            raise Refused(f"is not a file of weights: it looks like {what}")
    if data[:1] != pickle.PROTO or data[1:2] not in (b"\x02", b"\x03", b"\x04"):
        raise Refused(
            f"is not a file of weights: it starts with {data[:4]!r}, not as Paddle's (pickles of protocol 2 to 4),"
            " PyTorch's or safetensors"
        )
