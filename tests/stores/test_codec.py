"""Gap codes against a slow loop, the kernels' own decoder, and the bounds that are promised."""

from __future__ import annotations

import math

import numcodecs
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fusion.errors import InputError
from fusion.kernels.arithmetic import decode_gaps
from fusion.stores import GapCodec
from fusion.stores.codec import DECODE_TABLE

FINITE = st.floats(-60, 60, width=32)
LOGITS = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=3, max_dims=4, max_side=4),
    elements=FINITE | st.just(np.float32(-np.inf)) | st.integers(-3, 3),
)


def slow_codes(frame: np.ndarray) -> np.ndarray:
    """One frame [C, h, w], a pixel and a class at a time, in Python's own floats."""
    codes = np.empty(frame.shape, np.uint8)
    for y, x in np.ndindex(*frame.shape[1:]):
        pixel = frame[:, y, x].tolist()
        top = pixel.index(max(pixel))
        for c, value in enumerate(pixel):
            gap = min(float(np.float32(pixel[top]) - np.float32(value)), 24.0)
            codes[c, y, x] = 0 if c == top else max(1, round(255 * math.sqrt(gap / 24)))
    return codes


def softmax64(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=-3, keepdims=True))
    return exponentials / exponentials.sum(axis=-3, keepdims=True)


def some_logits(*shape: int, scale: float = 6.0) -> np.ndarray:
    return np.random.default_rng(0).normal(0.0, scale, shape).astype(np.float32)


def alive(logits: np.ndarray) -> np.ndarray:
    """The writer refuses pixels that are -inf in every class; here they become 0."""
    return np.where(np.isneginf(logits).all(axis=-3, keepdims=True), np.float32(0), logits)


@pytest.mark.parametrize("classes", [1, 2, 124, 257, 1000])
def test_encode_equals_the_slow_loop(classes):
    frame = some_logits(classes, 3, 4)
    fast, slow = GapCodec().encode(frame).astype(int), slow_codes(frame).astype(int)
    assert (
        abs(fast - slow).max() <= 1
    )  # float32 and float64 square roots may fall on two sides of a half
    assert (fast != slow).mean() < 0.001
    assert np.array_equal(fast == 0, slow == 0)


@pytest.mark.parametrize(
    ("pixel", "codes"),
    [
        ([5.0], [0]),
        ([0.0, 0.0, 0.0], [0, 1, 1]),  # ties go to the lowest class
        ([1.0, 2.0, 2.0], [52, 0, 1]),  # sqrt(1/24) * 255 = 52.05
        ([0.0, -24.0, -1000.0], [0, 255, 255]),
        ([0.0, -6.0], [0, 128]),  # sqrt(1/4) * 255 = 127.5, half to even
        ([-np.inf, 3.0], [255, 0]),
        ([3e38, -3e38], [0, 255]),  # the gap itself is beyond float32
    ],
)
def test_hand_worked_pixels(pixel, codes):
    assert (
        GapCodec().encode(np.array(pixel, np.float32).reshape(-1, 1, 1)).ravel().tolist() == codes
    )


@given(LOGITS)
def test_code_0_is_the_top_class_alone(logits):
    logits = alive(logits)
    codes = GapCodec().encode(logits)
    assert codes.shape == logits.shape
    assert codes.dtype == np.uint8
    assert ((codes == 0).sum(axis=-3) == 1).all()
    assert np.array_equal(codes.argmin(axis=-3), logits.argmax(axis=-3))
    assert np.array_equal(GapCodec().decode(codes).argmax(axis=-3), logits.argmax(axis=-3))


@given(LOGITS)
def test_order_of_classes_is_kept(logits):
    logits = alive(logits)
    codes = GapCodec().encode(logits).astype(int)
    higher = logits[..., :, None, :, :] > logits[..., None, :, :, :]
    assert (codes[..., :, None, :, :] <= codes[..., None, :, :, :])[higher].all()


def promised_bound(classes: int) -> float:
    """P (1 - P) times half a step, sqrt(24 g) / 255, with all other classes at gap g.

    P = 1 / (1 + (C - 1) e^-g) is the top class.
    """
    g = np.linspace(0, 24, 2401)
    top = 1 / (1 + (classes - 1) * np.exp(-g))
    return 1.05 * float(
        (top * (1 - top) * (np.sqrt(24 * g) / 255 + 6 / 255**2)).max()
    )  # 5 %: beyond first order


@settings(max_examples=300)
@given(LOGITS)
def test_softmax_moves_by_less_than_the_promised_bound(logits):
    logits = alive(logits)
    moved = np.abs(
        softmax64(GapCodec().decode(GapCodec().encode(logits))) - softmax64(logits)
    ).max()
    assert moved <= promised_bound(logits.shape[-3])


def test_the_promised_bound_is_nearly_met():
    """All classes but one just below the middle between two codes, at the worst gap."""
    classes = 124
    middles = -24 * ((np.arange(60, 200) + 0.4999) / 255) ** 2
    logits = np.repeat(middles[None, None], classes, axis=0).astype(np.float32)
    logits[0] = 0
    moved = np.abs(
        softmax64(GapCodec().decode(GapCodec().encode(logits))) - softmax64(logits)
    ).max()
    assert 0.9 * promised_bound(classes) < moved < promised_bound(classes)


@pytest.mark.parametrize("classes", [2, 257])
def test_softmax_bound_on_a_sweep_of_gaps(classes):
    gaps = np.linspace(0, 26, 4001, dtype=np.float32)
    logits = np.full((classes, 1, len(gaps)), -100, np.float32)
    logits[0], logits[1] = 0, -gaps
    assert np.abs(
        softmax64(GapCodec().decode(GapCodec().encode(logits))) - softmax64(logits)
    ).max() < promised_bound(2)


def test_decoded_codes_encode_to_themselves():
    codes = GapCodec().encode(some_logits(9, 20, 20))
    assert np.array_equal(GapCodec().encode(GapCodec().decode(codes)), codes)


def test_decode_table_is_the_kernels_table():
    every = torch.arange(256, dtype=torch.uint8)
    assert DECODE_TABLE.tobytes() == decode_gaps(every).numpy().tobytes()
    assert DECODE_TABLE[0] == 0
    assert DECODE_TABLE[255] == -24


def test_codec_round_trips_through_the_registry():
    codec = GapCodec()
    again = numcodecs.get_codec(codec.get_config())
    assert isinstance(again, GapCodec)
    assert again == codec
    assert (
        again.get_config()
        == codec.get_config()
        == {"id": "segfusion.gap", "range": 24.0, "axis": -3}
    )


def test_decode_takes_bytes_and_an_output():
    codes = GapCodec().encode(some_logits(4, 2, 3))
    out = np.empty(codes.shape, np.float32)
    assert GapCodec().decode(codes.tobytes(), out=out) is out
    assert np.array_equal(out, GapCodec().decode(codes))


@pytest.mark.parametrize("config", [{"range": 12.0}, {"axis": 1}])
def test_other_codings_are_refused(config):
    with pytest.raises(InputError, match="codes range"):
        numcodecs.get_codec({"id": "segfusion.gap", **config})


def test_an_array_without_a_class_axis_is_refused():
    with pytest.raises(InputError, match=r"\[\.\.\., C, h, w\]"):
        GapCodec().encode(np.zeros((3, 4), np.float32))
