"""Independent channels: angle codes against a slow loop, their bounds, and stores of them."""

from __future__ import annotations

import math

import numcodecs
import numpy as np
import pytest
from scipy.special import expit

from fusion.errors import InputError
from fusion.stores import AngleCodec, LogitStore
from tests.stores.common import CLIP, nothing_but_the_group, refused, shard_of, write
from tests.stores.contract import StoreContract


def slow_angles(logits: np.ndarray) -> np.ndarray:
    """A number at a time, in Python's own floats: the step of the angle that it lies in."""
    codes = np.empty(logits.shape, np.uint8)
    for place in np.ndindex(*logits.shape):
        z = min(24.0, max(-24.0, float(logits[place])))
        # tan^2 of the angle is P / (1 - P), e^z
        step = math.ceil(math.atan(math.exp(z / 2)) * 512 / math.pi) - 1
        codes[place] = min(255, max(0, step))
    return codes


def angle_probability(code: np.ndarray) -> np.ndarray:
    return np.sin((np.asarray(code, np.float64) + 0.5) * np.pi / 512) ** 2


# --- the codec


def test_encode_equals_the_slow_loop():
    logits = np.random.default_rng(0).normal(0, 6, (5, 20, 20)).astype(np.float32)
    assert np.array_equal(AngleCodec().encode(logits), slow_angles(logits))


@pytest.mark.parametrize(
    ("logit", "code"),
    [
        (0.0, 127),  # P is not above 1/2
        (-0.0, 127),
        (math.log(3), 170),  # P = 3/4, 60 degrees of 90: step 170.67 of 256
        (-math.log(3), 85),  # 30 degrees: 85.33
        (100.0, 255),
        (-100.0, 0),
        (math.inf, 255),
        (-math.inf, 0),
    ],
)
def test_hand_worked_numbers(logit, code):
    assert AngleCodec().encode(np.array([logit], np.float32)).tolist() == [code]


def test_the_decision_at_a_half_is_exact_for_every_float32_near_0():
    near = np.arange(1 << 20, dtype=np.uint32)  # every denormal up to there
    spread = np.arange(0, 0x7F800000, 1009, dtype=np.uint32)  # all exponents
    ends = np.array([1, 0x007FFFFF, 0x00800000, 0x00800001, 0x7F7FFFFF], np.uint32)
    above = np.concatenate([near[1:], spread[1:], ends]).view(np.float32)
    assert (above > 0).all()
    for decided in (AngleCodec().encode(above), AngleCodec().encode(-above)):
        logits = AngleCodec().decode(decided)
        assert np.array_equal(decided > 127, logits > 0)
    assert (AngleCodec().encode(above) > 127).all()
    assert (AngleCodec().encode(-above) <= 127).all()
    assert (AngleCodec().encode(np.array([0.0, -0.0], np.float32)) == 127).all()


def test_probabilities_move_by_less_than_the_promised_bound():
    logits = np.linspace(-24, 24, 2_000_001, dtype=np.float32)
    codes = AngleCodec().encode(logits)
    moved = np.abs(
        expit(AngleCodec().decode(codes).astype(np.float64)) - expit(logits.astype("f8"))
    )
    assert 0.95 * np.pi / 1024 < moved.max() < 0.0031
    rare = np.abs(expit(logits) - 0.01) < 1e-3
    assert 0.0005 < moved[rare].max() < 0.00066
    assert angle_probability(0) == pytest.approx(9.4e-6, rel=0.01)
    assert (moved <= np.sqrt(expit(logits) * (1 - expit(logits))) * np.pi / 512 + 1e-5).all()


def test_codes_mean_what_they_say_and_encode_to_themselves():
    every = np.arange(256, dtype=np.uint8)
    decoded = AngleCodec().decode(every)
    np.testing.assert_allclose(
        expit(decoded.astype(np.float64)), angle_probability(every), rtol=1e-6
    )
    assert np.array_equal(AngleCodec().encode(decoded), every)
    assert (np.diff(decoded) > 0).all()
    assert np.array_equal(decoded, -decoded[::-1])


def test_codec_round_trips_through_the_registry():
    codec = AngleCodec()
    again = numcodecs.get_codec(codec.get_config())
    assert isinstance(again, AngleCodec)
    assert again == codec
    assert again.get_config() == codec.get_config() == {"id": "segfusion.angle", "steps": 256}
    with pytest.raises(InputError, match="got 128 steps; this version has 256"):
        numcodecs.get_codec({"id": "segfusion.angle", "steps": 128})


