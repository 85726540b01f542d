"""Fusion kernels: weighted averages of the softmaxes of many models, and confusion counts, on whatever device the tensors are.

M models, G groups, C classes. CUDA and ROCm tensors go to the Triton kernels, all others to the CPU path; what they compute is written
down in `fusion.kernels.arithmetic`. This module stays light: torch and triton load when a kernel is first used.

Method: "5th Place Solution for VSPW 2021 Challenge", section 2.3, equation 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fusion.kernels.confusion import confusion

if TYPE_CHECKING:
    from torch import Tensor

    from fusion.kernels.arithmetic import Fused

__all__ = ["confusion", "softmax_average", "upsample_softmax_average"]


def softmax_average(
    logits: Sequence[Tensor],
    weights: Sequence[float],
    *,
    groups: Sequence[Sequence[int]] | None = None,
    temperatures: Sequence[float] | None = None,
    values: Sequence[str] | str = "logits",
    outputs: Sequence[str] = ("labels",),
) -> Fused:
    """Weighted mean over groups of the mean softmax of their models: argmax_c sum_g w_g mean_{m in g} softmax_c(z_m / T_m).

    Args:
        logits: M tensors [C, ...] of one shape and device: float16, bfloat16, float32, or uint8 gap codes (z = -24 (q / 255)^2);
            dtypes may differ between models. Adjacent pixels in memory are read in place, whatever lies between classes or frames;
            other strides are copied first.
        weights: one number >= 0 per group, divided by their sum. A group of weight 0 is not looked at.
        groups: indexes into `logits`, every model in exactly one group. Default: each model is its own group.
        temperatures: T_m > 0, dividing the logits of model m. Default: 1.
        values: "logits" or "probabilities" (taken as they are, no softmax), for all or one per model.
        outputs: any of labels, probabilities, confidence, margin, entropy, group_means; only these are computed.

    Returns:
        Fused, with None for what was not asked: labels [...] uint8 (uint16 beyond 255 classes; the last value where a score is NaN),
        probabilities [C, ...], confidence, margin and entropy [...] (entropy in nats), group_means [G, C, ...], all float32.

    Raises:
        TypeError: a dtype that is not listed. ValueError: shapes, devices, groups, weights or names that do not fit.
    """
    from fusion.kernels import call as arguments

    logits = list(logits)
    given = arguments.check(logits, weights, groups, temperatures, values, outputs)
    arguments.check_pixels(logits)
    if logits[0].device.type == "cuda":
        from fusion.kernels.average.triton import softmax_average as average
    else:
        _on_cpu(logits[0])
        from fusion.kernels.average.cpu import softmax_average as average
    return average(
        logits,
        given.weights,
        groups=given.groups,
        temperatures=given.temperatures,
        values=given.values,
        outputs=given.outputs,
    )


def upsample_softmax_average(
    logits: Sequence[Tensor],
    weights: Sequence[float],
    size: tuple[int, int],
    *,
    groups: Sequence[Sequence[int]] | None = None,
    temperatures: Sequence[float] | None = None,
    values: Sequence[str] | str = "logits",
    resize: str = "probabilities",
    rows: tuple[int, int] | None = None,
    outputs: Sequence[str] = ("labels",),
) -> Fused:
    """The same at label resolution, from one frame of each model at its own resolution; bilinear, half-pixel centres.

    Args:
        logits: M tensors [C, h, w]; h and w may differ between models. dtypes, weights, groups, temperatures, values, outputs: as
            `softmax_average`.
        size: (H, W) of the labels, in pixels.
        resize: "probabilities" averages softmaxes within a group at native resolution and interpolates the means;
            "logits" interpolates every model's logits before its softmax, as most networks' own inference does.
        rows: (first, one past the last) label rows to compute, for bands of bounded memory. Default: all.

    Returns:
        Fused as `softmax_average`, with pixel axes [rows, W].

    Raises:
        As `softmax_average`, and ValueError for a size, resize or rows that do not fit.
    """
    from fusion.kernels import call as arguments

    logits = list(logits)
    given = arguments.check(logits, weights, groups, temperatures, values, outputs)
    size, rows = arguments.check_resize(logits, size, resize, rows)
    if logits[0].device.type == "cuda":
        from fusion.kernels.upsample.triton import upsample_softmax_average as average
    else:
        _on_cpu(logits[0])
        from fusion.kernels.upsample.cpu import upsample_softmax_average as average
    return average(
        logits,
        given.weights,
        size,
        groups=given.groups,
        temperatures=given.temperatures,
        values=given.values,
        resize=resize,
        rows=rows,
        outputs=given.outputs,
    )


def _on_cpu(values: Tensor) -> None:
    if values.device.type != "cpu":
        raise ValueError(
            f"device: got {values.device}; fusion runs on cpu and cuda (ROCm included)"
        )
