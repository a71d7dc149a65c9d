"""The engine: replaces a model's `forward` by oneDNN, until it is detached.

The model stays a Paddle model: parameters, `state_dict()`, names, optimizer and checkpoints don't change.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Literal, TypeVar

from pmtrain.models.backends.onednn import primitives as ops
from pmtrain.models.backends.onednn.folding import FoldedWeights
from pmtrain.models.backends.onednn.library import LibraryUnavailable, OneDnnError, ReferenceCode, open_library
from pmtrain.models.backends.onednn.memory import Arena, DataType, Layout, bf16, describe, f32
from pmtrain.models.backends.onednn.plans import PLANS, InferencePlan, Shape, TrainingPlan
from pmtrain.models.backends.onednn.primitives import Window
from pmtrain.models.backends.onednn.threads import prepare_threads
from pmtrain.system import console
from pmtrain.system.errors import PmtrainError
from pmtrain.system.framework import paddle
from pmtrain.system.hardware import thread_count

Precision = Literal["fp32", "bf16"]
PRECISIONS: dict[Precision, DataType] = {"fp32": f32, "bf16": bf16}
SHAPES_KEPT = 8  # shapes whose plans are kept, each for training and inference
Plan = TypeVar("Plan")


def unavailable_reason(model: paddle.nn.Layer, precision: Precision = "fp32") -> str | None:
    """The reason why the engine can't run this model on this machine; None if it can.

    A small convolution is compiled to check that the library works.
    """
    if type(model) not in PLANS:
        return f"there is no plan for the model {type(model).__name__}"
    if not all(parameter.place.is_cpu_place() for parameter in model.parameters()):
        return "the model is on a GPU"
    if not all(parameter.dtype == paddle.float32 for parameter in model.parameters()):
        return "the model's parameters are not all float32"
    try:
        library = open_library()
        if not library.has_avx2:
            return "the processor has no AVX2"
        if precision == "bf16" and not library.has_bf16:
            return "the processor has no bf16 instructions (AVX512-BF16 or AMX)"
        x, weights = (describe(dims, PRECISIONS[precision], Layout.any) for dims in ((1, 64, 8, 8), (64, 64, 3, 3)))
        ops.convolution(x, weights, x, Window(3, padding=1))
    except (LibraryUnavailable, OneDnnError) as error:
        return error.reason
    return None


def attach(model: paddle.nn.Layer, precision: Precision = "fp32", required: bool = True) -> Engine:
    """Run the model's forward and backward passes through oneDNN until the engine is detached.

    `model.train()` and `model.eval()` select training or inference with folded batch norms. The values of layers and
    parameters may change at any time; if one is replaced by another object, attach again. The C library of the process
    is set to keep freed memory (`_keep_freed_memory`) permanently.

    Args:
        precision: `bf16` computes activations and convolutions in bf16; parameters, their gradients and the
            statistics of batch norms stay f32.
        required: whether it is an error if oneDNN has no fast code for a batch's shape, checked at its first batch;
            otherwise Paddle's own kernels compute it, in f32, and one line says so.
    Raises:
        PmtrainError: the engine can't run the model; the message gives `unavailable_reason`.
    """
    if precision not in PRECISIONS:
        raise PmtrainError(f"the oneDNN engine has no {precision}", f"it has {', '.join(PRECISIONS)}")
    reason = unavailable_reason(model, precision)
    if reason is not None:
        raise PmtrainError(f"the oneDNN engine can't be used: {reason}", "use Paddle's own kernels: --backend paddle")
    if "forward" in model.__dict__:
        raise PmtrainError("an engine is attached to this model already", "detach it first")
    return Engine(model, PRECISIONS[precision], required)


class _Latest(Generic[Plan]):
    """The plans of the most recent shapes, with one arena."""

    def __init__(self) -> None:
        self._arena = Arena()
        self._plans: OrderedDict[tuple[int, ...], Plan] = OrderedDict()

    def of(self, shape: tuple[int, ...], make: Callable[[Arena], Plan]) -> Plan:
        """The plan of a shape, which may be told apart by more numbers; made if it doesn't exist."""
        if shape not in self._plans:
            self._plans[shape] = make(self._arena)
            if len(self._plans) > SHAPES_KEPT:
                self._plans.popitem(last=False)
        self._plans.move_to_end(shape)
        return self._plans[shape]


