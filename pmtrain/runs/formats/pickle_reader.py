"""A reader of pickles that runs nothing: only the steps that build arrays and plain containers are known.

A pickle is a program for Python's unpickler, which imports and calls whatever the program names. Here an interpreter
of its own reads it. Its few callables are functions of this module, and Python's own unpickler is never started.
"""

from __future__ import annotations

import math
import pickle  # for the names of its opcodes; nothing here loads with it
import pickletools
import struct
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

import numpy as np

from pmtrain.runs.formats.untrusted import Refused, shown

# The number types an array may have, by NumPy's code (kind and bytes).
NUMBERS = frozenset("b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 c8 c16".split())

# Bounds on what a file may ask for. A ResNet-152 with its optimizer state has 25 thousand steps.
MAX_STEPS = 500_000
MAX_DEPTH = 32
MAX_DIMENSIONS = 32


def read_pickle(data: bytes) -> Any:
    """What a pickle of arrays, plain values and containers of them holds; arrays are read-only views of `data`.

    A pair (name, array), which Paddle writes for a tensor inside a container, is given as the array.

    Raises:
        Refused: it asks for anything else, or is damaged.
    """
    try:
        reader = Unpickler(data)
        value = reader.run()
        if reader.position != len(data):
            raise Refused(f"is damaged: its pickle ends at byte {reader.position:,} of {len(data):,}")
        return plain(value)
    except DAMAGE as error:
        raise Refused(f"is damaged: {type(error).__name__} while its pickle was read") from error


# What a damaged pickle makes an interpreter raise.
DAMAGE = (ArithmeticError, IndexError, KeyError, TypeError, ValueError, MemoryError, struct.error)


class _Dtype:
    """Stands for numpy.dtype while a pickle is read."""

    def __init__(self, code: Any) -> None:
        if not isinstance(code, str) or code not in NUMBERS:
            raise Refused(f"holds an array of type {shown(repr(code))}; only plain numbers can be loaded")
        self.value = np.dtype(code)

    def build(self, state: Any) -> None:
        _version, order, subarray, names, fields, *_ = state
        if (subarray, names, fields) != (None, None, None):
            raise Refused("holds an array of records; only plain numbers can be loaded")
        if order not in ("<", "|", "="):
            raise Refused("holds numbers in big-endian order; save it again on an ordinary computer")
        self.value = self.value.newbyteorder(order)


class Array:
    """Stands for an array while a pickle is read: memoized empty, filled by the BUILD step that follows."""

    value: np.ndarray | None = None

    def build(self, state: Any) -> None:
        _version, shape, dtype, fortran, data = state
        data = data.encode("latin-1") if isinstance(data, str) else data  # written by Python 2
        if not (isinstance(shape, tuple) and isinstance(dtype, _Dtype) and isinstance(data, bytes)):
            raise Refused("holds an array without shape, number type or data")
        if len(shape) > MAX_DIMENSIONS or not all(type(n) is int and 0 <= n < 1 << 31 for n in shape):
            raise Refused(f"holds an array of the impossible shape {shown(repr(shape))}")
        if math.prod(shape) * dtype.value.itemsize != len(data):
            raise Refused(
                f"is damaged: an array of shape {shape} and type {dtype.value} can't have {len(data):,} bytes"
            )
        self.value = np.ndarray(shape, dtype.value, data, order="F" if fortran is True or fortran == 1 else "C")


# What a state dict's pickle may call: functions of this module, none of which touches anything but its arguments.


def _ndarray(*_: Any) -> Any:
    raise Refused("calls numpy.ndarray, which no state dict does")


def _reconstruct(kind: Any, _shape: Any, _code: Any) -> Array:
    if kind is not _ndarray:
        raise Refused("makes an array of a class other than numpy.ndarray")
    return Array()


def _dtype(code: Any, _align: Any, _copy: Any) -> _Dtype:
    return _Dtype(code)


def _scalar(dtype: Any, data: Any) -> Array:
    array = Array()
    array.build((1, (), dtype, False, data))
    return array


def _encode(text: Any, encoding: Any) -> bytes:
    if encoding != "latin1" or not isinstance(text, str):
        raise Refused("encodes a text, which state dicts do only for an array's bytes")
    return text.encode("latin-1")


def _empty_bytes() -> bytes:
    return b""


def _tuple(items: Any) -> tuple:
    if not isinstance(items, tuple):
        raise Refused("makes a tuple of something else")
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


