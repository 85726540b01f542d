"""Labels of contested pixels under many weight vectors on a GPU: the very counts of the CPU.

Scores add up in float32, one rounding per operation, in the order of the groups; a weight of 0 adds
+0. The launch forbids contraction into fused multiply-add, and nothing flushes subnormal numbers,
so winners are those of the CPU. A program takes one block of pixels with equally many candidates
through a share of the weight vectors. Neighbouring vectors disagree on few pixels, so counts are
written as differences between consecutive vectors with int64 atomics, and summed up afterwards:
integer sums have one result in any order. Of pixels with few candidates, which most are, a thread
holds all means and classes in registers and loads nothing but weights from vector to vector; each
such number of candidates is a kernel of its own, fully unrolled. Shape letters are those of
layout.py, and B weight vectors, V videos, R blocks.
"""

# tuples grow as a kernel unrolls
# mypy: disable-error-code="assignment,var-annotated"
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from fusion.kernels.contested import layout
from fusion.kernels.contested.layout import Floats, Ints, Parts
from fusion.kernels.contested.triton_condense import condense
from fusion.kernels.tiles import compiler_options

__all__ = ["DeviceParts", "condense", "count", "upload"]

BLOCK_P = 128  # pixels of a block, whole bundles
SHARE = 32  # weight vectors of a program; it looks at one more, the vector before its first
MOST_UNROLLED = 4  # candidates that are unrolled
MOST_MEANS = 96  # means that a thread holds
MOST_SHARES = 65535  # the longest second axis of a launch
LANES = tl.constexpr(layout.LANES)
COLUMNS = tl.constexpr(5)  # of the table of blocks


@triton.jit
def held(
    pointer: tl.tensor,  # [BLOCK_P] each pixel's first of COUNT numbers, LANES apart
    inside: tl.tensor,  # [BLOCK_P] whether the pixel exists
    COUNT: tl.constexpr,
) -> tl.tuple:
    """COUNT numbers of every pixel; zeros beyond the last."""
    made = ()
    for k in tl.static_range(COUNT):
        made = made + (tl.load(pointer + k * LANES, mask=inside, other=0),)
    return made


@triton.jit
def winners_held(
    means: tl.tuple,  # of each candidate in each group, float32 [BLOCK_P]
    candidates: tl.tuple,  # uint16 [BLOCK_P]
    weights_ptr: tl.tensor,  # float32 [G]
    multipliers_ptr: tl.tensor,  # float32 [C]
    GROUPS: tl.constexpr,
    SCALED: tl.constexpr,
) -> tl.tensor:
    """int32 [BLOCK_P]: the class of the first candidate with the highest score."""
    best = tl.full(means[0].shape, -1.0, tl.float32)  # scores are not negative
    winner = candidates[0].to(tl.int32)
    for j in tl.static_range(len(candidates)):
        score = tl.full(means[0].shape, 0.0, tl.float32)
        for g in tl.static_range(GROUPS):
            score += tl.load(weights_ptr + g) * means[j * GROUPS + g]
        label = candidates[j].to(tl.int32)
        if SCALED:
            score *= tl.load(multipliers_ptr + label)
        higher = score > best
        best = tl.where(higher, score, best)
        winner = tl.where(higher, label, winner)
    return winner


@triton.jit
def winners(
    pointer: tl.tensor,  # [BLOCK_P] into means: each pixel's first candidate, first group
    candidate_ptr: tl.tensor,  # [BLOCK_P] into the classes: each pixel's first candidate
    weights_ptr: tl.tensor,  # float32 [G]
    multipliers_ptr: tl.tensor,  # float32 [C]
    inside: tl.tensor,  # [BLOCK_P] whether the pixel exists
    width: tl.tensor,  # k
    GROUPS: tl.constexpr,
    SCALED: tl.constexpr,
) -> tl.tensor:
    """As `winners_held`, of any number of candidates."""
    best = tl.full(inside.shape, -1.0, tl.float32)
    winner = tl.full(inside.shape, 0, tl.int32)
    for j in range(0, width):
        score = tl.full(inside.shape, 0.0, tl.float32)
        for g in range(0, GROUPS):
            score += tl.load(weights_ptr + g) * tl.load(pointer, mask=inside, other=0.0)
            pointer += LANES
        if SCALED:
            label = tl.load(candidate_ptr + j * LANES, mask=inside, other=0).to(tl.int32)
            score *= tl.load(multipliers_ptr + label)
        higher = score > best
        best = tl.where(higher, score, best)
        winner = tl.where(higher, tl.cast(j, tl.int32), winner)
    return tl.load(candidate_ptr + winner * LANES, mask=inside, other=0).to(tl.int32)


