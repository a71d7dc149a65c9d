"""The backends that compute a network: Paddle's kernels and the oneDNN engine."""

from typing import Literal

BackendName = Literal["auto", "onednn", "paddle"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
