"""What numbers become on disk: a frame is checked, then kept as the store's profile says.

    compact   uint8 gap codes: each logit as its distance below the pixel's top class
              uint8 angle codes where classes are independent channels (sigmoid)
    exact     float16

Gap codes stand on a square-root scale of 256 steps:

    q = round(255 sqrt(min(zmax - z, 24) / 24))    0: the top class alone, the lowest one on a tie
    z = -24 (q / 255)^2                            up to a constant a pixel, which softmax ignores

The top class survives exactly. Half a step at gap g moves a probability P by
P (1 - P) sqrt(24 g) / 255, at the worst gap by 0.004 for 2 classes, 0.008 for 11, 0.011 for 124;
unquantised real predictions of 11 classes moved by 0.0053 at most. 255 is the fill value: a frame
without a single 0 at a pixel cannot be a picture.

Angle codes keep each channel by itself, in 256 even steps of the angle asin(sqrt(P)), P = sigmoid:

    P = sin^2((q + 1/2) pi / 512)        codes above 127 where P > 1/2, and nowhere else

The decision at 1/2 survives exactly. Half a step moves P by sin(2 angle) pi / 1024, by 0.0031 at
most, and less towards 0 and 1, where rare things are decided: 0.0006 at P = 0.01. What lies beyond
9.4e-6 from 0 or 1 is kept as that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numcodecs
import numpy as np
from numcodecs.abc import Codec

from fusion.arguments import checked
from fusion.errors import InputError
from fusion.kernels.numbers import ANGLE_BOUNDS, ANGLE_TABLE, DECODE_TABLE, GAP_RANGE

CHANNELS = ("sigmoid", "sigmoid-probabilities")  # values whose classes are independent
MAX_FRAME_ELEMENTS = 1 << 33  # 124 classes at 8K is 4.1e9


class _TableCodec(Codec):
    """uint8 codes that a table of 256 logits decodes."""

    table: ClassVar[np.ndarray]

    def decode(self, buf: Any, out: np.ndarray | None = None) -> np.ndarray:
        """float32 logits of the codes' shape."""
        codes = np.asarray(buf) if hasattr(buf, "dtype") else np.frombuffer(buf, np.uint8)
        decoded = self.table[codes.view(np.uint8)]
        if out is None:
            return decoded
        np.copyto(out, decoded.reshape(out.shape))
        return out


@checked
class GapCodec(_TableCodec):
    """Floats [..., C, h, w] to uint8 gap codes of that shape, and back up to a constant a pixel."""

    codec_id = "segfusion.gap"
    table = DECODE_TABLE

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


@checked
class AngleCodec(_TableCodec):
    """Floats of any shape, logits of independent channels, to uint8 angle codes, and back."""

    codec_id = "segfusion.angle"
    table = ANGLE_TABLE

    def __init__(self, steps: int = 256) -> None:
        if steps != len(ANGLE_TABLE):
            raise InputError(f"AngleCodec: got {steps} steps; this version has {len(ANGLE_TABLE)}")

    def get_config(self) -> dict[str, Any]:
        return {"id": self.codec_id, "steps": len(ANGLE_TABLE)}

    def encode(self, buf: Any) -> np.ndarray:
        """uint8 codes of finite or infinite logits."""
        return np.searchsorted(ANGLE_BOUNDS, np.asarray(buf, np.float32)).astype(np.uint8)


numcodecs.register_codec(GapCodec)
numcodecs.register_codec(AngleCodec)


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


def _compact(codec: GapCodec | AngleCodec) -> Coding:
    return Coding(np.dtype("uint8"), 255, codec.encode, codec.decode, codec.get_config())


PROFILES = {
    "compact": _compact(GapCodec()),
    "exact": Coding(np.dtype("<f2"), math.nan, _to_halves, lambda codes: codes.astype(np.float32)),
}
_CHANNELS_COMPACT = _compact(AngleCodec())


def coding(profile: str, values: str) -> Coding:
    """How a store of these values keeps them."""
    compact_channels = profile == "compact" and values in CHANNELS
    return _CHANNELS_COMPACT if compact_channels else PROFILES[profile]


