"""Overlapping tiles of a sliding window, blended into one whole and committed, in bounded memory.

    whole = sum of window * tile / sum of window, at every pixel, in float32

    "constant"   1
    "gaussian"   MONAI's: exp(-x^2 / 2 sigma^2) around the middle of the tile, sigma an eighth of
                 its side, at least 0.001. Source: monai.data.utils.compute_importance_map
    "nnunet"     nnU-Net's: the same around pixel side // 2, 10 there, rounded to float16, zeros
                 replaced by the smallest above. Source: nnunetv2's compute_gaussian; its sums are
                 float16, ours are not

Sums that take more than the memory allowed live in a file of the store's staging folder.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import operator
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from fusion import files
from fusion.arguments import checked
from fusion.errors import InputError
from fusion.stores.codec import MAX_FRAME_ELEMENTS, to_numpy
from fusion.stores.video_writer import Request, Target, VideoWriter
from fusion.text import parse_bytes

Window = Literal["constant", "gaussian", "nnunet"]
Steps = Literal["monai", "nnunet"]
MEMORY = 1 << 30  # bytes of sums in memory

MOST_TILES = 1 << 24


@checked
class TileWriter:
    """The tiles of one image or case on their way into a store; made by `LogitWriter.tiles`.

    Attributes:
        committed: whether the video is there already; then tiles are ignored.
    """

    def __init__(
        self,
        target: Target,
        request: Request,
        size: tuple[int, ...],
        window: Callable[[tuple[int, ...]], np.ndarray],
        memory: int,
    ) -> None:
        self._target, self._size = target, size
        self._where = f"{target.path.name}: video {request.video!r}"
        self._out = VideoWriter(target, request)
        self.committed = self._out.committed
        self._window, self._windows = window, dict[tuple[int, ...], np.ndarray]()
        self._scratch = contextlib.ExitStack()
        self._memory = memory
        self._sums: Sums | None = None

    def __enter__(self) -> TileWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._scratch:
            try:
                if kind is None and not self.committed:
                    self._commit()
            finally:
                self._sums = None

    def add(self, tile: Any, at: Sequence[int]) -> None:
        """Adds a tile; what reaches beyond the whole is left out.

        Args:
            tile: [C, h, w] of an image; [C, d, h, w], or a slice [C, h, w], of a case. Floats of
                any framework, dtype and device, what the store's `values` say.
            at: (y, x) or (z, y, x) of the tile's first pixel; negative where it begins outside.

        Raises:
            InputError: NaN or +inf (count and first index), a wrong class count, another number of
                axes, a tile that lies outside. Nothing is committed.
            StoreError: the disk refuses.
        """
        if self.committed:
            return
        where = f"{self._where}, tile at {at!r:.60}"
        start = _start(at, len(self._size), where)
        numbers = self._checked(tile, where)
        window = self._window_of(numbers.shape[1:])
        if numbers.ndim == len(self._size):  # a slice of a case
            numbers, window = numbers[:, None], window[None]
        ends = [a + n for a, n in zip(start, numbers.shape[1:], strict=True)]
        if any(a >= n or end <= 0 for a, end, n in zip(start, ends, self._size, strict=True)):
            got = f"{list(numbers.shape[1:])} lies outside of {list(self._size)}"
            raise InputError(f"{where}: {got}; give the position of its first pixel")
        begins = [max(0, -a) for a in start]
        inside = tuple(
            slice(b, b + min(end, n) - max(a, 0))
            for a, b, end, n in zip(start, begins, ends, self._size, strict=True)
        )
        there = tuple(
            slice(max(a, 0), min(end, n)) for a, end, n in zip(start, ends, self._size, strict=True)
        )
        self._blend(numbers[(slice(None), *inside)], window[inside], there)

    def _blend(self, tile: np.ndarray, window: np.ndarray, there: tuple[slice, ...]) -> None:
        if self._sums is None:
            self._sums = self._allocate()
        if tile.ndim == 3:
            tile, window, there = tile[:, None], window[None], (slice(0, 1), *there)
        planes, rows, columns = there
        parts = np.concatenate([tile * window, window[None]])
        with files.refusals(
            self._target.path, parts.nbytes, problem=f"{self._where}: no tile added"
        ):
            for z, part in zip(range(planes.start, planes.stop), parts.swapaxes(0, 1), strict=True):
                self._sums.add(z, rows, columns, part)

    def _checked(self, tile: Any, where: str) -> np.ndarray:
        try:
            numbers = to_numpy(tile)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        axes, classes = len(self._size), len(self._target.info.classes)
        shape = list(numbers.shape)
        fits = len(shape) in ((3,) if axes == 2 else (3, 4))
        if not fits or shape[0] != classes or 0 in shape:
            expected = f"[{classes}, {'d, ' * (axes - 2)}h, w] by the store's classes"
            raise InputError(f"{where}: got shape {shape}, expected {expected}")
        bad = np.isnan(numbers) | np.isposinf(numbers)
        if self._target.info.channels:
            bad |= np.isneginf(numbers)
        if bad.any():
            first = f"the first at index {np.argwhere(bad)[0].tolist()}"
            problem = f"{int(bad.sum())} numbers that are NaN or infinite, {first}"
            raise InputError(f"{where}: {problem}; repair the model's output")
        return numbers

    def _window_of(self, shape: tuple[int, ...]) -> np.ndarray:
        if shape not in self._windows:
            self._windows[shape] = self._window(shape)
        return self._windows[shape]

    def _allocate(self) -> Sums:
        shape = len(self._target.info.classes) + 1, *self._size[-2:]
        planes = self._size[0] if len(self._size) == 3 else 1
        need = 4 * planes * math.prod(shape)
        if need <= self._memory:
            return Sums(planes, shape, None)
        root, problem = self._target.path, f"{self._where}: no room for the sums of its tiles"
        with files.refusals(root, need, problem=problem):
            path = self._scratch.enter_context(root.staged()) / "sums"
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            handle = self._scratch.enter_context(files.opened(path, flags))
            os.truncate(handle, need)
            return Sums(planes, shape, handle)

    def _commit(self) -> None:
        if self._sums is None:
            raise InputError(f"{self._where}: got no tile; add every tile, nothing was committed")
        self._check_covered(self._sums)
        with self._out as out:
            for z in range(self._sums.planes):
                frame = self._sums.read(z)
                out.append(frame[:-1] / frame[-1])

    def _check_covered(self, sums: Sums) -> None:
        missing = [int((sums.weight(z) == 0).sum()) for z in range(sums.planes)]
        if not any(missing):
            return
        z = next(z for z, count in enumerate(missing) if count)
        first = [z, *np.argwhere(sums.weight(z) == 0)[0].tolist()][-len(self._size) :]
        axes = "[z, y, x]" if len(self._size) == 3 else "[y, x]"
        got = f"{sum(missing)} of {math.prod(self._size)} pixels lie in no tile"
        advice = "add tiles everywhere (see tile_positions), nothing was committed"
        raise InputError(f"{self._where}: {got}, the first at {axes} = {first}; {advice}")


class Sums:
    """Sums [Z, C + 1, H, W] of weighted tiles, and as the last of a slice those of the weights.

    In a file they are read and written, not mapped: no page of it counts as this process's memory,
    and a full disk is an error.
    """

    def __init__(self, planes: int, shape: tuple[int, ...], handle: int | None) -> None:
        self.planes, self._shape, self._handle = planes, shape, handle
        self._array = np.zeros((planes, *shape), np.float32) if handle is None else None

    def add(self, z: int, rows: slice, columns: slice, part: np.ndarray) -> None:
        """Adds [C + 1, h, w] to a part of a slice."""
        if self._array is not None:
            self._array[z, :, rows, columns] += part
            return
        for channel, numbers in enumerate(part):
            there = self._read(z, channel, rows)
            there[:, columns] += numbers
            self._write(z, channel, rows, there)

    def read(self, z: int) -> np.ndarray:
        """A slice, [C + 1, H, W]."""
        if self._array is not None:
            return self._array[z]
        every = slice(0, self._shape[1])
        return np.stack([self._read(z, channel, every) for channel in range(self._shape[0])])

    def weight(self, z: int) -> np.ndarray:
        """Sums of the weights of a slice, [H, W]."""
        if self._array is not None:
            return self._array[z, -1]
        return self._read(z, self._shape[0] - 1, slice(0, self._shape[1]))

    def _offset(self, z: int, channel: int, row: int) -> int:
        channels, height, width = self._shape
        return 4 * width * (height * (channels * z + channel) + row)

    def _read(self, z: int, channel: int, rows: slice) -> np.ndarray:
        out = np.empty((rows.stop - rows.start, self._shape[2]), np.float32)
        _whole(os.preadv, self._handle, out, self._offset(z, channel, rows.start))
        return out

    def _write(self, z: int, channel: int, rows: slice, numbers: np.ndarray) -> None:
        _whole(os.pwritev, self._handle, numbers, self._offset(z, channel, rows.start))


def _whole(call: Callable[..., int], handle: int | None, array: Any, offset: int) -> None:
    """Reads or writes all of an array: a call may do less than it was asked for."""
    rest = memoryview(array).cast("B")
    while rest:
        done = call(handle, [rest], offset)
        if done <= 0:
            raise OSError(errno.EIO, "the scratch file of tiles ends early")
        rest, offset = rest[done:], offset + done


@checked
def tile_positions(
    size: Sequence[int],
    tile: Sequence[int],
    overlap: float | Sequence[float] = 0.25,
    *,
    steps: Steps = "monai",
) -> list[tuple[int, ...]]:
    """Where a sliding window's tiles begin, for `TileWriter.add`.

    Args:
        size: of the whole, (Y, X) or (Z, Y, X).
        tile: of a tile, as many numbers. A side longer than the whole's begins at a negative
            position, as if the whole were padded on both sides, which both frameworks do.
        overlap: share of a tile that the next one covers, from 0 to below 1, of all axes or of
            each. MONAI's `overlap`; nnU-Net's `tile_step_size` is 1 - overlap.
        steps: "monai": of equal length, the last one shorter; "nnunet": of equal length as far as
            whole pixels can be, at most what overlap says.

    Returns:
        Positions in the order of the axes, the last one fastest.

    Raises:
        InputError: not as many positive numbers, or overlap outside 0 .. 1.
    """
    sides = _sizes("size", size, None), _sizes("tile", tile, len(size))
    shares = [overlap] * len(size) if isinstance(overlap, (int, float)) else list(overlap)
    if len(shares) != len(size) or not all(0 <= share < 1 for share in shares):
        raise InputError(f"overlap: got {overlap!r:.60}; give a number from 0 to below 1")
    if steps not in _STARTS:
        raise InputError(f"steps: got {steps!r}; choose one of {tuple(_STARTS)}")
    fewest = math.prod(max(1, whole // small) for whole, small in zip(*sides, strict=True))
    if fewest > MOST_TILES:
        raise InputError(
            f"size: got {fewest} tiles or more; give larger tiles, {MOST_TILES} at most"
        )
    starts = [
        [
            start - max(0, small - whole) // 2
            for start in _STARTS[steps](max(whole, small), small, s)
        ]
        for whole, small, s in zip(*sides, shares, strict=True)
    ]
    return list(itertools.product(*starts))


def _monai_starts(whole: int, tile: int, overlap: float) -> list[int]:
    """Source: monai.data.utils.dense_patch_slices."""
    step = max(1, int(tile * (1 - overlap)))
    number = max(0, -(-(whole - tile) // step)) + 1
    return [min(n * step, whole - tile) for n in range(number)]


def _nnunet_starts(whole: int, tile: int, overlap: float) -> list[int]:
    """Source: nnunetv2's compute_steps_for_sliding_window."""
    number = math.ceil((whole - tile) / (tile * (1 - overlap))) + 1
    step = (whole - tile) / max(1, number - 1)
    return [round(step * n) for n in range(number)]


