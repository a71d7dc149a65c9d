"""Does --weights give the logits of the original network? ResNets of torchvision and timm with random weights.

  python scripts/check_weights.py                     every depth of both libraries, 64 x 64 pixels
  python scripts/check_weights.py --layers 18 50

Run it with a Python that has pmtrain's requirements; PyTorch, torchvision and timm come into build/check-weights-env,
which the script makes. It exits with 1 if a logit differs by more than 1e-4. No published weights are needed: random
ones, with random statistics of the batch norms, show the same.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

PEER_REQUIREMENTS = ("torch==2.13.0", "torchvision==0.28.0", "timm==1.0.31", "numpy", "safetensors", "pillow")
DEPTHS = (18, 34, 50, 101, 152)
LIMIT = 1e-4
OTHER_FORMATS = ("old.pth", "safetensors")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, nargs="+", choices=DEPTHS, default=list(DEPTHS))
    parser.add_argument("--peer-python", type=Path, help="Python with the other libraries")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make(options.make, options.layers)
        return 0
    from bench.turns import peer_python

    peers = options.peer_python or peer_python(PEER_REQUIREMENTS, ROOT / "build" / "check-weights-env")
    worst = 0.0
    print(f"{'network':<24}{'largest logit':>14}{'Paddle':>11}{'oneDNN':>11}", flush=True)
    for layers in options.layers:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(
                [str(peers), __file__, "--make", folder, "--layers", str(layers)], check=True, stdout=sys.stderr
            )
            for file in sorted(Path(folder).glob("*.npy")):
                worst = max(worst, compare(file, layers))
    print(f"largest difference {worst:.1e}, limit {LIMIT:.0e}: {'equal' if worst <= LIMIT else 'NOT EQUAL'}")
    return 0 if worst <= LIMIT else 1


def compare(expected: Path, layers: int) -> float:
    """The largest difference of a logit from those in `expected`, on either backend; prints it.

    The other formats must hold the same numbers to the bit.
    """
    import numpy as np

    from pmtrain.models import build_model
    from pmtrain.models.backends.onednn import attach, unavailable_reason
    from pmtrain.system.framework import paddle
    from pmtrain.training.techniques.starting_weights import read_weights

    weights = read_weights(str(expected.with_suffix(".pth")), layers)
    for ending in OTHER_FORMATS:
        other = read_weights(str(expected.with_suffix("." + ending)), layers)
        assert all(np.array_equal(weights.state[name], other.state[name]) for name in weights.state), ending
    assert weights.layers == layers and weights.has_classifier and not weights.left_out, weights.record
    logits = np.load(expected)
    images = paddle.to_tensor(np.load(expected.with_name("images.bin"), allow_pickle=False))
    differences = []
    for backend in ("paddle", "onednn"):
        model = build_model(layers)
        weights.apply(model)
        model.eval()
        if backend == "onednn":
            if unavailable_reason(model):
                continue
            attach(model)
        with paddle.no_grad():
            differences.append(float(np.abs(model(images).numpy() - logits).max()))
    shown = "".join(f"{difference:>11.1e}" for difference in differences)
    print(f"{expected.stem:<24}{np.abs(logits).max():>14.3f}{shown}", flush=True)
    return max(differences)


def make(folder: Path, depths: list[int]) -> None:
    """Write each network's weights in every format, and its logits of random images; runs where PyTorch is."""
    import numpy as np
    import torch
    from safetensors.torch import save_file

    models = torchvision_models()
    import timm

    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with open(folder / "images.bin", "wb") as file:
        np.save(file, images.numpy())
    for layers in depths:
        for library, build in (
            ("torchvision", getattr(models, f"resnet{layers}")),
            ("timm", lambda layers=layers, **more: timm.create_model(f"resnet{layers}", **more)),
        ):
            torch.manual_seed(layers)
            model = build(num_classes=1)
            for name, tensor in model.state_dict().items():
                if name.endswith(("running_mean", "bias")):
                    tensor.normal_(0, 0.1)
                elif name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
                    tensor.uniform_(0.5, 1)
            with torch.no_grad():
                # Batches through the network in training mode bring the statistics nearer to those of the images.
                for _ in range(3):
                    model.train()(torch.randn(4, 3, 64, 64))
                spread = model.eval()(images).std()
                model.fc.weight.div_(spread)  # so that the logits of two images differ by about 1
                logits = model(images)
            path = folder / f"{library}-resnet{layers}"
            np.save(path.with_suffix(".npy"), logits.numpy())
            torch.save(model.state_dict(), path.with_suffix(".pth"))
            torch.save(model.state_dict(), path.with_suffix(".old.pth"), _use_new_zipfile_serialization=False)
            save_file(model.state_dict(), path.with_suffix(".safetensors"))


def torchvision_models():
    """torchvision.models, also where its compiled operators, which no ResNet uses, are for another PyTorch."""
    import re

    import torch

    while True:
        try:
            import torchvision.models

            return torchvision.models
        except RuntimeError as error:
            missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if missing is None:
                raise
            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define(f"{missing[1]}(Tensor a) -> Tensor")
            KEPT.append(library)  # it is forgotten with the object
            for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
                del sys.modules[name]


KEPT: list = []

if __name__ == "__main__":
    sys.exit(main())
