"""What numbers become on disk: a frame is checked, then kept as the store's profile says.

    compact   uint8 gap codes: each logit as its distance below the pixel's top class
    exact     float16

Gap codes stand on a square-root scale of 256 steps:

    q = round(255 sqrt(min(zmax - z, 24) / 24))    0: the top class alone, the lowest one on a tie
    z = -24 (q / 255)^2                            up to a constant a pixel, which softmax ignores

The top class survives exactly. Half a step at gap g moves a probability P by
P (1 - P) sqrt(24 g) / 255, at the worst gap by 0.004 for 2 classes, 0.008 for 11, 0.011 for 124;
unquantised real predictions of 11 classes moved by 0.0053 at most. 255 is the fill value: a frame
without a single 0 at a pixel cannot be a picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numcodecs
import numpy as np
from numcodecs.abc import Codec

from fusion.errors import InputError
from fusion.kernels.numbers import DECODE_TABLE, GAP_RANGE

MAX_FRAME_ELEMENTS = 1 << 33  # 124 classes at 8K is 4.1e9


class GapCodec(Codec):
    """Floats [..., C, h, w] to uint8 gap codes of that shape, and back up to a constant a pixel."""

    codec_id = "segfusion.gap"

    def __init__(self, range: float = GAP_RANGE, axis: int = -3) -> None:
        if range != GAP_RANGE or axis != -3:
            ours = f"this version codes range {GAP_RANGE} over axis -3"
            raise InputError(f"GapCodec: got range {range}, axis {axis}; {ours}")

    def get_config(self) -> dict[str, Any]:
        return {"id": self.codec_id, "range": GAP_RANGE, "axis": -3}

    def encode(self, buf: Any) -> np.ndarray:
        """uint8 codes of finite or -inf logits; InputError where the array has no class axis."""
        logits = np.asarray(buf, dtype=np.float32)
        if logits.ndim < 3:
            raise InputError(f"GapCodec: got shape {list(logits.shape)}; give [..., C, h, w]")
        top_class = logits.argmax(axis=-3, keepdims=True)
        with np.errstate(over="ignore"):  # a gap beyond float32 is beyond the range as well
            gap = np.take_along_axis(logits, top_class, axis=-3) - logits
        np.minimum(gap, GAP_RANGE, out=gap)
        np.sqrt(gap / GAP_RANGE, out=gap)
        gap *= 255.0
        codes = np.rint(gap, out=gap).astype(np.uint8)
        np.maximum(codes, 1, out=codes)
        np.put_along_axis(codes, top_class, 0, axis=-3)
        return codes

    def decode(self, buf: Any, out: np.ndarray | None = None) -> np.ndarray:
        """float32 logits of the codes' shape."""
        codes = np.asarray(buf) if hasattr(buf, "dtype") else np.frombuffer(buf, np.uint8)
        decoded = DECODE_TABLE[codes.view(np.uint8)]
        if out is None:
            return decoded
        np.copyto(out, decoded.reshape(out.shape))
        return out


numcodecs.register_codec(GapCodec)


@dataclass(frozen=True)
class Coding:
    """How a profile keeps float32 numbers, and what a chunk that was never written reads as."""

    dtype: np.dtype
    fill: float
    encode: Callable[[np.ndarray], np.ndarray]
    decode: Callable[[np.ndarray], np.ndarray]
    config: dict[str, Any] | None = None  # as the store's attributes give it


def _to_halves(numbers: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        halves = numbers.astype("<f2")
    beyond = int((np.isinf(halves) & np.isfinite(numbers)).sum())
    if beyond:
        raise InputError(f"{beyond} values beyond float16's 65504; use profile='compact'")
    return halves


_gaps = GapCodec()
PROFILES = {
    "compact": Coding(np.dtype("uint8"), 255, _gaps.encode, _gaps.decode, _gaps.get_config()),
    "exact": Coding(np.dtype("<f2"), math.nan, _to_halves, lambda codes: codes.astype(np.float32)),
}


def encode_frame(frame: Any, classes: int, profile: str, values: str) -> np.ndarray:
    """One frame as it is kept: contiguous codes [C, h, w] of the profile's dtype.

    Args:
        frame: [C, h, w] floats of any framework, dtype, device or memory layout.
        classes: C.
        profile: a key of PROFILES.
        values: what the floats are: "logits", "probabilities" or "scores".

    Raises:
        InputError: numbers that cannot be kept, with count and first index; says not where.
    """
    numbers = to_numpy(frame)
    shape = list(numbers.shape)
    if len(shape) != 3 or shape[0] != classes or 0 in shape:
        raise InputError(f"got shape {shape}, expected [{classes}, h, w] by the store's classes")
    if numbers.size > MAX_FRAME_ELEMENTS:
        most = f"at most {MAX_FRAME_ELEMENTS}; store a lower resolution"
        raise InputError(f"{numbers.size} numbers in a frame, {most}")
    _refuse(np.isnan(numbers) | np.isposinf(numbers), "NaN or +inf", "[class, y, x]")
    if values == "probabilities":
        below = int((numbers < 0).sum())
        if below:
            raise InputError(f"{below} negative probabilities; write logits with values='logits'")
        with np.errstate(divide="ignore"):
            numbers = np.log(numbers)  # softmax is p by its sum: what sums to less is normalised
    if values != "scores":
        what = "pixels have no class with a finite logit (or a probability above 0)"
        _refuse(np.isneginf(numbers).all(axis=0), what, "[y, x]")
    return np.ascontiguousarray(PROFILES[profile].encode(numbers))


def _refuse(bad: Any, what: str, axes: str) -> None:
    if bad.any():
        first = f"the first at {axes} = {np.argwhere(bad)[0].tolist()}"
        raise InputError(f"{int(bad.sum())} {what}, {first}; repair the model's output")


def to_numpy(frame: Any) -> np.ndarray:
    """float32 array of any framework's floats: torch on any device, JAX, NumPy, nested lists."""
    if hasattr(frame, "detach"):
        frame = frame.detach().to("cpu")
        if not frame.dtype.is_floating_point:
            raise InputError(f"got {frame.dtype}; give floating-point logits")
        frame = (frame if frame.dtype.itemsize == 8 else frame.float()).numpy()
    array = np.asarray(frame)
    if array.dtype.kind != "f":
        raise InputError(f"got dtype {array.dtype}; give floating-point logits")
    with np.errstate(over="ignore"):
        singles = array.astype(np.float32)
    if array.dtype.itemsize > 4 and not np.array_equal(np.isinf(singles), np.isinf(array)):
        raise InputError("values beyond float32's 3.4e38; repair the model's output")
    return singles
