"""A linear head over the log-probabilities of many models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fusion.arguments import checked

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from fusion.kernels.arithmetic import Fused

    Numbers = Tensor | np.ndarray | Sequence


@checked
def head(
    maps: Sequence[Tensor],
    mixing: Numbers,
    bias: Numbers,
    *,
    temperatures: Sequence[float] | None = None,
    values: Sequence[str] | str = "logits",
    outputs: Sequence[str] | str = ("probabilities",),
) -> Fused:
    """Softmax of a weighted sum of log-probabilities: a logarithmic opinion pool, or stacking.

    S_c = b_c + sum_m sum_k W_mck log softmax_k(z_m / T_m), for M models and C classes; or with a
    weight W_mc per model and class, which looks at no other class.

    Args:
        maps: M tensors [C, ...] of one shape and device: float16, bfloat16, float32, or uint8 gap
            codes, as `softmax_average` takes them; strides too. Groups come as probabilities: the
            group means of `softmax_average`.
        mixing: W, finite numbers of any sign, taken as float32: [M, C], or [M, C, C] as
            [m, class c of the score, class k of the map].
        bias: b, [C] finite numbers.
        temperatures: T_m > 0, dividing the logits of model m. Default: 1.
        values: "logits" or "probabilities", for all or one per model. Logarithms of both end at
            -24.
        outputs: any of labels, probabilities, scores; only these are computed.

    Returns:
        Fused, with None for what was not asked: labels [...] uint8 (uint16 beyond 255 classes; the
        last value where a score is NaN), probabilities and scores [C, ...] float32.

    Raises:
        TypeError: a dtype that is not listed, or what is no array of numbers.
        ValueError: shapes, devices, numbers or names that do not fit.
    """
    from fusion.kernels.backends import choose
    from fusion.kernels.call import check_head

    call = check_head(maps, mixing, bias, temperatures=temperatures, values=values, outputs=outputs)
    return choose("head", call.device.type).head(call)
