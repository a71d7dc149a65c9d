"""A reader of PyTorch's `.pth` and `.pt` files that runs nothing: state dicts alone, by the reader of pickles here.

torch.save writes a zip archive with a pickle and one file for each storage (since version 1.6); before that it wrote
several pickles one after the other, followed by the storages.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from pmtrain.runs.formats.pickle_reader import CALLABLES, DAMAGE, MAX_DIMENSIONS, Array, Unpickler, plain
from pmtrain.runs.formats.untrusted import Refused, shown

ZIP = b"PK\x03\x04"
MAGIC = 0x1950A86A20F9469CFC6C  # torch.serialization.MAGIC_NUMBER: the first pickle of the older format
OLD = b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little")
PROTOCOL = 1001

# PyTorch's classes of storages -> the number type; bfloat16 is the upper half of a float32.
STORAGES = {
    "FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "BFloat16Storage": "bfloat16",
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "b1",
}  # fmt: skip


def read_torch(data: bytes) -> Any:
    """What torch.save wrote: arrays, plain values and containers of them.

    Raises:
        Refused: it asks for anything else, or is damaged.
    """
    try:
        return plain(_from_archive(data) if data.startswith(ZIP) else _from_stream(data))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise Refused(f"is not a complete file of torch.save: {shown(str(error), 200)}") from error
    except DAMAGE as error:
        raise Refused(f"is damaged: {type(error).__name__} while its pickle was read") from error


class _Storage:
    """The numbers that tensors are views of; filled after the pickle that names it was read, in the older format."""

    def __init__(self, code: str, count: int) -> None:
        self.code, self.count = code, count
        self.values: np.ndarray | None = None

    @property
    def size(self) -> int:
        return self.count * (2 if self.code == "bfloat16" else np.dtype(self.code).itemsize)

    def fill(self, data: bytes | memoryview) -> None:
        if len(data) != self.size:
            raise Refused(f"is damaged: a storage of {self.size:,} bytes has {len(data):,}")
        if self.code == "bfloat16":
            self.values = (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
        else:
            self.values = np.frombuffer(data, np.dtype(self.code).newbyteorder("<"))


class _Tensor(Array):
    """A tensor: a view of a storage."""

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any) -> None:
        whole = (shape, strides) if isinstance(shape, tuple) and isinstance(strides, tuple) else ((), (None,))
        numbers = [offset, *whole[0], *whole[1]]
        if not isinstance(storage, _Storage) or not all(type(n) is int and 0 <= n < 1 << 40 for n in numbers):
            raise Refused("is damaged: a tensor has no storage, shape or strides")
        if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS:
            raise Refused(f"holds a tensor of the impossible shape {shown(repr(shape))}")
        last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))
        if math.prod(shape) > storage.count or (math.prod(shape) and last >= storage.count):
            raise Refused(f"is damaged: a tensor of shape {shape} doesn't fit its storage of {storage.count:,} numbers")
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    @property
    def value(self) -> np.ndarray | None:  # type: ignore[override]
        values = self.storage.values
        if values is None:
            return None
        if not math.prod(self.shape):
            return np.zeros(self.shape, values.dtype)
        strides = [stride * values.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, strides, writeable=False)

    def build(self, state: Any) -> None:
        raise Refused("sets the inner state of a tensor, which no state dict does")


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_more: Any) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


def _parameter(tensor: Any, _requires_grad: Any, _hooks: Any) -> _Tensor:
    if not isinstance(tensor, _Tensor):
        raise Refused("makes a parameter of something else than a tensor")
    return tensor


def _storage_class(name: str) -> Callable[..., Any]:
    """Stands for a class of storages, which a state dict names and never calls."""

    def refuse(*_: Any) -> Any:
        raise Refused(f"calls torch.{name}, which no state dict does")

    return refuse


_CLASSES = {name: _storage_class(name) for name in STORAGES}
_CODES = {function: STORAGES[name] for name, function in _CLASSES.items()}


class _TorchUnpickler(Unpickler):
    """The steps of a pickle of torch.save: those of any pickle, and one that names a storage."""

    callables = CALLABLES | {
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_tensor"): _tensor,
        ("torch._utils", "_rebuild_parameter"): _parameter,
        ("torch", "Size"): CALLABLES["builtins", "tuple"],
        **{("torch", name): function for name, function in _CLASSES.items()},
    }

    def __init__(self, data: bytes, position: int = 0) -> None:
        super().__init__(data, position)
        self.storages: dict[str, _Storage] = {}

    def step(self, opcode: bytes) -> None:
        if opcode == b"Q":  # BINPERSID
            self.stack.append(self.storage(self.stack.pop()))
        else:
            super().step(opcode)

    def storage(self, name: Any) -> _Storage:
        """The storage that ("storage", class, key, device, number of values) names."""
        kind, function, key, _device, count, *view = name
        if kind != "storage" or function not in _CODES or not isinstance(key, str) or type(count) is not int:
            raise Refused("names a storage in a way that torch.save doesn't")
        if any(view):
            raise Refused("holds a storage that is part of another", "save it again with a newer PyTorch: torch.save")
        if not 0 <= count < 1 << 40:
            raise Refused(f"is damaged: a storage of {count:,} numbers")
        return self.storages.setdefault(key, _Storage(_CODES[function], count))

    def build(self, state: Any) -> None:
        # nn.Module.state_dict() is an OrderedDict with an attribute of version numbers.
        if type(self.stack[-1]) is dict and isinstance(state, dict) and set(state) == {"_metadata"}:
            return
        super().build(state)


def _from_archive(data: bytes) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise Refused("is a zip archive, but not one of torch.save: it has no data.pkl")
        folder = pickles[0].removesuffix("data.pkl")

        def content(name: str) -> bytes:
            entry = entries.get(folder + name)
            if entry is None:
                raise Refused(f"is damaged: its archive has no {shown(name)}")
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size > len(data):
                raise Refused("is a compressed archive, which torch.save doesn't write")
            return archive.read(entry)

        if folder + "byteorder" in entries and content("byteorder") != b"little":
            raise Refused("holds numbers in big-endian order; save it again on an ordinary computer")
        reader = _TorchUnpickler(content("data.pkl"))
        value = reader.run()
        for key, storage in reader.storages.items():
            storage.fill(content(f"data/{key}"))
    return value


def _from_stream(data: bytes) -> Any:
    position = 0
    heads = []
    for _ in range(3):  # the magic number, the protocol and the sizes of C's types
        reader = Unpickler(data, position)
        heads.append(reader.run())
        position = reader.position
    if heads[:2] != [MAGIC, PROTOCOL] or not isinstance(heads[2], dict) or heads[2].get("little_endian") is not True:
        raise Refused("has a version of torch.save's format that isn't known", "save it again with a newer PyTorch")
    tensors = _TorchUnpickler(data, position)
    value = tensors.run()
    keys = Unpickler(data, tensors.position)
    order = keys.run()
    position = keys.position
    if not isinstance(order, list) or sorted(map(str, order)) != sorted(tensors.storages):
        raise Refused("is damaged: its storages aren't those that its tensors need")
    for key in order:
        storage = tensors.storages[key]
        end = position + 8 + storage.size
        if end > len(data) or struct.unpack_from("<q", data, position)[0] != storage.count:
            raise Refused(f"is cut short or damaged: a storage at byte {position:,}")
        storage.fill(memoryview(data)[position + 8 : end])
        position = end
    if position != len(data):
        raise Refused(f"is damaged: it ends at byte {position:,} of {len(data):,}")
    return value
