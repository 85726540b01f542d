"""Smoothing over time: against sums written out, and motion that is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from fusion.postprocess import Frame, Video, operation_of
from fusion.postprocess.ema import SPAN, Ema
from fusion.postprocess.flow import Motion, grey_map
from fusion.postprocess.neighbours import most_within, neighbourhoods
from fusion.postprocess.vote import Vote, majority
from fusion.postprocess.window import Window
from tests.postprocess.contract import OperationContract, array, frames_of, make_video

UNEVEN = ("a_3", "a_4", "a_6", "a_7", "a_20", "a_21")  # frames of a clip that was cut


def uneven():
    return Video("clip", UNEVEN, (24, 32), ("a", "b", "c", "d", "e"))


def weighted(operation, video, weight):
    """Means of all frames under weight(distance), the obvious way."""
    frames = frames_of(operation, video)
    for centre in frames:
        now = video.times[centre.name]
        pairs = [(weight(video.times[f.name] - now), array(f).astype(np.float64)) for f in frames]
        yield sum(w * values for w, values in pairs) / sum(w for w, _ in pairs)


class TestEma(OperationContract):
    operation = Ema(half_life=1.5)

    @pytest.mark.parametrize("video", [make_video(), make_video(step=3), uneven()])
    def test_weights_halve_with_every_half_life(self, video):
        expected = weighted(self.operation, video, lambda d: 2 ** (d / 1.5) if d <= 0 else 0.0)
        for frame, mean in zip(self.run(video), expected, strict=True):
            np.testing.assert_allclose(array(frame), mean, atol=1e-6)


class TestEmaBothWays(OperationContract):
    operation = Ema(half_life=0.5, both_ways=True)

    @pytest.mark.parametrize("video", [make_video(frames=12), uneven()])
    def test_the_future_counts_up_to_its_span(self, video):
        def weight(distance):
            return 0.0 if distance > SPAN * 0.5 else 2 ** (-abs(distance) / 0.5)

        expected = weighted(self.operation, video, weight)
        for frame, mean in zip(self.run(video), expected, strict=True):
            np.testing.assert_allclose(array(frame), mean, atol=1e-6)


class TestWindow(OperationContract):
    operation = Window(radius=2)

    @pytest.mark.parametrize("video", [make_video(), make_video(step=2), uneven()])
    def test_it_is_the_mean_of_those_within_reach(self, video):
        expected = weighted(self.operation, video, lambda d: float(abs(d) <= 2))
        for frame, mean in zip(self.run(video), expected, strict=True):
            np.testing.assert_allclose(array(frame), mean, atol=1e-6)

    def test_frames_far_apart_stay_as_they_are(self):
        video = make_video(step=60)
        frames = frames_of(self.operation, video)
        for before, after in zip(frames, self.run(video, frames), strict=True):
            assert torch.equal(before.values, after.values)


class TestWindowAlongMaps(OperationContract):
    operation = Window(radius=1, motion="maps")

    def test_things_that_move_stay_sharp(self):
        video, frames = make_video(frames=5), []
        noise = torch.rand(1, 5, 10, 24, generator=torch.Generator().manual_seed(1))
        scene = torch.nn.functional.interpolate(noise, (40, 96), mode="bilinear")[0]
        for t, name in enumerate(video.frames):  # the camera pans by two pixels a frame
            frames.append(Frame(name, torch.softmax(9 * scene[:, :, 2 * t : 2 * t + 80], 0)))
        plain = list(Window(radius=1).apply(iter(frames), video))
        moved = list(self.operation.apply(iter(frames), video))
        inside = (..., slice(4, -4), slice(6, -6))

        def error(made):
            pairs = zip(frames[1:-1], made[1:-1], strict=True)
            return np.mean([abs(array(a)[inside] - array(b)[inside]).mean() for a, b in pairs])

        assert error(moved) < 0.3 * error(plain)


class TestWindowAlongImages(OperationContract):
    operation = Window(radius=1, motion="images")

    def make_images(self, tmp_path):
        from PIL import Image

        from fusion.images import Images

        (tmp_path / "clip").mkdir()
        draw = np.random.default_rng(0)
        picture = draw.integers(0, 255, (24, 32, 3), dtype=np.uint8)
        for name in make_video(frames=40).frames:
            Image.fromarray(picture).save(tmp_path / "clip" / f"{name}.png")
        return Images(tmp_path)

    def test_it_says_that_it_needs_pictures(self):
        assert self.operation.needs_pictures
        assert not Window(radius=1, motion="maps").needs_pictures

    def test_pictures_that_stand_still_give_the_plain_mean(self, tmp_path):
        video = make_video(images=self.make_images(tmp_path))
        plain = self.__class__()
        plain.operation = Window(radius=1)
        for one, other in zip(self.run(video), plain.run(video), strict=True):
            np.testing.assert_allclose(array(one), array(other), atol=2e-3)


def test_flow_finds_a_known_shift(tmp_path):
    """A picture moved by (3, 1): the flow says so, and the map looked up along it comes back."""
    draw = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 3, 16, 20, generator=draw)
    scene = torch.softmax(
        8 * torch.nn.functional.interpolate(noise, (110, 140), mode="bilinear")[0], 0
    )
    video = make_video(frames=2)
    one, other = (
        Frame(video.frames[0], scene[:, 4:100, 4:132]),
        Frame(video.frames[1], scene[:, 5:101, 7:135]),
    )
    motion = Motion(video, "maps")
    flow = motion._between(one, other)
    np.testing.assert_allclose(np.median(flow, axis=(0, 1)), [-3, -1], atol=0.15)
    values, believed = motion.moved(other, one)
    inside = (slice(8, -8), slice(8, -8))
    assert believed[inside].mean() > 0.9
    assert (values - one.values).abs()[(..., *inside)].mean() < 0.02


def test_grey_maps_tell_classes_apart():
    one_hot = torch.eye(7)[:, :, None].repeat(1, 1, 100)
    grey = grey_map(one_hot)
    middles = ((np.arange(7) + 0.5) * len(grey) / 7).astype(int)  # it is enlarged
    assert np.diff(np.sort(grey[middles, 50].astype(int))).min() > 10


class TestVote(OperationContract):
    operation = Vote(radius=1)

    def test_it_is_what_most_say(self):
        video = uneven()
        frames = frames_of(Vote(radius=2), video)
        made = list(Vote(radius=2).apply(iter(frames), video))
        for centre, frame in zip(frames, made, strict=True):
            near = [f for f in frames if abs(video.times[f.name] - video.times[centre.name]) <= 2]
            for y, x in itertools.product(range(0, 24, 5), range(0, 32, 5)):
                votes = [int(f.values[y, x]) for f in near]
                most = max(votes.count(v) for v in votes)
                ties = [v for v in votes if votes.count(v) == most]
                own = int(centre.values[y, x])
                assert frame.values[y, x] == (own if own in ties else ties[0])

    def test_of_masks_it_is_the_median(self):
        maps = np.random.default_rng(0).integers(0, 2, (5, 6, 7)).astype(np.uint8)
        assert np.array_equal(majority(list(maps), 2), np.median(maps, axis=0))


def test_neighbourhoods_hold_what_lies_within_reach():
    video = uneven()
    frames = [Frame(name, None) for name in UNEVEN]
    found = [
        (near.centre.name, near.distances) for near in neighbourhoods(iter(frames), video, 2, 1)
    ]
    assert found == [
        ("a_3", (0, 1)),
        ("a_4", (-1, 0)),
        ("a_6", (-2, 0, 1)),
        ("a_7", (-1, 0)),
        ("a_20", (0, 1)),
        ("a_21", (-1, 0)),
    ]
    assert most_within(video, 2, 1) == 3


@pytest.mark.parametrize(
    ("frames", "times"),
    [
        (("0006R0_f00930", "0006R0_f00990"), [930, 990]),
        (("b", "a", "c"), [0, 1, 2]),
        (("2", "1"), [0, 1]),
        (("x1", "y"), [0, 1]),
    ],
)
def test_times_are_the_numbers_in_ids_where_these_rise(frames, times):
    video = Video("v", frames, (2, 2), ("a",))
    assert list(video.times.values()) == times


def test_candidates_are_in_steps_of_the_data():
    assert {each.radius for each in Vote.candidates(step=60)} == {60, 120, 240}
    assert operation_of("vote:radius=60") in Vote.candidates(step=60)
    assert [each.radius for each in Vote.candidates(step=600)] == [600]  # up to 1000
    assert Vote.candidates(step=2000) == []


def test_flow_that_does_not_return_is_not_believed(monkeypatch):
    """Both ways five pixels to the right: nothing comes back to where it was."""
    video = make_video(frames=2)
    one, other = frames_of(Window(motion="maps"), video)
    motion = Motion(video, "maps")
    right = np.zeros((96, 128, 2), np.float32)
    right[..., 0] = 40  # 5 pixels of the map
    monkeypatch.setattr(motion, "_estimate", lambda *_: right)
    assert not motion.moved(other, one)[1].any()
    motion.keep([])  # forgets what it has worked out
    monkeypatch.setattr(motion, "_estimate", lambda *_: 0 * right)
    assert motion.moved(other, one)[1].all()
