"""Where triton_cases.py run: on the CPU where Triton interprets its kernels, else on the GPU."""

from __future__ import annotations

import os

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
