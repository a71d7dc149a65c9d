"""The optimizer: SGD with momentum, as the options set it up."""

from __future__ import annotations

from functools import partial
from typing import Any

from pmtrain.config import TrainConfig
from pmtrain.models.backends.onednn.threads import share_work
from pmtrain.system.errors import UsageError
from pmtrain.system.framework import paddle


def make_optimizer(model: Any, config: TrainConfig) -> Any:
    """Momentum over the model's parameters: v = momentum * v + g, and w = w - lr * v.

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
    return Momentum(
        learning_rate=config.lr,
        momentum=config.momentum,
        parameters=model.parameters(),
        use_nesterov=config.nesterov,
        weight_decay=config.weight_decay,
        grad_clip=None if config.clip_norm is None else paddle.nn.ClipGradByGlobalNorm(config.clip_norm),
    )


class Momentum(paddle.optimizer.Momentum):
    """Paddle's Momentum, equal to it to the bit, with the parameters shared out among the threads of a CPU.

    Paddle updates one parameter after the other on one thread, which fills half of the memory's bandwidth.
    """

    def _append_optimize_op(self, block: Any, param_and_grad: tuple[Any, Any]) -> None:
        parameter, gradient = param_and_grad
        decay, coefficient = self._regularization_method, self._regularization_coeff
        if isinstance(getattr(parameter, "regularizer", None), paddle.regularizer.L2Decay):  # its own goes first
            decay, coefficient = "l2_decay", parameter.regularizer._coeff
        velocity = self._get_accumulator_master(self._velocity_acc_str, parameter)
        rate = self._create_param_lr(param_and_grad)
        self._due.append((parameter, gradient, velocity, rate, decay, coefficient))

    def _create_optimization_pass(self, *arguments: Any, **keywords: Any) -> Any:
        self._due: list[tuple[Any, ...]] = []
        try:
            return super()._create_optimization_pass(*arguments, **keywords)
        finally:
            self._due = []

    def _finish_update(self, block: Any, parameters_and_grads: Any) -> None:
        updates = [partial(self._update, *due) for due in sorted(self._due, key=lambda due: -due[0].size)]
        if all(due[0].place.is_cpu_place() for due in self._due):
            share_work(updates)
        else:
            for update in updates:
                update()

    def _update(self, parameter: Any, gradient: Any, velocity: Any, rate: Any, decay: str, coefficient: float) -> None:
        paddle._C_ops.momentum_(
            parameter,
            gradient,
            velocity,
            rate,
            None,
            self._momentum,
            self._use_nesterov,
            decay,
            coefficient,
            False,
            1.0,
        )
