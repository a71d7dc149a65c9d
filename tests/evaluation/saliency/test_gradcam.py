"""Grad-CAM against NumPy on networks small enough to be derived by hand, and on our own ResNet."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import correlate

from pmtrain.evaluation.saliency.gradcam import grad_cam, layers_for
from pmtrain.models import build_model
from pmtrain.models.backends.onednn import attach, unavailable_reason
from pmtrain.system.framework import paddle

nn = paddle.nn


class Tiny(nn.Layer):
    """Convolution 2 -> 3 channels, ReLU, and a head: pooled (as in a ResNet) or reading every position."""

    def __init__(self, pooled: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2D(2, 3, 3, padding=1)
        self.relu = nn.ReLU()
        self.head = nn.Linear(3 if pooled else 3 * 5 * 6, 1)
        self.pooled = pooled

    def forward(self, x):  # (N, 2, 5, 6)
        y = self.relu(self.conv(x))  # (N, 3, 5, 6)
        return self.head(y.mean(axis=[2, 3]) if self.pooled else y.flatten(1))


@pytest.fixture(params=[True, False], ids=["pooled", "read by position"])
def tiny(request):
    paddle.seed(1)
    return Tiny(request.param)


@pytest.fixture
def images():
    return np.random.default_rng(0).standard_normal((4, 2, 5, 6)).astype(np.float32)


def by_hand(model, images) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps at the convolution and at the ReLU after it, and the logits, in NumPy and SciPy alone."""
    kernels, bias = model.conv.weight.numpy().astype(float), model.conv.bias.numpy()
    padded = np.pad(images.astype(float), ((0, 0), (0, 0), (1, 1), (1, 1)))
    # A convolution of (2, 7, 8) with (2, 3, 3), in which both channels shrink to one.
    sums = [[correlate(image, kernel, "valid")[0] for kernel in kernels] for image in padded]
    convolved = np.array(sums) + bias[:, None, None]  # (4, 3, 5, 6)
    activations = np.maximum(convolved, 0)  # (4, 3, 5, 6)
    head = model.head.weight.numpy()[:, 0]
    # d logit / d activation: the head's own weights.
    slopes = np.broadcast_to(head[:, None, None] / 30, (3, 5, 6)) if model.pooled else head.reshape(3, 5, 6)
    logits = (activations * slopes).sum((1, 2, 3)) + model.head.bias.numpy()
    after = np.maximum((slopes.mean((1, 2))[:, None, None] * activations).sum(1), 0)
    weights = (slopes * (convolved > 0)).mean((2, 3))  # (4, 3)
    before = np.maximum((weights[:, :, None, None] * convolved).sum(1), 0)
    return before, after, logits


def test_it_is_what_the_equations_give_by_hand(tiny, images):
    before, after, logits = by_hand(tiny, images)
    for layer, expected in ((tiny.conv, before), (tiny.relu, after)):
        maps, found = grad_cam(tiny, layer, images)
        assert (maps.dtype, maps.shape) == (np.float32, (4, 5, 6))
        assert expected.max() > 0
        np.testing.assert_allclose(maps, expected, atol=1e-6)
        np.testing.assert_allclose(found, logits, atol=1e-6)


def test_the_map_is_for_the_positive_logit(tiny, images):
    """The other sign's map is another one, and where nothing speaks for positive there is none."""
    tiny.head.weight.set_value(-tiny.head.weight.abs())
    assert grad_cam(tiny, tiny.relu, images)[0].max() == 0
    tiny.head.weight.set_value(-tiny.head.weight)
    assert (grad_cam(tiny, tiny.relu, images)[0].reshape(4, -1).max(1) > 0).all()


def test_images_of_a_batch_do_not_mix(tiny, images):
    together, _ = grad_cam(tiny, tiny.relu, images)
    alone = np.concatenate([grad_cam(tiny, tiny.relu, image[None])[0] for image in images])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_it_leaves_the_model_as_it_was(tiny, images):
    tiny.train()
    tiny.conv.eval()
    for parameter in tiny.parameters():
        parameter.stop_gradient = True  # frozen: there are maps all the same
    with paddle.no_grad():
        grad_cam(tiny, tiny.conv, images)
    assert [layer.training for layer in (tiny, tiny.conv, tiny.relu)] == [True, False, True]
    assert not tiny.conv._forward_post_hooks
    assert all(parameter.grad is None for parameter in tiny.parameters())


