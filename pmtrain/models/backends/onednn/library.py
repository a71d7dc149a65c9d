"""The oneDNN C library in the installed Paddle, opened with ctypes; its version and every status are checked.

The C API and the values of its enumerations are fixed within a major version; those below are version 3's. They are
documented at https://oneapi-src.github.io/oneDNN/, except `dnnl_memory_desc_create_with_string_tag`, which the library
exports and no public header declares. `scripts/check_wheels.py` checks the files and functions named here in the wheels
of every supported Paddle.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import threading
from ctypes import POINTER, c_char_p, c_float, c_int, c_int64, c_size_t, c_uint, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from pmtrain.system.errors import PmtrainError
from pmtrain.system.framework import paddle


class Files(NamedTuple):
    """oneDNN's file in the wheel's paddle/libs, the OpenMP runtime that it calls, and the functions used of that."""

    library: str
    openmp: str
    openmp_in_wheel: bool
    openmp_functions: tuple[str, ...]


# By sys.platform. On Linux the library names libgomp, but Paddle loads libiomp5 first, so that is the one it calls.
# Windows binds imports by file name: mkldnn.dll calls Microsoft's runtime, which lies in the system's folder, and
# libiomp5md.dll beside it serves only MKL and Paddle.
FILES = {
    "linux": Files("libdnnl.so.3", "libiomp5.so", True, ("omp_set_num_threads", "omp_get_thread_num", "GOMP_parallel")),
    "win32": Files("mkldnn.dll", "VCOMP140.DLL", False, ("omp_set_num_threads",)),
}
OLDEST, TOO_NEW = (3, 2), (4, 0)
RUNTIME_OMP = 2  # dnnl_runtime_omp
ISA_AVX2 = 0x4  # the bit that dnnl_cpu_isa_avx2 adds
ISA_AVX512 = 0x20  # the bit that dnnl_cpu_isa_avx512_core adds
ISA_BF16 = 0x80  # the bit that dnnl_cpu_isa_avx512_core_bf16 adds
ISA_AMX_BF16 = 0x800  # one of the bits that dnnl_cpu_isa_avx512_core_amx adds
STATUS = {
    1: "out of memory",
    2: "invalid arguments",
    3: "not implemented for this processor or these shapes",
    4: "past the last implementation",
    5: "runtime error",
    6: "not required",
}


class LibraryUnavailable(PmtrainError):
    """oneDNN can't be used from the installed Paddle; the message says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"oneDNN is not available: {reason}", "use Paddle's own kernels: --backend paddle")
        self.reason = reason


class OneDnnError(PmtrainError):
    """A oneDNN call failed: the message names the primitive, its shapes and the status."""

    def __init__(self, status: int, what: str) -> None:
        self.reason = f"oneDNN: {what}: {STATUS.get(status, f'status {status}')}"
        super().__init__(self.reason, "use Paddle's own kernels: --backend paddle")


class ReferenceCode(PmtrainError):
    """oneDNN has only reference code for an operation, which is too slow to use silently."""

    def __init__(self, what: str, implementation: str) -> None:
        self.reason = f"oneDNN has only slow reference code ({implementation}) here for the {what}"
        super().__init__(self.reason, "use Paddle's own kernels: --backend paddle")


class ExecArg(ctypes.Structure):
    """dnnl_exec_arg_t: an argument index of a primitive, and its memory."""

    _fields_: ClassVar = [("arg", c_int), ("memory", c_void_p)]


class Version(ctypes.Structure):
    """dnnl_version_t."""

    _fields_: ClassVar = [
        ("major", c_int),
        ("minor", c_int),
        ("patch", c_int),
        ("hash", c_char_p),
        ("cpu_runtime", c_uint),
        ("gpu_runtime", c_uint),
    ]


