"""The formats of `pmtrain export`, one row of EXPORTERS each: what is written, and how its own runtime runs that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pmtrain.data.preprocessing.preprocess import Preprocess
from pmtrain.evaluation.inference.export.input_graph import with_preprocessing
from pmtrain.evaluation.inference.export.onnx_graph import import_onnx, network_graph
from pmtrain.evaluation.inference.export.output_graph import calibrated_tensor, with_probability
from pmtrain.models import build_model
from pmtrain.models.backends.onnx_runtime import (
    INPUT,
    LOGIT,
    METADATA,
    PROBABILITY,
    OnnxNetwork,
    import_onnxruntime,
)
from pmtrain.models.weights.foreign import translated
from pmtrain.models.weights.names import LINEAR_WEIGHT, foreign_names
from pmtrain.runs.calibrator import Calibrator
from pmtrain.runs.checkpoint import Networks, sha256_of
from pmtrain.runs.formats.torch_reader import read_torch
from pmtrain.runs.formats.torch_writer import write_torch
from pmtrain.runs.model_state import apply_state
from pmtrain.system.errors import missing_extra
from pmtrain.system.files import read_bytes, write_flushed
from pmtrain.system.framework import paddle
from pmtrain.system.hardware import thread_count

# Input as `Source.inputs` makes it -> float64 (N, 2): the network's logit, and the probability of it.
Run = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Source:
    """What is exported: one network, or several with the same preprocessing.

    Args:
        with_preprocessing: the normalisation is built in.
        int8: turns the float32 ONNX model into an int8 one, where that is asked for.
    """

    checkpoint: Networks
    with_preprocessing: bool = False
    int8: Callable[[Any], Any] | None = None

    @property
    def preprocess(self) -> Preprocess:
        return Preprocess.of(self.checkpoint.members[0].info)

    @property
    def precision(self) -> str:
        return "fp32" if self.int8 is None else "int8"

    def inputs(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (N, S, S, 3), BGR, of training size -> what the exported model takes."""
        if self.with_preprocessing:
            return np.ascontiguousarray(pixels[..., ::-1])
        return self.preprocess.normalise(pixels)

    def results(self, logits: np.ndarray, probabilities: np.ndarray | None = None) -> np.ndarray:
        """What a `Run` gives, of logits and of the probabilities that the model gave; None: it gives none itself."""
        logits = logits.reshape(-1).astype(np.float64)
        given = self.checkpoint.info.probabilities(logits) if probabilities is None else probabilities.reshape(-1)
        return np.stack([logits, given], axis=1)

    def models(self) -> list[Any]:
        """The networks on Paddle's own kernels, in evaluation mode."""
        models = []
        for member in self.checkpoint.members:
            models.append(build_model(member.info.layers))
            apply_state(models[-1], member.state, member.path)
            models[-1].eval()
        return models


@dataclass(frozen=True)
class Exporter:
    """A format.

    Args:
        write: puts the model's files into a folder.
        load: reads them from there by the format's own runtime.
        runtime: that runtime's name and version.
        file: the model's file, of which a user is told.
        graph: the files hold an ONNX graph or what was made of one, so preprocessing can be built in.
        probability: the files hold the computation and not only the weights, up to the calibrated probability; several
            networks can be exported as one.
    """

    write: Callable[[Path, Source], None]
    load: Callable[[Path, Source], Run]
    runtime: Callable[[], str]
    file: str
    graph: bool
    probability: bool


def onnx_model(source: Source) -> Any:
    """The ONNX model with its results, its metadata and, where asked for, its preprocessing; checked by onnx itself."""
    model = network_graph(source.models(), source.preprocess.size)
    if source.int8 is not None:
        model = source.int8(model)
    if source.with_preprocessing:
        model = with_preprocessing(model, source.preprocess)
    info = source.checkpoint.info.model_copy(update={"normalisation_built_in": source.with_preprocessing})
    model = with_probability(model, info.calibration)
    import_onnx().helper.set_model_props(
        model,
        {
            METADATA: info.model_dump_json(),
            "precision": source.precision,
            "classes": ", ".join(info.class_names),
            "threshold": repr(info.decision_threshold),
        },
    )
    import_onnx().checker.check_model(model, full_check=True)
    return model


def _write_onnx(folder: Path, source: Source) -> None:
    write_flushed(folder / "model.onnx", onnx_model(source).SerializeToString())


def _load_onnx(folder: Path, source: Source) -> Run:
    network = OnnxNetwork(read_bytes(folder / "model.onnx"), folder / "model.onnx")
    return lambda inputs: source.results(*network.outputs(inputs))


def _onnxruntime() -> str:
    return f"onnxruntime {import_onnxruntime().__version__}"


def _import_openvino() -> Any:
    try:
        import openvino
    except ImportError:
        raise missing_extra("exporting for OpenVINO", "openvino", "openvino") from None
    return openvino


def _write_openvino(folder: Path, source: Source) -> None:
    openvino = _import_openvino()
    model = openvino.Core().read_model(onnx_model(source).SerializeToString())
    model.set_rt_info(source.checkpoint.info.model_dump_json(), METADATA)
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)


def _load_openvino(folder: Path, source: Source) -> Run:
    openvino = _import_openvino()
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": thread_count()}
    compiled = openvino.Core().compile_model(folder / "model.xml", "CPU", hints)

    def run(inputs: np.ndarray) -> np.ndarray:
        found = compiled({INPUT: inputs})
        return source.results(found[LOGIT], found[PROBABILITY])

    return run


