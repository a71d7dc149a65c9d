"""What the load test needs of pmtrain: a checkpoint with its export and photographs, and the bare network's turns."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def prepare(folder: Path, layers: int, image_size: int, side: int) -> None:
    """Write best.pdparams of new weights, model.onnx, and eight JPEGs of noise with structure, `side` x `side`."""
    import cv2
    import numpy as np

    from pmtrain.evaluation.inference.export.exporters import EXPORTERS, Source
    from pmtrain.models import build_model
    from pmtrain.runs.checkpoint import load_checkpoint, save_checkpoint
    from pmtrain.runs.formats.state_dict import dump_state
    from pmtrain.runs.model_state import to_arrays
    from pmtrain.runs.records import notes_info
    from pmtrain.system.framework import paddle

    paddle.seed(0)
    info = notes_info(layers).model_copy(update={"image_size": image_size})
    save_checkpoint(folder / "best.pdparams", dump_state(*to_arrays(build_model(layers).state_dict())), info)
    EXPORTERS["onnx"].write(folder, Source(load_checkpoint(folder / "best.pdparams")))
    rng = np.random.default_rng(0)
    for number in range(8):
        coarse = rng.integers(0, 256, (side // 16, side // 16, 3), np.uint8)
        image = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
        image = cv2.add(image, rng.integers(0, 12, image.shape, np.uint8))
        (folder / f"{number}.jpg").write_bytes(cv2.imencode(".jpg", image)[1].tobytes())


def bare(options: dict[str, Any]) -> Callable[[], float]:
    """Batches of normalised images through the network, as an evaluation runs it; gives the mean of a turn."""
    import statistics

    import numpy as np
    from runners import OPENED

    from pmtrain.evaluation.inference.classifier import load_classifier

    classifier = load_classifier(options["checkpoint"], "cpu")
    size = classifier.preprocess.size
    images = np.random.default_rng(0).standard_normal((options["batch_size"], 3, size, size), dtype=np.float32)
    OPENED.enter_context(classifier.backend.fixed_weights())

    def turn() -> float:
        times, end = [], time.perf_counter() + options["seconds"]
        while time.perf_counter() < end:
            started = time.perf_counter()
            classifier.network_logits(images)
            times.append(time.perf_counter() - started)
        return statistics.mean(times)

    return turn


bare.reports_seconds = True  # type: ignore[attr-defined]
SERVING = {"bare network": bare}

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    prepare(Path(sys.argv[1]), *map(int, sys.argv[2:]))