class Unpickler:
    """The steps of a pickle, one method call each, as the documentation of pickletools gives them.

    Args:
        data: it begins at the byte `position`, which then tells where it ended.
    """

    callables: Mapping[tuple[str, str], Callable[..., Any]] = CALLABLES

    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data = data
        self.position = position
        self.stack: list[Any] = []
        self.marks: list[int] = []  # heights of the stack
        self.memo: dict[int, Any] = {}
        self.encoded = 0  # bytes made by _encode: bounded, or a small file could fill the memory

    def run(self) -> Any:
        for _ in range(MAX_STEPS):
            opcode = self.take(1)
            if opcode == pickle.STOP:
                return self.stack.pop()
            self.step(opcode)
        raise Refused(f"takes more than {MAX_STEPS:,} steps to read; a state dict takes some thousands")

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
            raise Refused(f"is not a state dict, or is damaged: no state dict needs the step {name} of its pickle")

    def take(self, count: int) -> bytes:
        end = self.position + count
        if count < 0 or end > len(self.data):
            raise Refused(f"is cut short or damaged: byte {self.position:,} asks for {count:,} more")
        piece = self.data[self.position : end]
        self.position = end
        return piece

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        end = self.data.find(b"\n", self.position, self.position + 256)
        if end < 0:
            raise Refused(f"is damaged: a name at byte {self.position:,} doesn't end")
        text = self.take(end - self.position).decode("utf-8")
        self.position += 1
        return text

    def pop(self, height: int) -> list[Any]:
        """What lies on the stack from `height` up, taken off it."""
        if not 0 <= height <= len(self.stack):
            raise Refused(f"is damaged: byte {self.position:,} takes more than is on the stack")
        items = self.stack[height:]
        del self.stack[height:]
        return items

    def extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise Refused("is damaged: it appends to something that is not a list")
        self.stack[-1].extend(items)

    def update(self, items: list[Any]) -> None:
        keys, values = items[::2], items[1::2]
        if type(self.stack[-1]) is not dict or not all(type(key) in (str, int) for key in keys):
            raise Refused("is damaged: a dictionary's keys are neither text nor whole numbers")
        self.stack[-1].update(zip(keys, values, strict=True))

    def callable(self, module: Any, name: Any) -> Callable[..., Any]:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise Refused("is damaged: a callable's name is not text")
        try:
            return self.callables[module, name]
        except KeyError:
            full = shown(f"{module}.{name}")
            raise Refused(
                f"asks for `{full}`, which is neither an array nor a plain container; nothing of it was run",
                "don't open it with paddle.load or torch.load, which may run it: let its maker save model.state_dict()"
                " alone",
            ) from None

    def call(self, function: Any, arguments: Any) -> Any:
        if not (isinstance(function, FunctionType) and isinstance(arguments, tuple)):
            raise Refused("is damaged: it calls what can't be called")
        result = function(*arguments)
        if isinstance(result, bytes):
            self.encoded += len(result)
            if self.encoded > len(self.data):
                raise Refused("makes more bytes than it has")
        return result

    def build(self, state: Any) -> None:
        target = self.stack[-1]
        if not isinstance(target, (Array, _Dtype)) or not isinstance(state, tuple):
            raise Refused(f"sets the inner state of a {type(target).__name__}, which no state dict does")
        target.build(state)


def plain(value: Any) -> Any:
    """Arrays for their stand-ins, all the way down; (name, array), which Paddle writes for a tensor, is the array."""
    left = MAX_STEPS  # a container may lie in another many times over: bounds the tree, not the file

    def convert(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > MAX_DEPTH:
            raise Refused("holds containers that are nested too deeply")
        if isinstance(value, dict):
            return {key: convert(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list):
            return [convert(item, depth + 1) for item in value]
        if isinstance(value, tuple):
            items = tuple(convert(item, depth + 1) for item in value)
            is_tensor = len(items) == 2 and isinstance(items[0], str) and isinstance(items[1], np.ndarray)
            return items[1] if is_tensor else items
        if isinstance(value, Array):
            if value.value is None:
                raise Refused("is damaged: an array has no data")
            return value.value
        if value is None or isinstance(value, (bool, int, float, str, bytes)):
            return value
        raise Refused("is damaged: a value is neither an array nor plain")

    return convert(value, 0)