@triton.jit
def add(
    counts_ptr: tl.tensor,  # int64 [C, C] or [2, C], of one weight vector
    winner: tl.tensor,  # [BLOCK_P] int32
    target: tl.tensor,  # [BLOCK_P] int64
    counted: tl.tensor,  # [BLOCK_P]
    classes: tl.tensor,  # C
    AMOUNT: tl.constexpr,
    MATRIX: tl.constexpr,
) -> None:
    """Adds AMOUNT per counted pixel: to a cell, or to its label's intersection and prediction."""
    label, amount = winner.to(tl.int64), tl.full(winner.shape, AMOUNT, tl.int64)
    if MATRIX:
        tl.atomic_add(counts_ptr + target * classes + label, amount, mask=counted, sem="relaxed")
    else:
        tl.atomic_add(counts_ptr + label, amount, mask=counted & (label == target), sem="relaxed")
        tl.atomic_add(counts_ptr + classes + label, amount, mask=counted, sem="relaxed")


@triton.jit(do_not_specialize=["first_block"])
def contested_kernel(
    means_ptr: tl.tensor,  # float32 [K * G], in bundles
    candidates_ptr: tl.tensor,  # uint16 [K], classes in bundles
    targets_ptr: tl.tensor,  # uint16, pixel by pixel
    blocks_ptr: tl.tensor,  # int64 [R, 5]: first candidate, first target, k, pixels, video
    weights_ptr: tl.tensor,  # float32 [B, G]
    multipliers_ptr: tl.tensor,  # float32 [B, C] where SCALED, else anything
    counts_ptr: tl.tensor,  # int64 [V, B, C, C] or [V, B, 2, C], zeros; becomes differences
    first_block: tl.tensor,  # of the launch
    vectors: tl.tensor,  # B
    classes: tl.tensor,  # C
    per_vector: tl.tensor,  # counts of a vector: C * C or 2 * C
    per_video: tl.tensor,  # counts of a video, or 0 to add all videos up
    share: tl.tensor,  # weight vectors of a program
    GROUPS: tl.constexpr,
    WIDTH: tl.constexpr,  # k of all blocks of the launch, 0 where it is large or differs
    MATRIX: tl.constexpr,
    SCALED: tl.constexpr,
    BLOCK_P: tl.constexpr,
) -> None:
    block = tl.program_id(0).to(tl.int64) + first_block
    entry = blocks_ptr + block * COLUMNS
    place, width = tl.load(entry), tl.load(entry + 2)
    if WIDTH > 0:
        width = WIDTH
    pixel = tl.arange(0, BLOCK_P)
    inside = pixel < tl.load(entry + 3)
    target = tl.load(targets_ptr + tl.load(entry + 1) + pixel, mask=inside, other=0).to(tl.int64)
    bundle, lane = (pixel // LANES).to(tl.int64) * LANES, pixel % LANES
    candidate_ptr = candidates_ptr + place + bundle * width + lane
    mean_ptr = means_ptr + place * GROUPS + bundle * width * GROUPS + lane
    counts_ptr += tl.load(entry + 4) * per_video
    candidates, means = held(candidate_ptr, inside, WIDTH), held(mean_ptr, inside, WIDTH * GROUPS)

    first = tl.program_id(1) * share
    before = tl.full([BLOCK_P], -1, tl.int32)
    for b in range(tl.maximum(first - 1, 0), tl.minimum(first + share, vectors)):
        vector = tl.cast(b, tl.int64)
        weight, multiplier = weights_ptr + vector * GROUPS, multipliers_ptr + vector * classes
        if WIDTH > 0:
            now = winners_held(means, candidates, weight, multiplier, GROUPS, SCALED)
        else:
            now = winners(
                mean_ptr, candidate_ptr, weight, multiplier, inside, width, GROUPS, SCALED
            )
        # never beyond the last pixel: zeros choose class 0 under every vector
        changed = inside & (now != before) & (b >= first)
        place_ptr = counts_ptr + vector * per_vector
        add(place_ptr, before, target, changed & (before >= 0), classes, -1, MATRIX)
        add(place_ptr, now, target, changed, classes, 1, MATRIX)
        before = now


def configurations() -> list[triton.Config]:
    """One: a pixel per thread."""
    return [triton.Config({"BLOCK_P": BLOCK_P}, num_warps=4, num_stages=1)]


def unrolled(width: int, groups: int) -> int:
    """WIDTH of blocks of so many candidates: 0 where no thread has room for their means."""
    return width if width <= MOST_UNROLLED and width * groups <= MOST_MEANS else 0


@dataclass(frozen=True, eq=False)
class DeviceParts:
    """`Parts` on a device: all runs one after the other, and the table of their blocks.

    highest: the highest class id of targets and candidates. videos: one more than the last index.
    spans: how many blocks there are of each number of candidates, in the order of the table.
    """

    means: Tensor
    candidates: Tensor
    targets: Tensor
    blocks: Tensor
    highest: int
    videos: int
    spans: tuple[tuple[int, int], ...]


def _blocks(parts: Parts) -> Ints:
    """int64 [R, 5]: the runs cut into blocks of at most BLOCK_P pixels, by number of candidates."""
    rows, candidates, targets = [np.zeros((0, COLUMNS.value), np.int64)], 0, 0
    for video, run in parts.runs:
        first = np.arange(0, run.pixels, BLOCK_P, dtype=np.int64)
        places = candidates + first * run.width, targets + first
        numbers = run.width, np.minimum(run.pixels - first, BLOCK_P), video
        rows.append(np.stack(np.broadcast_arrays(*places, *numbers), axis=1))
        candidates, targets = candidates + len(run.classes), targets + len(run.targets)
    table = np.concatenate(rows)
    return table[np.argsort(table[:, 2], kind="stable")]


def _joined(arrays: list[NDArray], dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """Flat arrays one after the other on a device, without a second copy of all on the host."""
    lengths = [len(array) for array in arrays]
    joined = torch.empty(sum(lengths), dtype=dtype, device=device)
    for place, array in zip(joined.split(lengths), arrays, strict=True):
        place.copy_(torch.tensor(array))  # a copy: torch takes no read-only array as it is
    return joined


def upload(parts: Parts, device: torch.device | str) -> DeviceParts:
    """Copies contested pixels to a device, for any number of counts. ValueError: wrong lengths."""
    runs = [run for _, run in parts.runs]
    groups = len(runs[0].means) // max(1, len(runs[0].classes)) if runs else 1
    parts.check(groups, 1 << 16)
    blocks = _blocks(parts)
    widths, counts = np.unique(blocks[:, 2], return_counts=True)
    return DeviceParts(
        _joined([run.means for run in runs], torch.float32, device),
        _joined([run.classes for run in runs], torch.uint16, device),
        _joined([run.targets for run in runs], torch.uint16, device),
        torch.from_numpy(blocks).to(device),
        max((run.highest for run in runs), default=-1),
        1 + max((video for video, _ in parts.runs), default=-1),
        tuple(zip(widths.tolist(), counts.tolist(), strict=True)),
    )


def _launches(spans: Sequence[tuple[int, int]], groups: int) -> list[tuple[int, int]]:
    """WIDTH and number of blocks of every launch: one for all that are not unrolled."""
    made: list[tuple[int, int]] = []
    for width, number in spans:
        width = unrolled(width, groups)
        if made and made[-1][0] == width:
            number += made.pop()[1]
        made.append((width, number))
    return made


def count(
    parts: DeviceParts,
    weights: Floats,
    classes: int,
    *,
    videos: int = 1,
    matrix: bool = True,
    multipliers: Floats | None = None,
) -> Ints:
    """As `fusion.kernels.contested.count`."""
    vectors, groups = weights.shape
    if len(parts.means) != groups * len(parts.candidates) or parts.highest >= classes:
        got = f"{len(parts.means)} means, {len(parts.candidates)} candidates, class {parts.highest}"
        raise ValueError(f"contested pixels: {got}; expected {groups} groups, {classes} classes")
    if 1 < videos < parts.videos:
        raise ValueError(f"a run of video {parts.videos - 1} where there are {videos}")
    counts = parts.blocks.new_zeros((videos, vectors, classes if matrix else 2, classes))
    if vectors and len(parts.blocks):
        factors = np.ones((1, 1), np.float32) if multipliers is None else multipliers
        share = max(SHARE, triton.cdiv(vectors, MOST_SHARES))
        per_vector, per_video = counts[0, 0].numel(), counts[0].numel() if videos > 1 else 0
        tables = [torch.tensor(vector).to(counts.device) for vector in (weights, factors)]
        first = 0
        for width, number in _launches(parts.spans, groups):
            contested_kernel[(number, triton.cdiv(vectors, share))](
                *(parts.means, parts.candidates, parts.targets, parts.blocks, *tables, counts),
                *(first, vectors, classes, per_vector, per_video, share),
                **{"GROUPS": groups, "WIDTH": width, "MATRIX": matrix},
                SCALED=multipliers is not None,
                **configurations()[0].all_kwargs(),
                **compiler_options(),
            )
            first += number
    return counts.cumsum(dim=1).cpu().numpy()
