"""From a checkpoint to a network that is ready to run."""

from __future__ import annotations

from typing import Any

from pmtrain.models import build_model
from pmtrain.models.backends import BackendName, Precision
from pmtrain.models.backends.choose import Backend, choose_backend
from pmtrain.runs.checkpoint import PRETRAINED, Checkpoint
from pmtrain.runs.model_state import apply_state
from pmtrain.system.console import quoted
from pmtrain.system.errors import UsageError


def load_network(
    checkpoint: Checkpoint, device: str, backend: BackendName = "auto", precision: Precision = "fp32"
) -> tuple[Any, Backend]:
    """The checkpoint's network, (N, 3, S, S) -> (N, 1) logits, with the backend that it runs on.

    Args:
        device, backend, precision: as of `choose_backend`.
    Raises:
        PmtrainError: the weights don't fit the network, or an option isn't supported.
    """
    if checkpoint.exported is not None:
        if checkpoint.exported.takes_bytes and not checkpoint.info.normalisation_built_in:
            raise UsageError(
                f"{checkpoint.path}: an older pmtrain exported it --with-preprocessing, and didn't note that in it",
                "export the checkpoint again",
            )
        return checkpoint.exported, _exported_backend(checkpoint, device, backend, precision)
    if checkpoint.path.name == PRETRAINED:
        raise UsageError(
            f"{checkpoint.path}: pre-trained without labels, so it has no classifier",
            f"train one: {quoted('pmtrain', 'train', '--weights', checkpoint.path)} --data ...",
        )
    model = build_model(checkpoint.info.layers)
    apply_state(model, checkpoint.state, checkpoint.path)
    model.eval()
    return model, choose_backend(model, device, backend, precision)


def _exported_backend(checkpoint: Checkpoint, device: str, backend: BackendName, precision: Precision) -> Backend:
    assert checkpoint.exported is not None
    asked = {"--device": device != "cpu", "--backend": backend != "auto", "--precision": precision != "fp32"}
    if given := [flag for flag, is_given in asked.items() if is_given]:
        raise UsageError(
            f"{checkpoint.path}: an exported model runs on the CPU, as it was exported; it takes no {given[0]}",
            f"leave {given[0]} out, or give the checkpoint that it was exported from",
        )
    return Backend("cpu", checkpoint.exported.precision, None, "onnxruntime")
