"""HDF5 files as h5py writes them."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from pmtrain.data.images.packed import hdf5_file
from pmtrain.data.images.packed.hdf5_file import open_hdf5
from pmtrain.system.errors import PmtrainError

h5py = pytest.importorskip("h5py")
X = np.random.default_rng(0).integers(0, 256, (20, 9, 8, 3), np.uint8)


def write(path, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=X, **options)
    return path


@pytest.mark.parametrize("options", [{}, {"chunks": (6, 9, 8, 3), "compression": "gzip"}])
def test_images_are_those_that_were_written(tmp_path, options):
    opened = open_hdf5(str(write(tmp_path / "a.h5", **options)))
    assert list(opened.members) == [f"x/{index}" for index in range(20)]
    assert opened.read("x/13") == b"P6\n8 9\n255\n" + X[13].tobytes() and opened.size("x/13") == 227
    with pytest.raises(KeyError):
        opened.read("x/20")


def test_links_to_other_files_are_not_followed(tmp_path):
    write(tmp_path / "secret.h5")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = h5py.ExternalLink("secret.h5", "x")
        file["y"] = h5py.SoftLink("/gone")
    assert open_hdf5(str(tmp_path / "a.h5")).arrays == {}
    (tmp_path / "raw").write_bytes(bytes(1000))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("x", (10, 10, 10), np.uint8, external=[(str(tmp_path / "raw"), 0, 1000)])
    layout = h5py.VirtualLayout((20, 9, 8, 3), np.uint8)
    layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "x", (20, 9, 8, 3))
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file.create_virtual_dataset("x", layout)
    for name in ("b.h5", "c.h5"):
        with pytest.raises(PmtrainError, match=f"{name}: x refers to another file"):
            open_hdf5(str(tmp_path / name))


def test_large_chunks_damage_and_a_missing_library_are_errors(tmp_path, monkeypatch):
    path = write(tmp_path / "a.h5", chunks=(10, 9, 8, 3), compression="gzip")
    whole = path.read_bytes()
    for data in (b"", b"no HDF5" * 100, whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(PmtrainError, match="a.h5: is not a whole HDF5 file"):
            open_hdf5(str(path))
    start = whole.index(b"\x78\x5e") if b"\x78\x5e" in whole else len(whole) // 2
    path.write_bytes(whole[: start + 50] + bytes(200) + whole[start + 250 :])
    with pytest.raises(OSError, match="HDF5 can't read it"):
        opened = open_hdf5(str(path))
        for name in opened.members:
            opened.read(name)
    path.write_bytes(whole)
    monkeypatch.setattr(hdf5_file, "LARGEST_CHUNK", 1000)
    with pytest.raises(PmtrainError, match=r"chunks of the shape \(10, 9, 8, 3\)"):
        open_hdf5(str(path))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(PmtrainError, match=r"pmtrain\[hdf5\]"):
        open_hdf5(str(path))
