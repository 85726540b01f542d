"""Every kernel compiled ahead of time, without a GPU: each autotune configuration x kinds of value x class counts x architectures.

    table()              the rows: one kernel with all its compile-time values
    compile_row(row, t)  what the compiler made of a row: registers, shared memory, stack, spills, load and store instructions
    compile_all(targets) all rows for all targets, two processes at a time

``python -m fusion.kernels.compile_table`` compiles the whole table and prints it; the exit code is 1 if any row spills. NVIDIA resource
usage is cuobjdump's, AMD's comes from the metadata of the assembly; both tools are inside the triton wheel.
"""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, CompiledKernel

from fusion.kernels import tiles as triton_terms
from fusion.kernels.average import triton as triton_average
from fusion.kernels.confusion import triton as triton_confusion
from fusion.kernels.contested import triton as triton_contested
from fusion.kernels.upsample import triton as triton_upsample

TARGETS = (
    GPUTarget("cuda", 80, 32),
    GPUTarget("cuda", 90, 32),
    GPUTarget("cuda", 100, 32),
    GPUTarget("hip", "gfx942", 64),
)
SHARED_LIMITS = {
    80: 163 << 10,
    90: 227 << 10,
    100: 227 << 10,
    "gfx942": 64 << 10,
}  # bytes a program may use
CLASSES = (11, 124, 150, 1000)
FLOAT16, BFLOAT16, FLOAT32, CODES, PROBABILITIES, ALL = (
    1,
    2,
    4,
    8,
    64,
    127,
)  # sets of kinds; PROBABILITIES are float32
OUTPUTS = ("labels", "probabilities", "confidence", "margin", "entropy")
KERNELS = {
    "softmax_average": (triton_average.softmax_average_kernel, triton_average),
    "upsample_average": (triton_upsample.upsample_average_kernel, triton_upsample),
    "confusion": (triton_confusion.confusion_kernel, triton_confusion),
    "contested": (triton_contested.contested_kernel, triton_contested),
}
TYPES = {
    "address": "*i64",
    "bounds": "*i64",
    "corner": "*i64",
    "column": "*i64",
    "row": "*i64",
    "counts": "*i64",
    "outside": "*i32",
}
TYPES |= {"blocks": "*i64", "candidates": "*u16"}


@dataclass(frozen=True)
class Row:
    """One kernel, its compile-time values by name, and the options of one configuration."""

    kernel: str
    constants: tuple[tuple[str, int | None], ...]
    warps: int

    def __getitem__(self, name: str) -> int | None:
        return dict(self.constants).get(name)


@dataclass(frozen=True)
class Compiled:
    """Per thread: registers, stack bytes, spilled registers; per program: shared bytes; how often each instruction that touches
    device memory occurs; and the intermediate form (TTIR) before any layout is chosen."""

    row: Row
    target: GPUTarget
    registers: int
    stack: int
    spills: int
    shared: int
    memory: Counter[str]
    intermediate: str


def _rows(kernel: str, choices: dict[str, int | None]) -> Iterator[Row]:
    module = KERNELS[kernel][1]
    configs = module.configurations()
    if "CLASSES" in choices:
        configs = module.fitting(configs, {}, **choices)
    for config in configs:
        yield Row(kernel, tuple({**choices, **config.kwargs}.items()), config.num_warps)


def _average_choices(
    classes: int, kind_set: int, separate: bool, **more: int
) -> dict[str, int | None]:
    """All outputs where all kinds or group means are wanted, labels alone otherwise."""
    wanted = OUTPUTS if kind_set == ALL or separate else OUTPUTS[:1]
    absent = {f"{name}_ptr": None for name in OUTPUTS if name not in wanted} | (
        {} if separate else {"means_ptr": None}
    )
    block = triton_terms.block_classes(classes)
    return {
        "CLASSES": classes,
        "BLOCK_C": block,
        "KIND_SET": kind_set,
        "SEPARATE": separate,
        **more,
        **absent,
    }


def table() -> list[Row]:
    """Every kernel x configuration x kinds of value x class count; group means for float16 and codes."""
    rows: list[Row] = []
    for classes in CLASSES:
        for kind_set in (FLOAT16, BFLOAT16, FLOAT32, CODES, ALL):
            rows += _rows(
                "softmax_average",
                _average_choices(classes, kind_set, False, ALIGN=16, FLAT=True, UNIT=True),
            )
        for kind_set in (FLOAT16, CODES):
            rows += _rows(
                "softmax_average",
                _average_choices(classes, kind_set, True, ALIGN=16, FLAT=True, UNIT=True),
            )
        rows += _rows(
            "softmax_average",
            _average_choices(classes, FLOAT16, False, ALIGN=1, FLAT=False, UNIT=False),
        )
        for kind_set, slots in (
            (FLOAT16, 4),
            (BFLOAT16, 2),
            (FLOAT32, 8),
            (CODES, 4),
            (PROBABILITIES, 4),
            (ALL, 1),
        ):
            rows += _rows(
                "upsample_average", _average_choices(classes, kind_set, False, SLOTS=slots)
            )
        for kind_set, slots in ((FLOAT16, 4), (PROBABILITIES, 1)):
            rows += _rows(
                "upsample_average", _average_choices(classes, kind_set, True, SLOTS=slots)
            )
    for groups, matrix in itertools.product((1, 3, 22), (True, False)):
        rows += _rows("contested", {"GROUPS": groups, "MATRIX": matrix})
    return rows + list(_rows("confusion", {"COPIES": triton_confusion.MOST_COPIES}))


