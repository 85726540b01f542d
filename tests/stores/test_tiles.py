"""Blended tiles against MONAI itself, and against nnU-Net's formulas worked out slowly."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import sliding_window_inference
from monai.inferers.utils import _get_scan_interval
from scipy.ndimage import gaussian_filter

from fusion.errors import InputError, StoreConflictError, StoreError
from fusion.stores import LogitStore, LogitWriter, tile_positions, tiles, video_writer
from tests.stores.common import nothing_but_the_group, staging

CLASSES = 3
NAMES = [f"class {c}" for c in range(CLASSES)]
# a weighted mean in float32, of at most 64 tiles: what two orders of its operations may differ by
BOUND = 64 * 2.0**-23


@pytest.fixture
def appended(monkeypatch):
    """Frames as they reach the writer, before they become codes."""
    frames, honest = [], video_writer.encode_frame

    def watch(frame, *arguments):
        frames.append(np.array(frame))
        return honest(frame, *arguments)

    monkeypatch.setattr(video_writer, "encode_frame", watch)
    return frames


def network(crops: torch.Tensor) -> torch.Tensor:
    """[1, 1, ...] to [1, C, ...]: depends on the place in the crop, so that blending matters."""
    ramp = torch.linspace(0, 3, crops.shape[-1])
    return torch.cat([crops * ramp, torch.sin(crops + ramp), crops.flip(-1) - ramp], dim=1)


def by_monai(image: torch.Tensor, tile: tuple[int, ...], overlap: float, mode: str):
    """MONAI's whole, and the tiles that it has seen with their positions in the padded image."""
    seen = []

    def watched(crops: torch.Tensor, coordinates: list) -> torch.Tensor:
        out = network(crops)
        seen.append((tuple(part.start for part in coordinates[0][2:]), out[0].clone()))
        return out

    whole = sliding_window_inference(
        image, tile, 1, watched, overlap=overlap, mode=mode, with_coord=True
    )
    return whole[0].numpy(), seen


CASES = {
    "2D": ((37, 50), (16, 16), 0.5),
    "2D, no overlap": ((32, 48), (16, 16), 0.0),
    "2D, uneven": ((23, 19), (8, 12), 0.25),
    "2D, one tile": ((16, 16), (16, 16), 0.25),
    "2D, smaller than the tile": ((9, 30), (16, 12), 0.5),
    "3D": ((9, 20, 25), (4, 8, 8), 0.5),
    "3D, smaller than the tile": ((3, 20, 12), (8, 8, 8), 0.25),
}