_STARTS: dict[str, Callable[[int, int, float], list[int]]] = {
    "monai": _monai_starts,
    "nnunet": _nnunet_starts,
}


def window_of(name: str, sigma_scale: float) -> Callable[[tuple[int, ...]], np.ndarray]:
    """A window's float32 weights by the shape of a tile; InputError for a name that is none."""
    windows: dict[str, Callable[[tuple[int, ...]], np.ndarray]] = {
        "constant": lambda shape: np.ones(shape, np.float32),
        "gaussian": lambda shape: _gaussian(shape, sigma_scale),
        "nnunet": lambda shape: _nnunet(shape, sigma_scale),
    }
    if name not in windows:
        raise InputError(f"window: got {name!r}; choose one of {tuple(windows)}")
    if not (isinstance(sigma_scale, (int, float)) and 0 < sigma_scale < math.inf):
        raise InputError(f"sigma_scale: got {sigma_scale!r}; give a number above 0, such as 0.125")
    return windows[name]


def _gaussian(shape: tuple[int, ...], sigma_scale: float) -> np.ndarray:
    weights = np.ones((), np.float32)
    for side in shape:
        x = np.arange(side, dtype=np.float32) - np.float32((side - 1) / 2)
        bell = np.exp(x**2 / np.float32(-2 * (side * sigma_scale) ** 2))
        weights = weights[..., None] * bell
    return np.maximum(weights, np.float32(1e-3))


