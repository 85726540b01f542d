"""The Triton kernels compiled for four architectures without a GPU.

No spills or stack, fitting shared memory, wide loads, 64-bit offsets. `python -m
fusion.kernels.compile_table` compiles the whole table; here every pair of (kernel and
configuration, kind of value, class count, architecture) occurs at least once.
"""

from __future__ import annotations

import itertools
import re

import pytest

pytest.importorskip("triton")

from fusion.kernels import compile_table
from fusion.kernels.compile_table import CODES, FLOAT16, SHARED_LIMITS, TARGETS, Compiled
from fusion.kernels.upsample import triton_logits as upsample_logits
from tests.kernels.inputs import covering

CHANNELS = ("channel_average", "channel_upsample")


def streams(row) -> bool:
    """Whether a row's loop is held to what labels of one weighting may cost."""
    labels_alone = row.outputs == ["labels"] and row["KIND_SET"] in (FLOAT16, CODES)
    return (
        row.kernel == "softmax_average" and row["ALIGN"] == 16 and row["WC"] == 1 and labels_alone
    )


def features(pair) -> set:
    row, target = pair
    config = (
        row.kernel,
        "group_means" in row.outputs,
        row["TILE"],
        row["STAGES"],
        row["BLOCK_P"],
        row["ROWS"],
        (row["WC"] or 0) > 1,
        row["ALIGN"] if row.kernel == "softmax_average" else None,
        bool(row["CHUNK"]),
        row.warps,
    )
    named = [
        config,
        ("kinds", row["KIND_SET"]),
        ("classes", row["CLASSES"]),
        ("target", str(target.arch)),
    ]
    judged = {("loop", *named[1:])} if streams(row) else set()
    return (
        judged
        | {(named[0], other) for other in named[1:]}
        | {
            (named[2], named[3]),
            (row["SLOTS"], named[1]),
            (row.kernel == "head", bool(row["CHUNK"]), *named[2:]),
        }
    )


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> list[Compiled]:
    pairs = covering(list(itertools.product(compile_table.table(), TARGETS)), features)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        return compile_table.compile_pairs(pairs)


def size(constants: dict[str, int]) -> int:
    return next(constants[name] for name in ("TILE", "BLOCK_P", "WARPS") if name in constants)


def test_table_names_every_kernel_and_configuration():
    rows = compile_table.table()
    assert {row.kernel for row in rows} == set(compile_table.KERNELS)
    assert {row["CLASSES"] for row in rows} >= {11, 124, 150, 1000}
    mixed = {row["CLASSES"] for row in rows if row["CHUNK"]}
    assert mixed == {row["CLASSES"] for row in rows if row["CHUNK"] == 0} - {1000}
    assert mixed == {11, 19, 124, 150}
    tuned = {k: v for k, v in compile_table.KERNELS.items() if hasattr(v, "configurations")}
    assert compile_table.KERNELS.keys() - tuned.keys() == {"softmax_average"}
    for name, module in tuned.items():
        in_table = {
            (size(dict(row.constants)), row["STAGES"], row.warps)
            for row in rows
            if row.kernel == name
        }
        configs = {
            (size(c.kwargs), c.kwargs.get("STAGES"), c.num_warps) for c in module.configurations()
        }
        assert in_table == configs


def crowded(row) -> bool:
    """Interpolated logits of 1000 classes: 32 scores and the addresses of 128 corners a lane."""
    return row.kernel == "upsample_logits" and row["CLASSES"] > upsample_logits.TWICE


def test_nothing_spills(compiled):
    assert [m for m in compiled if (m.spills or m.stack) and not crowded(m.row)] == []
    assert [m for m in compiled if max(m.spills, m.stack) > 64] == []


def test_shared_memory_fits(compiled):
    assert [made for made in compiled if made.shared > SHARED_LIMITS[made.target.arch]] == []


def test_registers_let_a_program_start(compiled):
    nvidia = [made for made in compiled if made.target.backend == "cuda"]
    assert nvidia
    assert all(made.registers * made.row.warps * 32 <= 65536 for made in nvidia)


