"""The weighted average of the softmaxes of many models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fusion.arguments import checked

if TYPE_CHECKING:
    from torch import Tensor

    from fusion.kernels.arithmetic import Fused


@checked
def softmax_average(
    logits: Sequence[Tensor],
    weights: Sequence[float],
    *,
    groups: Sequence[Sequence[int]] | None = None,
    temperatures: Sequence[float] | None = None,
    values: Sequence[str] | str = "logits",
    outputs: Sequence[str] | str = ("labels",),
    multipliers: Sequence[float] | None = None,
    channels: bool = False,
) -> Fused:
    """Weighted mean over groups of the mean softmax of their models.

    argmax_c sum_g w_g mean_{m in g} softmax_c(z_m / T_m), for M models, G groups, C classes; or
    the sigmoid in the place of the softmax where the classes are independent channels.

    Args:
        logits: M tensors [C, ...] of one shape and device: float16, bfloat16, float32, or uint8 gap
            codes (z = -24 (q / 255)^2; of channels angle codes, z = 2 ln tan((q + 1/2) pi / 512));
            dtypes may differ between models. Adjacent pixels in memory are read in place, whatever
            lies between classes or frames; other strides are copied.
        weights: one number >= 0 per group, divided by their sum. A group of weight 0 is not read.
        groups: indexes into `logits`, every model in exactly one group. Default: one model each.
        temperatures: T_m > 0, dividing the logits of model m. Default: 1.
        values: "logits" or "probabilities" (taken as they are), for all or one per model.
        outputs: any of labels, probabilities, confidence, margin, entropy, group_means; only these
            are computed.
        multipliers: b_c > 0 per class, only ratios matter: labels are argmax_c b_c F_c, F the fused
            probabilities. The other outputs know nothing of them. Of channels 2 C numbers, in the
            order not-0, 0, not-1, 1, ...: (t, 1 - t) is a threshold t. Default: 1.
        channels: whether the C classes are independent, each there or not: binary masks (C = 1),
            multi-label maps, overlapping regions. Labels are then 1 where F_c b_c1 > N_c b_c0, N
            the average of what is left to 1, else 0. Has no confidence, margin or entropy.

    Returns:
        Fused, with None for what was not asked: labels [...] uint8 (uint16 beyond 255 classes; the
        last value where a score is NaN; of channels [C, ...] uint8, 255 where F_c is NaN),
        probabilities [C, ...], confidence, margin and entropy [...] (entropy in nats), group_means
        [G, C, ...], all float32.

    Raises:
        TypeError: a dtype that is not listed.
        ValueError: shapes, devices, groups, weights, multipliers or names that do not fit.
    """
    from fusion.kernels.backends import choose
    from fusion.kernels.call import check

    options: dict[str, Any] = {"groups": groups, "temperatures": temperatures, "values": values}
    options |= {"outputs": outputs, "multipliers": multipliers, "channels": channels}
    call = check(logits, weights, **options)
    return choose("average", call.device.type).average(call)
