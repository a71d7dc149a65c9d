"""Bring a state dict from another library under this project's names, or say why it is another network's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pmtrain.models import DEPTHS, STAGE_WIDTHS
from pmtrain.models.weights.names import LIBRARIES, LINEAR_BIAS, LINEAR_WEIGHT, array_shapes, foreign_names
from pmtrain.system.errors import PmtrainError

# Where training scripts put the network's state dict among other things, the first of these that is there.
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network")

# What is put before the names of a network inside a larger one. Of MoCo's two encoders `encoder_q` is the trained one.
PREFIXES = (
    "module",
    "_orig_mod",
    "model",
    "net",
    "network",
    "backbone",
    "encoder",
    "encoder_q",
    "resnet",
    "base_encoder",
)
_PREFIX = re.compile(rf"(?:(?:{'|'.join(PREFIXES)})\.)*")

# PyTorch's batch norms count their batches, which nothing here needs.
COUNTER = "num_batches_tracked"

# Parts that come after the pooled features, and so are replaced by this project's classifier.
HEADS = {
    "fc",
    "9",
    "10",
    "out",
    "head",
    "classifier",
    "last_linear",
    "linear",
    "projector",
    "projection_head",
    "predictor",
}

# A name or a file's name that tells of another network -> what it is. The first that is found is said.
OTHER_NETWORKS = {
    r"(^|\.)(patch_embed|cls_token)\b": "it is a vision transformer",
    r"(^|\.)res[2-5]\.\d|(^|\.)stem\.conv1": "it has Detectron2's names: the stride of a bottleneck is on its first 1x1"
    " convolution (v1), and its input is BGR from 0 to 255",
    r"(^|\.)stem\.[12]\.|(^|\.)conv1\.[03]\.": "its stem is three 3x3 convolutions: a ResNet-vd, -vc or -D",
    r"downsample\.2\.": "its projections average first: a ResNet-vd or -D",
    r"\.(se|attn|eca)\.": "its blocks have attention: an SE-ResNet or the like",
    r"(^|\.)attnpool\.": "it is CLIP's ResNet, with three convolutions in the stem and attention in place of the mean",
    r"(^|\.)blocks\.0\.short\.": "its first block has a projection, which PaddleClas gives its ResNet-18 and -34 and"
    " He et al. do not",
    r"conv\d\.bias$": "its convolutions have biases",
}
# The same for networks that have the same names and shapes as a ResNet, and so are known by their file's name alone.
OTHER_FILES = {
    r"resnet_?\d+_?v[cd](?![a-z])": "a ResNet-vc or -vd has another stem",
    r"resnetaa|resnetblur": "it filters before it strides",
    r"last_stage_stride1": "its last stage has no stride",
    r"deeplab|fcn_resnet": "its last stages are dilated in place of a stride",
    r"caffe|msra|resnet[-_]?\d+[-_]?v1(?![.\d_]*5|[a-z])": "in a ResNet v1 the stride of a bottleneck is on"
    " its first 1x1 convolution; here it is on the 3x3 one (v1.5)",
}


@dataclass(frozen=True)
class Translated:
    """A state dict under this project's names.

    Args:
        state: every array of the network; `out.weight` and `out.bias` only if the classifier there has one output.
        layers: a row of DEPTHS.
        library: a row of LIBRARIES.
        left_out: the names that were there and aren't used, batch norms' counters aside.
    """

    state: dict[str, np.ndarray]
    layers: int
    library: str
    left_out: list[str]


def translated(state: Mapping[str, Any]) -> Translated:
    """The ResNet in a state dict of any of LIBRARIES, also where it is part of a larger network or dictionary.

    Raises:
        PmtrainError: it is another network's; the message names what is missing, unknown or of another shape.
    """
    arrays, left_out = _arrays(state)
    library, prefix = _found(arrays)
    names = {name.removeprefix(prefix): name for name in arrays if name.startswith(prefix)}
    left_out += [name for name in arrays if not name.startswith(prefix)]
    head = LIBRARIES[library].head
    heads = {name: names.pop(name) for name in list(names) if name.split(".")[0] in HEADS | {head}}
    layers = _depth(names, library)
    shapes = array_shapes(library, layers)
    for name, shape in shapes.items():
        if arrays[names[name]].shape != shape:
            raise _another_shape(names[name], arrays[names[name]].shape, shape, layers)
    result = {
        ours: arrays[names[theirs]] for ours, theirs in foreign_names(layers, library).items() if theirs in shapes
    }
    classifier = _classifier({name: arrays[heads[name]] for name in heads}, library, layers)
    left_out += [whole for name, whole in heads.items() if not classifier or not name.startswith(f"{head}.")]
    return Translated(result | classifier, layers, library, left_out)


def refuse_by_name(name: str) -> None:
    """Refuse a file or an architecture that is by its name another network.

    Raises:
        PmtrainError: it is.
    """
    for pattern, reason in OTHER_FILES.items():
        if re.search(pattern, name.lower()):
            raise PmtrainError(f"{name} is by its name another network: {reason}", f"{_SUPPORTED}; or rename the file")


_SUPPORTED = "give weights of a plain ResNet-18, 34, 50, 101 or 152, as torchvision, timm and paddle.vision have them"


def _arrays(state: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays of a state dict, taken out of the dictionary around it, and the names of what is beside them."""
    left_out: list[str] = []
    while inside := next((name for name in WRAPPERS if isinstance(state.get(name), Mapping)), None):
        left_out += [name for name in state if name != inside]
        state = state[inside]
    arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
    left_out += [str(name) for name in state if name not in arrays]
    return {name: value for name, value in arrays.items() if not name.endswith(COUNTER)}, left_out


