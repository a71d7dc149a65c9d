"""What the library is refused for, each with its reason, and what it is taken to say of the processor."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import sys
from types import SimpleNamespace

import pytest

from pmtrain.models import build_model
from pmtrain.models.backends.onednn import engine, library, memory, unavailable_reason
from pmtrain.models.backends.onednn.memory import Layout, bf16, f32
from pmtrain.system.hardware import processor_features


@pytest.fixture
def opened_anew():
    """`open_library` without what it remembers, and with its memory whole afterwards."""
    known = library.open_library()
    return SimpleNamespace(open=library._open_library.__wrapped__, known=known)


def pretend(monkeypatch, known, **of_version) -> None:
    """A library that says other things of itself."""
    actual = known.api.dnnl_version().contents
    fields = {name: getattr(actual, name) for name, _ in library.Version._fields_} | of_version
    version = library.Version(**fields)

    class Library:
        def __getattr__(self, name):
            return (lambda: ctypes.pointer(version)) if name == "dnnl_version" else getattr(known.api, name)

    monkeypatch.setattr(library.ctypes, "CDLL", lambda path: Library())


def test_the_library_is_there_and_says_its_version(opened_anew):
    opened = opened_anew.open()
    assert library.OLDEST <= opened.version < library.TOO_NEW
    assert opened.openmp is not None


@pytest.mark.parametrize(
    ("of_version", "said"),
    [
        ({"major": 3, "minor": 1}, "is version 3.1"),
        ({"major": 4, "minor": 0, "patch": 0}, "is version 4.0.0"),
        ({"cpu_runtime": 1}, "threading runtime 1, not for OpenMP"),
    ],
)
def test_another_version_or_runtime_is_refused(opened_anew, monkeypatch, of_version, said):
    pretend(monkeypatch, opened_anew.known, **of_version)
    with pytest.raises(library.LibraryUnavailable) as error:
        opened_anew.open()
    assert said in error.value.reason


def test_a_system_a_file_and_a_function_that_are_not_there_are_refused(opened_anew, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        patch.setattr(library.sys, "platform", "plan9")
        with pytest.raises(library.LibraryUnavailable, match="plan9"):
            opened_anew.open()
    with monkeypatch.context() as patch:
        patch.setattr(library, "_folder", lambda: tmp_path)
        with pytest.raises(library.LibraryUnavailable, match=f"has no .*{tmp_path.name}"):
            opened_anew.open()
    with monkeypatch.context() as patch:
        patch.setitem(library.ARGUMENTS, "dnnl_no_such_function", [])
        with pytest.raises(library.LibraryUnavailable, match="dnnl_no_such_function"):
            opened_anew.open()


def test_on_windows_microsofts_openmp_runtime_is_opened_although_intels_lies_in_the_wheel(
    opened_anew, monkeypatch, tmp_path
):
    """Simulated, with names from the wheel of paddlepaddle 3.3.1, whose mkldnn.dll imports VCOMP140.DLL."""
    for name in ("mkldnn.dll", "libiomp5md.dll", "mklml.dll", "phi.dll"):
        (tmp_path / name).touch()
    opened = []

    def open_dll(name):
        opened.append(name)
        # Microsoft's runtime has neither GCC's nor Intel's entry points.
        return SimpleNamespace(omp_set_num_threads=None) if name == "VCOMP140.DLL" else opened_anew.known.api

    monkeypatch.setattr(library.ctypes, "CDLL", open_dll)
    monkeypatch.setattr(library, "_folder", lambda: tmp_path)
    monkeypatch.setattr(library.sys, "platform", "win32")
    assert opened_anew.open().openmp is not None
    assert opened == [str(tmp_path / "mkldnn.dll"), "VCOMP140.DLL"]


def test_an_openmp_runtime_without_the_functions_that_are_called_is_refused(opened_anew, monkeypatch):
    actual = library.ctypes.CDLL

    def open_library(path):
        return SimpleNamespace(omp_set_num_threads=None) if "omp" in os.path.basename(path) else actual(path)

    monkeypatch.setattr(library.ctypes, "CDLL", open_library)
    with pytest.raises(library.LibraryUnavailable, match="omp_get_thread_num"):
        opened_anew.open()


@pytest.mark.parametrize(
    ("bits", "precision", "reason"),
    [
        (0x3, "fp32", "the processor has no AVX2"),  # dnnl_cpu_isa_avx
        (0x1F, "bf16", "the processor has no bf16 instructions (AVX512-BF16 or AMX)"),  # ..._avx2_vnni_2
        (0x7, "fp32", None),  # dnnl_cpu_isa_avx2
    ],
)
def test_a_processor_that_lacks_instructions_is_named(opened_anew, monkeypatch, bits, precision, reason):
    api = SimpleNamespace(dnnl_get_effective_cpu_isa=lambda: bits)
    lesser = dataclasses.replace(opened_anew.known, api=api)
    monkeypatch.setattr(engine, "open_library", lambda: lesser)
    assert unavailable_reason(build_model(50), precision) == reason


@pytest.mark.parametrize(
    ("bits", "name", "in_f32", "in_bf16"),
    [
        (0x7, "AVX2", Layout.blocked8, Layout.blocked8),
        (0x1F, "AVX2", Layout.blocked8, Layout.blocked8),
        (0x1EF, "AVX-512", Layout.blocked16, Layout.blocked16),
        (0xFEF, "AMX", Layout.blocked16, Layout.channels_last),
    ],
)
def test_the_order_of_activations_follows_the_instructions(opened_anew, monkeypatch, bits, name, in_f32, in_bf16):
    # dnnl_cpu_isa_avx2, ..._avx2_vnni_2, ..._avx512_core_fp16 and ..._avx512_core_amx, as oneDNN's header gives them.
    api = SimpleNamespace(dnnl_get_effective_cpu_isa=lambda: bits)
    library = dataclasses.replace(opened_anew.known, api=api)
    monkeypatch.setattr(memory, "open_library", lambda: library)
    assert library.instructions == name
    assert memory.image_layout(bf16) is in_bf16
    assert memory.image_layout(f32) is in_f32


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or "ONEDNN_MAX_CPU_ISA" in os.environ, reason="nothing else to ask"
)
def test_amx_is_seen_where_linux_sees_it(opened_anew):
    assert opened_anew.known.has_amx == ("amx_bf16" in processor_features())
