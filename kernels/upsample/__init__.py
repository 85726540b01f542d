"""The weighted average of the softmaxes of many models, at label resolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fusion.arguments import checked

if TYPE_CHECKING:
    from torch import Tensor

    from fusion.kernels.arithmetic import Fused


@checked
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
    outputs: Sequence[str] | str = ("labels",),
    multipliers: Sequence[float] | None = None,
    channels: bool = False,
) -> Fused:
    """`softmax_average` at label resolution, from frames of each model at its own resolution.

    Bilinear interpolation with half-pixel centres (align_corners=False).

    Args:
        logits: M tensors [C, h, w], or [C, T, h, w] of T frames; h and w may differ between models.
            Else as `softmax_average`.
        weights: as `softmax_average`.
        size: (H, W) of the labels, in pixels.
        groups: as `softmax_average`.
        temperatures: as `softmax_average`.
        values: as `softmax_average`.
        resize: "probabilities" averages softmaxes within a group at native resolution and
            interpolates the means; "logits" interpolates every model's logits before its softmax,
            as most networks' own inference does.
        rows: (first, one past the last) label rows to compute, for bands of bounded memory.
            Default: all.
        outputs: as `softmax_average`.
        multipliers: as `softmax_average`.
        channels: as `softmax_average`.

    Returns:
        Fused as `softmax_average`, with pixel axes [rows, W], or [T, rows, W].

    Raises:
        TypeError: as `softmax_average`.
        ValueError: as `softmax_average`, and a size, resize or rows that do not fit.
    """
    from fusion.kernels.backends import choose
    from fusion.kernels.call import check_upsampling

    options: dict[str, Any] = {
        "groups": groups,
        "temperatures": temperatures,
        "values": values,
        "outputs": outputs,
    }
    options |= {"resize": resize, "rows": rows, "multipliers": multipliers, "channels": channels}
    call = check_upsampling(logits, weights, size, **options)
    return choose("upsample", call.device.type).upsample(call)