def _write_paddle(folder: Path, source: Source) -> None:
    size = source.preprocess.size
    spec = paddle.static.InputSpec([None, 3, size, size], "float32", INPUT)
    paddle.jit.save(
        _WithProbability(source.models(), source.checkpoint.info.calibration), str(folder / "model"), input_spec=[spec]
    )


class _WithProbability(paddle.nn.Layer):
    """Images -> the logits (of several networks their mean) and P(positive), (N, 1) each, calibrated if there is a
    calibration; of several networks also the logits' standard deviation, (N, 1)."""

    def __init__(self, networks: list[Any], calibrator: Calibrator | None) -> None:
        super().__init__()
        self.networks, self.calibrator = paddle.nn.LayerList(networks), calibrator
        for number, network in enumerate(networks):
            for tensor in network.state_dict().values():  # in every network they are numbered from 0
                tensor.name = f"network_{number}_{tensor.name}"
        self.eval()

    def forward(self, image: Any) -> tuple[Any, ...]:
        logits = [network(image) for network in self.networks]
        count = len(logits)
        logit = paddle.add_n(logits) / count if count > 1 else logits[0]
        probability = paddle.nn.functional.sigmoid(calibrated_tensor(logit, self.calibrator))
        if count == 1:
            return logit, probability
        variance = paddle.add_n([paddle.square(each - logit) for each in logits]) / (count - 1)
        return logit, probability, paddle.sqrt(variance)


def _load_paddle(folder: Path, source: Source) -> Run:
    # Paddle 3 writes model.json, Paddle 2.6 model.pdmodel.
    program = next(file for file in folder.iterdir() if file.suffix in (".json", ".pdmodel"))
    config = paddle.inference.Config(str(program), str(folder / "model.pdiparams"))
    config.disable_gpu()
    config.disable_glog_info()
    config.enable_mkldnn()
    config.set_cpu_math_library_num_threads(thread_count())
    predictor = paddle.inference.create_predictor(config)
    image = predictor.get_input_handle(predictor.get_input_names()[0])
    logit, probability = map(predictor.get_output_handle, predictor.get_output_names()[:2])

    def run(inputs: np.ndarray) -> np.ndarray:
        image.reshape(inputs.shape)
        image.copy_from_cpu(inputs)
        predictor.run()
        return source.results(logit.copy_to_cpu(), probability.copy_to_cpu())

    return run


def _paddle_inference() -> str:
    return f"Paddle Inference {paddle.__version__}"


def _write_safetensors(folder: Path, source: Source) -> None:
    """The state dict under our names, with the side file that lets pmtrain read the pair as a checkpoint."""
    import safetensors.numpy

    (member,) = source.checkpoint.members
    info = member.info
    state = {name: np.ascontiguousarray(array) for name, array in member.state.items()}
    data = safetensors.numpy.save(state, {METADATA: info.model_dump_json()})
    write_flushed(folder / "model.safetensors", data)
    side = info.model_copy(update={"weights_sha256": sha256_of(data)})
    write_flushed(folder / "model.json", side.model_dump_json(indent=2) + "\n")


def _load_safetensors(folder: Path, source: Source) -> Run:
    from safetensors.numpy import load_file

    path = folder / "model.safetensors"
    model = build_model(source.checkpoint.info.layers)
    apply_state(model, load_file(path), path)
    model.eval()
    return lambda inputs: source.results(_paddle_logits(model, inputs))


def _paddle_logits(model: Any, inputs: np.ndarray) -> np.ndarray:
    with paddle.no_grad():
        return model(paddle.to_tensor(inputs)).numpy()


def _paddle_kernels() -> str:
    return f"Paddle {paddle.__version__}"


def _write_torch(folder: Path, source: Source) -> None:
    """The state dict under torchvision's names: its ResNet of that depth with one output takes it as it is."""
    (member,) = source.checkpoint.members
    state = {name: np.asarray(array, np.float32) for name, array in member.state.items()}
    state[LINEAR_WEIGHT] = state[LINEAR_WEIGHT].T
    names = foreign_names(source.checkpoint.info.layers, "torchvision")
    write_flushed(folder / "model.pth", write_torch({theirs: state[ours] for ours, theirs in names.items()}))


def _load_torch(folder: Path, source: Source) -> Run:
    """The file read back by PyTorch where it is installed, else by the reader here, on Paddle's kernels."""
    path, layers = folder / "model.pth", source.checkpoint.info.layers
    try:
        import torch
    except ImportError:
        weights = read_torch(read_bytes(path))
    else:
        weights = {name: tensor.numpy() for name, tensor in torch.load(path, weights_only=True).items()}
    model = build_model(layers)
    apply_state(model, translated(weights).state, path)
    model.eval()
    return lambda inputs: source.results(_paddle_logits(model, inputs))


def _torch_reader() -> str:
    try:
        import torch
    except ImportError:
        return f"{_paddle_kernels()}, without PyTorch"
    return f"{_paddle_kernels()}, read by PyTorch {torch.__version__}"


EXPORTERS: dict[str, Exporter] = {
    "onnx": Exporter(_write_onnx, _load_onnx, _onnxruntime, "model.onnx", graph=True, probability=True),
    "paddle": Exporter(
        _write_paddle, _load_paddle, _paddle_inference, "model.pdiparams", graph=False, probability=True
    ),
    "safetensors": Exporter(
        _write_safetensors, _load_safetensors, _paddle_kernels, "model.safetensors", graph=False, probability=False
    ),
    "torch": Exporter(_write_torch, _load_torch, _torch_reader, "model.pth", graph=False, probability=False),
    "openvino": Exporter(
        _write_openvino,
        _load_openvino,
        lambda: f"OpenVINO {_import_openvino().__version__.split('-')[0]}",
        "model.bin",
        graph=True,
        probability=True,
    ),
}
