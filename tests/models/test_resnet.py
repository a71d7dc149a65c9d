"""The network against the notes' names, Paddle's own ResNets and the arithmetic of the paper."""

from __future__ import annotations

import numpy as np
import pytest

from pmtrain.models import DEPTHS, build_model, layers_of
from pmtrain.system.errors import PmtrainError
from pmtrain.system.framework import paddle

# Parameters of torchvision's and Paddle's resnet18/34/50/101/152 with 1000 classes (11,689,512 and so on), less their
# classifier's F * 1000 + 1000, plus ours of F + 1, where F is 512 or, from 50 layers on, 2048.
PARAMETERS = {18: 11_177_025, 34: 21_285_185, 50: 23_510_081, 101: 42_502_209, 152: 58_145_857}


def block_names(blocks: tuple[int, ...], bottleneck: bool = True) -> list[str]:
    """State dict names and shapes of the notes' ResNet, written out from their listing's rule, and of its like of
    basic blocks."""

    def conv_bn(name: str, out: int, inner: int, kernel: int) -> list[str]:
        norm = [f"{name}._batch_norm.{part} [{out}]" for part in ("weight", "bias", "_mean", "_variance")]
        return [f"{name}._conv.weight [{out}, {inner}, {kernel}, {kernel}]", *norm]

    lines = conv_bn("conv", 64, 3, 7)
    channels = 64
    for stage, depth in enumerate(blocks):
        width = 64 * 2**stage
        for index in range(depth):
            name = f"bb_{stage}_{index}"
            if bottleneck:
                lines += conv_bn(f"{name}.conv0", width, channels, 1)
                lines += conv_bn(f"{name}.conv1", width, width, 3)
                lines += conv_bn(f"{name}.conv2", 4 * width, width, 1)
            else:
                lines += conv_bn(f"{name}.conv0", width, channels, 3)
                lines += conv_bn(f"{name}.conv1", width, width, 3)
            outputs = 4 * width if bottleneck else width
            if channels != outputs:
                lines += conv_bn(f"{name}.short", outputs, channels, 1)
            channels = outputs
    return [*lines, f"out.weight [{channels}, 1]", "out.bias [1]"]


def listing(model) -> list[str]:
    return [f"{name} {list(tensor.shape)}" for name, tensor in model.state_dict().items()]


@pytest.mark.parametrize("layers", DEPTHS)
def test_names_shapes_and_parameter_count(layers):
    model = build_model(layers)
    assert listing(model) == block_names(*DEPTHS[layers])
    assert (
        sum(int(np.prod(parameter.shape)) for parameter in model.parameters() if not parameter.stop_gradient)
        == PARAMETERS[layers]
    )


def test_names_are_the_notes_own(reference):
    assert listing(build_model(50)) == (reference / "state-dict-resnet50.txt").read_text().split("\n")[:-1]


@pytest.mark.parametrize(("layers", "count"), [(18, 62), (50, 161)])
def test_every_parameter_receives_a_gradient(layers, count):
    model = build_model(layers)
    model.train()
    (model(paddle.randn([2, 3, 64, 64])) * paddle.to_tensor([[1.0], [-2.0]])).sum().backward()
    learned = {name: p for name, p in model.named_parameters() if not p.stop_gradient}  # running statistics aside
    assert len(learned) == count
    without = [name for name, p in learned.items() if p.grad is None or not np.abs(p.grad.numpy()).sum() > 0]
    assert without == []


def paddle_name(name: str) -> str:
    """Our name of a weight -> that of paddle.vision's ResNet."""
    layer, _, part = name.rpartition(".")
    if layer == "out":
        return f"fc.{part}"
    layer, _, kind = layer.rpartition(".")
    if layer == "conv":
        return f"{'conv1' if kind == '_conv' else 'bn1'}.{part}"
    block, _, conv = layer.partition(".")
    stage, index = (int(number) for number in block.split("_")[1:])
    if conv == "short":
        place = f"downsample.{0 if kind == '_conv' else 1}"
    else:
        place = f"{'conv' if kind == '_conv' else 'bn'}{int(conv[-1]) + 1}"
    return f"layer{stage + 1}.{index}.{place}.{part}"


@pytest.mark.parametrize(
    "layers", [18, 34, 50, pytest.param(101, marks=pytest.mark.slow), pytest.param(152, marks=pytest.mark.slow)]
)
def test_logits_equal_paddles_own_resnet(layers):
    paddle.seed(1)
    ours = build_model(layers)
    theirs = getattr(paddle.vision.models, f"resnet{layers}")(num_classes=1)
    for name, tensor in ours.state_dict().items():
        if name.endswith("_variance"):
            tensor.set_value(paddle.rand(tensor.shape) + 0.5)
    copied = {paddle_name(name): tensor for name, tensor in ours.state_dict().items()}
    assert copied.keys() == theirs.state_dict().keys()
    theirs.set_state_dict(copied)
    ours.eval()
    theirs.eval()
    x = paddle.randn([2, 3, 64, 96])
    np.testing.assert_allclose(ours(x).numpy(), theirs(x).numpy(), rtol=1e-5, atol=1e-5)


def test_classifier_weight_is_within_its_bound():
    weight = build_model(50).out.weight.numpy()
    bound = 1 / np.sqrt(2048)
    assert np.abs(weight).max() <= bound
    assert np.abs(weight).max() > 0.95 * bound  # 2048 draws of a uniform reach near its ends


def test_unsupported_depth_is_refused_naming_the_known():
    with pytest.raises(PmtrainError, match="20.*18, 34, 50, 101, 152"):
        build_model(20)


def test_seed_decides_the_weights():
    paddle.seed(7)
    first = build_model(50).out.weight.numpy()
    paddle.seed(7)
    assert (build_model(50).out.weight.numpy() == first).all()
    assert (build_model(50).out.weight.numpy() != first).any()


def test_layers_are_numbered_from_zero_each_time():
    assert [build_model(50).conv._conv.full_name() for _ in range(2)] == ["conv2d_0"] * 2


@pytest.mark.parametrize("layers", DEPTHS)
def test_depth_is_read_off_the_names(layers):
    assert layers_of(line.split()[0] for line in block_names(*DEPTHS[layers])) == layers


def test_names_of_no_resnet_are_refused():
    with pytest.raises(PmtrainError, match=r"basic blocks \(3, 4, 23, 3\)"):
        layers_of(line.split()[0] for line in block_names((3, 4, 23, 3), bottleneck=False))
    with pytest.raises(PmtrainError, match=r"bottleneck blocks \(3, 4, 6, 2\)"):
        layers_of(line.split()[0] for line in block_names((3, 4, 6, 2)))
    with pytest.raises(PmtrainError, match=r"\(0, 0, 0, 0\)"):
        layers_of(["fc.weight"])