def _nnunet(shape: tuple[int, ...], sigma_scale: float) -> np.ndarray:
    weights = np.ones(())
    for side in shape:
        sigma, x = side * sigma_scale, np.arange(side) - side // 2
        bell = np.exp(-0.5 / sigma**2 * x**2)
        bell[np.abs(x) > int(4 * sigma + 0.5)] = 0  # where scipy's gaussian_filter ends
        weights = weights[..., None] * bell
    halves = (weights / weights.max() * 10).astype(np.float16)
    halves[halves == 0] = halves[halves != 0].min()
    return halves.astype(np.float32)


def checked_tiling(
    classes: int, size: Sequence[int], memory: int | str, where: str
) -> tuple[tuple[int, ...], int]:
    """Size of a whole and bytes of its sums in memory; InputError."""
    whole = _sizes(f"{where}: size", size, None)
    if classes * math.prod(whole[-2:]) > MAX_FRAME_ELEMENTS:
        most = f"at most {MAX_FRAME_ELEMENTS} numbers in a frame"
        raise InputError(f"{where}: size {list(whole)} of {classes} classes; {most}")
    return whole, parse_bytes(memory)


def _sizes(what: str, sizes: Sequence[int], axes: int | None) -> tuple[int, ...]:
    try:
        numbers = tuple(operator.index(n) for n in sizes)
    except TypeError:
        numbers = ()
    if len(numbers) not in ((2, 3) if axes is None else (axes,)) or min(numbers) < 1:
        raise InputError(f"{what}: got {sizes!r:.60}; give (y, x) or (z, y, x), all at least 1")
    return numbers


def _start(at: Sequence[int], axes: int, where: str) -> tuple[int, ...]:
    try:
        numbers = tuple(operator.index(n) for n in at)
    except TypeError:
        numbers = ()
    if len(numbers) != axes:
        raise InputError(f"{where}: give {'(z, y, x)' if axes == 3 else '(y, x)'}, whole numbers")
    return numbers
