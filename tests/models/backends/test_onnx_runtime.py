"""ONNX files that pmtrain didn't write are refused with the reason."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pmtrain.models.backends.onnx_runtime import OnnxNetwork
from pmtrain.runs.checkpoint import load_checkpoint
from pmtrain.system.errors import PmtrainError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def another_programs() -> bytes:
    helper = onnx.helper
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N"])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [])
    graph.output.append(helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N"]))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def test_another_programs_model(tmp_path):
    path = tmp_path / "other.onnx"
    path.write_bytes(another_programs())
    with pytest.raises(PmtrainError, match="other.onnx: an ONNX model of another program"):
        load_checkpoint(path)


@pytest.mark.parametrize("damage", [b"", b"not a model", another_programs()[:-20]])
def test_a_damaged_file(tmp_path, damage):
    path = tmp_path / "model.onnx"
    path.write_bytes(damage)
    with pytest.raises(PmtrainError, match="model.onnx is not an ONNX model that onnxruntime can run"):
        load_checkpoint(path)


def test_onnxruntime_is_an_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(PmtrainError) as error:
        OnnxNetwork(another_programs(), tmp_path / "model.onnx")
    assert error.value.hint == 'pip install "pmtrain[onnx]"'


def test_onnxruntime_reports_nothing_and_writes_nothing(tmp_path):
    (tmp_path / "model.onnx").write_bytes(another_programs())
    program = "import sys; from pathlib import Path; from pmtrain.models.backends.onnx_runtime import *; "
    program += "OnnxNetwork(Path(sys.argv[1]).read_bytes(), Path('x'))"
    homes = {name: str(tmp_path / name) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    for folder in homes.values():
        os.mkdir(folder)
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", program, tmp_path / "model.onnx"], env=environment | homes, check=True)
    assert not [path for folder in homes.values() for path in Path(folder).rglob("*") if path.is_file()]
