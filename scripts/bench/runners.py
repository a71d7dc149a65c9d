"""The worker process: python runners.py NAME OPTIONS-AS-JSON. Every line on stdin is one turn of work.

Answers on stdout with one line of JSON: once when it is warm, with the seconds of the very first work, then after each
turn. Libraries are imported by the runner that needs them, so that each process holds its own alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

Work = Callable[[], object]
OPENED = contextlib.ExitStack()  # what stays open until the process ends


def images_and_labels(options: dict[str, Any]):
    """The same random batch for every runner: (N, 3, S, S) and (N, 1) float32."""
    import numpy as np

    rng = np.random.default_rng(0)
    batch, size = options["batch_size"], options["image_size"]
    images = rng.standard_normal((batch, 3, size, size), dtype=np.float32)
    return images, rng.integers(0, 2, (batch, 1)).astype(np.float32)


def paddle_step(paddle, model, options: dict[str, Any], momentum: type, keep_gradients: bool) -> Work:
    """The notes' training step; gradients are filled with zeros after it, as they have it, or dropped."""
    images, labels = map(paddle.to_tensor, images_and_labels(options))
    optimizer = momentum(0.001, 0.9, parameters=model.parameters(), weight_decay=0.001)
    model.train()

    def step():
        loss = paddle.nn.functional.binary_cross_entropy_with_logits(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.clear_grad(set_to_zero=keep_gradients)
        return float(loss)

    return step


def paddle_scores(paddle, model, options: dict[str, Any]) -> Work:
    """The notes' evaluation of a batch."""
    images, _ = map(paddle.to_tensor, images_and_labels(options))
    model.eval()

    def score():
        with paddle.no_grad():
            return model(images).numpy()

    return score


def vision_model(paddle, options: dict[str, Any]):
    """Paddle's own ResNet."""
    return getattr(paddle.vision.models, f"resnet{options['layers']}")(num_classes=1)


def own_model(precision: str | None, layers: int):
    """pmtrain's ResNet and, with a precision, the oneDNN engine under it; else Paddle's kernels."""
    from pmtrain.models import build_model
    from pmtrain.system.framework import paddle

    paddle.seed(0)
    model = build_model(layers)
    if precision is None:
        return paddle, model, contextlib.nullcontext()
    from pmtrain.models.backends.onednn import attach

    return paddle, model, attach(model, precision).fixed_weights()


def own_training(precision: str | None):
    def make(options: dict[str, Any]) -> Work:
        from pmtrain.training.techniques.optimizer import Momentum

        paddle, model, _ = own_model(precision, options["layers"])
        return paddle_step(paddle, model, options, Momentum, keep_gradients=False)

    return make


def own_evaluation(precision: str | None):
    def make(options: dict[str, Any]) -> Work:
        paddle, model, fixed = own_model(precision, options["layers"])
        OPENED.enter_context(fixed)  # as an evaluation does, for as long as it runs
        return paddle_scores(paddle, model, options)

    return make


def notes_training(options: dict[str, Any]) -> Work:
    """Paddle as it is installed, nothing set: its own ResNet in the notes' plain loop."""
    import paddle

    return paddle_step(paddle, vision_model(paddle, options), options, paddle.optimizer.Momentum, keep_gradients=True)


def torch_training(precision: str):
    def make(options: dict[str, Any]) -> Work:
        import torch
        from torch_resnet import new_step

        images, labels = map(torch.from_numpy, images_and_labels(options))
        _, step = new_step(precision, options["layers"])
        return lambda: step(images, labels)

    return make


def torch_evaluation(precision: str):
    def make(options: dict[str, Any]) -> Work:
        import torch
        from torch_resnet import resnet

        model = resnet(options["layers"]).eval().to(memory_format=torch.channels_last)
        images = torch.from_numpy(images_and_labels(options)[0]).contiguous(memory_format=torch.channels_last)

        def score():
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                return model(images).float().numpy()

        return score

    return make


def own_export(precision: str):
    """What `pmtrain export` writes, by onnxruntime as `pmtrain predict` runs it."""

    def make(options: dict[str, Any]) -> Work:
        from pmtrain.evaluation.inference.export.int8 import quantized
        from pmtrain.evaluation.inference.export.onnx_graph import network_graph
        from pmtrain.evaluation.inference.export.output_graph import with_probability
        from pmtrain.models.backends.onnx_runtime import OnnxNetwork

        images, _ = images_and_labels(options)
        _, model, _ = own_model(None, options["layers"])
        model.eval()
        graph = network_graph([model], options["image_size"])
        if precision == "int8":
            graph = quantized(graph, images)
        network = OnnxNetwork(with_probability(graph).SerializeToString(), Path("model.onnx"))
        return lambda: network.logits(images)

    return make


def onnx_evaluation(precision: str):
    """PyTorch's own export by onnxruntime; int8: quantized by onnxruntime's defaults, ranges from the images."""

    def make(options: dict[str, Any]) -> Work:
        import onnxruntime
        import torch
        from torch_resnet import resnet

        images, _ = images_and_labels(options)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "resnet.onnx")
            model = resnet(options["layers"]).eval()
            torch.onnx.export(model, (torch.from_numpy(images),), path, input_names=["x"], dynamo=False)
            if precision == "int8":
                from onnxruntime import quantization
                from onnxruntime.quantization.shape_inference import quant_pre_process

                class Reader(quantization.CalibrationDataReader):
                    batches = iter([{"x": images}])

                    def get_next(self):
                        return next(self.batches, None)

                quant_pre_process(path, path)
                quantization.quantize_static(path, path, Reader())
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {"x": images})

    return make


