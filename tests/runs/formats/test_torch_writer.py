"""The writer of PyTorch's files, against PyTorch where it is installed, and against the reader here."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from pmtrain.runs.formats.torch_reader import read_torch
from pmtrain.runs.formats.torch_writer import write_torch


@pytest.fixture
def state():
    rng = np.random.default_rng(0)
    shapes = {"conv1.weight": (4, 3, 5, 2), "fc.bias": (1,), "empty": (0, 3), "眼": (2, 3)}
    arrays = {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}
    return arrays | {"transposed": arrays["眼"].T}


def test_the_reader_here_gets_the_same(state):
    found = read_torch(write_torch(state))
    assert list(found) == list(state)
    for name, array in state.items():
        np.testing.assert_array_equal(found[name], array)


def test_pytorch_gets_the_same(state, tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "model.pth"
    path.write_bytes(write_torch(state))
    found = torch.load(path, weights_only=True)
    assert list(found) == list(state)
    for name, array in state.items():
        np.testing.assert_array_equal(found[name].numpy(), array)


def test_the_archive_is_as_torch_save_lays_it_out(state):
    with zipfile.ZipFile(io.BytesIO(write_torch(state))) as archive:
        names = archive.namelist()
        assert names == [
            *("archive/data.pkl", "archive/byteorder"),
            *(f"archive/data/{number}" for number in range(5)),
            "archive/version",
        ]
        assert {each.compress_type for each in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.read("archive/data/1") == state["fc.bias"].tobytes()
    assert write_torch(state) == write_torch(state)


def test_other_numbers_are_a_mistake():
    with pytest.raises(TypeError, match="float64"):
        write_torch({"a": np.zeros(2)})
