"""Runs every triton_cases.py: interpreted, and on the GPU where there is one.

TRITON_INTERPRET is read when a kernel's module is imported, hence processes of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

ROOT = Path(__file__).parents[2]
CASES = [
    f"tests/kernels/{operation}/triton_cases.py"
    for operation in ("average", "head", "upsample", "confusion")
]


def run(cases: str, environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", cases]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd=ROOT, timeout=600
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.parametrize("cases", CASES)
def test_every_case_passes_interpreted(cases):
    run(cases, {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"})


@pytest.mark.parametrize("cases", CASES)
def test_every_case_passes_on_the_gpu(cases):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    run(cases, {name: text for name, text in os.environ.items() if name != "TRITON_INTERPRET"})
