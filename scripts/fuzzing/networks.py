"""Weights, runs and options to begin with, valid and hostile."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
from pathlib import Path

import numpy as np

CHANGED = "changed"  # in the folder of a run: a file with the name of the one that is changed


def _arrays() -> dict[str, np.ndarray]:
    values = np.arange(24, dtype=np.float32)
    blocks = {f"bb_{stage}_{block}.conv0._conv.weight": values[:2] for stage in range(4) for block in range(2)}
    return {"conv._conv.weight": values.reshape(2, 3, 2, 2), "out.weight": values.reshape(24, 1), **blocks}


def weights() -> list[bytes]:
    from pmtrain.runs.formats.state_dict import dump_state

    class Attack:
        def __reduce__(self):
            return os.system, ("touch hacked",)

    own = bytes(dump_state(_arrays(), {"out.weight": "linear_0.w_0"}))
    numpys = [pickle.dumps(_arrays(), protocol=protocol) for protocol in (2, 3, 4)]
    deep = b"\x80\x04" + b"]" * 5000 + b"a" * 4999 + b"."
    doubled = b"\x80\x04]" + b"".join(b"(hhtq%c" % i for i in range(5)) + b"."  # memo of memos
    return [own, *numpys, pickle.dumps({"a": Attack()}, 2), deep, doubled]


def optimizers() -> list[bytes]:
    from pmtrain.runs.formats.state_dict import dump_state

    values = {f"linear_{i}.w_0_velocity_0": array for i, array in enumerate(_arrays().values())}
    plain = {"LR_Scheduler": {"last_lr": 0.1, "last_epoch": 3, "nested": [1, (2.5, None, True)]}}
    return [bytes(dump_state({**values, **plain}))]


def safetensors_files() -> list[bytes]:
    import safetensors.numpy

    headers = (
        b'{"a":{"dtype":"F32","shape":[4294967295,4294967295],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[' + b"1," * 5000 + b'1],"data_offsets":[0,4]}}',
        b'{"a":' * 3000,
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    )
    hostile = (struct.pack("<Q", len(header)) + header + b"\0\0\0\0" for header in headers)
    return [safetensors.numpy.save(_arrays()), *hostile]


def torch_files() -> list[bytes]:
    from pmtrain.runs.formats.torch_writer import write_torch

    return [write_torch(_arrays())]


INFO = {
    "format": 1, "layers": 18, "image_size": 64, "preprocessing": "notes", "class_names": ["no", "yes"],
    "threshold": 0.5, "threshold_rule": "youden on 8 validation images", "epoch": 3, "synthetic": True,
    "metrics": {"auc": 0.9, "loss": 0.5, "accuracy": None}, "weights_sha256": "ab" * 32, "pmtrain_version": "0.1",
    "prior": 0.5,
    "calibration": {
        "method": "isotonic", "knots": [[-1.0, -2.0], [1.0, 2.0]], "prevalence": 0.5, "images": 8, "positives": 4,
    },
}  # fmt: skip


def side_files() -> list[bytes]:
    nested = (b"[" * 100_000, b'{"format":' * 50_000, b'{"format":' + b"9" * 5000 + b"}")
    return [json.dumps(INFO, indent=2).encode(), *nested]


def run_folders() -> list[dict[str, bytes]]:
    """The files of a run, each of which is the first, and changed, in turn."""
    from pmtrain.config import TrainConfig, dump_yaml

    arrays = weights()[0]
    digest = hashlib.sha256(arrays).hexdigest()
    side = json.dumps(INFO | {"weights_sha256": digest}).encode()
    state = {"epoch": 1, "batch": 0, "history": [], "best": None}
    hashes = {"model.pdparams": digest, "model.json": hashlib.sha256(side).hexdigest(), "optimizer.pdopt": digest}
    record = {"format": 1, "folder": "epoch1-batch0-0123abcd", "sha256": hashes, "state": state}
    home = "last/epoch1-batch0-0123abcd/"
    run = {
        "config.yaml": dump_yaml(TrainConfig(data=Path("data"))).encode(),
        "run.json": json.dumps({"data": {"root": "data", "fingerprint": "ab", "leakage": {}}, "pixels": {}}).encode(),
        "metrics.csv": b"epoch,train_loss,val_loss,val_accuracy,val_auc,lr,images_per_second\n0,0.6,0.5,1,,0.1,9\n",
        "images.csv": b"file,patient,label,split,bytes,sha256\na/1.png,,0,train,123," + b"ab" * 32 + b"\n",
        "validation.csv": b"file,patient,label,probability,logit\na/1.png,,0,0.5,0.0\nb/2.png,,1,0.7,0.8472979\n",
        "shortcut.json": json.dumps({"auc": {"size": 0.5}, "model": {"weights": [0.1, 2]}}).encode(),
        "folds.json": json.dumps({"folds": [{"fold": 1}]}).encode(),
        "best.pdparams": arrays,
        "best.json": side,
        "last/state.json": json.dumps(record).encode(),
        home + "model.pdparams": arrays,
        home + "model.json": side,
        home + "optimizer.pdopt": arrays,
    }
    return [{name: data, **run, CHANGED: name.encode()} for name, data in run.items()]


def yaml_files() -> list[bytes]:
    from pmtrain.config import TrainConfig, dump_yaml

    laughs = b"a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
    laughs += b"".join(b"a%d: &a%d [%s]\n" % (i, i, b",".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 12))
    merged = b"a0: &a0 {k: v}\n" + b"".join(
        b"a%d: &a%d {<<: [%s]}\n" % (i, i, b",".join([b"*a%d" % (i - 1)] * 9)) for i in range(1, 8)
    )
    return [
        b"".join(dump_yaml(TrainConfig(data=Path("data"))).encode().splitlines(True)[:12]),
        b"data: x\nepochs: 3\nlr: 1e-3\naugment: [flip, rotate]\n",
        laughs,
        b"data: " + laughs[4:],
        merged,
        b"data: &a [*a]\n",
        b"data: " + b"[" * 3000 + b"]" * 3000,
        b"data: " + b"{a: " * 3000,
        b"- " * 5000,
        b"data: !!python/object/apply:os.system ['touch hacked']\n",
        b"? " * 3000,
        b"epochs: " + b"9" * 10_000,
        b"lr: 1:59:59:59:59:59\nepochs: 0b1_1\nseed: 2001-01-01\n",
        b"%YAML 1.1\n---\ndata: x\n--- \ndata: y\n",
    ]


def onnx_files() -> list[bytes]:
    """A network of one layer, and one whose weights are said to be in /etc/passwd."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
    ]
    takes = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])
    gives = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1]) for name in ("logit", "probability")]
    weight = numpy_helper.from_array(np.ones((3 * 8 * 8, 1), np.float32), "w")
    graph = helper.make_graph(nodes, "g", [takes], gives, [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    entry = model.metadata_props.add()
    entry.key, entry.value = "pmtrain", json.dumps(INFO | {"image_size": 8})
    outside = onnx.ModelProto()
    outside.CopyFrom(model)
    onnx.external_data_helper.set_external_data(outside.graph.initializer[0], "/etc/passwd")
    outside.graph.initializer[0].ClearField("raw_data")
    outside.graph.initializer[0].data_location = TensorProto.EXTERNAL
    return [model.SerializeToString(), outside.SerializeToString()]