def test_decode_takes_bytes_and_an_output():
    codes = AngleCodec().encode(CLIP)
    out = np.empty(codes.shape, np.float32)
    assert AngleCodec().decode(codes.tobytes(), out=out) is out
    assert np.array_equal(out, AngleCodec().decode(codes))


# --- stores

PROBABILITIES = expit(CLIP.astype(np.float64)).astype(np.float32)


class SigmoidContract(StoreContract):
    """Channels are decided each by itself."""

    values = "sigmoid"
    profile = "compact"
    dtype = "uint8"
    config = AngleCodec().get_config()

    def logits(self, clip: np.ndarray) -> np.ndarray:
        return np.clip(clip, -24, 24)

    def kept(self, clip: np.ndarray) -> np.ndarray:
        return slow_angles(self.logits(clip))

    def decided(self, logits: np.ndarray) -> np.ndarray:
        return logits > 0

    def test_an_unwritten_chunk_is_no_picture(self, path):
        """Every code may be a picture's here: the checksum alone tells."""
        shard_of(path).unlink()
        refused(path, naming="video 'v'")

    def test_channels_are_said_to_be_independent(self, path):
        assert LogitStore(path).channels


class Exact:
    """Logits as float16."""

    profile = "exact"
    dtype = "float16"
    config = None

    def kept(self, clip):
        return self.logits(clip).astype(np.float16)


class TestSigmoid(SigmoidContract):
    def test_infinite_logits_are_certain(self, tmp_path):
        clip = np.array([np.inf, -np.inf, 30, -30, 24, 0], np.float32).reshape(1, 1, 2, 3)
        read = LogitStore(self.write(tmp_path / "s.zarr", clip)).read("v").ravel()
        if self.profile == "exact":
            assert read.tolist() == [24, -24, 24, -24, 24, 0]
        else:
            assert np.array_equal(read, AngleCodec().decode(np.uint8([255, 0, 255, 0, 255, 127])))

    @pytest.mark.parametrize("value", [np.nan, -np.nan])
    def test_nan_is_refused(self, tmp_path, value):
        clip = CLIP.copy()
        clip[1, 2:, 3, 4] = value
        message = r"frame 1 \('1'\): 2 NaN, the first at \[class, y, x\] = \[2, 3, 4\]; repair"
        with pytest.raises(InputError, match=message):
            self.write(tmp_path / "s.zarr", clip)
        assert nothing_but_the_group(tmp_path / "s.zarr")


class TestSigmoidExact(Exact, TestSigmoid):
    pass


class TestSigmoidPack(TestSigmoid):
    packed = True


class TestSigmoidProbabilities(SigmoidContract):
    values = "sigmoid-probabilities"
    clip = PROBABILITIES

    def logits(self, clip):
        with np.errstate(divide="ignore"):
            p = clip.astype(np.float64)
            return np.clip(np.log(p) - np.log1p(-p), -24, 24).astype(np.float32)

    def truth(self):
        return self.clip > 0.5

    def test_0_half_and_1(self, tmp_path):
        clip = np.array([0, 0.5, 1, np.nextafter(np.float32(0.5), 1)], np.float32)
        store = LogitStore(self.write(tmp_path / "s.zarr", clip.reshape(1, 1, 2, 2)))
        assert (store.read("v").ravel() > 0).tolist() == [False, False, True, True]
        ends = {"compact": AngleCodec().decode(np.uint8([0, 255])), "exact": [-24, 24]}
        assert store.read("v").ravel()[[0, 2]].tolist() == list(ends[self.profile])

    @pytest.mark.parametrize(
        ("value", "count"), [(np.nan, 2), (-1e-7, 2), (1.001, 2), (np.inf, 2), (-np.inf, 2)]
    )
    def test_what_is_no_probability_is_refused(self, tmp_path, value, count):
        clip = PROBABILITIES.copy()
        clip[2, 1:3, 0, 5] = value
        message = (
            rf"frame 2 \('2'\): {count} numbers outside 0..1, which channel probabilities are, "
            r"the first at \[class, y, x\] = \[1, 0, 5\]; repair"
        )
        with pytest.raises(InputError, match=message):
            self.write(tmp_path / "s.zarr", clip)
        assert nothing_but_the_group(tmp_path / "s.zarr")


class TestSigmoidProbabilitiesExact(Exact, TestSigmoidProbabilities):
    pass


def test_logits_and_probabilities_of_channels_are_not_mixed(tmp_path):
    path = write(tmp_path / "s.zarr", {"v": CLIP}, values="sigmoid")
    with pytest.raises(OSError, match="holds a store with values 'sigmoid', got 'sigmoid-prob"):
        write(path, {"w": PROBABILITIES}, values="sigmoid-probabilities")
