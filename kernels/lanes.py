"""Scores of a pixel in the registers of few lanes: what the kernels of the second design share.

A program holds its C scores of P pixels as a tuple of tiles, the pieces, [ROWS, WC, W, CL, PL, PV]:
ROWS of classes in registers, WC warps and CL lanes along the classes, W warps and PL lanes along
the pixels, PV neighbouring pixels of one load. CL * PL lanes are a warp. With WC = 1 no warp waits
for another: sums over classes are sums of registers and log2(CL) shuffles.

    class of a score = (row * WC + warp) * CL + lane          SPAN = WC * CL classes are a row

Rows of a piece are a power of two, so the C // SPAN whole rows are cut into their binary digits,
and what is left over is a piece of one row: 150 classes at SPAN = 4 are 32 + 4 + 1 + 1 rows. Lanes
beyond the last class of that row repeat it when loading; masks cost nothing elsewhere.
"""

# mypy: disable-error-code="assignment"
# a tuple of tiles grows in loops that the compiler unrolls

from __future__ import annotations

import triton
import triton.language as tl

from fusion.kernels import tiles

MAGIC = tl.constexpr(0x4B008000)  # the bits of the float 2^23 + 2^15
MAGIC_VALUE = tl.constexpr(float((1 << 23) + (1 << 15)))


