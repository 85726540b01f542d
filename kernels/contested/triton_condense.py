"""Which pixels are contested, found on a GPU: only these leave it, as the very block of the CPU.

G groups, C classes, P pixels. A first kernel reads every mean once: a pixel is certain where one
class leads in all groups, ahead of the classes that must be behind by the margin, and is counted
there. The others, packed, go through every pair of classes as in naive.py: products and sums are
not contracted, so who dominates is decided by the same bits.
"""

from __future__ import annotations

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor
from triton import knobs

from fusion.kernels.contested.layout import Block
from fusion.kernels.contested.naive import LARGEST_SCORE, TINY, BadPixel, margin
from fusion.kernels.tiles import compiler_options

BLOCK_P = 128
DOUBTFUL, IGNORED, BAD_SCORE, BAD_TARGET = (tl.constexpr(-number) for number in range(1, 5))


@triton.jit
def certain_kernel(
    means_ptr: tl.tensor,  # float32 [G, C, P]
    targets_ptr: tl.tensor,  # int32 [P]
    verdicts_ptr: tl.tensor,  # int32 [P]: the class of certain pixels, else what they are
    groups: tl.tensor,  # G
    classes: tl.tensor,  # C
    pixels: tl.tensor,  # P
    ignore: tl.tensor,
    factor: tl.tensor,  # what `raise` of the package's docstring multiplies with, float32
    tiny: tl.tensor,  # and adds
    limit: tl.tensor,  # the largest legal score
    BOTH: tl.constexpr,  # under multipliers all classes must be behind, not only lower ones
    BLOCK_P: tl.constexpr,
) -> None:
    pixel = tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    inside = pixel < pixels
    place = means_ptr + tl.minimum(pixel, tl.cast(pixels, tl.int64) - 1)
    target = tl.load(targets_ptr + pixel, mask=inside, other=0)
    legal = tl.full([BLOCK_P], 1, tl.int32)
    sure = tl.full([BLOCK_P], 1, tl.int32)
    first = tl.full([BLOCK_P], 0, tl.int32)
    for g in range(0, groups):
        best = tl.full([BLOCK_P], -1.0, tl.float32)
        runner = tl.full([BLOCK_P], 0.0, tl.float32)
        top = tl.full([BLOCK_P], 0, tl.int32)
        for c in range(0, classes):
            value = tl.load(place)
            legal = tl.where((value >= 0.0) & (value <= limit), legal, 0)
            higher = value > best
            if BOTH:
                runner = tl.where(value > runner, value, runner)
            runner = tl.where(higher, best, runner)
            top = tl.where(higher, tl.cast(c, tl.int32), top)
            best = tl.where(higher, value, best)
            place += pixels
        sure = tl.where(best >= runner * factor + tiny, sure, 0)
        if g == 0:
            first = top
        sure = tl.where(top == first, sure, 0)
    verdict = tl.where(sure > 0, first, DOUBTFUL)
    verdict = tl.where(legal > 0, verdict, BAD_SCORE)
    verdict = tl.where(target < classes, verdict, BAD_TARGET)
    verdict = tl.where(target == ignore, IGNORED, verdict)
    tl.store(verdicts_ptr + pixel, verdict, mask=inside)


