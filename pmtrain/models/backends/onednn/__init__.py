"""The CPU engine: the oneDNN inside Paddle's wheel, driven directly, under the project's own models."""

from pmtrain.models.backends.onednn.engine import Engine, attach, unavailable_reason

__all__ = ["Engine", "attach", "unavailable_reason"]