def test_aligned_float16_logits_are_read_16_bytes_at_a_time(compiled):
    rows = [
        made
        for made in compiled
        if made.row.kernel in ("head", "channel_average")
        and made.row["KIND_SET"] == FLOAT16
        and made.row["ALIGN"] == 16
    ]
    assert {made.target.arch for made in rows} == {target.arch for target in TARGETS}
    for made in rows:
        narrow = {
            name: count
            for name, count in made.memory.items()
            if name in ("ld.global.b16", "global_load_ushort", "cp.async.2")
        }
        assert not narrow, (made.row, made.target, narrow)
        wide = (
            "ld.global.v4.b32",
            "ld.global.v2.b64",
            "cp.async.16",
            "global_load_dwordx4",
            "global_load_dwordx2",
        )
        assert any(made.memory[name] for name in wide), (made.row, made.target, made.memory)


def test_the_average_reads_words_of_neighbouring_pixels(compiled):
    """A lane two or four pixels, the lanes of a warp together 32 bytes of a class."""
    rows = [made for made in compiled if streams(made.row)]
    for made in rows:
        row, narrow = made.row, ("ld.global.b8", "ld.global.b16", "global_load_ubyte")
        size = 2 if row["KIND_SET"] == FLOAT16 else 1
        assert not any(made.memory[name] for name in narrow), (row, made.target, made.memory)
        assert row["PL"] * row["PV"] * size * row["W"] >= 32


def test_a_score_of_the_average_costs_few_instructions(compiled):
    """No warp waits for another, nothing goes through shared memory, nothing is converted."""
    judged = [made for made in compiled if streams(made.row)]
    cases = {(made.row["CLASSES"], made.row["KIND_SET"], made.target.arch) for made in judged}
    assert len(cases) == 4 * 2 * len(TARGETS)
    for made in judged:
        found, most = made.figures, 8.2 if made.row["KIND_SET"] == FLOAT16 else 8.4
        assert not found.forbidden, (made.row, made.target, found)
        assert found.instructions <= most, (made.row, made.target, found)
        assert found.special <= 1.1, (made.row, made.target, found)
        assert found.shuffles <= 0.25, (made.row, made.target, found)


def test_group_means_cost_little_more(compiled):
    """The scores of the groups before stand beside a group's sums, so a lane holds half as many:
    shuffles, reciprocals and addresses, which are of a pixel and a model, weigh twice as much."""
    judged = [
        made for made in compiled if "group_means" in made.row.outputs and made.row["WC"] == 1
    ]
    assert {made.row["KIND_SET"] for made in judged} == {FLOAT16, CODES}
    for made in judged:
        found = made.figures
        assert not found.forbidden, (made.row, made.target, found)
        assert found.instructions <= 10, (made.row, made.target, found)
        assert found.special <= 1.2, (made.row, made.target, found)
        assert found.shuffles <= 0.4, (made.row, made.target, found)


def test_counts_are_added_as_64_bit_integers(compiled):
    for made in (made for made in compiled if made.row.kernel == "confusion"):
        name = "global_atomic_add_x2" if made.target.backend == "hip" else "add.u64"
        assert any(instruction.endswith(name) for instruction in made.memory), made.memory


def test_offsets_are_64_bit():
    """In the first intermediate form, before any optimisation could hide it."""
    rows = compile_table.table()
    for kernel in ("softmax_average", "head", "upsample_logits", *CHANNELS):
        text = compile_table.compile_row(
            next(row for row in rows if row.kernel == kernel and row["KIND_SET"] == FLOAT16),
            TARGETS[1],
        ).intermediate
        offsets = re.findall(
            r"tt\.addptr .*: tensor<\d[^,]*!tt\.ptr<f16>>, tensor<[\dx]*x(i\d+)>", text
        )
        assert offsets
        assert set(offsets) == {"i64"}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: str(target.arch))
@pytest.mark.parametrize("kernel", CHANNELS)
def test_channels_round_as_on_the_cpu(kernel, target, tmp_path, monkeypatch):
    """One rounding per operation, divisions to nearest, no subnormal number flushed."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    rows = [row for row in compile_table.table() if row.kernel == kernel]
    row = next(row for row in rows if row["KIND_SET"] == FLOAT16 and len(row.outputs) > 1)
    made = compile_table.compile_kernel(row, target)
    if target.backend == "hip":  # fused steps are those of divisions
        assert re.findall(r"denorm_mode_32 (\d)", made.asm["amdgcn"]) == ["3"]
        return
    names = set(re.findall(r"\b((?:mul|add|sub|fma|mad|div)\.[\w.]*f32)(?:x2)?\b", made.asm["ptx"]))
    assert names == {"mul.rn.f32", "add.rn.f32", "sub.rn.f32", "div.rn.f32"}