_HANDLE_OUT = POINTER(c_void_p)
_DIMS = POINTER(c_int64)
_DESCRIPTORS3 = [c_void_p] * 3
_CONV_GEOMETRY = [_DIMS] * 4  # strides, dilates, padding left, padding right
# Argument types by function; the result is a status unless _RESULTS says otherwise. Windows on x86-64 has one calling
# convention, and no type here is a C long, whose size differs between systems.
ARGUMENTS: dict[str, list] = {
    "dnnl_engine_create": [_HANDLE_OUT, c_int, c_size_t],
    "dnnl_stream_create": [_HANDLE_OUT, c_void_p, c_int],
    "dnnl_memory_desc_create_with_tag": [_HANDLE_OUT, c_int, _DIMS, c_int, c_int],
    "dnnl_memory_desc_create_with_string_tag": [_HANDLE_OUT, c_int, _DIMS, c_int, c_char_p],
    "dnnl_memory_desc_create_with_strides": [_HANDLE_OUT, c_int, _DIMS, c_int, _DIMS],
    "dnnl_memory_desc_destroy": [c_void_p],
    "dnnl_memory_desc_get_size": [c_void_p],
    "dnnl_memory_desc_equal": [c_void_p, c_void_p],
    "dnnl_memory_create": [_HANDLE_OUT, c_void_p, c_void_p, c_void_p],
    "dnnl_memory_set_data_handle": [c_void_p, c_void_p],
    "dnnl_memory_destroy": [c_void_p],
    "dnnl_primitive_attr_create": [_HANDLE_OUT],
    "dnnl_primitive_attr_destroy": [c_void_p],
    "dnnl_primitive_attr_set_scratchpad_mode": [c_void_p, c_int],
    "dnnl_primitive_attr_set_post_ops": [c_void_p, c_void_p],
    "dnnl_post_ops_create": [_HANDLE_OUT],
    "dnnl_post_ops_destroy": [c_void_p],
    "dnnl_post_ops_append_sum": [c_void_p, c_float, c_int, c_int],
    "dnnl_post_ops_append_eltwise": [c_void_p, c_int, c_float, c_float],
    "dnnl_primitive_desc_query": [c_void_p, c_int, c_int, c_void_p],
    "dnnl_primitive_desc_query_md": [c_void_p, c_int, c_int],
    "dnnl_primitive_desc_destroy": [c_void_p],
    "dnnl_primitive_create": [_HANDLE_OUT, c_void_p],
    "dnnl_primitive_destroy": [c_void_p],
    "dnnl_primitive_execute": [c_void_p, c_void_p, c_int, c_void_p],
    "dnnl_convolution_forward_primitive_desc_create": [
        _HANDLE_OUT, c_void_p, c_int, c_int, *_DESCRIPTORS3, c_void_p, *_CONV_GEOMETRY, c_void_p,
    ],
    "dnnl_convolution_backward_data_primitive_desc_create": [
        _HANDLE_OUT, c_void_p, c_int, *_DESCRIPTORS3, *_CONV_GEOMETRY, c_void_p, c_void_p,
    ],
    "dnnl_convolution_backward_weights_primitive_desc_create": [
        _HANDLE_OUT, c_void_p, c_int, *_DESCRIPTORS3, c_void_p, *_CONV_GEOMETRY, c_void_p, c_void_p,
    ],
    "dnnl_batch_normalization_forward_primitive_desc_create": [
        _HANDLE_OUT, c_void_p, c_int, c_void_p, c_void_p, c_float, c_uint, c_void_p,
    ],
    "dnnl_batch_normalization_backward_primitive_desc_create": [
        _HANDLE_OUT, c_void_p, c_int, *_DESCRIPTORS3, c_float, c_uint, c_void_p, c_void_p,
    ],
    "dnnl_pooling_forward_primitive_desc_create": [
        _HANDLE_OUT, c_void_p, c_int, c_int, c_void_p, c_void_p, *[_DIMS] * 5, c_void_p,
    ],
    "dnnl_pooling_backward_primitive_desc_create": [
        _HANDLE_OUT, c_void_p, c_int, c_void_p, c_void_p, *[_DIMS] * 5, c_void_p, c_void_p,
    ],
    "dnnl_eltwise_forward_primitive_desc_create": [
        _HANDLE_OUT, c_void_p, c_int, c_int, c_void_p, c_void_p, c_float, c_float, c_void_p,
    ],
    "dnnl_eltwise_backward_primitive_desc_create": [
        _HANDLE_OUT, c_void_p, c_int, *_DESCRIPTORS3, c_float, c_float, c_void_p, c_void_p,
    ],
    "dnnl_binary_primitive_desc_create": [_HANDLE_OUT, c_void_p, c_int, *_DESCRIPTORS3, c_void_p],
    "dnnl_matmul_primitive_desc_create": [_HANDLE_OUT, c_void_p, *_DESCRIPTORS3, c_void_p, c_void_p],
    "dnnl_reorder_primitive_desc_create": [_HANDLE_OUT, *[c_void_p] * 5],
    "dnnl_get_effective_cpu_isa": [],
    "dnnl_version": [],
}  # fmt: skip
_RESULTS = {
    "dnnl_memory_desc_get_size": c_size_t,
    "dnnl_primitive_desc_query_md": c_void_p,
    "dnnl_version": POINTER(Version),
}