def encode_frame(frame: Any, classes: int, profile: str, values: str) -> np.ndarray:
    """One frame as it is kept: contiguous codes [C, h, w] of the profile's dtype.

    Args:
        frame: [C, h, w] floats of any framework, dtype, device or memory layout.
        classes: C.
        profile: a key of PROFILES.
        values: what the floats are, one of `fusion.stores.format.VALUES`.

    Raises:
        InputError: numbers that cannot be kept, with count and first index; says not where.
    """
    numbers = kernel_numbers(to_numpy(frame), classes, values)
    return np.ascontiguousarray(coding(profile, values).encode(numbers))


def kernel_numbers(numbers: Any, classes: int, values: str, library: Any = np) -> Any:
    """A frame as kernels take it, before any coding: logits, or "scores" as they are.

    Args:
        numbers: float32 [C, h, w].
        classes: C.
        values: what the floats are.
        library: of the array: numpy, or torch for a tensor, whose functions have the same names.

    Raises:
        InputError: as `encode_frame`.
    """
    shape = list(numbers.shape)
    if len(shape) != 3 or shape[0] != classes or 0 in shape:
        raise InputError(f"got shape {shape}, expected [{classes}, h, w] by the store's classes")
    if math.prod(shape) > MAX_FRAME_ELEMENTS:
        most = f"at most {MAX_FRAME_ELEMENTS}; store a lower resolution"
        raise InputError(f"{math.prod(shape)} numbers in a frame, {most}")
    if values in CHANNELS:
        return _channel_logits(numbers, values, library)
    bad = library.isnan(numbers) | library.isposinf(numbers)
    _refuse(bad, "NaN or +inf", "[class, y, x]", library)
    if values == "probabilities":
        below = int((numbers < 0).sum())
        if below:
            raise InputError(f"{below} negative probabilities; write logits with values='logits'")
        with np.errstate(divide="ignore"):
            # softmax is p by its sum: what sums to less is normalised
            numbers = library.log(numbers)
    if values != "scores":
        what = "pixels have no class with a finite logit (or a probability above 0)"
        _refuse(library.isneginf(numbers).all(axis=0), what, "[y, x]", library)
    return numbers


def _channel_logits(numbers: Any, values: str, library: Any) -> Any:
    """Logits of independent channels, within +-24; InputError for what is none."""
    if values == "sigmoid-probabilities":
        outside = ~((numbers >= 0) & (numbers <= 1))  # NaN too
        what = "numbers outside 0..1, which channel probabilities are"
        _refuse(outside, what, "[class, y, x]", library)
        with np.errstate(divide="ignore"):
            doubles = library.asarray(numbers, dtype=library.float64)
            logits = library.log(doubles) - library.log1p(-doubles)
        numbers = library.asarray(logits, dtype=library.float32)
    _refuse(library.isnan(numbers), "NaN", "[class, y, x]", library)
    return library.clip(numbers, -GAP_RANGE, GAP_RANGE)  # sigmoid of the ends: 4e-11 from 0 and 1


def _refuse(bad: Any, what: str, axes: str, library: Any) -> None:
    if bad.any():
        first = f"the first at {axes} = {library.argwhere(bad)[0].tolist()}"
        raise InputError(f"{int(bad.sum())} {what}, {first}; repair the model's output")


def to_numpy(frame: Any) -> np.ndarray:
    """float32 array of any framework's floats: torch on any device, JAX, NumPy, nested lists."""
    if getattr(frame, "is_sparse", False):
        raise InputError("got a sparse tensor; give a dense one, such as frame.to_dense()")
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


def zstd_size(packed: bytes) -> int:
    """Bytes that a zstd frame says it unpacks to, or -1. Source: RFC 8878, 3.1.1.1."""
    if len(packed) < 6 or packed[:4] != b"\x28\xb5\x2f\xfd":
        return -1
    flags = packed[4]
    single, dictionary = flags >> 5 & 1, (0, 1, 2, 4)[flags & 3]
    width = (1 if single else 0, 2, 4, 8)[flags >> 6]
    start = 5 + (0 if single else 1) + dictionary
    size = int.from_bytes(packed[start : start + width], "little") + (256 if width == 2 else 0)
    return size if width else -1
