"""The optimizer: SGD with momentum, as the options set it up."""

from __future__ import annotations

from typing import Any

from pmtrain.config import TrainConfig
from pmtrain.system.errors import UsageError
from pmtrain.system.framework import paddle


def make_optimizer(model: Any, config: TrainConfig) -> Any:
    """Paddle's Momentum over the model's parameters: v = momentum * v + g, and w = w - lr * v.

    With --nesterov: w = w - lr * (g + momentum * v), as PyTorch's SGD(nesterov=True) has it (Sutskever et al. 2013).
    g holds the weight decay, weight_decay * w; with --no-decay-norms only for weights of more than one dimension.
    With --clip-norm, all gradients together are scaled down to that L2 norm if theirs is larger, before the weight
    decay is added, as PyTorch's clip_grad_norm_ does (Pascanu et al. 2013).

    With --body-lr, all but the classifier has that rate where the classifier has --lr; a schedule changes both alike.

    Raises:
        UsageError: --nesterov without momentum.
    """
    if config.nesterov and not config.momentum:
        raise UsageError("--nesterov with --momentum 0", "give --momentum 0.9, or leave --nesterov out")
    if config.no_decay_norms:
        for parameter in model.parameters():
            if parameter.ndim == 1:  # scales and shifts of batch norms, and biases
                parameter.regularizer = paddle.regularizer.L2Decay(0.0)  # goes before the optimizer's own
    if config.body_lr is not None:
        head = {id(parameter) for parameter in model.out.parameters()}
        for parameter in model.parameters():
            if id(parameter) not in head:
                parameter.optimize_attr["learning_rate"] = config.body_lr / config.lr
    return paddle.optimizer.Momentum(
        learning_rate=config.lr,
        momentum=config.momentum,
        parameters=model.parameters(),
        use_nesterov=config.nesterov,
        weight_decay=config.weight_decay,
        grad_clip=None if config.clip_norm is None else paddle.nn.ClipGradByGlobalNorm(config.clip_norm),
    )
