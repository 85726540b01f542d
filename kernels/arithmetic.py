"""What "exact" means in this library: the arithmetic of fusion, and the steps its paths share.

M models, G groups, C classes; the class axis comes first, any axes may follow. All arithmetic is
IEEE float32, one rounding per operation (no fused multiply-add), in the order written here, so that
a path that follows it returns the same bits. kernels/*/naive.py are these lines in torch.

    z_m       decoded to float32 (gap codes: z = -24 (q / 255)^2)
    e_mc      = exp32((z_mc - max_c z_mc) * (1 / T_m))
    p_mc      = e_mc * (1 / sum_c e_mc)          the sum runs over c = 0, 1, 2, ...
    P_gc      = (sum_{m in g} p_mc) * (1 / n_g)  the sum runs in the order of the group's list
    F_c       = sum_g w_g P_gc                   weights over their sum in float64, then rounded
    S_c       = F_c * b_c                        multipliers over their largest in float64, then
                                                 rounded; without them S_c = F_c
    label     = lowest c with S_c = max S        the void label (255, or 65535 beyond 255 classes)
                                                 if any F_c is NaN

Multipliers decide labels alone: probabilities, confidence, margin and entropy are those of F.

A geometric mean over groups (geometric.py of `average`) puts logarithms in the place of the means,
scaled to 0..1, with the floor that a gap code has: both scores are linear in the weights, so all
that is proved of sum_g w_g P_gc (contested pixels, line search, certificate) holds for S_c.

    L_gc      = max(0, log32(max(P_gc, e^-24)) * (1 / 24) + 1)
    S_c       = sum_g w_g L_gc                   in the order and roundings of F_c
    label     = lowest c with S_c = max S        void as above
    F_c       = e_c * (1 / sum_c e_c), e_c = exp32((S_c * 24 - max_c S_c * 24) * 1): the product of
                the P_gc ^ w_g over its sum

Independent channels (`channels`: binary masks with C = 1, multi-label maps, overlapping regions)
are C two-class problems, "not c" and "c", of which the lower wins a tie. uint8 means angle codes:
the logits of ANGLE_TABLE. Sums run as above; b_c0 and b_c1 are a channel's two multipliers, all 2 C
over their largest, and without multipliers the products are left out.

    e_mc      = exp32(-|z_mc * (1 / T_m)|)
    r_mc      = 1 / (1 + e_mc)
    p_mc      = r_mc if z_mc >= 0 else e_mc * r_mc
    N_c       = sum_g w_g (1 - P_gc)             beside F_c = sum_g w_g P_gc
    label_c   = 1 if F_c * b_c1 > N_c * b_c0, else 0; void (255) if F_c is NaN

No step crosses channels, so their GPU kernels have these bits too; a NaN stays in its channel.

A linear head over log-probabilities (`head`: a logarithmic opinion pool that may mix classes, the
stacking of Wolpert 1992) has weights W_mck of any sign, or W_mc for the class itself alone, and an
offset b_c. Logits keep the logarithms that softmax would lose, down to the floor of a gap code.

    l_mk      = max((z_mk - max_k z_mk) * (1 / T_m) - log32(sum_k e_mk), -24)
    l_mk      = log32(max(p_mk, e^-24))          where the map holds probabilities
    S_c       = b_c, then for m = 0, 1, ... and in it k = 0, 1, ...: S_c = S_c + W_mck * l_mk
    S_c       = b_c, then for m = 0, 1, ...: S_c = S_c + W_mc * l_mc     without mixing
    F_c       = E_c * (1 / sum_c E_c), E_c = exp32(S_c - max_c S_c)
    label     = lowest c with S_c = max S        void as above, if any S_c is NaN

A NaN stays: one logit makes NaN of all its pixel's scores, one probability of those it enters, one
score of all F_c. On tensor cores (head/triton.py) the sums of S_c are close instead of equal.

Bilinear interpolation has half-pixel centres (align_corners=False), horizontal before vertical,
each step ``a * (1 - f) + b * f``: every rounded operation is monotone in a and b, which is what
makes skipping dominated classes exact. Logits of -inf count as -1e30 meanwhile, those of channels
that are inf as 1e30.

Method: "5th Place Solution for VSPW 2021 Challenge", section 2.3, equation 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import EllipsisType

import numpy as np
import torch
from torch import Tensor

from fusion.errors import InputError
from fusion.kernels.numbers import (
    ANGLE_TABLE,
    DECODE_TABLE,
    GAP_RANGE,
    LEAST_PROBABILITY,
    MOST_RATIO,
    NARROW_VOID,
    void_label,
)

NO_SCORE = -1e30  # stands for -inf while interpolating: 0 * -inf would be NaN
OUTPUTS = ("labels", "probabilities", "confidence", "margin", "entropy", "group_means")
CHANNEL_OUTPUTS = ("labels", "probabilities", "group_means")
HEAD_OUTPUTS = ("labels", "probabilities", "scores")

CEPHES_FIRST = 1.9875691500e-4  # the polynomial of exp32, highest power first
CEPHES = (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
CEPHES_LOG_FIRST = 7.0376836292e-2  # of log32
CEPHES_LOG = (
    *(-1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1),
    *(-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1),
)
LOG_TILE, GPU_LOG_TILE = 1 << 15, 1 << 22  # numbers at a time: in a cache; enough for a launch

# Kinds of value, as kernels.h and the Triton kernels number them; uint8 means codes:
# of gaps, or of angles where classes are independent channels.
KINDS = {torch.float16: 0, torch.bfloat16: 1, torch.float32: 2, torch.uint8: 3}
PROBABILITIES = 4  # added to the kind of values that are probabilities already


@dataclass(frozen=True)
class Fused:
    """What was asked for; everything else is None.

    labels: [...] uint8, or uint16 beyond 255 classes; of channels [C, ...] uint8. probabilities:
    [C, ...] float32. confidence, margin (first minus second), entropy (nats): [...] float32.
    group_means: [G, C, ...] float32. scores: [C, ...] float32, of a head alone.
    """

    labels: Tensor | None = None
    probabilities: Tensor | None = None
    confidence: Tensor | None = None
    margin: Tensor | None = None
    entropy: Tensor | None = None
    group_means: Tensor | None = None
    scores: Tensor | None = None

    def asked(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in vars(self).items() if tensor is not None}

    def fill(self, place: tuple[EllipsisType | slice | int, ...], pixels: Fused) -> None:
        """Copies the outputs of some pixels to their place."""
        for name, tensor in pixels.asked().items():
            getattr(self, name)[place] = tensor


def exp32(x: Tensor) -> Tensor:
    """exp of float32 values <= 0, below 2 ulp, 0 below -87; the same bits wherever float32 is IEEE.

    Cephes expf, by Horner's rule.
    """
    n = torch.round(x * 1.44269504088896341)
    f = x - n * 0.693359375
    f = f - n * -2.12194440e-4
    y = torch.full_like(f, CEPHES_FIRST)
    for coefficient in CEPHES:
        y = y * f + torch.tensor(coefficient, dtype=torch.float32)
    y = y * (f * f) + f + 1.0
    power = ((n.nan_to_num(0.0).clamp(-126, 0).to(torch.int32) + 127) << 23).view(torch.float32)
    return torch.where(x < -87.0, torch.zeros_like(x), y * power)


def sigmoid32(z: Tensor, temperature: float) -> Tensor:
    """p_mc of float32 logits of independent channels, at any shape."""
    e = exp32(-(z * (1.0 / torch.tensor(temperature, dtype=torch.float32))).abs())
    r = 1.0 / (1.0 + e)
    return torch.where(z >= 0, r, e * r)


def log32(x: Tensor) -> Tensor:
    """log of normal float32 values above 0, below 2 ulp; NaN stays; the same bits as `exp32`.

    Cephes logf, by Horner's rule.
    """
    bits = x.view(torch.int32)
    n = ((bits >> 23) - 126).to(torch.float32)
    f = ((bits & 0x7FFFFF) | 0x3F000000).view(torch.float32)  # x = f 2^n, 0.5 <= f < 1
    low = f < 0.707106781186547524
    n = torch.where(low, n - 1.0, n)
    f = torch.where(low, f + f, f) - 1.0
    square = f * f
    y = torch.full_like(f, CEPHES_LOG_FIRST)
    for coefficient in CEPHES_LOG:
        y = y.mul_(f).add_(coefficient)
    y = y.mul_(f) * square + n * -2.12194440e-4
    y = f + (y - square * 0.5) + n * 0.693359375
    return torch.where(x.isnan(), x, y)


def scaled_logs(means: Tensor) -> Tensor:
    """L_gc in the place of contiguous float32 means P_gc [G, C, ...], which it returns."""
    tile = LOG_TILE if means.device.type == "cpu" else GPU_LOG_TILE
    for part in means.view(-1).split(tile):
        logs = log32(part.clamp(min=LEAST_PROBABILITY))
        part.copy_((logs * (1.0 / GAP_RANGE) + 1.0).clamp(min=0.0))
    return means


def decode_gaps(codes: Tensor) -> Tensor:
    """uint8 gap codes to float32 logits up to a constant per pixel."""
    return torch.from_numpy(DECODE_TABLE).to(codes.device)[codes.to(torch.int64)]


def decode_angles(codes: Tensor) -> Tensor:
    """uint8 angle codes to float32 logits of independent channels."""
    return torch.from_numpy(ANGLE_TABLE).to(codes.device)[codes.to(torch.int64)]


def normalised(weights: Sequence[float]) -> list[float]:
    """Weights divided by their sum in float64, each rounded to float32 (as Python floats)."""
    values = [float(w) for w in weights]
    if not all(math.isfinite(w) and w >= 0 for w in values) or not sum(values) > 0:
        raise InputError(
            f"weights: got {values}; give finite numbers >= 0, at least one of them above 0"
        )
    largest = max(values)
    total = math.fsum(w / largest for w in values)
    return np.array([w / largest / total for w in values]).astype(np.float32).tolist()


def normalised_multipliers(multipliers: Sequence[float], classes: int) -> list[float]:
    """Multipliers [C] divided by the largest in float64, each rounded to float32.

    Ones are what no multipliers are, bit for bit. ValueError: not C finite numbers above 0, or two
    that differ by more than a factor of 2^20.
    """
    values = [float(b) for b in multipliers]
    usable = all(math.isfinite(b) and b > 0 for b in values)
    if len(values) != classes or not usable or max(values) / min(values) > MOST_RATIO:
        wanted = f"give {classes} finite numbers above 0, no two further apart than a factor 2^20"
        raise InputError(f"multipliers: got {values}; {wanted}")
    largest = max(values)
    return np.array([b / largest for b in values]).astype(np.float32).tolist()


def label_dtype(classes: int) -> torch.dtype:
    return torch.uint8 if void_label(classes) == NARROW_VOID else torch.uint16


def bilinear_steps(source: int, target: int) -> tuple[Tensor, Tensor, Tensor]:
    """Half-pixel positions of `target` samples over `source`: left and right neighbour, fraction.

    int64, int64 and float32 [target].
    """
    position = (torch.arange(target, dtype=torch.float64) + 0.5) * source / target - 0.5
    position = position.clamp(min=0)
    left = position.floor().to(torch.int64).clamp(max=source - 1)
    return left, (left + 1).clamp(max=source - 1), (position - left).to(torch.float32)
