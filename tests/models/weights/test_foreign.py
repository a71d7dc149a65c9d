"""State dicts of other libraries, against paddle.vision's own networks; scripts/check_weights.py has the others'."""

from __future__ import annotations

import numpy as np
import pytest

from pmtrain.models import DEPTHS, build_model
from pmtrain.models.weights.foreign import refuse_by_name, translated
from pmtrain.models.weights.names import LIBRARIES, array_shapes
from pmtrain.system.errors import PmtrainError
from pmtrain.system.framework import paddle


def random_network(layers: int):
    """paddle.vision's network with one output, random weights and statistics other than 0 and 1."""
    paddle.seed(layers)
    with paddle.utils.unique_name.guard():
        model = getattr(paddle.vision.models, f"resnet{layers}")(num_classes=1)
    rng = np.random.default_rng(layers)
    for name, tensor in model.state_dict().items():
        if name.endswith(("_mean", "bias")):
            tensor.set_value(rng.normal(0, 0.1, tensor.shape).astype("f4"))
        elif name.endswith("_variance") or tensor.ndim == 1:
            tensor.set_value(rng.uniform(0.5, 1, tensor.shape).astype("f4"))
    model.eval()
    return model


def arrays_of(model) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


@pytest.fixture(scope="module")
def resnet18() -> dict[str, np.ndarray]:
    return arrays_of(random_network(18))


