"""State dicts to bytes and back, without running what a file holds.

A `.pdparams` or `.pdopt` is a pickle, a program for Python's unpickler, which imports and calls whatever the
program names. Here it is read by an interpreter that knows only the steps that build arrays and plain containers,
and whose few callables are functions of this module. Python's own unpickler is never started.
"""

from __future__ import annotations

import math
import pickle  # for the names of its opcodes; nothing here loads with it
import pickletools
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np

from pmtrain.system.errors import PmtrainError
from pmtrain.system.files import read_bytes

NAME_TABLE = "StructuredToParameterName@@"  # Paddle's own key: structured name -> parameter name

# The number types an array may have, by NumPy's code (kind and bytes).
NUMBERS = frozenset("b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 c8 c16".split())

# Bounds on what a file may ask for. A ResNet-152 with its optimizer state has 25 thousand steps.
MAX_STEPS = 500_000
MAX_DEPTH = 32
MAX_DIMENSIONS = 32

# First bytes of files that people take for a checkpoint.
LOOKALIKES = {
    b"PK\x03\x04": "a zip archive, as torch.save writes it",
    b"\x89HDF": "an HDF5 file, as Keras writes it",
    b"version https://git-lfs": "a Git LFS pointer, not the file that it stands for",
    b"<": "a web page or another text in angle brackets",
}


class _Refused(Exception):
    """Why the bytes are no state dict, without the file's name, and the way out."""

    def __init__(self, message: str, hint: str = "copy or download it again, or give another checkpoint") -> None:
        super().__init__(message)
        self.hint = hint


# ---------------------------------------------------------------------------------------------------------------------
# Arrays -> bytes
# ---------------------------------------------------------------------------------------------------------------------