class Engine:
    """Returned by `attach`: `detach` restores the model's own forward, as does the end of a `with` block."""

    def __init__(self, model: paddle.nn.Layer, dtype: DataType, required: bool) -> None:
        self.dtype = dtype
        self._required = required
        self._refused: set[tuple[Shape, bool]] = set()  # shapes without fast code, in training or not
        # The model refers to the engine through its `forward`; the weak reference back lets both be freed together.
        self._model = weakref.ref(model)
        self._plans = PLANS[type(model)]
        self._head = self._plans.head(model)
        self._bypassed = [layer for layer in model.sublayers() if layer is not self._head]
        self._parameters = [p for layer in self._bypassed for p in layer.parameters(include_sublayers=False)]
        self._lock = threading.RLock()  # over all below
        self._training, self._inference = _Latest[TrainingPlan](), _Latest[InferencePlan]()
        self._folded = FoldedWeights(model)
        self._promises = 0  # that no weight changes, under way
        self._forwards = 0  # counts what spoils activations; a backward pass needs them as its forward pass left them
        _keep_freed_memory()
        model.__dict__["forward"] = self._forward

    @property
    def model(self) -> paddle.nn.Layer:
        """The model that the engine runs."""
        model = self._model()
        if model is None:
            raise PmtrainError("the model of this oneDNN engine is gone", "keep it as long as its engine is used")
        return model

    def __str__(self) -> str:
        """What computes, as it is printed."""
        return f"the oneDNN engine ({open_library().instructions}, threads: {thread_count()})"

    def detach(self) -> None:
        """Restore the model's own forward and free the engine's memory, except compiled code."""
        if self.model.__dict__.get("forward") == self._forward:
            del self.model.__dict__["forward"]
        with self._lock:
            self._forwards += 1
            self._training, self._inference = _Latest[TrainingPlan](), _Latest[InferencePlan]()
            self._folded = FoldedWeights(self.model)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def __deepcopy__(self, memo: dict) -> Engine:
        raise PmtrainError("a model can't be copied while the oneDNN engine is attached", "detach it, copy, attach")

    @contextmanager
    def fixed_weights(self) -> Iterator[None]:
        """Promise that no weight changes inside the block, so that inference needn't check for changes (a few ms)."""
        with self._lock:
            prepare_threads()
            self._folded.refresh(unchanged=self._promises > 0)
            self._promises += 1
        try:
            yield
        finally:
            with self._lock:
                self._promises -= 1

    def _forward(self, x: paddle.Tensor) -> paddle.Tensor:
        """The model's forward, (N, C, H, W) -> logits; Paddle's own if the engine can't replace it."""
        if not (self._fits(x) and self._has_plan(tuple(x.shape))):
            return type(self.model).forward(self.model, x)
        x = x.contiguous()
        if self._learns():
            plan = self._training_plan(tuple(x.shape))
            features = _Training.apply(self, plan, x, *plan.parameters)
        else:
            # Gradients are needed if a parameter has one.
            witness = next((p for p in self._parameters if not p.stop_gradient), self._parameters[0])
            features = _Inference.apply(self, x, witness)
        return self._head(features)

    def _fits(self, x: paddle.Tensor) -> bool:
        """Whether logits and gradients of parameters are all that is needed.

        More is needed if layers inside have hooks or a replaced `forward`, the input needs a gradient, batch norms are
        set to their running statistics one by one, the model was moved or cast, autocast is on, or the input isn't a
        single f32 image batch.
        """
        mode = self.model.training
        frozen = {id(part) for layer in self._plans.frozen(self.model) for part in layer.sublayers()}
        return (
            len(x.shape) == 4
            and self._plans.fits(tuple(x.shape), mode)
            and x.dtype == paddle.float32
            and x.stop_gradient
            and x.place.is_cpu_place()
            and paddle.get_device() == "cpu"
            and self._parameters[0].place.is_cpu_place()
            and all(parameter.dtype == paddle.float32 for parameter in self._parameters)
            and all(_is_plain(layer, mode, id(layer) in frozen) for layer in self._bypassed)
        )

    def _learns(self) -> bool:
        """Whether the forward pass has to keep what a backward pass through a layer before the head needs."""
        return self.model.training and len(self._plans.frozen(self.model)) < len(self._folded)

    def _has_plan(self, shape: Shape) -> bool:
        """Whether oneDNN has fast code for a shape in the model's mode; if not, print it once.

        Raises:
            ReferenceCode, OneDnnError: it doesn't, and the engine is required.
        """
        if (shape, self.model.training) in self._refused:
            return False
        try:
            self._training_plan(shape) if self._learns() else self._inference_plan(shape)
        except (ReferenceCode, OneDnnError) as error:
            if self._required:
                raise
            if not self._refused:
                console.notice(f"computing with Paddle's own kernels, since {error.reason}")
            self._refused.add((shape, self.model.training))
            return False
        return True

    def _training_plan(self, shape: Shape) -> TrainingPlan:
        with self._lock:
            prepare_threads()
            return self._training.of(
                (*shape, len(self._plans.frozen(self.model))),
                lambda arena: self._plans.training(self.model, shape, self.dtype, self._folded, arena),
            )

    def _inference_plan(self, shape: Shape) -> InferencePlan:
        with self._lock:
            prepare_threads()
            return self._inference.of(
                shape, lambda arena: self._plans.inference(self.model, shape, self.dtype, self._folded, arena)
            )

    def _infer(self, x: paddle.Tensor) -> paddle.Tensor:
        with self._lock:
            plan = self._inference_plan(tuple(x.shape))
            self._folded.refresh(unchanged=self._promises > 0)
            return plan.forward(x)