@pytest.mark.parametrize("memory", [1 << 30, 1], ids=["in memory", "in a file"])
@pytest.mark.parametrize("mode", ["gaussian", "constant"])
@pytest.mark.parametrize("case", CASES)
def test_the_whole_is_monais(tmp_path, appended, case, mode, memory):
    size, tile, overlap = CASES[case]
    image = torch.from_numpy(np.random.default_rng(0).normal(0, 5, (1, 1, *size)).astype("f4"))
    expected, seen = by_monai(image, tile, overlap, mode)
    pad = [max(0, small - whole) // 2 for small, whole in zip(tile, size, strict=True)]
    ats = [tuple(a - p for a, p in zip(at, pad, strict=True)) for at, _ in seen]
    assert ats == tile_positions(size, tile, overlap)
    with LogitWriter(tmp_path / "s.zarr", NAMES).tiles(
        "case", size, window=mode, memory=memory
    ) as out:
        for at, (_, logits) in zip(ats, seen, strict=True):
            out.add(logits, at=at)
        assert len(staging(tmp_path / "s.zarr")) == (memory == 1)
    got = np.stack(appended, axis=1) if len(size) == 3 else appended[0]
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= BOUND * max(1, np.abs(expected).max())
    store = LogitStore(tmp_path / "s.zarr")
    planes = size[0] if len(size) == 3 else 1
    assert store.frames("case") == tuple(f"{z:05d}" for z in range(planes))
    assert store.describe("case").shape == (planes, CLASSES, *size[-2:])
    assert staging(tmp_path / "s.zarr") == []


@pytest.mark.parametrize("shape", [(16, 16), (7, 12), (1, 5), (4, 9, 16), (96, 96)])
def test_the_gaussian_is_monais(shape):
    theirs = compute_importance_map(shape, mode="gaussian", sigma_scale=0.125).numpy()
    ours = tiles.window_of("gaussian", 0.125)(shape)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert ours.dtype == np.float32
    assert ours.min() >= np.float32(1e-3)


def nnunet_gaussian(shape: tuple[int, ...], scale: float = 1 / 8) -> np.ndarray:
    """nnunetv2.inference.sliding_window_prediction.compute_gaussian, as it is called there."""
    impulse = np.zeros(shape)
    impulse[tuple(side // 2 for side in shape)] = 1
    bell = gaussian_filter(impulse, [side * scale for side in shape], 0, mode="constant", cval=0)
    halves = torch.from_numpy(bell / bell.max() * 10).to(torch.float16)
    halves[halves == 0] = halves[halves != 0].min()
    return halves.numpy()


@pytest.mark.parametrize("scale", [0.125, 0.07, 0.3])
@pytest.mark.parametrize("shape", [(16, 16), (7, 12), (1, 5), (4, 9, 16), (32, 32, 32), (128, 96)])
def test_the_nnunet_window_is_nnunets(shape, scale):
    theirs, ours = nnunet_gaussian(shape, scale), tiles.window_of("nnunet", scale)(shape)
    # float64 products in another order: a float16 may round the other way
    np.testing.assert_allclose(ours, theirs.astype(np.float32), rtol=2.0**-10)
    assert (ours != theirs).mean() < 0.001
    assert ours.min() > 0
    assert ours.max() == 10


@pytest.mark.parametrize(
    ("size", "tile"), [((21, 30), (8, 12)), ((6, 14, 11), (4, 8, 8)), ((5, 13, 9), (1, 8, 8))]
)
def test_the_whole_is_nnunets(tmp_path, appended, size, tile):
    """A pixel at a time, in float64."""
    rng, window = np.random.default_rng(1), nnunet_gaussian(tile).astype(np.float64)
    total, weight = np.zeros((CLASSES, *size)), np.zeros(size)
    with LogitWriter(tmp_path / "s.zarr", NAMES).tiles("case", size, window="nnunet") as out:
        for at in tile_positions(size, tile, 0.5, steps="nnunet"):
            logits = rng.normal(0, 5, (CLASSES, *tile)).astype(np.float32)
            out.add(logits, at=at)
            for place in np.ndindex(*tile):
                there = tuple(a + p for a, p in zip(at, place, strict=True))
                total[(slice(None), *there)] += logits[(slice(None), *place)] * window[place]
                weight[there] += window[place]
    got = np.stack(appended, axis=1) if len(size) == 3 else appended[0]
    assert np.abs(got - total / weight).max() <= BOUND * np.abs(total / weight).max()


def test_a_2d_network_over_a_case(tmp_path, appended):
    """nnU-Net's 2D configuration: tiles [C, h, w] of each slice."""
    slices = np.random.default_rng(2).normal(0, 5, (2, CLASSES, 12, 9)).astype(np.float32)
    with LogitWriter(tmp_path / "s.zarr", NAMES).tiles("case", (2, 12, 9)) as out:
        for z in range(2):
            for y, x in tile_positions((12, 9), (8, 8), 0.5):
                out.add(slices[z, :, y : y + 8, x : x + 8], at=(z, y, x))
    assert np.abs(np.stack(appended) - slices).max() <= BOUND * np.abs(slices).max()


# --- positions

SIDES = st.lists(st.tuples(st.integers(1, 24), st.integers(1, 16)), min_size=2, max_size=3)


@given(SIDES, st.sampled_from([0.0, 0.1, 0.25, 0.3, 0.5, 0.6, 0.75, 0.9, 0.99]))
def test_positions_are_monais(sides, overlap):
    size, tile = zip(*sides, strict=True)
    padded = tuple(max(sizes) for sizes in sides)
    interval = _get_scan_interval(padded, tile, len(size), [overlap] * len(size))
    theirs = dense_patch_slices(padded, tile, interval)
    pads = [(large - whole) // 2 for large, whole in zip(padded, size, strict=True)]
    assert tile_positions(size, tile, overlap) == [
        tuple(int(part.start) - pad for part, pad in zip(parts, pads, strict=True))
        for parts in theirs
    ]


def nnunet_steps(size: tuple[int, ...], tile: tuple[int, ...], share: float) -> list[list[int]]:
    """nnunetv2's compute_steps_for_sliding_window."""
    targets = [side * share for side in tile]
    numbers = [int(np.ceil((i - k) / j)) + 1 for i, j, k in zip(size, targets, tile, strict=True)]
    steps = []
    for whole, side, number in zip(size, tile, numbers, strict=True):
        actual = (whole - side) / (number - 1) if number > 1 else 99999999999
        steps.append([int(np.round(actual * i)) for i in range(number)])
    return steps


@given(SIDES, st.sampled_from([0.0, 0.25, 0.5, 0.75]))
def test_positions_are_nnunets(sides, overlap):
    size, tile = tuple(max(s) for s in sides), tuple(s[1] for s in sides)
    theirs = itertools.product(*nnunet_steps(size, tile, 1 - overlap))
    assert tile_positions(size, tile, overlap, steps="nnunet") == list(theirs)


def test_nnunets_own_example():
    """110 pixels, 64 a tile, half a step: 0, 23, 46 (its comment says so)."""
    starts = tile_positions((110, 64), (64, 64), 0.5, steps="nnunet")
    assert starts == [(0, 0), (23, 0), (46, 0)]
    assert tile_positions((110, 64), (64, 64), 0.5) == [(0, 0), (32, 0), (46, 0)]


@pytest.mark.parametrize("steps", ["monai", "nnunet"])
@given(sides=SIDES)
def test_tiles_cover_everything(steps, sides):
    size, tile = zip(*sides, strict=True)
    covered = np.zeros(size, bool)
    for at in tile_positions(size, tile, 0.3, steps=steps):
        covered[
            tuple(
                slice(max(a, 0), max(a, 0) + n + min(a, 0)) for a, n in zip(at, tile, strict=True)
            )
        ] = True
    assert covered.all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((5,), (3,)), "size: got .* give .y, x. or .z, y, x."),
        (((5, 5), (3, 3, 3)), "tile: got"),
        (((5, 5), (3, 0)), "tile: got"),
        (((5, 5), (3, 3), 1.0), "overlap: got 1.0; give a number from 0 to below 1"),
        (((5, 5), (3, 3), [0.5]), "overlap: got"),
        (((5, 5), (3, 3), -0.1), "overlap: got"),
    ],
)
def test_positions_of_nonsense(arguments, message):
    with pytest.raises(InputError, match=message):
        tile_positions(*arguments)
    with pytest.raises(InputError, match=r"steps: got 'other'; choose one of .'monai', 'nnunet'."):
        tile_positions((5, 5), (3, 3), steps="other")


# --- refusals


def tile(*shape: int, value: float = 1.0) -> np.ndarray:
    return np.full((CLASSES, *shape), value, np.float32)


def spoilt(value: float) -> np.ndarray:
    bad = tile(4, 4)
    bad[1, 2, 3] = value
    return bad


REFUSED = {
    "nan": (spoilt(np.nan), (0, 0), {}, r"1 numbers that are NaN or infinite, .* \[1, 2, 3\]"),
    "inf": (spoilt(np.inf), (0, 0), {}, r"1 numbers that are NaN or infinite, .* \[1, 2, 3\]"),
    "-inf channel": (spoilt(-np.inf), (0, 0), {"values": "sigmoid"}, "1 numbers that are NaN"),
    "classes": (tile(4, 4)[:2], (0, 0), {}, r"got shape \[2, 4, 4\], expected \[3, h, w\]"),
    "axes": (tile(1, 4, 4), (0, 0), {}, r"got shape \[3, 1, 4, 4\], expected \[3, h, w\]"),
    "empty": (tile(0, 4), (0, 0), {}, r"got shape \[3, 0, 4\]"),
    "integers": (tile(4, 4).astype(int), (0, 0), {}, "got dtype int64; give floating-point"),
    "position": (tile(4, 4), (0, 0, 0), {}, r"give \(y, x\), whole numbers"),
    "below": (tile(4, 4), (8, 0), {}, r"\[4, 4\] lies outside of \[8, 8\]"),
    "before": (tile(4, 4), (0, -4), {}, r"\[4, 4\] lies outside of \[8, 8\]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_tile_is_refused_with_its_place(tmp_path, case):
    bad, at, options, message = REFUSED[case]
    writer = LogitWriter(tmp_path / "s.zarr", NAMES, **options)
    with pytest.raises(InputError, match=message) as caught, writer.tiles("v", (8, 8)) as out:  # noqa: PT012
        out.add(tile(8, 8), at=(0, 0))
        out.add(bad, at=at)
    assert str(caught.value).startswith(f"s.zarr: video 'v', tile at {at!r}: ")
    assert "\n" not in str(caught.value)
    assert nothing_but_the_group(tmp_path / "s.zarr")


@pytest.mark.parametrize(
    ("size", "ats", "message"),
    [
        ((8, 9), [(0, 0), (4, 4)], r"28 of 72 pixels lie in no tile, .* \[y, x\] = \[0, 5\]; add"),
        ((2, 5, 5), [(0, 0, 0)], r"25 of 50 pixels lie in no tile, .* \[z, y, x\] = \[1, 0, 0\]"),
        ((5, 5), [], "got no tile; add every tile, nothing was committed"),
    ],
)
def test_what_lies_in_no_tile_is_named(tmp_path, size, ats, message):
    writer = LogitWriter(tmp_path / "s.zarr", NAMES)
    with pytest.raises(InputError, match=message), writer.tiles("v", size, memory=1) as out:  # noqa: PT012
        for at in ats:
            out.add(tile(5, 5), at=at)
    assert LogitStore(tmp_path / "s.zarr").videos == ()
    assert staging(tmp_path / "s.zarr") == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": (5,)}, "video 'v': size: got .5,.; give .y, x. or"),
        ({"size": (5, 5, 5, 5)}, "size: got"),
        ({"size": (0, 5)}, "all at least 1"),
        ({"size": (2**17, 2**17)}, "at most 8589934592 numbers in a frame"),
        (
            {"window": "hann"},
            "window: got 'hann'; choose one of .'constant', 'gaussian', 'nnunet'.",
        ),
        ({"sigma_scale": 0}, "sigma_scale: got 0; give a number above 0"),
        ({"memory": "much"}, "memory: got 'much'"),
        ({"frames": ["a", "b"]}, r"2 frame ids for 1 slices of size \[5, 5\]"),
        ({"source_size": (0, 1)}, "video 'v': size .0, 1.; give"),
        ({"geometry": 5}, "geometry: got 5"),
    ],
)
def test_bad_arguments(tmp_path, change, message):
    writer = LogitWriter(tmp_path / "s.zarr", NAMES)
    with pytest.raises(InputError, match=message):
        writer.tiles(**{"video": "v", "size": (5, 5), **change})


def test_what_is_committed_is_skipped_refused_or_replaced(tmp_path):
    writer = LogitWriter(tmp_path / "s.zarr", NAMES)
    how = {"frames": ["a"], "source_size": (50, 60), "geometry": {"kind": "geotiff"}}
    with writer.tiles("v", (5, 5), **how) as out:
        out.add(tile(5, 5), at=(0, 0))
    info = LogitStore(writer.path).describe("v")
    assert (info.frames, info.size, info.geometry) == (("a",), (50, 60), {"kind": "geotiff"})
    with writer.tiles("v", (5, 5), **how) as out:
        assert out.committed
        out.add("not looked at", at=(0, 0))
    with pytest.raises(StoreConflictError, match="frame ids"):
        writer.tiles("v", (5, 5))
    with writer.tiles("v", (4, 4), overwrite=True) as out:
        out.add(tile(4, 4), at=(0, 0))
    assert LogitStore(writer.path).describe("v").shape == (1, CLASSES, 4, 4)


def test_a_class_that_cannot_be_stays_so(tmp_path):
    logits = tile(6, 6)
    logits[1] = -np.inf
    with LogitWriter(tmp_path / "s.zarr", NAMES).tiles("v", (6, 9)) as out:
        for x in (0, 3):
            out.add(logits, at=(0, x))
    assert set(LogitStore(tmp_path / "s.zarr").codes("v")[0, 1].ravel().tolist()) == {255}


@pytest.mark.parametrize("call", ["truncate", "pwritev"])
def test_sums_that_do_not_fit_the_disk_are_an_error(tmp_path, monkeypatch, call):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tiles.os, call, full)
    writer = LogitWriter(tmp_path / "s.zarr", NAMES)
    said = r"video 'v': no .* \(No space.*\), 400 bytes needed; free that much there"
    with pytest.raises(StoreError, match=said), writer.tiles("v", (5, 5), memory=1) as out:
        out.add(tile(5, 5), at=(0, 0))
    assert LogitStore(writer.path).videos == ()
    assert staging(writer.path) == []
