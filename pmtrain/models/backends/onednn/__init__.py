"""The CPU engine: runs pmtrain's models directly on the oneDNN library in Paddle's wheel."""

from pmtrain.models.backends.onednn.engine import Engine, attach, unavailable_reason

__all__ = ["Engine", "attach", "unavailable_reason"]
