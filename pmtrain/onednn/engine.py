"""The engine: a model's `forward` rebound to oneDNN, from outside and until it is detached.

The model stays Paddle's: its parameters, `state_dict()`, names, optimizer and checkpoints know nothing of it.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeVar

from pmtrain.errors import PmtrainError
from pmtrain.framework import paddle
from pmtrain.models.resnet import ConvBNLayer, ResNet
from pmtrain.onednn import primitives as ops
from pmtrain.onednn.folding import FoldedWeights
from pmtrain.onednn.inference import InferencePlan
from pmtrain.onednn.library import LibraryUnavailable, OneDnnError, open_library
from pmtrain.onednn.memory import Arena, DataType, Layout, bf16, describe, f32
from pmtrain.onednn.primitives import Window
from pmtrain.onednn.threads import prepare_threads
from pmtrain.onednn.training import TrainingPlan

Precision = Literal["fp32", "bf16"]
PRECISIONS: dict[str, DataType] = {"fp32": f32, "bf16": bf16}
SMALLEST = 32  # pixels a side; below, the last stages see a single pixel, which oneDNN's bf16 gradients don't survive
PLANS_KEPT = 8  # shapes whose plans are remembered, for each of training and inference
Plan = TypeVar("Plan")
Shape = tuple[int, int, int, int]


def unavailable_reason(model: paddle.nn.Layer, precision: Precision = "fp32") -> str | None:
    """Why the engine can't take this model on this machine; None where it can."""
    if not isinstance(model, ResNet):
        return f"there is no plan for the model {type(model).__name__}"
    if not all(parameter.place.is_cpu_place() for parameter in model.parameters()):
        return "the model is on a GPU"
    if not all(parameter.dtype == paddle.float32 for parameter in model.parameters()):
        return "the model's parameters are not all float32"
    try:
        library = open_library()
        if not library.has_avx512:
            return "the processor has no AVX-512"
        if precision == "bf16" and not library.has_bf16:
            return "the processor has no bf16 instructions (AVX512-BF16 or AMX); fp32 works"
        x, weights = (describe(dims, PRECISIONS[precision], Layout.any) for dims in ((1, 64, 8, 8), (64, 64, 3, 3)))
        ops.convolution(x, weights, x, Window(3, padding=1))
    except LibraryUnavailable as error:
        return error.reason
    except OneDnnError as error:
        return error.message
    return None


def attach(model: paddle.nn.Layer, precision: Precision = "fp32") -> Engine:
    """Run the model's forward and backward passes through oneDNN until the engine is detached.

    `model.train()` and `model.eval()` choose between training and folded inference, as they do without it. A layer or
    a parameter may change its values at any time; where it is replaced by another object, attach again.

    Args:
        precision: `bf16` computes activations and convolutions in bf16; parameters, their gradients and the
            statistics of batch norms stay f32.
    Raises:
        PmtrainError: the engine can't take the model; the message holds `unavailable_reason`.
    """
    reason = unavailable_reason(model, precision)
    if reason is not None:
        raise PmtrainError(f"the oneDNN engine can't be used: {reason}", "use Paddle's own kernels: --backend paddle")
    if "forward" in model.__dict__:
        raise PmtrainError("the model's forward is rebound already", "detach the engine that is attached first")
    return Engine(model, PRECISIONS[precision])


