"""Confusion counts on a GPU: int64 [C, C], exact for any number of pixels.

P pixels, C classes. Every program adds its pixels to one of several copies of the matrix with int64
atomics; the copies keep programs that count the same frequent pair out of each other's way and are
summed at the end. Integer sums have one result in any order. A counted pair outside 0..C-1 raises a
flag and touches no count; naive.py then says which values they were.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton import knobs

from fusion.kernels.confusion import naive

MOST_COPIES = 32
COPY_BYTES = 32 << 20  # for all copies together, but at least one


@triton.jit
def confusion_kernel(
    targets_ptr: tl.tensor,  # [P] any integer dtype
    labels_ptr: tl.tensor,  # [P] any integer dtype
    counts_ptr: tl.tensor,  # int64 [COPIES, C, C], zeros
    outside_ptr: tl.tensor,  # int32 [1], zero; 1 afterwards if a counted value is outside 0..C-1
    pixels: tl.tensor,  # P
    classes: tl.tensor,  # C
    ignore: tl.tensor,
    COPIES: tl.constexpr,
    BLOCK_P: tl.constexpr,
) -> None:
    pixel = tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    inside = pixel < pixels
    target = tl.load(targets_ptr + pixel, mask=inside, other=0).to(tl.int64)
    label = tl.load(labels_ptr + pixel, mask=inside, other=0).to(tl.int64)
    counted = inside & (target != ignore)
    sound = (target >= 0) & (target < classes) & (label >= 0) & (label < classes)
    wrong = tl.max(tl.where(counted & ~sound, 1, 0), axis=0)
    tl.atomic_max(outside_ptr, wrong, mask=wrong > 0, sem="relaxed")
    copy = (tl.program_id(0) % COPIES).to(tl.int64)
    place = (copy * classes + target) * classes + label
    one = tl.full([BLOCK_P], 1, tl.int64)
    tl.atomic_add(counts_ptr + place, one, mask=counted & sound, sem="relaxed")


def configurations() -> list[triton.Config]:
    """1 to 8 pixels per thread."""
    if knobs.runtime.interpret:
        return [triton.Config({"BLOCK_P": 4096})]
    return [triton.Config({"BLOCK_P": block}, num_warps=4) for block in (128, 512, 1024)]


# A configuration is timed on the real arrays, so its counts must not stay.
tuned_confusion = triton.autotune(
    configurations(), key=["classes"], reset_to_zero=["counts_ptr", "outside_ptr"]
)(confusion_kernel)


def copies(classes: int) -> int:
    """Copies of a matrix that programs count in."""
    return max(1, min(MOST_COPIES, COPY_BYTES // (8 * classes * classes)))


def add(targets: Tensor, labels: Tensor, counts: Tensor, outside: Tensor, ignore: int) -> None:
    """Adds pairs to `counts`, int64 [COPIES, C, C]; nothing waits for it.

    A counted value outside 0..C-1 makes `outside`, int32 [1], a one instead. Other arguments as
    `fusion.kernels.confusion`.
    """
    targets, labels = targets.reshape(-1), labels.reshape(-1)
    pixels, number = len(targets), len(counts)
    if pixels:
        tuned_confusion[lambda meta: (triton.cdiv(pixels, meta["BLOCK_P"]),)](
            targets, labels, counts, outside, pixels, counts.shape[1], ignore, COPIES=number
        )


def confusion(targets: Tensor, labels: Tensor, classes: int, *, ignore: int = 255) -> Tensor:
    """As `fusion.kernels.confusion`, on a GPU."""
    device = labels.device
    counts = torch.zeros(copies(classes), classes, classes, dtype=torch.int64, device=device)
    outside = torch.zeros(1, dtype=torch.int32, device=device)
    add(targets, labels, counts, outside, ignore)
    if outside.item():
        naive.confusion(targets.cpu(), labels.cpu(), classes, ignore=ignore)  # names the values
    return counts.sum(dim=0)
