"""The model of a GPU, by hand; what it is fed with: tests/kernels/test_triton_compile.py."""

from __future__ import annotations

from collections import Counter

import pytest

pytest.importorskip("triton")

from benchmarks import machine_code
from benchmarks.machine_code import GPUS, Turn

H100 = next(gpu for gpu in GPUS if gpu.name == "H100")


def test_limits_by_hand():
    loop = Counter(FFMA=256, MUFU=64, SHFL=32)
    made = Turn(loop, scores=64, registers=121, warps=4)
    assert made.resident == 16  # 128 registers x 32 lanes x 16 warps
    assert made.figures.instructions == 5.5
    cycles = made.cycles()
    assert cycles["issue"] == 352 / 128 / 64
    assert cycles["special"] == 64 / 16 / 64
    assert cycles["32 lanes"] == 32 / 32 / 64
    assert cycles["latency"] == (800 + 352) / (32 * 16) / 64
    # 2 bytes at 3.0e12 a second, on 132 processors at 1.755 GHz
    copy = 2 * 1.755e9 * 132 / 3.0e12
    assert made.share(H100, 2) == (1.0, "copy")
    share, slowest = Turn(loop + Counter(MUFU=256), 64, 121, 4).share(H100, 2)
    assert (share, slowest) == (pytest.approx(copy / (320 / 16 / 64)), "special")


def test_a_barrier_costs():
    loop = Counter(FFMA=8)
    slower = Turn(loop + Counter(BAR=2), 1, 32, 4).cycles()["latency"]
    assert slower > Turn(loop, 1, 32, 4).cycles()["latency"]


@pytest.mark.parametrize("kind", machine_code.KINDS)
@pytest.mark.parametrize("classes", machine_code.CLASSES)
def test_the_first_design_waits_at_barriers(kind, classes):
    for capability in (80, 90):
        made = machine_code.first_design(capability, classes, kind, H100)
        assert made.figures.barriers > 0
        assert made.figures.instructions > 12
