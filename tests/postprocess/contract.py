"""What every operation promises, whatever it does: `class TestX(OperationContract)` inherits it."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch

from fusion.ensemble.postprocessed import needed
from fusion.errors import InputError
from fusion.kernels.arithmetic import Fused
from fusion.postprocess import OPERATIONS, Frame, Pipeline, Video, operation_of
from fusion.postprocess.operation import LABELS, MAPS, STAGES

CLASSES = ("sky", "road", "car", "tree", "bus")
SIZE, GRID = (24, 32), (12, 16)


def make_video(frames=6, step=1, images=None, independent=False):
    names = tuple(f"{10 + step * t:05d}" for t in range(frames))
    return Video("clip", names, SIZE, CLASSES, independent, images)


def soft_maps(video, grid, seed=0):
    """Blobs that move a little: float32 [C, h, w] a frame."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, len(video.classes), 4, 5, generator=draw)
    for _ in video.frames:
        coarse = coarse + 0.4 * torch.randn(coarse.shape, generator=draw)
        logits = 3 * torch.nn.functional.interpolate(coarse, grid, mode="bilinear")[0]
        yield torch.sigmoid(logits) if video.independent else torch.softmax(logits, 0)


def frames_of(operation, video, seed=0):
    """A stream of the operation's stage, and the arrays that are in it."""
    grid = GRID if operation.stage == MAPS else SIZE
    found = []
    for name, soft in zip(video.frames, soft_maps(video, grid, seed), strict=True):
        if operation.stage == LABELS:
            hard = (soft > 0.5) if video.independent else soft.argmax(0)
            beside = Fused(probabilities=soft if operation.looks_at else None)
            found.append(Frame(name, hard.numpy().astype(np.uint8), beside))
        else:
            found.append(Frame(name, soft))
    return found


def array(frame):
    return np.asarray(frame.values)


class OperationContract:
    """`operation`: one of the kind under test, with parameters that change something."""

    operation = None
    images = None  # fixture-like: set by those that need pictures

    @pytest.fixture
    def video(self, tmp_path):
        return make_video(images=self.make_images(tmp_path))

    def make_images(self, tmp_path):
        return None

    def run(self, video, frames=None):
        frames = frames_of(self.operation, video) if frames is None else frames
        return list(self.operation.apply(iter(frames), video))

    def test_it_is_registered_and_says_what_it_is(self):
        kind = type(self.operation)
        assert OPERATIONS[kind.name] is kind
        assert kind.stage in STAGES
        assert kind.about
        assert all(facts["help"] for facts in kind.parameters().values())

    def test_it_comes_back_from_its_configuration_and_from_its_text(self):
        config = json.loads(json.dumps(self.operation.get_config()))
        assert operation_of(config) == self.operation
        assert type(self.operation).from_config(config) == self.operation
        assert pickle.loads(pickle.dumps(self.operation)) == self.operation
        plain = all(not isinstance(v, dict) for v in vars(self.operation).values())
        if plain:
            assert operation_of(str(self.operation)) == self.operation

    def test_unknown_parameters_are_refused(self):
        config = {**self.operation.get_config(), "raduis": 1}
        with pytest.raises(InputError, match="no parameter 'raduis'") as caught:
            operation_of(config)
        assert "\n" not in str(caught.value)

    def test_numbers_out_of_range_are_refused(self):
        for name, facts in self.operation.parameters().items():
            ends = [facts[end] for end in ("low", "high") if facts.get(end) is not None]
            usual = facts["default"]
            wrong = ["nonsense", None, float("nan")] + ([ends[0] - 1] if ends else [])
            if isinstance(usual, int | float) and not isinstance(usual, bool):
                for value in wrong:
                    with pytest.raises(InputError, match=name):
                        operation_of({**self.operation.get_config(), name: value})

    def test_all_candidates_are_of_this_kind_and_differ(self):
        some = type(self.operation).candidates(step=2)
        assert some
        assert len({json.dumps(each.get_config(), sort_keys=True) for each in some}) == len(some)

    def test_frames_come_out_once_in_order_with_type_and_size(self, video):
        frames = frames_of(self.operation, video)
        made = self.run(video, frames)
        assert [frame.name for frame in made] == list(video.frames)
        for before, after in zip(frames, made, strict=True):
            assert type(after.values) is type(before.values)
            assert after.values.shape == before.values.shape
            assert after.values.dtype == before.values.dtype

    def test_probabilities_stay_probabilities(self, video):
        if self.operation.stage != LABELS:
            for frame in self.run(video):
                assert array(frame).min() >= 0
                np.testing.assert_allclose(array(frame).sum(0), 1, atol=1e-5)

    def test_what_comes_in_is_not_written_to_and_results_repeat(self, video):
        frames = frames_of(self.operation, video)
        kept = [array(frame).copy() for frame in frames]
        first, second = self.run(video, frames), self.run(video, frames)
        for frame, before in zip(frames, kept, strict=True):
            assert np.array_equal(array(frame), before)
        for one, other in zip(first, second, strict=True):
            assert np.array_equal(array(one), array(other))

    def test_it_changes_something(self, video):
        frames = frames_of(self.operation, video)
        made = self.run(video, frames)
        pairs = zip(frames, made, strict=True)
        assert any(not np.array_equal(array(a), array(b)) for a, b in pairs)

    def test_it_holds_no_more_frames_than_it_says(self, tmp_path):
        video = make_video(frames=40, images=self.make_images(tmp_path))
        read, most, given = 0, 0, 0

        def source():
            nonlocal read
            for frame in frames_of(self.operation, video):
                read += 1
                yield frame

        for _ in self.operation.apply(source(), video):
            most, given = max(most, read - given), given + 1
        assert given == len(video.frames)
        assert most <= self.operation.holds(video)

    def test_an_empty_stream_stays_empty(self, video):
        assert self.run(video, []) == []

    def test_channels_are_taken_or_refused_in_a_sentence(self, tmp_path):
        video = make_video(images=self.make_images(tmp_path), independent=True)
        check = self.operation.check
        if not self.operation.channels:
            with pytest.raises(InputError, match="independent channels"):
                check(CLASSES, independent=True)
            return
        check(CLASSES, independent=True)
        frames = frames_of(self.operation, video)
        for frame, made in zip(frames, self.run(video, frames), strict=True):
            assert made.values.shape == frame.values.shape
            assert array(made).max() <= 1

    def test_it_works_in_a_pipeline(self):
        pipeline = Pipeline((self.operation,))
        assert pipeline.get_config() == [self.operation.get_config()]
        assert needed(pipeline, ("labels",))[0] == "labels"
