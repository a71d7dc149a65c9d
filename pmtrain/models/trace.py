"""Print the shapes of every layer in a forward pass, in the notes' format, as a table, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

from pmtrain.models import build_model
from pmtrain.models.resnet import BottleneckBlock, ConvBNLayer, ResNet
from pmtrain.system.framework import paddle


@dataclass(frozen=True)
class LayerTrace:
    """One layer of the forward pass, in the order in which it ran.

    `block` counts the residual blocks from 0 (-1 before the first, the number of blocks after the last);
    `macs` is the number of multiply-adds for the whole batch.
    """

    name: str
    block: int
    input: tuple[int, ...]
    output: tuple[int, ...]
    weight: tuple[int, ...]
    parameters: int
    macs: int


@dataclass(frozen=True)
class ModelTrace:
    """A network and its layers in a forward pass. The input is (batch_size, 3, image_size, image_size)."""

    model: ResNet
    batch_size: int
    image_size: int
    layers: list[LayerTrace]


def trace(layers: int, batch_size: int, image_size: int) -> ModelTrace:
    """Run one forward pass on a batch of zeros and record every pooling layer and every layer with weights.

    Raises:
        PmtrainError: the depth isn't supported.
    """
    model = build_model(layers)
    model.eval()
    blocks = [block for stage in model.stages for block in stage]
    rows: list[LayerTrace] = []
    block_of = {id(part): i for i, block in enumerate(blocks) for part in block.sublayers(include_self=True)}
    after = {id(model.avg_pool): len(blocks), id(model.out): len(blocks)}

    def record(layer, inputs, output) -> None:
        # A batch norm is listed with its convolution: one row for both.
        conv = layer._conv if isinstance(layer, ConvBNLayer) else layer
        kernel = getattr(conv, "weight", None)
        weight = tuple(kernel.shape) if kernel is not None else ()
        weights = paddle.numel(kernel).item() if kernel is not None else 0
        positions = output.shape[0] * (output.shape[2] * output.shape[3] if len(output.shape) == 4 else 1)
        rows.append(
            LayerTrace(
                name=conv.full_name(),
                block=(block_of | after).get(id(layer), -1),
                input=tuple(inputs[0].shape),
                output=tuple(output.shape),
                weight=weight,
                parameters=sum(paddle.numel(p).item() for p in layer.parameters() if not p.stop_gradient),
                macs=weights * positions,
            )
        )

    traced = (ConvBNLayer, paddle.nn.MaxPool2D, paddle.nn.AdaptiveAvgPool2D, paddle.nn.Linear)
    hooks = [part.register_forward_post_hook(record) for part in model.sublayers() if isinstance(part, traced)]
    try:
        with paddle.no_grad():
            model(paddle.zeros([batch_size, 3, image_size, image_size]))
    finally:
        for hook in hooks:
            hook.remove()
    return ModelTrace(model, batch_size, image_size, rows)


def as_text(traced: ModelTrace) -> str:
    """The notes' format, byte for byte, with `basic` for `bottleneck` if the network has basic blocks."""
    model = traced.model
    kind = "bottleneck" if isinstance(model.stages[0][0], BottleneckBlock) else "basic"
    lines = [f"layers= {model.layers}"]
    for stage, blocks in enumerate(model.stages):
        channels = _width(blocks[0]) * blocks[0].EXPANSION
        lines.append(f"block= {stage} depth[block]= {len(blocks)} Cout={channels}")
        lines += [f"{kind}[ {channels} {_width(block)} {block.short is None}" for block in blocks]
        lines.append(f"create bnb {len(blocks)}")

    stem, max_pool, *rest = traced.layers
    avg_pool, linear = rest[-2:]
    lines += [
        str(list(stem.input)),
        _conv_line(stem),
        f"{model.conv.full_name()} {list(stem.output)}",
        f"maxpool2d: {list(max_pool.output)}",
        f"======start {kind}Block:",
    ]
    index = 0
    for stage, blocks in enumerate(model.stages):
        heading = f"#第{chinese(stage + 2)}个模块 Cout={_width(blocks[0]) * blocks[0].EXPANSION}"
        lines.append(f"{heading} 包括{chinese(len(blocks))}个残差块{kind}Block")
        for _ in blocks:
            inside = [row for row in rest if row.block == index]
            lines.append(f"-----print {kind}Block: {index}")
            lines += [_conv_line(row) for row in inside]
            lines.append(f"end block: {list(inside[-1].output)}")
            index += 1
    lines += [
        f"======end {kind}Block:",
        f"{avg_pool.name} {list(avg_pool.output)}",
        f"y.shape= {list(linear.input)}",
        f"{linear.name} {list(linear.output)} {list(linear.weight)} {list(model.out.bias.shape)}",
    ]
    return "\n".join(lines)


def _width(block) -> int:
    return block.conv0._conv.weight.shape[0]


def _conv_line(row: LayerTrace) -> str:
    # The last number is the batch norm's: one scale per channel.
    return f"{row.name} {list(row.output)} {list(row.weight)} [ {row.weight[0]} ]"


def chinese(number: int) -> str:
    """1 to 99 in Chinese numerals: 三, 十二, 二十三, 三十六."""
    digits = "零一二三四五六七八九"
    tens, ones = divmod(number, 10)
    head = "" if tens == 0 else "十" if tens == 1 else digits[tens] + "十"
    return head + (digits[ones] if ones or not tens else "")


def as_table(traced: ModelTrace) -> str:
    """A table with totals."""
    heading = ("layer", "output", "weight", "parameters", "multiply-adds")
    cells = [
        (row.name, _by(row.output), _by(row.weight) or "-", f"{row.parameters:,}", f"{row.macs:,}")
        for row in traced.layers
    ]
    totals = ("total", "", "", *(f"{value:,}" for value in _totals(traced).values()))
    widths = [max(len(line[column]) for line in (heading, *cells, totals)) for column in range(5)]
    rule = "  ".join("-" * width for width in widths)

    def line(parts: tuple[str, ...]) -> str:
        padded = [
            part.ljust(width) if i < 3 else part.rjust(width)
            for i, (part, width) in enumerate(zip(parts, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    title = (
        f"ResNet-{traced.model.layers}, input {_by(traced.layers[0].input)}; a convolution's row counts its batch norm"
    )
    return "\n".join([title, "", line(heading), rule, *map(line, cells), rule, line(totals)])


def as_json(traced: ModelTrace) -> str:
    """The rows and totals as JSON."""
    content = {
        "layers": traced.model.layers,
        "batch_size": traced.batch_size,
        "image_size": traced.image_size,
        "trace": [asdict(row) for row in traced.layers],
        "totals": _totals(traced),
    }
    return json.dumps(content, indent=2)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _totals(traced: ModelTrace) -> dict[str, int]:
    return {
        "parameters": sum(row.parameters for row in traced.layers),
        "macs": sum(row.macs for row in traced.layers),
    }


FORMATS: dict[str, Callable[[ModelTrace], str]] = {"text": as_text, "table": as_table, "json": as_json}
