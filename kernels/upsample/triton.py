"""Weighted softmax average at label resolution on a GPU, interpolated inside the kernels.

    resize="logits"          triton_logits.py: one launch; the softmax of the interpolated logits of
                             every model, summed as in average/triton.py
    resize="probabilities"   two launches for models of one resolution: average/triton.py makes a
                             weighted sum (or every group's mean, if these are asked for) at native
                             size, triton_maps.py interpolates those and adds them. No [C, H, W] map
                             exists. One launch more for each further resolution, and bands of rows
                             where native sums would be more than BAND_BYTES.

Maps that already have the label's size need no interpolation: one launch of average/triton.py.
All take T frames [C, T, h, w] at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from fusion.kernels import tiles
from fusion.kernels.arithmetic import Fused, bilinear_steps, normalised
from fusion.kernels.average import triton as native
from fusion.kernels.call import Call, Pair, Upsampling
from fusion.kernels.upsample import triton_channels, triton_logits, triton_maps
from fusion.kernels.upsample.cells import Map, bands, of_frames

Groups = list[list[tuple[Map, float]]]  # the maps of every group, and what each counts


def upsample(call: Upsampling) -> Fused:
    """As `fusion.kernels.upsample_softmax_average`, on a GPU.

    ValueError beyond 1024 classes. Extra device memory: tables, and with resize="probabilities" at
    most 256 MiB of native sums, or those of one label row where they are larger. Independent
    channels: triton_channels.py.
    """
    if call.channels:
        return triton_channels.upsample(call.used())
    tiles.block_classes(call.classes)
    made = call.allocate()
    if 0 in call.shape:
        return made
    call = call.used()
    shapes = {tuple(z.shape[-2:]) for z in call.logits}
    if shapes == {call.size}:
        rows = tuple(z[..., slice(*call.rows), :] for z in call.logits)
        return native.average(replace(call.native(), logits=rows))
    if call.resize == "logits":
        triton_logits.launch(call, made)
        return made
    separate = "group_means" in call.outputs
    weights = normalised(call.weights) if separate else [1.0]
    for band in bands(call, native_bytes(call)):
        groups = group_means(call, band) if separate else [weighted_sum(call, band)]
        triton_maps.launch(groups, weights, call, band, made)
    return made


def native_bytes(call: Upsampling) -> int:
    """Of all native rows' sums, or group means where these are asked for."""
    used = [{z.shape for m in group for z in (call.logits[m],)} for group in call.groups]
    if "group_means" not in call.outputs:
        used = [set().union(*used)]
    return 4 * sum(math.prod(shape) for shapes in used for shape in shapes)


def of_one_size(call: Upsampling, band: Pair) -> Iterator[tuple[list[int], Call, int, Pair]]:
    """For every native size: which groups have models of it; the call over those models, of which
    only the rows that `band` needs, with the groups' means as outputs; the first of these rows; the
    size."""
    for shape in dict.fromkeys((z.shape[-2], z.shape[-1]) for z in call.logits):
        upper, lower, _ = bilinear_steps(shape[0], call.size[0])
        first, last = int(upper[band[0]]), int(lower[band[1] - 1])
        members = [
            [m for m in group if call.logits[m].shape[-2:] == shape] for group in call.groups
        ]
        chosen = [g for g, some in enumerate(members) if some]
        part = call.native().subset(
            [members[g] for g in chosen],
            logits=tuple(
                call.logits[m][..., first : last + 1, :] for g in chosen for m in members[g]
            ),
            weights=tuple(len(members[g]) / len(call.groups[g]) for g in chosen),
            outputs=("group_means",),
        )
        yield chosen, part, first, shape


def weighted_sum(call: Upsampling, band: Pair) -> list[tuple[Map, float]]:
    """For every native size a map, the weighted mean of its models, and what it counts."""
    made, shares = [], [weight / max(call.weights) for weight in call.weights]
    for chosen, part, first, shape in of_one_size(call, band):
        counts = tuple(n * shares[g] for n, g in zip(part.weights, chosen, strict=True))
        part = replace(part, weights=counts, outputs=("probabilities",), multipliers=None)
        mean = native.average(part).probabilities
        assert mean is not None
        made.append((Map(of_frames(mean), first, shape), sum(counts) / sum(shares)))
    return made if len(made) > 1 else [(made[0][0], 1.0)]


def group_means(call: Upsampling, band: Pair) -> Groups:
    """For every group and native size a map, the mean of its models, and what it counts."""
    made: Groups = [[] for _ in call.groups]
    for chosen, part, first, shape in of_one_size(call, band):
        means = native.average(part).group_means
        assert means is not None
        for g, mean, share in zip(chosen, means, part.weights, strict=True):
            made[g].append((Map(of_frames(mean), first, shape), share))
    return made