def dump_state(arrays: Mapping[str, Any], parameter_names: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a `.pdparams` or `.pdopt` that paddle.load and set_state_dict take.

    The same content gives the same bytes under every version of NumPy and Paddle, and NumPy is named as its
    first major version was (`numpy.core`), which the second still reads.

    Args:
        arrays: name -> array; also plain values and containers of them (an optimizer's `LR_Scheduler`).
        parameter_names: structured name -> parameter name (`conv._conv.weight` -> `conv2d_0.w_0`), which
            paddle.load gives to its tensors.
    Raises:
        TypeError: a value is neither an array of numbers nor plain.
    """
    table = {} if parameter_names is None else {NAME_TABLE: dict(parameter_names)}
    pieces = [pickle.PROTO + b"\x04"]
    _write({**arrays, **table}, pieces)
    pieces.append(pickle.STOP)
    return b"".join(pieces)


def _write(value: Any, out: list[bytes]) -> None:
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


def _write_array(array: np.ndarray, out: list[bytes]) -> None:
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
    _write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes(), out)
    out.append(pickle.TUPLE + pickle.BUILD)


# ---------------------------------------------------------------------------------------------------------------------
# Bytes -> arrays
# ---------------------------------------------------------------------------------------------------------------------


def load_state(path: Path) -> dict[str, Any]:
    """Read a `.pdparams`, `.pdopt` or `.safetensors` without running anything that it holds.

    Returns: name -> array (read-only), and the plain values that the file holds beside them.
    Raises:
        PmtrainError: the file can't be read, is damaged, or asks for anything but arrays and plain values; the
            message names the file and what it asked for.
    """
    return parse_state(read_bytes(path), path)


def parse_state(data: bytes, path: Path) -> dict[str, Any]:
    """As load_state, of bytes read before; `path` serves the choice of the format and the messages."""
    try:
        if path.suffix == ".safetensors":
            return _parse_safetensors(data)
        return _parse_pickle(data)
    except _Refused as refusal:
        raise PmtrainError(f"{path} {refusal}", refusal.hint) from None


def _parse_pickle(data: bytes) -> dict[str, Any]:
    _check_start(data)
    try:
        state = _plain(_Unpickler(data).run())
    except (ArithmeticError, IndexError, KeyError, TypeError, ValueError, MemoryError, struct.error) as error:
        raise _Refused(f"is damaged: {type(error).__name__} while its pickle was read") from error
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise _Refused(f"holds no state dict, but a {type(state).__name__}")
    state.pop(NAME_TABLE, None)
    return state


def _parse_safetensors(data: bytes) -> dict[str, Any]:
    import safetensors
    import safetensors.numpy

    try:
        return safetensors.numpy.load(data)
    except KeyError as error:
        raise _Refused(f"holds numbers of type {error}, which NumPy doesn't have; save it as float32") from None
    except (safetensors.SafetensorError, ValueError, TypeError, OverflowError) as error:
        raise _Refused(f"is no whole .safetensors file: {shown(str(error), 200)}") from None


def _check_start(data: bytes) -> None:
    if not data:
        raise _Refused("is empty")
    for start, what in LOOKALIKES.items():
        if data.startswith(start):
            raise _Refused(f"is no Paddle state dict: it looks like {what}")
    if data[:1] != pickle.PROTO or data[1:2] not in (b"\x02", b"\x03", b"\x04"):
        raise _Refused(f"is no Paddle state dict: it starts with {data[:4]!r}, not as a pickle of protocol 2 to 4")


def shown(text: str, limit: int = 80) -> str:
    """Text from a file, fit for a terminal: no control characters, and no more than `limit` of the others."""
    clean = "".join(character if character.isprintable() else "?" for character in text[: limit + 1])
    return clean if len(clean) <= limit else clean[:limit] + "..."


def first_few(names: list[str], count: int = 3) -> str:
    """The first few names from a file, and how many more there are."""
    listed = ", ".join(shown(name) for name in names[:count])
    return listed if len(names) <= count else f"{listed} and {len(names) - count} more"


class _Dtype:
    """Stands for numpy.dtype while a pickle is read."""

    def __init__(self, code: Any) -> None:
        if not isinstance(code, str) or code not in NUMBERS:
            raise _Refused(f"holds an array of type {shown(repr(code))}; only plain numbers can be loaded")
        self.value = np.dtype(code)

    def build(self, state: Any) -> None:
        _version, order, subarray, names, fields, *_ = state
        if (subarray, names, fields) != (None, None, None):
            raise _Refused("holds an array of records; only plain numbers can be loaded")
        if order not in ("<", "|", "="):
            raise _Refused("holds numbers in big-endian order; save it again on an ordinary computer")
        self.value = self.value.newbyteorder(order)


class _Array:
    """Stands for numpy.ndarray while a pickle is read: memoized empty, filled by the BUILD step that follows."""

    value: np.ndarray | None = None

    def build(self, state: Any) -> None:
        _version, shape, dtype, fortran, data = state
        data = data.encode("latin-1") if isinstance(data, str) else data  # written by Python 2
        if not (isinstance(shape, tuple) and isinstance(dtype, _Dtype) and isinstance(data, bytes)):
            raise _Refused("holds an array without shape, number type or data")
        if len(shape) > MAX_DIMENSIONS or not all(type(n) is int and 0 <= n < 1 << 31 for n in shape):
            raise _Refused(f"holds an array of the impossible shape {shown(repr(shape))}")
        if math.prod(shape) * dtype.value.itemsize != len(data):
            raise _Refused(
                f"is damaged: an array of shape {shape} and type {dtype.value} can't have {len(data):,} bytes"
            )
        self.value = np.ndarray(shape, dtype.value, data, order="F" if fortran is True or fortran == 1 else "C")


# What a state dict's pickle may call: functions of this module, none of which touches anything but its arguments.


def _ndarray(*_: Any) -> Any:
    raise _Refused("calls numpy.ndarray, which no state dict does")


def _reconstruct(kind: Any, _shape: Any, _code: Any) -> _Array:
    if kind is not _ndarray:
        raise _Refused("makes an array of a class other than numpy.ndarray")
    return _Array()


def _dtype(code: Any, _align: Any, _copy: Any) -> _Dtype:
    return _Dtype(code)


def _scalar(dtype: Any, data: Any) -> _Array:
    array = _Array()
    array.build((1, (), dtype, False, data))
    return array


def _encode(text: Any, encoding: Any) -> bytes:
    if encoding != "latin1" or not isinstance(text, str):
        raise _Refused("encodes a text, which state dicts do only for an array's bytes")
    return text.encode("latin-1")


def _empty_bytes() -> bytes:
    return b""


def _tuple(items: Any) -> tuple:
    if not isinstance(items, tuple):
        raise _Refused("makes a tuple of something else")
    return items


def _ordered_dict() -> dict:
    return {}


CALLABLES: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _ndarray,
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,  # NumPy 1
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,  # NumPy 2
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("_codecs", "encode"): _encode,  # bytes, under protocol 2
    ("__builtin__", "bytes"): _empty_bytes,
    ("builtins", "tuple"): _tuple,  # (name, array): a tensor inside a nested container
    ("__builtin__", "tuple"): _tuple,
    ("collections", "OrderedDict"): _ordered_dict,
}

# Opcode -> struct format of the number that follows, for numbers and for the lengths of text and bytes.
_NUMBERS = {pickle.BININT: "<i", pickle.BININT1: "<B", pickle.BININT2: "<H", pickle.BINFLOAT: ">d"}
_TEXTS = {pickle.BINUNICODE: "<I", pickle.SHORT_BINUNICODE: "<B", pickle.BINUNICODE8: "<Q"}
_PYTHON2_TEXTS = {pickle.BINSTRING: "<i", pickle.SHORT_BINSTRING: "<B"}
_BYTES = {pickle.BINBYTES: "<I", pickle.SHORT_BINBYTES: "<B", pickle.BINBYTES8: "<Q"}
_PUTS = {pickle.BINPUT: "<B", pickle.LONG_BINPUT: "<I"}
_GETS = {pickle.BINGET: "<B", pickle.LONG_BINGET: "<I"}
_CONSTANTS: dict[bytes, Any] = {pickle.NONE: None, pickle.NEWTRUE: True, pickle.NEWFALSE: False}
_CONTAINERS: dict[bytes, type] = {pickle.EMPTY_DICT: dict, pickle.EMPTY_LIST: list, pickle.EMPTY_TUPLE: tuple}
_SHORT_TUPLES = {pickle.TUPLE1: 1, pickle.TUPLE2: 2, pickle.TUPLE3: 3}
_NAMES = {opcode.code.encode("latin-1"): opcode.name for opcode in pickletools.opcodes}


class _Unpickler:
    """The steps of a pickle, one method call each, as the documentation of pickletools gives them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []  # heights of the stack
        self.memo: dict[int, Any] = {}
        self.encoded = 0  # bytes made by _encode: bounded, or a small file could fill the memory

    def run(self) -> Any:
        for _ in range(MAX_STEPS):
            opcode = self.take(1)
            if opcode == pickle.STOP:
                if self.position != len(self.data):
                    raise _Refused(f"is damaged: its pickle ends at byte {self.position:,} of {len(self.data):,}")
                return self.stack.pop()
            self.step(opcode)
        raise _Refused(f"takes more than {MAX_STEPS:,} steps to read; a state dict takes some thousands")

    def step(self, opcode: bytes) -> None:
        stack = self.stack
        if opcode in _CONSTANTS:
            stack.append(_CONSTANTS[opcode])
        elif opcode in _NUMBERS:
            stack.append(self.number(_NUMBERS[opcode]))
        elif opcode == pickle.LONG1:
            stack.append(int.from_bytes(self.take(self.number("<B")), "little", signed=True))
        elif opcode in _TEXTS:
            stack.append(self.take(self.number(_TEXTS[opcode])).decode("utf-8"))
        elif opcode in _PYTHON2_TEXTS:
            stack.append(self.take(self.number(_PYTHON2_TEXTS[opcode])).decode("latin-1"))
        elif opcode in _BYTES:
            stack.append(self.take(self.number(_BYTES[opcode])))
        elif opcode in _CONTAINERS:
            stack.append(_CONTAINERS[opcode]())
        elif opcode == pickle.MARK:
            self.marks.append(len(stack))
        elif opcode in _SHORT_TUPLES:
            stack.append(tuple(self.pop(len(stack) - _SHORT_TUPLES[opcode])))
        elif opcode == pickle.TUPLE:
            stack.append(tuple(self.pop(self.marks.pop())))
        elif opcode == pickle.LIST:
            stack.append(self.pop(self.marks.pop()))
        elif opcode == pickle.APPEND:
            self.extend(self.pop(len(stack) - 1))
        elif opcode == pickle.APPENDS:
            self.extend(self.pop(self.marks.pop()))
        elif opcode == pickle.SETITEM:
            self.update(self.pop(len(stack) - 2))
        elif opcode == pickle.SETITEMS:
            self.update(self.pop(self.marks.pop()))
        elif opcode == pickle.MEMOIZE:
            self.memo[len(self.memo)] = stack[-1]
        elif opcode in _PUTS:
            self.memo[self.number(_PUTS[opcode])] = stack[-1]
        elif opcode in _GETS:
            stack.append(self.memo[self.number(_GETS[opcode])])
        elif opcode == pickle.GLOBAL:
            stack.append(self.callable(self.line(), self.line()))
        elif opcode == pickle.STACK_GLOBAL:
            stack.append(self.callable(*self.pop(len(stack) - 2)))
        elif opcode == pickle.REDUCE:
            stack.append(self.call(*self.pop(len(stack) - 2)))
        elif opcode == pickle.BUILD:
            self.build(stack.pop())
        elif opcode == pickle.FRAME:
            self.number("<Q")  # how much to read ahead; all is in memory here
        elif opcode == pickle.PROTO:
            self.take(1)
        else:
            name = _NAMES.get(opcode, repr(opcode))
            raise _Refused(f"is no state dict or is damaged: its pickle has the step {name}, which none needs")

    def take(self, count: int) -> bytes:
        end = self.position + count
        if count < 0 or end > len(self.data):
            raise _Refused(f"is cut short or damaged: byte {self.position:,} asks for {count:,} more")
        piece = self.data[self.position : end]
        self.position = end
        return piece

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        end = self.data.find(b"\n", self.position, self.position + 256)
        if end < 0:
            raise _Refused(f"is damaged: a name at byte {self.position:,} doesn't end")
        text = self.take(end - self.position).decode("utf-8")
        self.position += 1
        return text

    def pop(self, height: int) -> list[Any]:
        """What lies on the stack from `height` up, taken off it."""
        if not 0 <= height <= len(self.stack):
            raise _Refused(f"is damaged: byte {self.position:,} takes what isn't there")
        items = self.stack[height:]
        del self.stack[height:]
        return items

    def extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise _Refused("is damaged: it appends to what is no list")
        self.stack[-1].extend(items)

    def update(self, items: list[Any]) -> None:
        keys, values = items[::2], items[1::2]
        if type(self.stack[-1]) is not dict or not all(type(key) in (str, int) for key in keys):
            raise _Refused("is damaged: a dictionary's keys are neither text nor whole numbers")
        self.stack[-1].update(zip(keys, values, strict=True))

    def callable(self, module: Any, name: Any) -> Callable[..., Any]:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise _Refused("is damaged: a callable's name is no text")
        try:
            return CALLABLES[module, name]
        except KeyError:
            full = shown(f"{module}.{name}")
            raise _Refused(
                f"asks for `{full}`, which is neither an array nor a plain container; nothing of it was run",
                "don't open it with paddle.load, which would run it: get the weights from someone you trust",
            ) from None

    def call(self, function: Any, arguments: Any) -> Any:
        if not (isinstance(function, FunctionType) and isinstance(arguments, tuple)):
            raise _Refused("is damaged: it calls what can't be called")
        result = function(*arguments)
        if isinstance(result, bytes):
            self.encoded += len(result)
            if self.encoded > len(self.data):
                raise _Refused("makes more bytes than it has")
        return result

    def build(self, state: Any) -> None:
        target = self.stack[-1]
        if not isinstance(target, (_Array, _Dtype)) or not isinstance(state, tuple):
            raise _Refused(f"sets the inner state of a {type(target).__name__}, which no state dict does")
        target.build(state)


def _plain(value: Any) -> Any:
    """Arrays for their stand-ins, all the way down; (name, array), which Paddle writes for a tensor, is the array."""
    left = MAX_STEPS  # a container may lie in another many times over: bounds the tree, not the file

    def convert(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > MAX_DEPTH:
            raise _Refused("holds containers nested beyond all use")
        if isinstance(value, dict):
            return {key: convert(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [convert(item, depth + 1) for item in value]
        if isinstance(value, tuple):
            items = tuple(convert(item, depth + 1) for item in value)
            is_tensor = len(items) == 2 and isinstance(items[0], str) and isinstance(items[1], np.ndarray)
            return items[1] if is_tensor else items
        if isinstance(value, _Array):
            if value.value is None:
                raise _Refused("is damaged: an array has no data")
            return value.value
        if value is None or isinstance(value, (bool, int, float, str, bytes)):
            return value
        raise _Refused("is damaged: a value is neither an array nor plain")

    return convert(value, 0)