@triton.jit
def undominated_kernel(
    means_ptr: tl.tensor,  # float32 [G, C, n]
    alive_ptr: tl.tensor,  # uint8 [C, n]: becomes whether a class can win
    groups: tl.tensor,  # G
    classes: tl.tensor,  # C
    pixels: tl.tensor,  # n
    factor: tl.tensor,
    tiny: tl.tensor,
    BOTH: tl.constexpr,
    BLOCK_D: tl.constexpr,  # rivals at a time
    BLOCK_P: tl.constexpr,
) -> None:
    pixel = tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)[None, :]
    inside = pixel < pixels
    far = tl.cast(pixels, tl.int64)
    start = means_ptr + tl.minimum(pixel, far - 1)
    for c in range(0, classes):
        dominated = tl.full([1, BLOCK_P], 0, tl.int32)
        for d0 in range(0, classes, BLOCK_D):
            d = d0 + tl.arange(0, BLOCK_D)[:, None]
            beaten = ((d != c) & (d < classes)).to(tl.int32) + tl.zeros([1, BLOCK_P], tl.int32)
            d = tl.minimum(d, classes - 1)
            for g in range(0, groups):
                theirs = tl.load(start + (tl.cast(g, tl.int64) * classes + c) * far)
                raised = theirs * factor + tiny
                plain = raised if BOTH else theirs
                mine = tl.load(start + (tl.cast(g, tl.int64) * classes + d) * far)
                beaten = tl.where(mine >= tl.where(d < c, plain, raised), beaten, 0)
            dominated = tl.maximum(dominated, tl.max(beaten, axis=0, keep_dims=True))
        place = alive_ptr + tl.cast(c, tl.int64) * far + pixel
        tl.store(place, (dominated == 0).to(tl.uint8), mask=inside)


def configurations() -> list[triton.Config]:
    """One: a pixel per thread."""
    return [triton.Config({"BLOCK_P": BLOCK_P}, num_warps=4, num_stages=1)]


def block_rivals() -> int:
    """BLOCK_D: as many as registers hold; many where programs are interpreted."""
    return 64 if knobs.runtime.interpret else 8


def condense(means: Tensor, targets: NDArray[np.uint16], ignore: int, ratio: float = 1.0) -> Block:
    """As `fusion.kernels.contested.condense`, of means on a GPU; the block is on the host."""
    groups, classes, pixels = means.shape
    means, ids = means.contiguous(), torch.from_numpy(targets.astype(np.int32)).to(means.device)
    factor, tiny = float(np.float32(ratio * margin(groups))), float(np.float32(ratio * TINY))
    verdicts = torch.empty_like(ids)
    if pixels:
        certain_kernel[(triton.cdiv(pixels, BLOCK_P),)](
            *(means, ids, verdicts, groups, classes, pixels, ignore, factor, tiny),
            *(float(np.float32(LARGEST_SCORE)), ratio != 1),
            **{**configurations()[0].all_kwargs(), **compiler_options()},
        )
    bad = (verdicts <= BAD_SCORE.value).nonzero()
    if len(bad):
        fault = 2 if verdicts[bad[0, 0]] == BAD_TARGET.value else 1
        raise BadPixel(int(bad[0, 0]), fault)
    certain, doubtful = verdicts >= 0, (verdicts == DOUBTFUL.value).nonzero()[:, 0]
    cells = [ids[certain] * classes + verdicts[certain]]
    means, ids = means[:, :, doubtful], ids[doubtful]
    alive = torch.empty((classes, len(doubtful)), dtype=torch.uint8, device=means.device)
    if len(doubtful):
        undominated_kernel[(triton.cdiv(len(doubtful), BLOCK_P),)](
            *(means, alive, groups, classes, len(doubtful), factor, tiny, ratio != 1),
            BLOCK_D=block_rivals(),
            **{**configurations()[0].all_kwargs(), **compiler_options()},
        )
    counts = alive.sum(dim=0)
    only = counts == 1
    cells.append(ids[only] * classes + alive[:, only].argmax(dim=0).to(torch.int32))
    constant = torch.bincount(torch.cat(cells), minlength=classes**2).view(classes, classes)
    means, ids, alive = means[:, :, ~only], ids[~only], alive[:, ~only]
    pixel, label = alive.T.nonzero(as_tuple=True)
    kept = means[:, label, pixel].T.contiguous().cpu().numpy()
    numbers = [_uint16(number) for number in (counts[~only], ids, label)]
    return Block(constant.cpu().numpy(), numbers[0], numbers[1], numbers[2], kept)


def _uint16(numbers: Tensor) -> NDArray[np.uint16]:
    return numbers.to(torch.int32).cpu().numpy().astype(np.uint16)
