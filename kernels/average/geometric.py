"""The weighted geometric mean over groups: the average of logarithms, by the same backends.

There is one path, on tensors of any device: `scaled_logs` has the same bits everywhere, and what
follows is `softmax_average` of maps that are its models. G groups, C classes; the arithmetic is
written down in `fusion.kernels.arithmetic`.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fusion.kernels.arithmetic import Fused, scaled_logs
from fusion.kernels.average import softmax_average
from fusion.kernels.numbers import GAP_RANGE

LABELS_AND_MEANS = ("labels", "group_means")


def geometric(means: Tensor, weights: Sequence[float], outputs: Sequence[str]) -> Fused:
    """What `softmax_average` would return, of the product of P_gc ^ w_g over its sum.

    Args:
        means: the groups' arithmetic means P_gc, contiguous float32 [G, C, ...]; overwritten.
        weights: G, divided by their sum.
        outputs: as in `softmax_average`; group_means are the scaled logarithms L_gc.
    """
    logs = scaled_logs(means)
    made: dict[str, Tensor | None] = {"group_means": logs} if "group_means" in outputs else {}
    others = tuple(name for name in outputs if name not in LABELS_AND_MEANS)
    wanted = ("labels",) * ("labels" in outputs) + ("probabilities",) * bool(others)
    if wanted:
        scores = softmax_average(list(logs), weights, values="probabilities", outputs=wanted)
        made |= {"labels": scores.labels} if "labels" in outputs else {}
        if others:
            assert scores.probabilities is not None
            product = softmax_average([scores.probabilities * GAP_RANGE], [1.0], outputs=others)
            made |= product.asked()
    return Fused(**made)
