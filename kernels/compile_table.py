"""Every kernel compiled ahead of time, without a GPU.

Each autotune configuration x kinds of value x class counts x architectures:

    table()                   the rows: one kernel with all its compile-time values
    compile_row(row, target)  what the compiler made of a row: registers, shared memory, stack,
                              spills, load and store instructions
    compile_pairs(pairs)      many rows, each for its target, two processes at a time

``python -m fusion.kernels.compile_table`` compiles the whole table and prints it; the exit code is
1 if any row spills. NVIDIA resource usage is cuobjdump's, AMD's comes from the metadata of the
assembly; both tools are inside the triton wheel.
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
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, CompiledKernel

from fusion.kernels import chosen, machine_code, tiles
from fusion.kernels.arithmetic import CHANNEL_OUTPUTS, HEAD_OUTPUTS, OUTPUTS
from fusion.kernels.average import triton as average
from fusion.kernels.average import triton_channels as channel_average
from fusion.kernels.channel_tiles import Tables
from fusion.kernels.confusion import triton as confusion
from fusion.kernels.contested import triton as contested
from fusion.kernels.contested import triton_condense as condense
from fusion.kernels.head import triton as head
from fusion.kernels.numbers import NARROW_VOID
from fusion.kernels.tiles import Models, Outputs
from fusion.kernels.upsample import triton_channels as channel_upsample
from fusion.kernels.upsample import triton_logits as upsample_logits
from fusion.kernels.upsample import triton_maps as upsample_maps
from fusion.kernels.upsample.cells import Cells
from fusion.kernels.upsample.triton_maps import Parts

TARGETS = (
    *(GPUTarget("cuda", capability, 32) for capability in (80, 90, 100)),
    GPUTarget("hip", "gfx942", 64),
)
# bytes a program may use
SHARED_LIMITS = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10, "gfx942": 64 << 10}
CLASSES = (11, 124, 150, 1000)
TWO_TURNS = (OUTPUTS[-1:], OUTPUTS[:-1])
HEAD_CLASSES = (11, 19, 124, 150, 1000)
FLOAT16, BFLOAT16, FLOAT32, CODES = 1, 2, 4, 8  # sets of kinds
PROBABILITIES, ALL = 64, 127  # float32; all of them
KERNELS = {  # the module of <name>_kernel
    "softmax_average": average,
    "head": head,
    "upsample_logits": upsample_logits,
    "upsample_maps": upsample_maps,
    "channel_average": channel_average,
    "channel_upsample": channel_upsample,
    "confusion": confusion,
    "contested": contested,
    "certain": condense,
    "undominated": condense,
}
TYPES: dict[str, Any] = {
    "steps": Cells("*i32", "*fp32", "*i32", "*i32", "*fp32", "*i32"),
    **dict.fromkeys(("counts_ptr", "blocks_ptr"), "*i64"),
    **dict.fromkeys(("targets_ptr", "labels_ptr"), "*u8"),
    **{"outside_ptr": "*i32", "candidates_ptr": "*u16"},
    **{"verdicts_ptr": "*i32", "alive_ptr": "*u8"},
    **dict.fromkeys(("factor", "tiny", "limit"), "fp32"),
}


@dataclass(frozen=True)
class Row:
    """One kernel, its compile-time values by name, and warps."""

    kernel: str
    constants: tuple[tuple[str, int], ...]
    warps: int

    def __getitem__(self, name: str) -> int | None:
        return dict(self.constants).get(name)

    @property
    def outputs(self) -> list[str]:
        wanted = self["WANTED"] or 0
        return [name for k, name in enumerate(Outputs._fields) if wanted >> k & 1]


@dataclass(frozen=True)
class Compiled:
    """Per thread: registers, stack bytes, spilled registers; per program: shared bytes.

    memory: how often each instruction that touches device memory occurs. intermediate: the form
    before any layout is chosen (TTIR). loop: of the average, what one model executes.
    """

    row: Row
    target: GPUTarget
    registers: int
    stack: int
    spills: int
    shared: int
    memory: Counter[str]
    intermediate: str
    loop: Counter[str] | None

    @property
    def figures(self) -> machine_code.Figures:
        """Of the average's loop, per score."""
        assert self.loop is not None
        row = dict(self.row.constants)
        scores = -(-row["CLASSES"] // (row["WC"] * row["CL"])) * row["PV"]
        return machine_code.figures(self.loop, scores)


def _rows(kernel: str, **choices: int) -> Iterator[Row]:
    module = KERNELS[kernel]
    configs = module.configurations()
    if hasattr(module, "fitting"):
        configs = module.fitting(configs, {}, **choices)
    for config in configs:
        yield Row(kernel, tuple({**choices, **config.kwargs}.items()), config.num_warps)


def _averages(
    kernel: str, classes: int, kinds: int, separate: bool = False, **more: int
) -> Iterator[Row]:
    """All outputs where all kinds or group means are wanted, labels alone otherwise."""
    block, wanted = tiles.block_classes(classes), tiles.mask(_outputs_of(kinds, separate))
    return _rows(kernel, CLASSES=classes, BLOCK_C=block, KIND_SET=kinds, WANTED=wanted, **more)


def _upsampled_logits(classes: int, kinds: int, outputs: Sequence[str] = OUTPUTS[:1]) -> list[Row]:
    """Spread over lanes as a launch spreads them, in strips as long as they may be."""
    lanes, rows = upsample_logits.lanes_and_rows(classes, separate="group_means" in outputs)
    how = {"CLASSES": classes, "CL": lanes, "PL": 32 // lanes, "ROWS": rows, "KIND_SET": kinds}
    return list(_rows("upsample_logits", **how, SMOOTH=True, WANTED=tiles.mask(outputs)))


def _upsampled_maps(rows: int, slots: int) -> Iterator[Row]:
    """One map's labels and means; all else of one map; everything of several."""
    for outputs, alone in (
        *((OUTPUTS[:1], True), (OUTPUTS[-1:], True)),
        *((OUTPUTS[:-1], True), (OUTPUTS, False)),
    ):
        given = {"ROWS": rows, "SLOTS": slots, "ALONE": alone, "WIDE": False}
        yield from _rows("upsample_maps", **given, WANTED=tiles.mask(outputs))


def _outputs_of(kinds: int, separate: bool) -> tuple[str, ...]:
    return OUTPUTS if separate else OUTPUTS[:-1] if kinds == ALL else OUTPUTS[:1]


def average_row(
    classes: int, kinds: int, outputs: Sequence[str] = OUTPUTS[:1], *, aligned: bool = True
) -> Row:
    """The average as its launcher chooses it, of maps that lie well or as badly as they can."""
    spread = chosen.spread(
        classes,
        codes=kinds == CODES,
        means="group_means" in outputs,
        more=tuple(outputs) != OUTPUTS[:1] or kinds.bit_count() > 1,
        align=16 if aligned else 1,
    )
    layout = {"ALIGN": 16 if aligned else 1, "FLAT": aligned, "UNIT": aligned, "NEAR": aligned}
    given = {"CLASSES": classes, "KIND_SET": kinds, "WANTED": tiles.mask(outputs)}
    constants = {**given, **spread.letters, **layout, "STEEP": not aligned}
    return Row("softmax_average", tuple(constants.items()), spread.warps)


def _heads(classes: int, kinds: int, **layout: int) -> Iterator[Row]:
    """Both forms: scores too where all kinds are wanted, labels alone otherwise."""
    wanted = tiles.mask(HEAD_OUTPUTS if kinds == ALL else HEAD_OUTPUTS[:1])
    block = tiles.block_classes(classes)
    for chunk in {0, head.chunk(classes)} if classes <= head.MAX_MIXED else {0}:
        given = {"CLASSES": classes, "BLOCK_C": block, "CHUNK": chunk, "KIND_SET": kinds}
        yield from _rows("head", **given, WANTED=wanted, **layout)


def _channels(kernel: str, kinds: int, **layout: int) -> Iterator[Row]:
    """Labels and probabilities, and group means where all kinds are wanted; then labels alone."""
    for outputs in (CHANNEL_OUTPUTS if kinds == ALL else CHANNEL_OUTPUTS[:2], CHANNEL_OUTPUTS[:1]):
        yield from _rows(kernel, KIND_SET=kinds, WANTED=tiles.mask(outputs), **layout)


def table() -> list[Row]:
    """Every kernel x configuration x kinds of value x class count."""
    rows: list[Row] = []
    aligned: dict[str, Any] = {"ALIGN": 16, "FLAT": True, "UNIT": True}
    scattered: dict[str, Any] = {"ALIGN": 1, "FLAT": False, "UNIT": False}
    slots = {FLOAT16: 4, BFLOAT16: 2, FLOAT32: 4, CODES: 4, PROBABILITIES: 4, ALL: 1}
    for classes in CLASSES:
        for kinds in (FLOAT16, BFLOAT16, FLOAT32, CODES, ALL):
            rows += [average_row(classes, kinds, _outputs_of(kinds, separate=False))]
        rows += [average_row(classes, kinds, OUTPUTS) for kinds in (FLOAT16, CODES)]
        rows += [average_row(classes, FLOAT16, aligned=False)]
        for kinds in slots:
            rows += _upsampled_logits(classes, kinds) if kinds != ALL else []
        for outputs in (OUTPUTS,) if classes <= upsample_logits.TWICE else TWO_TURNS:
            rows += _upsampled_logits(classes, FLOAT16, outputs)
    rows += [average_row(19, kinds) for kinds in (FLOAT16, CODES)]
    rows += [average_row(124, FLOAT16, OUTPUTS[:-1])]
    rows += _upsampled_logits(11, FLOAT16 | CODES, OUTPUTS[:-1])
    for shape in ((1, 1), (2, 2), (4, 4)):
        rows += _upsampled_maps(*shape)
    for classes in HEAD_CLASSES:
        for kinds in (FLOAT16, CODES, PROBABILITIES, ALL):
            rows += _heads(classes, kinds, **aligned)
        rows += _heads(classes, FLOAT16, **scattered)
    for kinds, number in slots.items():
        rows += _channels("channel_average", kinds, **aligned)
        rows += _channels("channel_upsample", kinds, SLOTS=number, ROWS=2 if number > 1 else 1)
    rows += _channels("channel_average", CODES, **scattered)
    for groups, matrix, scaled in itertools.product((1, 3, 22), (True, False), (True, False)):
        for width in sorted({contested.unrolled(k, groups) for k in (2, 3, 4, 5)}):
            given = {"GROUPS": groups, "WIDTH": width, "MATRIX": matrix, "SCALED": scaled}
            rows += _rows("contested", **given)
    for both in (False, True):
        rows += _rows("certain", BOTH=both)
        rows += _rows("undominated", BOTH=both, BLOCK_D=condense.block_rivals())
    return rows + list(_rows("confusion", COPIES=confusion.MOST_COPIES))


def _outputs(row: Row) -> Outputs:
    """Types of the outputs; what is not asked for is a compile-time None."""
    labels = "*u16" if (row["CLASSES"] or 0) > NARROW_VOID else "*u8"
    types = {name: labels if name == "labels" else "*fp32" for name in row.outputs}
    return Outputs(*(types.get(name, "constexpr") for name in Outputs._fields))


def _models(row: Row) -> Models:
    """Types of the tables; multipliers come with the rows that have more outputs than labels."""
    if row.kernel == "head":
        return Models("*i64", "*fp32", "*i64", "constexpr", "constexpr")
    multiplier = "*fp32" if len(row.outputs) > 1 else "constexpr"
    return Models("*i64", "*fp32", "*i64", "*fp32", multiplier)


def _tables(row: Row) -> Tables:
    """Those of channels, likewise."""
    return Tables(*("*i64",) * 4, *("*fp32",) * 3, "*fp32" if len(row.outputs) > 1 else "constexpr")


def _parts(row: Row) -> Parts:
    """Those of maps, likewise."""
    multiplier = "*fp32" if len(row.outputs) > 1 else "constexpr"
    return Parts("*i64", "*i64", "*fp32", "*fp32", multiplier)


def _source(row: Row, target: GPUTarget) -> ASTSource:
    function = getattr(KERNELS[row.kernel], f"{row.kernel}_kernel")
    types = {**TYPES, "outputs": _outputs(row), "models": _models(row), "tables": _tables(row)}
    types["parts"] = _parts(row)
    if row.kernel in ("contested", "certain"):
        types["targets_ptr"] = "*u16" if row.kernel == "contested" else "*i32"
    constants: dict[Any, Any] = {
        name: value for name, value in row.constants if name in function.arg_names
    }
    if row.kernel == "head":
        constants["PRECISION"] = head.precision(hip=target.backend == "hip")
    if row.kernel == "softmax_average":  # the others take half of AMD's lanes
        constants["PL"] = target.warp_size // constants["CL"]
    constants = {name: constants[name] for name in constants if name in function.arg_names}
    signature: dict[str, Any] = {}
    places: dict[tuple[int, ...], Any] = {}  # of a tuple: its leaves
    for i, name in enumerate(function.arg_names):
        default = "*fp32" if name.endswith("_ptr") else "i32"
        kind = signature[name] = "constexpr" if name in constants else types.get(name, default)
        if isinstance(kind, tuple):
            places |= {(i, j): leaf for j, leaf in enumerate(kind)}
        else:
            places[(i,)] = kind
    constants |= {p: None for p, kind in places.items() if len(p) == 2 and kind == "constexpr"}
    divisible = {p: [["tt.divisibility", 16]] for p, kind in places.items() if kind[0] == "*"}
    return ASTSource(function, signature, constants, divisible)


def _nvidia_usage(kernel: CompiledKernel) -> tuple[int, int, int]:
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [str(tool), "-res-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+) .*LOCAL:(\d+)", text)
    assert found is not None
    registers, stack, local = map(int, found.groups())
    return registers, stack, local


def _amd_usage(assembly: str) -> tuple[int, int, int]:
    def field(name: str) -> int:
        return int(re.search(rf"\.{name}:\s*(\d+)", assembly).group(1))  # type: ignore[union-attr]

    spills = field("vgpr_spill_count") + field("sgpr_spill_count")
    return field("vgpr_count"), field("private_segment_fixed_size"), spills


def _memory_instructions(assembly: str, amd: bool) -> list[str]:
    """Names of the instructions that touch device memory; asynchronous copies with their bytes."""
    if amd:
        return re.findall(r"\b((?:global|buffer)_(?:load|store|atomic)\w*)", assembly)
    sizes = re.findall(r"cp\.async\.c[ag].*, 0x([0-9a-f]+)", assembly)
    plain = re.findall(r"\b((?:ld|st|atom|red)\.(?:\w+\.)*global[.\w]*)", assembly)
    return plain + [f"cp.async.{int(size, 16)}" for size in sizes]


def compile_kernel(row: Row, target: GPUTarget) -> CompiledKernel:
    """A row compiled as its launcher has it compiled."""
    held = row["TILE"] or row["CL"] or row.kernel in ("upsample_logits", "channel_upsample")
    options = tiles.compiler_options(holds_tile=bool(held))
    options |= {"num_warps": row.warps, "num_stages": row["STAGES"] or 1}
    if target.backend == "hip":
        options.pop("maxnreg", None)
    return triton.compile(_source(row, target), target=target, options=options)


def compile_row(row: Row, target: GPUTarget) -> Compiled:
    amd, kernel = target.backend == "hip", compile_kernel(row, target)
    assembly = kernel.asm["amdgcn" if amd else "ptx"]
    usage = _amd_usage(assembly) if amd else _nvidia_usage(kernel)
    memory = Counter(_memory_instructions(assembly, amd))
    shared, intermediate = kernel.metadata.shared, kernel.asm["ttir"]
    loop = machine_code.streaming_loop(kernel) if row.kernel == "softmax_average" else None
    return Compiled(row, target, *usage, shared, memory, intermediate, loop)


def compile_pairs(pairs: Iterable[tuple[Row, GPUTarget]]) -> list[Compiled]:
    """Rows compiled each for its target, two processes at a time; results in order."""
    rows, targets = zip(*pairs, strict=True)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        return list(pool.map(compile_row, rows, targets, chunksize=4))


def main() -> int:
    results = compile_pairs((row, target) for target in TARGETS for row in table())
    for made in results:
        row = made.row
        print(
            f"{made.target.arch} {row.kernel} warps={row.warps}",
            *(f"{name}={value}" for name, value in row.constants),
            f"outputs={','.join(row.outputs)}: registers {made.registers} stack {made.stack}",
            f"spills {made.spills} shared {made.shared} {dict(made.memory)}",
        )
    return int(any(made.stack or made.spills for made in results))


if __name__ == "__main__":
    sys.exit(main())
