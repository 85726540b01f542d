"""The weighted average of the softmaxes of many models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from fusion.kernels.arithmetic import Fused


def softmax_average(
    logits: Sequence[Tensor],
    weights: Sequence[float],
    *,
    groups: Sequence[Sequence[int]] | None = None,
    temperatures: Sequence[float] | None = None,
    values: Sequence[str] | str = "logits",
    outputs: Sequence[str] | str = ("labels",),
    multipliers: Sequence[float] | None = None,
) -> Fused:
    """Weighted mean over groups of the mean softmax of their models.

    argmax_c sum_g w_g mean_{m in g} softmax_c(z_m / T_m), for M models, G groups, C classes.

    Args:
        logits: M tensors [C, ...] of one shape and device: float16, bfloat16, float32, or uint8 gap
            codes (z = -24 (q / 255)^2); dtypes may differ between models. Adjacent pixels in memory
            are read in place, whatever lies between classes or frames; other strides are copied.
        weights: one number >= 0 per group, divided by their sum. A group of weight 0 is not read.
        groups: indexes into `logits`, every model in exactly one group. Default: one model each.
        temperatures: T_m > 0, dividing the logits of model m. Default: 1.
        values: "logits" or "probabilities" (taken as they are), for all or one per model.
        outputs: any of labels, probabilities, confidence, margin, entropy, group_means; only these
            are computed.
        multipliers: b_c > 0 per class, only ratios matter: labels are argmax_c b_c F_c, F the fused
            probabilities. The other outputs know nothing of them. Default: 1.

    Returns:
        Fused, with None for what was not asked: labels [...] uint8 (uint16 beyond 255 classes; the
        last value where a score is NaN), probabilities [C, ...], confidence, margin and entropy
        [...] (entropy in nats), group_means [G, C, ...], all float32.

    Raises:
        TypeError: a dtype that is not listed.
        ValueError: shapes, devices, groups, weights, multipliers or names that do not fit.
    """
    from fusion.kernels.backends import choose
    from fusion.kernels.call import check

    options = {"groups": groups, "temperatures": temperatures, "values": values}
    call = check(logits, weights, outputs=outputs, multipliers=multipliers, **options)
    return choose("average", call.device.type).average(call)
