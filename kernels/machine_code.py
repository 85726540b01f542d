"""What a compiled kernel executes: the instructions of its streaming loop, read from machine code.

    loop = streaming_loop(kernel)        of a triton.compile(...)d kernel: how often each occurs
    figures(loop, scores)                per score of a lane: all, special functions, shuffles, and
                                         what must not be there

NVIDIA's machine code is disassembled by the cuobjdump inside triton's wheel; AMD's assembly is what
Triton keeps. Counts are exact for one turn of the loop; predicated instructions count as executed.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import triton

NVIDIA_LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)([^;]*);")
AMD_LINE = re.compile(r"^\t([a-z]\w+)(.*)$|^(\.LBB\w+):", re.MULTILINE)
Instruction = tuple[str, str]  # name and operands


@dataclass(frozen=True)
class Figures:
    """Instructions per score of a lane; barriers and what follows must be 0."""

    instructions: float
    special: float  # exponentials, reciprocals and their roots
    shuffles: float
    barriers: float
    shared: float  # loads from shared memory and stores to it
    conversions: float  # between integers and floats, and between floats by the slow unit
    spills: float

    @property
    def forbidden(self) -> dict[str, float]:
        """What must not be there, where it is."""
        names = [field.name for field in fields(self)[3:]]
        return {name: getattr(self, name) for name in names if getattr(self, name)}


NVIDIA: dict[str, Sequence[str]] = {
    "special": ("MUFU",),
    "shuffles": ("SHFL",),
    "barriers": ("BAR",),
    "shared": ("LDS", "STS", "LDSM", "ATOMS"),
    "conversions": ("I2F", "F2F", "F2I", "I2FP", "F2FP"),
    "spills": ("LDL", "STL"),
}
AMD: dict[str, Sequence[str]] = {
    "special": ("v_exp_", "v_rsq_", "v_rcp_", "v_sqrt_", "v_log_"),
    "shuffles": ("ds_bpermute", "ds_permute", "ds_swizzle", "v_permlane", "_dpp"),
    "barriers": ("s_barrier",),
    "shared": ("ds_read", "ds_write"),
    "conversions": ("v_cvt_f32_i32", "v_cvt_f32_u32", "v_cvt_f32_ubyte", "v_cvt_i32", "v_cvt_u32"),
    "spills": ("scratch_",),
}


def streaming_loop(kernel: Any) -> Counter[str]:
    """Names of the instructions of one turn of the longest loop that has no loop inside.

    ValueError where there is no loop.
    """
    if "cubin" in kernel.asm:
        return nvidia_loop(_disassembled(kernel.asm["cubin"]))
    return amd_loop(kernel.asm["amdgcn"])


def nvidia_loop(text: str) -> Counter[str]:
    """Of a disassembly; names without what follows their first full stop."""
    return Counter(name.split(".")[0] for name, _ in _innermost(*_nvidia(text)))


def amd_loop(text: str) -> Counter[str]:
    """Of an assembly."""
    return Counter(name for name, _ in _innermost(*_amd(text)))


def figures(loop: Counter[str], scores: int) -> Figures:
    """Of a loop in one turn of which a lane handles so many scores."""
    amd = any(name.islower() for name in loop)
    kinds = AMD if amd else NVIDIA
    made = {kind: _count(loop, names, amd) / scores for kind, names in kinds.items()}
    # scalar instructions have a unit of their own on AMD
    every = sum(n for name, n in loop.items() if not (amd and name.startswith("s_")))
    return Figures(every / scores, **made)


def _count(loop: Counter[str], names: Iterable[str], prefixes: bool) -> int:
    if not prefixes:
        return sum(loop[name] for name in names)
    starts = tuple(name for name in names if not name.startswith("_"))
    ends = tuple(name for name in names if name.startswith("_"))
    return sum(n for name, n in loop.items() if name.startswith(starts) or name.endswith(ends))


def _innermost(instructions: list[Instruction], loops: list[tuple[int, int]]) -> list[Instruction]:
    inner = [a for a in loops if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    if not inner:
        raise ValueError("machine code: got no loop; give a kernel that streams over models")
    first, last = max(inner, key=lambda loop: loop[1] - loop[0])
    return instructions[first : last + 1]


def _disassembled(cubin: bytes) -> str:
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "-sass", file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _nvidia(text: str) -> tuple[list[Instruction], list[tuple[int, int]]]:
    """Instructions, and the first and the last of every loop."""
    lines = NVIDIA_LINE.findall(text)
    places = {int(address, 16): k for k, (address, _, _) in enumerate(lines)}
    instructions, loops = [(name, rest) for _, name, rest in lines], []
    for k, (name, rest) in enumerate(instructions):
        target = re.search(r"0x([0-9a-f]+)", rest)
        if name.startswith("BRA") and target and places.get(int(target.group(1), 16), k) < k:
            loops.append((places[int(target.group(1), 16)], k))
    return instructions, loops


def _amd(assembly: str) -> tuple[list[Instruction], list[tuple[int, int]]]:
    """As `_nvidia`."""
    instructions: list[Instruction] = []
    labels: dict[str, int] = {}
    loops = []
    for name, rest, label in AMD_LINE.findall(assembly):
        if label:
            labels[label] = len(instructions)
            continue
        target = rest.strip()
        if name.startswith(("s_cbranch", "s_branch")) and target in labels:
            loops.append((labels[target], len(instructions)))
        instructions.append((name, rest))
    return instructions, loops