def _found(arrays: Mapping[str, np.ndarray]) -> tuple[str, str]:
    """The library whose names these are, and what is put before them."""
    prefixes = sorted({match[0] for name in arrays if (match := _PREFIX.match(name))}, key=lambda p: (len(p), p))
    for prefix in prefixes:
        for library, names in LIBRARIES.items():
            convolution, norm = names.stem
            if {f"{prefix}{convolution}.weight", f"{prefix}{norm}.{names.statistics[0]}"} <= set(arrays):
                return library, prefix
    reason = _reason(arrays) or "its names are none that a known library gives to a ResNet"
    raise PmtrainError(f"not a supported network: {reason}{_some('names', list(arrays))}", _SUPPORTED)


def _depth(names: Mapping[str, str], library: str) -> int:
    """The depth whose names these are, all of them and no others.

    Raises:
        PmtrainError: none has these names.
    """
    expected = {layers: set(array_shapes(library, layers)) for layers in DEPTHS}
    layers = min(expected, key=lambda layers: len(expected[layers] ^ set(names)))
    missing = [name for name in array_shapes(library, layers) if name not in names]
    unknown = [whole for name, whole in names.items() if name not in expected[layers]]
    if missing or unknown:
        reason = _reason(unknown) or "another network, or one with layers added"
        raise PmtrainError(
            f"not a ResNet-{layers} of {library}: {reason}{_some('missing', missing)}{_some('unknown', unknown)}",
            _SUPPORTED,
        )
    return layers


def _reason(names: Any) -> str | None:
    return next(
        (reason for pattern, reason in OTHER_NETWORKS.items() if any(re.search(pattern, name) for name in names)), None
    )


def _some(what: str, names: list[str]) -> str:
    """`; 3 missing: a, b, c`."""
    if not names:
        return ""
    clean = ["".join(c if c.isprintable() else "?" for c in name[:80]) for name in names[:3]]
    return f"; {len(names)} {what}: {', '.join(clean)}{', ...' if len(names) > 3 else ''}"


def _another_shape(name: str, shape: tuple[int, ...], expected: tuple[int, ...], layers: int) -> PmtrainError:
    reason = "another network"
    if len(shape) == len(expected) == 4:
        if shape[0] == expected[0] and shape[2:] == expected[2:] and expected[1] == 3:
            reason = f"its images have {shape[1]} channels, not 3"
        elif shape[2:] == expected[2:] and shape[1] < shape[0] and shape[1] < expected[1]:
            reason = "its convolutions are grouped: a ResNeXt"
        elif shape[2:] == expected[2:] and shape[0] > expected[0]:
            reason = "its layers are wider: a wide ResNet or a ResNeXt"
    return PmtrainError(f"not a ResNet-{layers}: {name} has shape {shape}, not {expected}; {reason}", _SUPPORTED)


def _classifier(arrays: Mapping[str, np.ndarray], library: str, layers: int) -> dict[str, np.ndarray]:
    """The classifier under this project's names, where it has one output; else empty."""
    names = LIBRARIES[library]
    inputs = STAGE_WIDTHS[-1] * DEPTHS[layers].expansion
    weight, bias = arrays.get(f"{names.head}.weight"), arrays.get(f"{names.head}.bias")
    if weight is None or bias is None:
        return {}
    weight = weight.T if names.head_by_output else weight
    return {LINEAR_WEIGHT: weight, LINEAR_BIAS: bias} if (weight.shape, bias.shape) == ((inputs, 1), (1,)) else {}