def test_a_layer_without_maps_is_refused(tiny, images):
    with pytest.raises(ValueError, match=r"it gave \[\(4, 1\)\]"):
        grad_cam(tiny, tiny.head, images)
    with pytest.raises(ValueError, match=r"it gave \[\]"):
        grad_cam(tiny, nn.ReLU(), images)
    assert not tiny.head._forward_post_hooks


@pytest.fixture(scope="module")
def resnet():
    paddle.seed(0)
    model = build_model(50)
    for layer in model.sublayers():
        if isinstance(layer, nn.BatchNorm2D):
            layer._momentum = 0.3
    with paddle.no_grad():
        for _ in range(8):
            model(paddle.to_tensor(photographs()))
    model.eval()
    return model


def photographs() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((4, 3, 64, 64)).astype(np.float32)


def test_layers_are_named_in_the_order_they_are_run(resnet):
    layers = layers_for(resnet)
    assert list(layers)[:4] == ["conv", "bb_0_0", "bb_0_1", "bb_0_2"]
    assert (len(layers), list(layers)[-1]) == (17, "bb_3_2")
    sizes = {name: grad_cam(resnet, layers[name], photographs()[:1])[0].shape for name in ("conv", "bb_2_5", "bb_3_2")}
    assert sizes == {"conv": (1, 32, 32), "bb_2_5": (1, 4, 4), "bb_3_2": (1, 2, 2)}


def test_the_last_stage_of_a_resnet_is_weighted_by_the_last_layer(resnet):
    """Global average pooling and one linear layer follow it, so that a_k is the linear weight over h w."""
    kept = []
    hook = resnet.bb_3_2.register_forward_post_hook(lambda layer, inputs, output: kept.append(output.numpy()))
    with paddle.no_grad():
        resnet(paddle.to_tensor(photographs()))
    hook.remove()
    weights = resnet.out.weight.numpy()[:, 0] / 4
    expected = np.maximum(np.einsum("k,nkhw->nhw", weights, kept[0]), 0)
    maps, _ = grad_cam(resnet, resnet.bb_3_2, photographs())
    assert expected.max() > 0
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-4 * expected.max())


def test_the_onednn_engine_steps_aside_and_comes_back(resnet):
    if reason := unavailable_reason(resnet):
        pytest.skip(reason)
    expected, logits = grad_cam(resnet, resnet.bb_2_5, photographs())
    with attach(resnet):
        maps, found = grad_cam(resnet, resnet.bb_2_5, photographs())
        np.testing.assert_array_equal(maps, expected)
        with paddle.no_grad():
            of_engine = resnet(paddle.to_tensor(photographs())).numpy()[:, 0]
    np.testing.assert_allclose(of_engine, logits, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(found, logits)


def test_other_weights_give_another_map(resnet):
    """The sanity check of Adebayo et al. 2018: a map that ignores the weights explains nothing of the network."""
    before, _ = grad_cam(resnet, resnet.bb_2_5, photographs())
    kept = {name: tensor.numpy() for name, tensor in resnet.state_dict().items()}
    rng = np.random.default_rng(0)
    for parameter in resnet.bb_3_2.parameters():
        parameter.set_value(rng.permutation(parameter.numpy().ravel()).reshape(parameter.shape))
    resnet.out.weight.set_value(rng.permutation(resnet.out.weight.numpy()))
    after, _ = grad_cam(resnet, resnet.bb_2_5, photographs())
    resnet.set_state_dict({name: paddle.to_tensor(array) for name, array in kept.items()})
    again, _ = grad_cam(resnet, resnet.bb_2_5, photographs())
    np.testing.assert_array_equal(again, before)
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] < 0.9