@dataclass(frozen=True)
class Library:
    """The opened library with its one CPU engine and stream.

    Attributes:
        api: the functions, with argument types set.
        openmp: the OpenMP runtime that the library calls, None if the wheel lacks it.
        version: (major, minor, patch).
    """

    api: ctypes.CDLL
    openmp: ctypes.CDLL | None
    version: tuple[int, int, int]
    engine: c_void_p
    stream: c_void_p

    @property
    def has_avx2(self) -> bool:
        """Whether oneDNN runs AVX2 code here; the gain over Paddle's kernels was measured from AVX2 on."""
        return bool(self.api.dnnl_get_effective_cpu_isa() & ISA_AVX2)

    @property
    def has_avx512(self) -> bool:
        """Whether oneDNN runs AVX-512 code here."""
        return bool(self.api.dnnl_get_effective_cpu_isa() & ISA_AVX512)

    @property
    def has_bf16(self) -> bool:
        """Whether the processor multiplies bf16 in hardware (AVX512-BF16 or AMX), as oneDNN itself sees it."""
        return bool(self.api.dnnl_get_effective_cpu_isa() & ISA_BF16)

    @property
    def has_amx(self) -> bool:
        """Whether the processor multiplies bf16 by tiles (AMX), as oneDNN itself sees it."""
        return bool(self.api.dnnl_get_effective_cpu_isa() & ISA_AMX_BF16)

    @property
    def instructions(self) -> str:
        """The widest of the instruction sets that the engine tells apart."""
        return "AMX" if self.has_amx else "AVX-512" if self.has_avx512 else "AVX2"


def check(status: int, what: str) -> None:
    """Raise OneDnnError if the status of a call isn't success."""
    if status:
        raise OneDnnError(status, what)


def _folder() -> Path:
    return Path(paddle.__file__).resolve().parent / "libs"


# Without it two threads' first calls would each make an engine, and one's primitives can't run on the other's memory.
_opening = threading.Lock()


def open_library() -> Library:
    """The library of the installed Paddle, opened once.

    Raises:
        LibraryUnavailable: a file or a function is missing, or the version or threading runtime isn't supported.
    """
    with _opening:
        return _open_library()


@functools.cache
def _open_library() -> Library:
    if sys.platform not in FILES:
        raise LibraryUnavailable(f"Paddle's wheel for {sys.platform} has no oneDNN library")
    files = FILES[sys.platform]
    path = _folder() / files.library
    openmp_path = _folder() / files.openmp
    if not path.exists():
        raise LibraryUnavailable(f"Paddle {paddle.__version__} has no {path.name} in {path.parent}")
    try:
        # Paddle has loaded both already, so this finds them in memory. On Windows a full path also has the folder of
        # the file searched for what it imports; a bare name is looked up among the loaded files first.
        api = ctypes.CDLL(str(path))
        if files.openmp_in_wheel:
            openmp = ctypes.CDLL(str(openmp_path)) if openmp_path.exists() else None
        else:
            openmp = ctypes.CDLL(files.openmp)
        for name in files.openmp_functions if openmp else ():
            getattr(openmp, name)  # raises AttributeError where it is missing
        for name, arguments in ARGUMENTS.items():
            function = getattr(api, name)
            function.argtypes, function.restype = arguments, _RESULTS.get(name, c_int)
    except (OSError, AttributeError) as error:
        raise LibraryUnavailable(f"{path} can't be used: {error}") from error
    found = api.dnnl_version().contents
    version = (found.major, found.minor, found.patch)
    if not OLDEST <= version < TOO_NEW:
        raise LibraryUnavailable(f"{path} is version {'.'.join(map(str, version))}; supported are 3.2 up to 4.0")
    if found.cpu_runtime != RUNTIME_OMP:
        raise LibraryUnavailable(f"{path} was built for the threading runtime {found.cpu_runtime}, not for OpenMP")
    engine, stream = c_void_p(), c_void_p()
    check(api.dnnl_engine_create(engine, 1, 0), "engine on the CPU")
    check(api.dnnl_stream_create(stream, engine, 1), "stream on the CPU")
    return Library(api, openmp, version, engine, stream)