def _source(row: Row) -> ASTSource:
    function = KERNELS[row.kernel][0]
    constants = dict(row.constants)
    types = TYPES | {"labels": "*u16" if (constants.get("CLASSES") or 0) > 255 else "*u8"}
    types["targets"] = "*u16" if row.kernel == "contested" else "*u8"
    signature = {}
    for name in function.arg_names:
        scalar_or_pointer = types.get(name[:-4], "*fp32") if name.endswith("_ptr") else "i32"
        signature[name] = "constexpr" if name in constants else scalar_or_pointer
    divisible = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(function.arg_names)
        if signature[name].startswith("*")
    }
    return ASTSource(function, signature, constants, divisible)


def _nvidia_usage(kernel: CompiledKernel) -> tuple[int, int, int]:
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        text = subprocess.run(
            [tool, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    registers, stack, local = (
        int(number) for number in re.search(r"REG:(\d+) STACK:(\d+) .*LOCAL:(\d+)", text).groups()
    )  # type: ignore[union-attr]
    return registers, stack, local


def _amd_usage(assembly: str) -> tuple[int, int, int]:
    def field(name: str) -> int:
        return int(re.search(rf"\.{name}:\s*(\d+)", assembly).group(1))  # type: ignore[union-attr]

    return (
        field("vgpr_count"),
        field("private_segment_fixed_size"),
        field("vgpr_spill_count") + field("sgpr_spill_count"),
    )


def compile_kernel(row: Row, target: GPUTarget) -> CompiledKernel:
    """A row compiled as its launcher has it compiled."""
    roomy = row.kernel in ("softmax_average", "upsample_average")
    options = {
        "num_warps": row.warps,
        "num_stages": row["STAGES"] or 1,
        **triton_terms.compiler_options(roomy),
    }
    if target.backend == "hip":
        options.pop("maxnreg", None)
    return triton.compile(_source(row), target=target, options=options)


def compile_row(row: Row, target: GPUTarget) -> Compiled:
    amd, kernel = target.backend == "hip", compile_kernel(row, target)
    assembly = kernel.asm["amdgcn" if amd else "ptx"]
    registers, stack, spills = _amd_usage(assembly) if amd else _nvidia_usage(kernel)
    memory = Counter(_memory_instructions(assembly, amd))
    return Compiled(
        row, target, registers, stack, spills, kernel.metadata.shared, memory, kernel.asm["ttir"]
    )


def _memory_instructions(assembly: str, amd: bool) -> list[str]:
    """Names of the instructions that touch device memory; an asynchronous copy with its bytes: ``cp.async.16``."""
    if amd:
        return re.findall(r"\b((?:global|buffer)_(?:load|store|atomic)\w*)", assembly)
    copies = [
        f"cp.async.{int(size, 16)}"
        for size in re.findall(r"cp\.async\.c[ag].*, 0x([0-9a-f]+)", assembly)
    ]
    return re.findall(r"\b((?:ld|st|atom|red)\.(?:\w+\.)*global[.\w]*)", assembly) + copies


def _compile_pair(pair: tuple[Row, GPUTarget]) -> Compiled:
    return compile_row(*pair)


def compile_pairs(pairs: Iterable[tuple[Row, GPUTarget]]) -> list[Compiled]:
    """Rows compiled each for its target, two processes at a time; results in order."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        return list(pool.map(_compile_pair, pairs, chunksize=4))


def compile_all(targets: Sequence[GPUTarget] = TARGETS) -> list[Compiled]:
    return compile_pairs((row, target) for target in targets for row in table())


def main() -> int:
    results = compile_all()
    for made in results:
        values = " ".join(
            f"{name}={value}" for name, value in made.row.constants if value is not None
        )
        usage = f"registers {made.registers} stack {made.stack} spills {made.spills} shared {made.shared}"
        print(
            f"{made.target.arch} {made.row.kernel} warps={made.row.warps} {values}: {usage} {dict(made.memory)}"
        )
    return int(any(made.stack or made.spills for made in results))


if __name__ == "__main__":
    sys.exit(main())