def as_torchvision(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """paddle.vision has torchvision's names, but for the statistics; a torch.nn.Linear is (outputs, inputs)."""
    renamed = {
        name.replace("._mean", ".running_mean").replace("._variance", ".running_var"): value
        for name, value in state.items()
    }
    counters = {f"{name[:-12]}num_batches_tracked": np.array(7) for name in renamed if name.endswith("running_mean")}
    return renamed | counters | {"fc.weight": renamed["fc.weight"].T}


@pytest.mark.parametrize("layers", [18, 50])
@pytest.mark.parametrize("backend", ["paddle", "onednn"])
def test_logits_are_those_of_paddle_vision(layers, backend):
    from pmtrain.models.backends.onednn import attach, unavailable_reason

    theirs = random_network(layers)
    found = translated(arrays_of(theirs))
    assert (found.layers, found.library, found.left_out) == (layers, "paddle.vision", [])
    model = build_model(layers)
    model.set_state_dict(found.state)
    model.eval()
    if backend == "onednn":
        if reason := unavailable_reason(model):
            pytest.skip(reason)
        attach(model)
    images = paddle.to_tensor(np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype("f4"))
    with paddle.no_grad():
        expected, logits = theirs(images).numpy(), model(images).numpy()
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layers", DEPTHS)
def test_this_projects_names_and_shapes_are_its_networks(layers):
    with paddle.LazyGuard():
        model = build_model(layers)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    head = {name: shapes.pop(name) for name in ("out.weight", "out.bias")}
    assert shapes == array_shapes("pmtrain", layers)
    assert head == {"out.weight": (2048 if layers >= 50 else 512, 1), "out.bias": (1,)}


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_librarys_names_are_translated_back(library):
    for layers in DEPTHS:
        state = {name: np.zeros(shape, "f4") for name, shape in array_shapes(library, layers).items()}
        found = translated(state)
        assert (found.library, found.layers) == (library, layers)
        assert list(found.state) == list(array_shapes("pmtrain", layers))


def test_paddleclas_names_are_those_of_its_code():
    """Read off PaddleClas's legendary_models/resnet.py, ResNet50: stem, the second block, the fourth, the last."""
    names = set(array_shapes("PaddleClas", 50))
    assert {
        "stem.0.conv.weight", "stem.0.bn._mean", "blocks.0.short.bn.bias", "blocks.1.conv2.conv.weight",
        "blocks.3.short.conv.weight", "blocks.15.conv2.bn._variance",
    } <= names  # fmt: skip
    assert "blocks.16.conv0.conv.weight" not in names and "blocks.1.short.conv.weight" not in names


def test_a_network_inside_a_larger_one_is_found_and_the_rest_named(resnet18):
    state = as_torchvision(resnet18)
    inside = {f"module.encoder_q.{name}": value for name, value in state.items() if not name.startswith("fc.")}
    projector = {"module.encoder_q.fc.0.weight": np.zeros((4, 512), "f4"), "module.queue": np.zeros((4, 4), "f4")}
    found = translated({"epoch": 3, "best": np.array(0.9), "state_dict": inside | projector, "optimizer": {"lr": 1}})
    assert found.layers == 18 and "out.weight" not in found.state
    assert sorted(found.left_out) == [
        "best", "epoch", "module.encoder_q.fc.0.weight", "module.queue", "optimizer",
    ]  # fmt: skip
    np.testing.assert_array_equal(found.state["conv._conv.weight"], resnet18["conv1.weight"])
    np.testing.assert_array_equal(found.state["bb_3_1.conv1._batch_norm._variance"], resnet18["layer4.1.bn2._variance"])


def test_a_classifier_with_one_output_is_kept_and_another_replaced(resnet18):
    state = as_torchvision(resnet18)
    found = translated(state)
    np.testing.assert_array_equal(found.state["out.weight"], resnet18["fc.weight"])
    assert found.left_out == []
    many = translated(state | {"fc.weight": np.zeros((1000, 512), "f4"), "fc.bias": np.zeros(1000, "f4")})
    assert "out.weight" not in many.state and many.left_out == ["fc.weight", "fc.bias"]


def changed(state: dict[str, np.ndarray], renamed: dict[str, str]) -> dict[str, np.ndarray]:
    return {next((name.replace(a, b) for a, b in renamed.items() if a in name), name): x for name, x in state.items()}


REFUSED = {
    "ResNet-vd": (lambda s: {"stem.0.conv.weight": s["conv1.weight"], "stem.1.conv.weight": s["conv1.weight"]}, "-vd"),
    "ResNet-D": (lambda s: s | {"layer2.0.downsample.2.weight": s["bn1.weight"]}, "average first"),
    "SE": (lambda s: s | {"layer1.0.se.fc1.weight": s["fc.weight"]}, "SE-ResNet"),
    "Detectron2": (lambda s: changed(s, {"conv1": "stem.conv1", "layer1": "res2"}), "Detectron2"),
    "transformer": (lambda s: {"patch_embed.proj.weight": s["conv1.weight"]}, "vision transformer"),
    "group norm": (lambda s: {n: x for n, x in s.items() if "running" not in n}, "none that a known library"),
    "a bias": (lambda s: s | {"layer1.0.conv1.bias": s["bn1.bias"]}, "have biases"),
    "missing": (lambda s: {n: x for n, x in s.items() if n != "layer3.1.bn2.weight"}, "1 missing: layer3.1.bn2.weight"),
    "unknown": (lambda s: s | {"decoder.weight": s["bn1.weight"]}, "1 unknown: decoder.weight"),
    "grey": (lambda s: s | {"conv1.weight": s["conv1.weight"][:, :1]}, "1 channels, not 3"),
    "grouped": (lambda s: s | {"layer1.0.conv1.weight": s["layer1.0.conv1.weight"][:, :2]}, "ResNeXt"),
    "wide": (lambda s: s | {"layer1.0.conv1.weight": np.zeros((128, 64, 3, 3), "f4")}, "wide ResNet"),
    "not a network": (lambda s: {"w": np.zeros(3, "f4")}, "1 names: w"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_another_network_is_refused_with_the_reason(name, resnet18):
    change, expected = REFUSED[name]
    with pytest.raises(PmtrainError) as caught:
        translated(change(as_torchvision(resnet18)))
    assert expected in caught.value.message and "ResNet-18, 34" in caught.value.hint


def test_paddleclas_resnet18_is_refused_for_its_first_projection():
    state = {name: np.zeros(shape, "f4") for name, shape in array_shapes("PaddleClas", 18).items()}
    more = {"blocks.0.short.conv.weight": np.zeros((64, 64, 1, 1), "f4"), "blocks.0.short.bn._mean": np.zeros(64, "f4")}
    with pytest.raises(PmtrainError, match="PaddleClas gives its ResNet-18"):
        translated(state | more)


def test_networks_with_a_resnets_names_and_shapes_are_refused_by_their_files_name():
    for name in (
        "ResNet50_vd_ssld_pretrained.pdparams", "resnetaa50", "resnetblur50.safetensors", "resnet50_v1.pth",
        "resnet50-v1-7", "resnet50_caffe.pth", "ResNet50_last_stage_stride1.pdparams", "deeplabv3_resnet50_coco.pth",
    ):  # fmt: skip
        with pytest.raises(PmtrainError, match="by its name another network"):
            refuse_by_name(name)
    for name in ("resnet50-0676ba61.pth", "gluon_resnet50_v1b", "resnet50_v1.5.pth", "ResNet50_pretrained.pdparams"):
        refuse_by_name(name)