def paddle_inference(precision: str):
    def make(options: dict[str, Any]) -> Work:
        from pmtrain.system.framework import paddle
        from pmtrain.system.hardware import thread_count

        images, _ = images_and_labels(options)
        model = vision_model(paddle, options)
        model.eval()
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "resnet")
            paddle.jit.save(model, path, input_spec=[paddle.static.InputSpec(list(images.shape), "float32")])
            program = next(file for file in Path(folder).iterdir() if file.suffix in (".json", ".pdmodel"))
            config = paddle.inference.Config(str(program), path + ".pdiparams")
            config.disable_gpu()
            config.disable_glog_info()
            config.enable_mkldnn()
            config.set_cpu_math_library_num_threads(thread_count())
            if precision == "bf16":
                config.enable_mkldnn_bfloat16()
            predictor = paddle.inference.create_predictor(config)
        source = predictor.get_input_handle(predictor.get_input_names()[0])
        result = predictor.get_output_handle(predictor.get_output_names()[0])

        def score():
            source.copy_from_cpu(images)
            predictor.run()
            return result.copy_to_cpu()

        return score

    return make


def matmul_limit(precision: str):
    """The time that the work's convolutions take at the speed of oneDNN's largest matrix products."""

    def make(options: dict[str, Any]) -> Work:
        import numpy as np

        from pmtrain.models.backends.onednn import primitives as ops
        from pmtrain.models.backends.onednn.engine import PRECISIONS
        from pmtrain.models.backends.onednn.memory import Arena, Layout, array_at, describe
        from pmtrain.models.backends.onednn.primitives import Arg
        from pmtrain.models.backends.onednn.program import Program
        from pmtrain.models.backends.onednn.threads import prepare_threads

        prepare_threads()
        size = 2048
        program, arena = Program(), Arena()
        dims, dtype = (size, size), PRECISIONS[precision]
        a, c = (program.tensor(dims, dtype, Layout.matrix) for _ in range(2))
        free = describe(dims, dtype, Layout.any)  # in the order that it is fastest with
        product = ops.matmul(a.descriptor, free, c.descriptor)
        b = program.buffer(product.weights(free))
        for _ in range(4):
            program.add(product, {Arg.SRC: a, Arg.WEIGHTS: b, Arg.DST: c})
        program.plan()
        program.place(arena)
        array_at(arena.address, (arena.size // 4,))[:] = np.float32(1.0)

        def peak() -> float:
            best = min(timed(program.run) for _ in range(5))
            return options["gflop"] * 1e9 * best / (4 * 2 * size**3)

        return peak

    make.reports_seconds = True  # type: ignore[attr-defined]
    return make


# Name -> what makes its work. The names' first word says which environment it needs: `torch` and `onnxruntime` the
# peers', the rest pmtrain's own.
TRAINING = {
    "pmtrain-paddle": own_training(None),
    "pmtrain-onednn-fp32": own_training("fp32"),
    "pmtrain-onednn-bf16": own_training("bf16"),
    "notes-as-installed": notes_training,
    "torch-fp32": torch_training("fp32"),
    "torch-bf16": torch_training("bf16"),
    "limit-fp32": matmul_limit("fp32"),
    "limit-bf16": matmul_limit("bf16"),
}
EVALUATION = {
    "pmtrain-paddle": own_evaluation(None),
    "pmtrain-onednn-fp32": own_evaluation("fp32"),
    "pmtrain-onednn-bf16": own_evaluation("bf16"),
    "paddle-inference-fp32": paddle_inference("fp32"),
    "paddle-inference-bf16": paddle_inference("bf16"),
    "torch-fp32": torch_evaluation("fp32"),
    "torch-bf16": torch_evaluation("bf16"),
    "onnxruntime-fp32": onnx_evaluation("fp32"),
    "onnxruntime-int8": onnx_evaluation("int8"),
    "pmtrain-export-fp32": own_export("fp32"),
    "pmtrain-export-int8": own_export("int8"),
    "limit-fp32": matmul_limit("fp32"),
    "limit-bf16": matmul_limit("bf16"),
}
WORK = {"train": TRAINING, "eval": EVALUATION}  # and LOADING and SERVING of the modules beside
PEERS = ("torch", "onnxruntime")


def timed(work: Work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def peak_mib() -> float | None:
    """The most memory that this process has held, in MiB; None where the system doesn't say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def versions() -> dict[str, str]:
    loaded = {name: sys.modules[name] for name in ("paddle", "torch", "onnxruntime", "numpy") if name in sys.modules}
    found = {name: str(getattr(module, "__version__", "?")) for name, module in loaded.items()}
    if engine := sys.modules.get("pmtrain.models.backends.onednn.library"):
        found["oneDNN"] = ".".join(map(str, engine.open_library().version))
    return found


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer

    def answer(**content: Any) -> None:
        print(json.dumps(content | {"peak_mib": peak_mib(), "versions": versions()}), file=answers, flush=True)

    name, options = sys.argv[1], json.loads(sys.argv[2])
    try:
        from loading import LOADING  # here: bench_train.py and bench_eval.py import this module from elsewhere
        from serving import SERVING

        make = (WORK | {"load": LOADING, "serve": SERVING})[options["work"]][name]
        work = make(options)
        first = timed(work) if options["warm"] else None
        for _ in range(options["warm"] - 1):
            work()
        answer(first=None if getattr(make, "reports_seconds", False) else first)
        for _ in sys.stdin:
            # The median of a few: a single one is at the mercy of whatever else runs.
            if getattr(make, "reports_seconds", False):
                said = work()
                answer(**said if isinstance(said, dict) else {"seconds": said})
            else:
                answer(seconds=statistics.median(timed(work) for _ in range(options["steps"])))
    except Exception as error:
        traceback.print_exc()
        answer(error=f"{type(error).__name__}: {error}".splitlines()[0])


if __name__ == "__main__":
    main()