class Engine:
    """What `attach` returns: detach it to give the model its own forward back, or use it in a `with` block."""

    def __init__(self, model: ResNet, dtype: DataType) -> None:
        self.dtype = dtype
        # The model holds the engine through its `forward`; held back weakly, both go when the model does.
        self._model = weakref.ref(model)
        layers = [layer for layer in model.sublayers() if isinstance(layer, ConvBNLayer)]
        self._with_modes = layers + [layer._batch_norm for layer in layers]
        self._bypassed = [layer for layer in model.sublayers() if layer is not model.out]
        self._any_weight = model.conv._conv.weight
        self._lock = threading.Lock()
        self._training_arena, self._inference_arena = Arena(), Arena()
        self._training_plans: OrderedDict[Shape, TrainingPlan] = OrderedDict()
        self._inference_plans: OrderedDict[Shape, InferencePlan] = OrderedDict()
        self._folded = FoldedWeights(model)
        self._weights_are_fixed = False
        self._forwards = 0  # counts what spoils activations; a backward pass needs them as its forward pass left them
        _keep_freed_memory()
        model.__dict__["forward"] = self._forward

    @property
    def model(self) -> ResNet:
        """The model that the engine works for."""
        model = self._model()
        if model is None:
            raise PmtrainError("the model of this oneDNN engine is gone", "keep it as long as its engine is used")
        return model

    def detach(self) -> None:
        """Give the model its own forward back and free the engine's memory."""
        if self.model.__dict__.get("forward") == self._forward:
            del self.model.__dict__["forward"]
        with self._lock:
            self._forwards += 1
            self._training_plans.clear()
            self._inference_plans.clear()
            self._folded = FoldedWeights(self.model)
            self._training_arena, self._inference_arena = Arena(), Arena()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def __deepcopy__(self, memo: dict) -> Engine:
        raise PmtrainError("a model can't be copied while the oneDNN engine is attached", "detach it, copy, attach")

    @contextmanager
    def fixed_weights(self) -> Iterator[None]:
        """Promise that no weight changes inside the block, so that inference needn't look for changes (a few ms)."""
        with self._lock:
            self._folded.refresh()
            before, self._weights_are_fixed = self._weights_are_fixed, True
        try:
            yield
        finally:
            self._weights_are_fixed = before

    def _forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """The model's forward, (N, 3, H, W) -> (N, 1) logits; Paddle's own where the engine can't stand in for it."""
        if not self._fits(x):
            return type(self.model).forward(self.model, x)
        x = x.contiguous()
        if self.model.training:
            with self._lock:
                plan = self._plan(self._training_plans, tuple(x.shape), self._new_training_plan)
            features = _Training.apply(self, plan, x, *plan.parameters)
        else:
            features = _Inference.apply(self, x, self._any_weight)
        return self.model.out(features)

    def _fits(self, x: paddle.Tensor) -> bool:
        """Whether nobody asks for more than logits and gradients of parameters.

        Somebody does who listens at layers inside (hooks), wants the gradient of the input, trains with frozen
        batch norms, has moved or cast the model, or gives something else than one f32 image batch.
        """
        mode = self.model.training
        return (
            len(x.shape) == 4
            and x.shape[1] == 3
            and x.shape[0] > 0
            and min(x.shape[2:]) >= SMALLEST
            and x.dtype == paddle.float32
            and x.stop_gradient
            and self._any_weight.dtype == paddle.float32
            and self._any_weight.place.is_cpu_place()
            and all(layer.training == mode for layer in self._with_modes)
            and not any(layer._forward_pre_hooks or layer._forward_post_hooks for layer in self._bypassed)
        )

    def _plan(self, plans: OrderedDict[Shape, Plan], shape: Shape, make: Callable[[Shape], Plan]) -> Plan:
        prepare_threads(open_library())
        if shape not in plans:
            plans[shape] = make(shape)
            if len(plans) > PLANS_KEPT:
                plans.popitem(last=False)
        plans.move_to_end(shape)
        return plans[shape]

    def _new_training_plan(self, shape: Shape) -> TrainingPlan:
        return TrainingPlan(self.model, shape, self.dtype, self._training_arena)

    def _new_inference_plan(self, shape: Shape) -> InferencePlan:
        return InferencePlan(self.model, shape, self.dtype, self._folded, self._inference_arena)


class _Training(paddle.autograd.PyLayer):
    """The training plan as one differentiable function of the parameters."""

    @staticmethod
    def forward(ctx, engine: Engine, plan: TrainingPlan, x: paddle.Tensor, *parameters: paddle.Tensor):
        with engine._lock:
            prepare_threads(open_library())
            engine._forwards += 1
            ctx.engine, ctx.plan, ctx.number = engine, plan, engine._forwards
            return plan.forward(x)

    @staticmethod
    def backward(ctx, gradient: paddle.Tensor):
        with ctx.engine._lock:
            if ctx.number != ctx.engine._forwards:
                raise RuntimeError(
                    "the activations of this forward pass are gone: a backward pass has used them up, another forward"
                    " pass in training mode has overwritten them (call backward before it), or the engine was detached"
                )
            prepare_threads(open_library())
            gradients = ctx.plan.backward(gradient.contiguous())
            ctx.engine._forwards += 1  # gradients took the place of activations: there is no second time
        frozen = [parameter.stop_gradient for parameter in ctx.plan.parameters]
        return (None, *(None if skip else value for skip, value in zip(frozen, gradients, strict=True)))


class _Inference(paddle.autograd.PyLayer):
    """The inference plan; what asks it for gradients is told that it has none."""

    @staticmethod
    def forward(ctx, engine: Engine, x: paddle.Tensor, weight: paddle.Tensor):
        with engine._lock:
            plan = engine._plan(engine._inference_plans, tuple(x.shape), engine._new_inference_plan)
            engine._folded.refresh(unchanged=engine._weights_are_fixed)
            return plan.forward(x)

    @staticmethod
    def backward(ctx, gradient: paddle.Tensor):
        raise RuntimeError(
            "the oneDNN engine keeps nothing for a backward pass in eval mode: call model.train(), or detach it"
        )


def _keep_freed_memory() -> None:
    """Ask the C library to keep what Paddle frees at every step.

    Gradients are fresh memory at every step; returned to the system and faulted in again page by page, 100 MB of
    them cost 25 ms. glibc alone has the call.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 32 << 20)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
