"""A writer of PyTorch's `.pth`: a state dict that torch.load(weights_only=True) reads, written without PyTorch."""

from __future__ import annotations

import io
import pickle  # for the names of its opcodes
import struct
import zipfile
from collections.abc import Mapping

import numpy as np

ROOT = "archive"


def write_torch(state: Mapping[str, np.ndarray]) -> bytes:
    """The file of torch.save for a state dict of float32 arrays: a zip archive of a pickle and a file for each array.

    Raises:
        TypeError: an array isn't float32.
    """
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        # A fixed time: the same weights give the same bytes.
        def put(name: str, data: bytes) -> None:
            archive.writestr(zipfile.ZipInfo(f"{ROOT}/{name}", (1980, 1, 1, 0, 0, 0)), data)

        put("data.pkl", _pickled(state))
        put("byteorder", b"little")
        for number, array in enumerate(state.values()):
            put(f"data/{number}", np.ascontiguousarray(array, "<f4").tobytes())
        put("version", b"3\n")
    return content.getvalue()


def _pickled(state: Mapping[str, np.ndarray]) -> bytes:
    """name -> torch._utils._rebuild_tensor_v2(storage, 0, size, stride, False, OrderedDict()), in protocol 2."""
    out = [pickle.PROTO + b"\x02", pickle.EMPTY_DICT, pickle.MARK]
    for number, (name, array) in enumerate(state.items()):
        if array.dtype != np.float32:
            raise TypeError(f"{name} is {array.dtype}, not float32")
        strides = [int(np.prod(array.shape[axis + 1 :], dtype=int)) for axis in range(array.ndim)]
        out += [
            _text(name),
            b"ctorch._utils\n_rebuild_tensor_v2\n",
            pickle.MARK,
            *(pickle.MARK, _text("storage"), b"ctorch\nFloatStorage\n", _text(str(number)), _text("cpu")),
            *(_number(array.size), pickle.TUPLE, pickle.BINPERSID),
            *(_number(0), _numbers(array.shape), _numbers(strides), pickle.NEWFALSE),
            *(b"ccollections\nOrderedDict\n", pickle.EMPTY_TUPLE, pickle.REDUCE),
            pickle.TUPLE,
            pickle.REDUCE,
        ]
    return b"".join([*out, pickle.SETITEMS, pickle.STOP])


def _text(value: str) -> bytes:
    data = value.encode()
    return pickle.BINUNICODE + struct.pack("<I", len(data)) + data


def _number(value: int) -> bytes:
    return pickle.BININT + struct.pack("<i", value)


def _numbers(values: tuple[int, ...] | list[int]) -> bytes:
    return pickle.MARK + b"".join(map(_number, values)) + pickle.TUPLE
