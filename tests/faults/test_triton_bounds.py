"""No lane of a Triton kernel reads or writes outside the tensors of its launch.

The interpreter is asked at every load, store and atomic. The kernels' own cases are checked so
wherever they run interpreted (tests/kernels/conftest.py); here every kernel runs at least once.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

ROOT = Path(__file__).parents[2]


def test_every_kernel_keeps_to_its_tensors():
    cases = "tests/faults/triton_bounds_cases.py"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p"]
    command += ["no:randomly", "--durations=5", cases]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd=ROOT, timeout=600
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
