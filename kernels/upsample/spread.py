"""Scores of label pixels spread over registers and few lanes: what a program does with them.

A program's scores are tiles [2^b, W, CL, PL], one for every binary digit b of ceil(C / CL), highest
first, and every of ROWS label rows: 150 classes in 8 lanes are 16 + 2 + 1 = 19 of 8 each, not 32. W
warps, PL columns a warp, CL * PL = 32; the class of a score is its row of classes * CL + its lane.
Padded classes are those from C on, all in the last tile.
"""

# tuples grow as a kernel unrolls
# mypy: disable-error-code="assignment,var-annotated"
from __future__ import annotations

import triton
import triton.language as tl

from fusion.kernels import tiles

HIGHEST = tl.constexpr(10)  # binary digit of at most 1024 rows of classes
NOTHING = tl.constexpr(-float("inf"))


@triton.jit
def classes_of(START: tl.constexpr, CH: tl.constexpr, CL: tl.constexpr) -> tl.tensor:
    """int32 [CH, 1, CL, 1]: the class of every score of a tile."""
    row = (START + tl.arange(0, CH))[:, None, None, None]
    return row * CL + tl.arange(0, CL)[None, None, :, None]


@triton.jit
def tile_classes(CLASSES: tl.constexpr, CL: tl.constexpr) -> tl.tuple:
    """The classes of every tile; padding is no class."""
    LINES: tl.constexpr = (CLASSES + CL - 1) // CL
    made = ()
    for BIT in tl.static_range(HIGHEST, -1, -1):
        if (LINES >> BIT) & 1:
            made = made + (classes_of((LINES >> (BIT + 1)) << (BIT + 1), 1 << BIT, CL),)
    return made


@triton.jit
def largest(values: tl.tuple, r: tl.constexpr, ROWS: tl.constexpr) -> tl.tensor:
    """[1, W, 1, PL] over all classes of label row r: registers first, then log2(CL) shuffles."""
    made = tl.max(values[r], axis=0, keep_dims=True)
    for i in tl.static_range(1, len(values) // ROWS):
        made = tl.maximum(made, tl.max(values[i * ROWS + r], axis=0, keep_dims=True))
    return tl.max(made, axis=2, keep_dims=True)


@triton.jit
def smallest(values: tl.tuple, r: tl.constexpr, ROWS: tl.constexpr) -> tl.tensor:
    made = tl.min(values[r], axis=0, keep_dims=True)
    for i in tl.static_range(1, len(values) // ROWS):
        made = tl.minimum(made, tl.min(values[i * ROWS + r], axis=0, keep_dims=True))
    return tl.min(made, axis=2, keep_dims=True)


@triton.jit
def summed(values: tl.tuple, r: tl.constexpr, ROWS: tl.constexpr) -> tl.tensor:
    made = tl.sum(values[r], axis=0, keep_dims=True)
    for i in tl.static_range(1, len(values) // ROWS):
        made = made + tl.sum(values[i * ROWS + r], axis=0, keep_dims=True)
    return tl.sum(made, axis=2, keep_dims=True)


@triton.jit
def store_planes(
    output: tl.tensor,
    scores: tl.tuple,
    pixels: tl.tensor,  # P
    x: tl.tensor,  # [1, W, 1, PL]
    ys: tl.tuple,
    CLASSES: tl.constexpr,
    CL: tl.constexpr,
) -> None:
    names = tile_classes(CLASSES, CL)
    for i in tl.static_range(len(names)):
        for r in tl.static_range(len(ys)):
            place = output + names[i].to(tl.int64) * pixels + (ys[r] + x)
            tl.store(place, scores[i * len(ys) + r], mask=(names[i] < CLASSES) & (x >= 0))


@triton.jit
def winners(
    known: tl.tuple, names: tl.tuple, r: tl.constexpr, ROWS: tl.constexpr
) -> tuple[tl.tensor, tl.tensor]:
    """The best score of label row r, and the lowest class that has it."""
    best = largest(known, r, ROWS)
    here = ()
    for i in tl.static_range(len(names)):
        here = here + (tl.where(known[i * ROWS + r] == best, names[i], 1 << 20),)
    return best, smallest(here, 0, 1)


@triton.jit
def store_ranks(
    scores: tl.tuple,
    pixel: tl.tensor,  # int64 [1, W, 1, PL]
    models: tiles.Models,
    outputs: tiles.Outputs,
    r: tl.constexpr,
    CLASSES: tl.constexpr,
    CL: tl.constexpr,
    ROWS: tl.constexpr,
) -> None:
    """Everything that follows from the scores of label row r, each only where it is asked for."""
    names = tile_classes(CLASSES, CL)
    known, wrong, terms, decisive = (), (), (), ()
    for i in tl.static_range(len(names)):
        score = scores[i * ROWS + r]
        real = names[i] < CLASSES
        value = tl.where(real & (score == score), score, NOTHING)
        known = known + (value,)
        wrong = wrong + (tl.where(real & (score != score), 1, 0),)
        if outputs.entropy is not None:
            some = real & (score != 0.0)
            terms = terms + (tl.where(some, score * tl.log(tl.where(some, score, 1.0)), 0.0),)
        if models.multiplier is not None:
            multiplier = tl.load(models.multiplier + tl.minimum(names[i], CLASSES - 1))
            decisive = decisive + (value * multiplier,)
    undefined = largest(wrong, 0, 1) > 0
    if outputs.entropy is not None:
        tl.store(outputs.entropy + pixel, -summed(terms, 0, 1))
    best, top = winners(known, names, 0, 1)
    best = tl.where(undefined, float("nan"), best)
    if outputs.labels is not None:
        label = top
        if models.multiplier is not None:
            _, label = winners(decisive, names, 0, 1)
        label = tl.where(undefined, tiles.NARROW if CLASSES <= tiles.NARROW else tiles.WIDE, label)
        tl.store(outputs.labels + pixel, label.to(outputs.labels.dtype.element_ty))
    if outputs.confidence is not None:
        tl.store(outputs.confidence + pixel, best)
    if outputs.margin is not None:
        margin = best
        if CLASSES > 1:
            others = ()
            for i in tl.static_range(len(names)):
                others = others + (tl.where(names[i] == top, NOTHING, known[i]),)
            margin = best - largest(others, 0, 1)
        tl.store(outputs.margin + pixel, margin)
