"""The reader of machine code, on a few lines by hand; on real kernels in test_triton_compile.py."""

from __future__ import annotations

from collections import Counter

import pytest

pytest.importorskip("triton")

from fusion.kernels import machine_code

NVIDIA = """
        /*0000*/                   MOV R1, c[0x0][0x28] ;      /* 0x00000a0000017a02 */
        /*0010*/                   LDG.E R2, [R4.64] ;         /* 0x0000000402027981 */
        /*0020*/                   IADD3 R4, R4, 0x1, RZ ;     /* 0x0000000104047810 */
        /*0030*/                   MUFU.EX2 R5, R2 ;           /* 0x0000000200057308 */
        /*0040*/              @!P1 FADD R6, R5, R6 ;           /* 0x0000000605067221 */
        /*0050*/                   SHFL.BFLY PT, R7, R6, 0x1 ; /* 0x0c201f0006077f89 */
        /*0060*/               @P0 BRA 0x30 ;                  /* 0xffffffd000000947 */
        /*0070*/                   BAR.SYNC 0x0 ;              /* 0x0000000000007b1d */
        /*0080*/               @P2 BRA 0x10 ;                  /* 0xffffff8000000947 */
        /*0090*/                   EXIT ;                      /* 0x000000000000794d */
        /*00a0*/                   BRA 0xa0;                   /* 0xfffffff000007947 */
"""
AMD = """
kernel:
.LBB0_1:                                ; %body
\tv_mov_b32_e32 v1, 0
.LBB0_2:
\tds_read_b32 v2, v1
\ts_waitcnt lgkmcnt(0)
\tv_exp_f32_e32 v3, v2
\tv_add_f32_dpp v3, v3, v3 row_shr:1
\tv_fma_f32 v4, v3, v3, v4
\ts_cbranch_vccnz .LBB0_2
\ts_cbranch_vccnz .LBB0_1
\ts_endpgm
"""


def test_the_innermost_loop_on_nvidia():
    loop = machine_code.nvidia_loop(NVIDIA)
    assert loop == Counter(MUFU=1, FADD=1, SHFL=1, BRA=1)
    found = machine_code.figures(loop, 2)
    assert (found.instructions, found.special, found.shuffles) == (2, 0.5, 0.5)
    assert not found.forbidden


def test_the_innermost_loop_on_amd():
    """Scalar instructions run beside the others."""
    found = machine_code.figures(machine_code.amd_loop(AMD), 2)
    assert (found.instructions, found.special, found.shuffles) == (2, 0.5, 0.5)
    assert found.forbidden == {"shared": 0.5}


def test_what_must_not_be_there_is_named():
    loop = Counter(BAR=1, LDS=2, STS=2, I2F=4, LDL=1, FADD=6)
    found = machine_code.figures(loop, 4)
    assert found.forbidden == {"barriers": 0.25, "shared": 1, "conversions": 1, "spills": 0.25}


def test_code_without_a_loop_is_refused():
    with pytest.raises(ValueError, match="no loop"):
        machine_code.nvidia_loop(NVIDIA.replace("BRA 0x", "NOP 0x"))
