"""Grad-CAM: where in an image a network finds evidence for the positive class."""

from __future__ import annotations

from typing import Any

import numpy as np

from pmtrain.system.framework import paddle


def grad_cam(model: Any, layer: Any, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maps for the positive logit, and the logits, from one pass in evaluation mode.

    A map is ReLU(sum over k of a_k A_k), where A_k is channel k of the layer's output and a_k the mean over positions
    of d logit / d A_k. It is in units of the logit and unscaled. Evidence against the positive class is cut off at 0,
    so the map of an image predicted negative may be empty.

    Args:
        model: a Paddle layer, images -> (N, 1) logits; one image's logit must not depend on the others.
        layer: a layer inside it that runs once a pass and returns (N, K, h, w).
        images: (N, C, H, W) float32.
    Returns: (N, h, w) float32, never negative; (N,) float64.
    Raises:
        ValueError: the layer doesn't run exactly once, or its output is no map.
    Source: Selvaraju et al. 2017, equations 1 and 2.
    """
    outputs: list[Any] = []
    modes = [(each, each.training) for each in model.sublayers(include_self=True)]
    # The hook also keeps the oneDNN engine away, which holds nothing for gradients inside the network.
    hook = layer.register_forward_post_hook(lambda _layer, _inputs, output: outputs.append(output))
    model.eval()
    try:
        with paddle.enable_grad():
            # Gradients are asked of the input so that there is a graph also where all parameters are frozen.
            logits = model(paddle.to_tensor(images, stop_gradient=False))  # (N, 1)
            if len(outputs) != 1 or len(outputs[0].shape) != 4:
                shapes = [tuple(output.shape) for output in outputs]
                raise ValueError(f"the layer must give one (N, K, h, w) a pass; it gave {shapes}")
            activations = outputs[0]  # (N, K, h, w)
            (gradients,) = paddle.grad(logits.sum(), activations)
    finally:
        hook.remove()
        for each, mode in modes:
            each.training = mode
    with paddle.no_grad():
        weights = gradients.mean(axis=[2, 3], keepdim=True)  # (N, K, 1, 1)
        maps = paddle.nn.functional.relu((weights * activations).sum(axis=1))  # (N, h, w)
    return maps.astype("float32").numpy(), logits.detach().numpy().reshape(-1).astype(np.float64)


def layers_for(model: Any) -> dict[str, Any]:
    """The layers of our ResNet that have a map, by name, in the order they run: conv, bb_0_0 ... bb_3_2."""
    return {name: layer for name, layer in model.named_children() if name == "conv" or name.startswith("bb_")}
