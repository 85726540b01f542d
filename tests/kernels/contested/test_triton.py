"""Runs triton_cases.py interpreted, in its own process; reads what the compiler makes of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("triton")

from fusion.kernels import compile_table
from fusion.kernels.compile_table import TARGETS

CASES = [
    str(Path(__file__).with_name(name)) for name in ("triton_cases.py", "triton_condense_cases.py")
]
ROOT = Path(__file__).parents[3]
ROWS = [row for row in compile_table.table() if row.kernel == "contested"]


def run_cases(environment: dict[str, str]) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *CASES]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd=ROOT, timeout=600
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_every_case_passes_interpreted():
    run_cases({**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"})


def test_every_case_passes_on_the_gpu():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    run_cases({name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"})


@pytest.fixture(autouse=True)
def compiled_afresh(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def arithmetic(assembly: str) -> set[str]:
    """float32 multiplications and additions, fused or not, as the assembly spells them."""
    nvidia = re.findall(r"\b((?:mul|add|sub|fma|mad)\.[\w.]*f32(?:x2)?)\b", assembly)
    return {
        *nvidia,
        *re.findall(r"\bv_(?:pk_|dual_)?(\w*(?:mul|add|sub|fma|mad|mac)\w*_f32)", assembly),
    }


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: str(target.arch))
def test_scores_round_as_on_the_cpu(target):
    """One rounding per operation, no subnormal number flushed, nothing spilled, 64-bit counts."""
    for row in ROWS[TARGETS.index(target) :: len(TARGETS)]:
        assembly = compile_table.compile_kernel(row, target).asm[
            "amdgcn" if target.backend == "hip" else "ptx"
        ]
        if target.backend == "hip":
            assert arithmetic(assembly) == {"mul_f32", "add_f32"}
            assert re.findall(r"denorm_mode_32 (\d)", assembly) == [
                "3"
            ]  # subnormal operands and results are kept
            assert set(re.findall(r"global_atomic\w*", assembly)) == {"global_atomic_add_x2"}
        else:
            assert {name.removesuffix("x2") for name in arithmetic(assembly)} == {
                "mul.rn.f32",
                "add.rn.f32",
            }
            assert set(re.findall(r"\b(?:atom|red)\.[\w.]*", assembly)) == {
                "atom.global.gpu.relaxed.add.u64"
            }
        made = compile_table.compile_row(row, target)
        assert (made.stack, made.spills) == (0, 0)


def test_the_table_covers_every_configuration():
    assert {row.warps for row in ROWS} == {4}
    assert {row["WIDTH"] for row in ROWS} == {0, 2, 3, 4}
    assert {row["GROUPS"] for row in ROWS} == {1, 3, 22}


@pytest.mark.parametrize("target", [TARGETS[1], TARGETS[3]], ids=lambda target: str(target.arch))
def test_a_single_vector_and_class_compile(target):
    """A launch turns arguments that are 1 into compile-time values."""
    row = replace(
        ROWS[0], constants=(*ROWS[0].constants, ("vectors", 1), ("classes", 1), ("per_vector", 1))
    )
    assert compile_table.compile_kernel(row, target).asm


def test_offsets_are_64_bit():
    """Places in the arrays are 64 bits wide before any optimisation could hide it."""
    text = compile_table.compile_row(ROWS[0], TARGETS[1]).intermediate
    for name in ("means", "candidates", "targets", "blocks", "weights", "counts"):
        offsets = re.findall(rf"tt\.addptr %{name}_ptr\w*, .*?(i\d+) loc", text)
        assert offsets
        assert set(offsets) == {"i64"}, name