@triton.constexpr_function
def piece_count(classes: int, span: int) -> int:
    return (classes // span).bit_count() + (classes % span > 0)


@triton.constexpr_function
def piece_rows(classes: int, span: int, k: int) -> int:
    """Rows of piece k: the binary digits of the whole rows, highest first, then one."""
    whole = classes // span
    digits = [1 << bit for bit in reversed(range(whole.bit_length())) if whole >> bit & 1]
    return [*digits, 1][k]


@triton.constexpr_function
def piece_first(classes: int, span: int, k: int) -> int:
    """The first row of piece k."""
    whole = classes // span
    digits = [1 << bit for bit in reversed(range(whole.bit_length())) if whole >> bit & 1]
    return sum(digits[:k])


@triton.constexpr_function
def padded(classes: int, span: int, k: int) -> bool:
    """Whether some scores of piece k are of no class."""
    return k == (classes // span).bit_count()


@triton.jit
def rows_of(
    K: tl.constexpr, CLASSES: tl.constexpr, WC: tl.constexpr, CL: tl.constexpr
) -> tl.tensor:
    """[ROWS, 1, 1, 1, 1, 1] rows of piece K."""
    FIRST: tl.constexpr = piece_first(CLASSES, WC * CL, K)
    ROWS: tl.constexpr = piece_rows(CLASSES, WC * CL, K)
    return (FIRST + tl.arange(0, ROWS))[:, None, None, None, None, None]


@triton.jit
def places_in_row(WC: tl.constexpr, CL: tl.constexpr) -> tl.tensor:
    """[1, WC, 1, CL, 1, 1] classes of row 0."""
    warp = tl.arange(0, WC)[None, :, None, None, None, None]
    return warp * CL + tl.arange(0, CL)[None, None, None, :, None, None]


@triton.jit
def classes_of(
    K: tl.constexpr, CLASSES: tl.constexpr, WC: tl.constexpr, CL: tl.constexpr
) -> tl.tensor:
    """[ROWS, WC, 1, CL, 1, 1] classes of piece K's scores; beyond the last one there are more."""
    return rows_of(K, CLASSES, WC, CL) * (WC * CL) + places_in_row(WC, CL)


@triton.jit
def zero_piece(
    ROWS: tl.constexpr,
    WC: tl.constexpr,
    W: tl.constexpr,
    CL: tl.constexpr,
    PL: tl.constexpr,
    PV: tl.constexpr,
) -> tl.tensor:
    return tl.zeros([ROWS, WC, W, CL, PL, PV], tl.float32)


@triton.jit
def zeros(
    CLASSES: tl.constexpr,
    WC: tl.constexpr,
    W: tl.constexpr,
    CL: tl.constexpr,
    PL: tl.constexpr,
    PV: tl.constexpr,
) -> tl.tuple:
    """A score of 0 for every class and pixel of a program."""
    pieces = ()
    for K in tl.static_range(0, piece_count(CLASSES, WC * CL)):
        pieces += (zero_piece(piece_rows(CLASSES, WC * CL, K), WC, W, CL, PL, PV),)
    return pieces


@triton.jit
def runs_of(
    runs: tl.tensor,  # of PV pixels each
    W: tl.constexpr,
    PL: tl.constexpr,
    PV: tl.constexpr,
) -> tl.tuple:
    """[1, 1, W, 1, PL, 1] int64 first pixels of a program's runs, and whether those exist.

    Where there are no more, the last run is computed again instead of masked.
    """
    warp = tl.arange(0, W)[None, None, :, None, None, None]
    lane = tl.arange(0, PL)[None, None, None, None, :, None]
    run = tl.program_id(0).to(tl.int64) * (W * PL) + (warp * PL + lane)
    return tl.minimum(run, runs - 1) * PV, run < runs


@triton.jit
def within_run(PV: tl.constexpr) -> tl.tensor:
    """[1, 1, 1, 1, 1, PV] to be added to the first pixel of a run."""
    return tl.arange(0, PV)[None, None, None, None, None, :]


@triton.jit
def load_rows(
    start: tl.tensor,  # [1, 1, W, 1, PL, .] where the pixels' values of class 0 lie
    stride: tl.tensor,  # to the next class
    CLASSES: tl.constexpr,
    WC: tl.constexpr,
    CL: tl.constexpr,
    NEAR: tl.constexpr,  # whether a row's classes lie within 2^32 elements
) -> tl.tuple:
    """The values of all classes, as they are stored."""
    SPAN: tl.constexpr = WC * CL
    base = start + places_in_row(WC, CL).to(tl.int64) * stride
    step = (stride * SPAN).to(tl.uint32).to(tl.int64) if NEAR else stride * SPAN
    pieces = ()
    for K in tl.static_range(0, piece_count(CLASSES, SPAN)):
        if padded(CLASSES, SPAN, K):
            c = tl.minimum(classes_of(K, CLASSES, WC, CL), CLASSES - 1)
            pieces += (tl.load(start + c.to(tl.int64) * stride),)
        else:
            row = rows_of(K, CLASSES, WC, CL).to(tl.int64)
            pieces += (tl.load(base + row * step),)
    return pieces


@triton.jit
def load(
    entry: tl.tensor,  # of the table of addresses: address, strides of the class and 3 pixel axes
    first: tl.tensor,  # [1, 1, W, 1, PL, 1] int64 first pixels of runs
    height: tl.tensor,  # of pixel axis 1
    width: tl.tensor,  # of pixel axis 2
    CLASSES: tl.constexpr,
    WC: tl.constexpr,
    CL: tl.constexpr,
    PV: tl.constexpr,
    KIND: tl.constexpr,
    ALIGN: tl.constexpr,
    FLAT: tl.constexpr,
    UNIT: tl.constexpr,
    NEAR: tl.constexpr,
) -> tl.tuple:
    """One model's values as they are stored; codes as int32, read as words where PV is 4."""
    stride = tl.multiple_of(tl.load(entry + 1), ALIGN)
    if KIND == tiles.CODES and PV == 4:
        start = tiles.first_class(entry, first, height, width, KIND, ALIGN, FLAT, UNIT)
        words = tl.cast(start, tl.pointer_type(tl.uint32), bitcast=True)
        raw = load_rows(words, stride // 4, CLASSES, WC, CL, NEAR)
        values = ()
        for K in tl.static_range(0, len(raw)):
            values += (((raw[K] >> (within_run(4) * 8)) & 255).to(tl.int32),)
        return values
    else:
        pixel = first + within_run(PV)
        start = tiles.first_class(entry, pixel, height, width, KIND, ALIGN, FLAT, UNIT)
        return load_rows(start, stride, CLASSES, WC, CL, NEAR)


@triton.jit
def maximum(pieces: tl.tuple, WC: tl.constexpr) -> tl.tensor:
    """[1, 1, W, 1, PL, PV] over all classes; NaN does not count."""
    best = tl.reduce(pieces[0], 0, tl.standard._elementwise_max, keep_dims=True)
    for K in tl.static_range(1, len(pieces)):
        best = tl.maximum(
            best, tl.reduce(pieces[K], 0, tl.standard._elementwise_max, keep_dims=True)
        )
    best = tl.reduce(best, 3, tl.standard._elementwise_max, keep_dims=True)
    return tl.max(best, axis=1, keep_dims=True) if WC > 1 else best


@triton.jit
def total(pieces: tl.tuple, WC: tl.constexpr) -> tl.tensor:
    """[1, 1, W, 1, PL, PV] sum over all classes: of registers, then of lanes, then of warps."""
    whole = tl.sum(pieces[0], axis=0, keep_dims=True)
    for K in tl.static_range(1, len(pieces)):
        whole = whole + tl.sum(pieces[K], axis=0, keep_dims=True)
    whole = tl.sum(whole, axis=3, keep_dims=True)
    return tl.sum(whole, axis=1, keep_dims=True) if WC > 1 else whole


@triton.jit
def exponentials(
    raw: tl.tuple,  # values of one model as they are stored
    factor: tl.tensor,  # turns a value, of codes its square, into an exponent of 2
    CLASSES: tl.constexpr,
    WC: tl.constexpr,
    CL: tl.constexpr,
    KIND: tl.constexpr,
    STEEP: tl.constexpr,
) -> tl.tuple:
    """2 to the scaled gap between each class and the best one; 0 for what is of no class.

    The integer q^2 + 0x4B008000, read as a float, is q^2 + 2^23 + 2^15: no conversion, and a sum
    that no compiler mistakes for an `or`. Like float16 logits it takes one fma from there, with a
    shift of -round(factor * max) or -round(factor * (2^23 + 2^15)), which errs by the same power
    of two in all classes of a pixel, and the division takes that out again. Where the power could
    be anything (STEEP, and the wide range of bfloat16 and float32) the maximum is subtracted
    first, at one instruction more.
    """
    CODES: tl.constexpr = KIND == tiles.CODES
    FUSED: tl.constexpr = KIND == tiles.HALF and not STEEP
    scores = ()
    for K in tl.static_range(0, len(raw)):
        if CODES:
            q = raw[K].to(tl.int32)
            scores += ((q * q + MAGIC).to(tl.float32, bitcast=True),)
        else:
            scores += (raw[K].to(tl.float32),)
    if CODES:
        top = factor * MAGIC_VALUE
    elif KIND == tiles.HALF:  # two or three of them are compared at once
        top = maximum(raw, WC).to(tl.float32)
    else:
        top = maximum(scores, WC)
    if FUSED:
        top = top * factor
    made = ()
    for K in tl.static_range(0, len(raw)):
        zero = tl.zeros_like(scores[K])
        if CODES or FUSED:
            e = tl.exp2(tl.fma(scores[K], factor + zero, zero - top))
        else:
            e = tl.exp2((scores[K] - top) * factor)
        if padded(CLASSES, WC * CL, K):
            e = tl.where(classes_of(K, CLASSES, WC, CL) < CLASSES, e, 0.0)
        made += (e,)
    return made


@triton.jit
def reciprocal(x: tl.tensor) -> tl.tensor:
    """1 / x of positive numbers to about a unit in the last place: rsqrt^2 and one Newton step."""
    root = tl.rsqrt(x)
    guess = root * root
    return tl.fma(guess, tl.fma(-x, guess, tl.full(x.shape, 1.0, tl.float32)), guess)


@triton.jit
def add(
    sums: tl.tuple,
    raw: tl.tuple,  # values of one model as they are stored
    factor: tl.tensor,
    coefficient: tl.tensor,
    CLASSES: tl.constexpr,
    WC: tl.constexpr,
    CL: tl.constexpr,
    KIND: tl.constexpr,
    STEEP: tl.constexpr,
) -> tl.tuple:
    """sums + coefficient * softmax(z), or * z where z are probabilities already."""
    added = ()
    if KIND >= tiles.PLAIN:
        for K in tl.static_range(0, len(raw)):
            z = raw[K].to(tl.float32)
            added += (tl.fma(z, coefficient + tl.zeros_like(z), sums[K]),)
    else:
        terms = exponentials(raw, factor, CLASSES, WC, CL, KIND, STEEP)
        share = reciprocal(total(terms, WC)) * coefficient
        for K in tl.static_range(0, len(terms)):
            added += (tl.fma(terms[K], share + tl.zeros_like(terms[K]), sums[K]),)
    return added