def _is_plain(layer: paddle.nn.Layer, training: bool, frozen: bool) -> bool:
    """Whether a layer inside the model has its class's forward, the model's mode, and no hooks; `frozen` by the model
    as a whole, not otherwise.
    """
    return (
        layer.training == training
        and not layer._forward_pre_hooks
        and not layer._forward_post_hooks
        and "forward" not in layer.__dict__
        and getattr(layer, "_use_global_stats", None) in ((None, True) if frozen else (None,))
    )


class _Training(paddle.autograd.PyLayer):
    """The training plan as one differentiable function of the parameters."""

    @staticmethod
    def forward(ctx, engine: Engine, plan: TrainingPlan, x: paddle.Tensor, *parameters: paddle.Tensor):
        with engine._lock:
            prepare_threads()
            engine._forwards += 1
            ctx.engine, ctx.plan, ctx.number = engine, plan, engine._forwards
            return plan.forward(x)

    @staticmethod
    def backward(ctx, gradient: paddle.Tensor):
        with ctx.engine._lock:
            if ctx.number != ctx.engine._forwards:
                raise RuntimeError(
                    "the activations of this forward pass are gone: a backward pass has used them, another forward"
                    " pass in training mode has overwritten them (call backward before it), or the engine was detached"
                )
            prepare_threads()
            ctx.engine._forwards += 1  # gradients overwrite activations, so a second backward pass is impossible
            gradients = ctx.plan.backward(gradient.contiguous())
        frozen = [parameter.stop_gradient for parameter in ctx.plan.parameters]
        return (None, *(None if skip else value for skip, value in zip(frozen, gradients, strict=True)))


class _Inference(paddle.autograd.PyLayer):
    """The inference plan; asking it for gradients is an error."""

    @staticmethod
    def forward(ctx, engine: Engine, x: paddle.Tensor, witness: paddle.Tensor):
        return engine._infer(x)

    @staticmethod
    def backward(ctx, gradient: paddle.Tensor):
        raise RuntimeError(
            "the oneDNN engine keeps nothing for a backward pass in eval mode: call model.train(), or detach it"
        )


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def _keep_freed_memory() -> None:
    """Set the C library to keep the memory that Paddle frees at every step.

    Gradients are allocated at every step; returning 100 MB to the system and getting it back page by page takes 25 ms.
    Only glibc has this setting.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 32 << 20)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
