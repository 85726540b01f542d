"""What follows from scores that are spread over lanes (lanes.py): group means, labels, all outputs.

Each is stored only where it is asked for. None of it runs within the loop over models.
"""

# mypy: disable-error-code="assignment"
# a tuple of tiles grows in loops that the compiler unrolls

from __future__ import annotations

import triton
import triton.language as tl

from fusion.kernels import tiles
from fusion.kernels.lanes import classes_of, maximum, padded, total

MANY = tl.constexpr(1 << 16)  # above every class


@triton.jit
def store(
    place: tl.tensor,  # where [C, P] float32 begin
    pieces: tl.tuple,
    pixel: tl.tensor,
    inside: tl.tensor,
    pixels: tl.tensor,  # P
    CLASSES: tl.constexpr,
    WC: tl.constexpr,
    CL: tl.constexpr,
) -> None:
    """Scores of all classes."""
    for K in tl.static_range(0, len(pieces)):
        c = classes_of(K, CLASSES, WC, CL)
        mask = inside & (c < CLASSES) if padded(CLASSES, WC * CL, K) else inside
        tl.store(place + (c.to(tl.int64) * pixels + pixel), pieces[K], mask=mask)


@triton.jit
def close_group(
    scores: tl.tuple,  # weighted means of the groups before, or () where not wanted
    sums: tl.tuple,  # this group's sums
    g: tl.tensor,
    pixel: tl.tensor,
    inside: tl.tensor,
    pixels: tl.tensor,  # P
    models: tiles.Models,
    outputs: tiles.Outputs,
    CLASSES: tl.constexpr,
    WC: tl.constexpr,
    CL: tl.constexpr,
) -> tl.tuple:
    """Stores a group's means; the scores with them added. A group of weight 0 does not count."""
    share = tl.load(models.group + g * 2)
    weight = tl.load(models.group + g * 2 + 1)
    means = ()
    for K in tl.static_range(0, len(sums)):
        means += (sums[K] * share,)
    place = outputs.group_means + tl.cast(g, tl.int64) * CLASSES * pixels
    store(place, means, pixel, inside, pixels, CLASSES, WC, CL)
    added = ()
    for K in tl.static_range(0, len(scores)):
        more = tl.where(weight > 0, scores[K] + means[K] * weight, scores[K])
        added += (more,)
    return added


@triton.jit
def ranked(scores: tl.tuple, CLASSES: tl.constexpr, WC: tl.constexpr, CL: tl.constexpr) -> tl.tuple:
    """The scores with -inf for NaN and for what is of no class; whether one is NaN, by pixel."""
    comparable = ()
    bad = ()
    for K in tl.static_range(0, len(scores)):
        undefined = scores[K] != scores[K]
        usable = scores[K] == scores[K]
        if padded(CLASSES, WC * CL, K):
            real = classes_of(K, CLASSES, WC, CL) < CLASSES
            undefined = undefined & real
            usable = usable & real
        comparable += (tl.where(usable, scores[K], -float("inf")),)
        bad += (tl.where(undefined, 1, 0),)
    return comparable, maximum(bad, WC) > 0


@triton.jit
def lowest(
    comparable: tl.tuple,
    best: tl.tensor,
    CLASSES: tl.constexpr,
    WC: tl.constexpr,
    CL: tl.constexpr,
) -> tl.tensor:
    """[1, 1, W, 1, PL, PV] the lowest class of the best score."""
    here = ()
    for K in tl.static_range(0, len(comparable)):
        c = classes_of(K, CLASSES, WC, CL)
        here += (tl.where(comparable[K] == best, -c, -MANY),)
    return -maximum(here, WC)


@triton.jit
def store_labels(
    comparable: tl.tuple,
    undefined: tl.tensor,
    top: tl.tensor,  # the lowest class of the best score
    pixel: tl.tensor,
    inside: tl.tensor,
    models: tiles.Models,
    outputs: tiles.Outputs,
    CLASSES: tl.constexpr,
    WC: tl.constexpr,
    CL: tl.constexpr,
) -> None:
    """Labels, decided with the multipliers where there are some; void where undefined."""
    if models.multiplier is not None:
        decisive = ()
        for K in tl.static_range(0, len(comparable)):
            c = tl.minimum(classes_of(K, CLASSES, WC, CL), CLASSES - 1)
            # in the layout of the scores, else these would go through shared memory to its own
            c = tl.max_contiguous(c + tl.zeros(comparable[K].shape, tl.int32), [1, 1, 1, 1, 1, 1])
            decisive += (comparable[K] * tl.load(models.multiplier + c),)
        top = lowest(decisive, maximum(decisive, WC), CLASSES, WC, CL)
    label = tl.where(undefined, tiles.NARROW if CLASSES <= tiles.NARROW else tiles.WIDE, top)
    tl.store(outputs.labels + pixel, label.to(outputs.labels.dtype.element_ty), mask=inside)


@triton.jit
def store_outputs(
    scores: tl.tuple,  # fused scores
    pixel: tl.tensor,
    inside: tl.tensor,
    pixels: tl.tensor,  # P
    models: tiles.Models,
    outputs: tiles.Outputs,
    CLASSES: tl.constexpr,
    WC: tl.constexpr,
    CL: tl.constexpr,
) -> None:
    """Everything that follows from the scores of a pixel, each only where it is asked for."""
    if outputs.probabilities is not None:
        store(outputs.probabilities, scores, pixel, inside, pixels, CLASSES, WC, CL)
    if outputs.entropy is not None:
        terms = ()
        for K in tl.static_range(0, len(scores)):
            counts = scores[K] != 0.0
            if padded(CLASSES, WC * CL, K):
                counts = counts & (classes_of(K, CLASSES, WC, CL) < CLASSES)
            logs = tl.log(tl.where(counts, scores[K], 1.0))
            terms += (tl.where(counts, scores[K], 0.0) * logs,)
        tl.store(outputs.entropy + pixel, -total(terms, WC), mask=inside)
    if outputs.labels is not None or outputs.confidence is not None or outputs.margin is not None:
        comparable, undefined = ranked(scores, CLASSES, WC, CL)
        best = maximum(comparable, WC)
        top = lowest(comparable, best, CLASSES, WC, CL)
        if outputs.labels is not None:
            store_labels(
                comparable, undefined, top, pixel, inside, models, outputs, CLASSES, WC, CL
            )
        best = tl.where(undefined, float("nan"), best)
        if outputs.confidence is not None:
            tl.store(outputs.confidence + pixel, best, mask=inside)
        if outputs.margin is not None:
            others = ()
            for K in tl.static_range(0, len(comparable)):
                first = classes_of(K, CLASSES, WC, CL) == top
                others += (tl.where(first, -float("inf"), comparable[K]),)
            margin = best - maximum(others, WC) if CLASSES > 1 else best
            tl.store(outputs.margin + pixel, margin, mask=inside)
