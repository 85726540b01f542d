"""The guided filter: against windows written out, and edges that it must find again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from fusion import HierarchicalEnsemble, MemoryStore
from fusion.errors import InputError
from fusion.images import Images
from fusion.postprocess import Frame, Pipeline
from fusion.postprocess.guided_filter import Guide, GuidedFilter
from tests.postprocess.contract import CLASSES, OperationContract, array, frames_of, make_video


def by_hand(picture, plane, radius, eps):
    """He, Sun and Tang, window by window: picture [H, W, 3], plane [H, W]."""
    height, width = plane.shape

    def window(y, x):
        rows = slice(max(0, y - radius), y + radius + 1)
        return rows, slice(max(0, x - radius), x + radius + 1)

    slope, offset = np.zeros((height, width, 3)), np.zeros((height, width))
    for y, x in np.ndindex(height, width):
        colours, some = picture[window(y, x)].reshape(-1, 3), plane[window(y, x)].ravel()
        mean = colours.mean(0)
        covariance = (colours - mean).T @ (colours - mean) / len(some) + eps * np.eye(3)
        slope[y, x] = np.linalg.solve(
            covariance, (colours * some[:, None]).mean(0) - mean * some.mean()
        )
        offset[y, x] = some.mean() - slope[y, x] @ mean
    made = np.zeros((height, width))
    for y, x in np.ndindex(height, width):
        mean = slope[window(y, x)].reshape(-1, 3).mean(0)
        made[y, x] = mean @ picture[y, x] + offset[window(y, x)].mean()
    return made


class TestGuidedFilter(OperationContract):
    operation = GuidedFilter(radius=3, eps=1e-2)

    def make_images(self, tmp_path):
        (tmp_path / "clip").mkdir(exist_ok=True)
        draw = np.random.default_rng(0)
        for name in make_video(frames=40).frames:
            picture = np.kron(draw.integers(0, 255, (6, 8, 3)), np.ones((4, 4, 1)))
            Image.fromarray(picture.astype(np.uint8)).save(tmp_path / "clip" / f"{name}.png")
        return Images(tmp_path)

    @pytest.mark.parametrize(("radius", "eps"), [(1, 1e-4), (3, 1e-2), (40, 0.3)])
    def test_planes_are_those_of_windows_written_out(self, radius, eps):
        draw = np.random.default_rng(radius)
        picture, plane = draw.random((11, 14, 3)), draw.random((11, 14))
        guide = Guide(torch.from_numpy(picture).permute(2, 0, 1), radius, eps)
        made = guide.filtered(torch.from_numpy(plane)).numpy()
        np.testing.assert_allclose(made, by_hand(picture, plane, radius, eps), atol=1e-10)

    def test_frames_are_filtered_clipped_and_sum_to_1(self, video):
        frames = frames_of(self.operation, video)[:2]
        for before, after in zip(frames, self.run(video, frames), strict=True):
            picture = video.image(before.name) / 255
            planes = [by_hand(picture, plane, 3, 1e-2).clip(0) for plane in array(before)]
            expected = np.stack(planes) / np.sum(planes, axis=0)
            np.testing.assert_allclose(array(after), expected, atol=1e-6)

    def test_a_blurred_border_goes_back_to_the_edge(self, tmp_path):
        picture = np.zeros((24, 32, 3), np.uint8)
        picture[:, 13:] = (200, 30, 90)
        (tmp_path / "clip").mkdir()
        Image.fromarray(picture).save(tmp_path / "clip" / "00010.png")
        ramp = torch.linspace(-4, 4, 32).sigmoid().expand(24, 32)  # its middle is at 16
        values = torch.stack([1 - ramp, ramp])
        video = make_video(frames=1, images=Images(tmp_path))
        (made,) = GuidedFilter(radius=6, eps=1e-4).apply(iter([Frame("00010", values)]), video)
        assert array(made)[1, :, 13:].min() > 0.5 > array(made)[1, :, :13].max()

    def test_classes_that_are_not_there_are_left_out(self, video, monkeypatch):
        values = torch.zeros(5, 24, 32)
        values[1, :, :9], values[3, :, 9:] = 1, 1
        seen = []
        real = Guide.filtered
        monkeypatch.setattr(
            Guide, "filtered", lambda self, plane: (seen.append(1), real(self, plane))[1]
        )
        (made,) = self.operation.apply(iter([Frame("00010", values)]), video)
        assert len(seen) == 2
        assert not array(made)[[0, 2, 4]].any()

    def test_pictures_are_needed(self):
        with pytest.raises(InputError, match="images="):
            Pipeline((self.operation,)).check(CLASSES, [1], independent=False, images=False)

    def test_single_images_are_fine(self):
        Pipeline((self.operation,)).check(CLASSES, [1], independent=False, images=True)


def test_an_ensemble_filters_along_its_pictures(tmp_path):
    """A border that the maps place between two of their pixels, which the picture knows."""
    (tmp_path / "clip").mkdir()
    picture = np.zeros((24, 32, 3), np.uint8)
    picture[:, 14:] = 255
    Image.fromarray(picture).save(tmp_path / "clip" / "00000.png")
    logits = np.zeros((1, 2, 6, 8))
    logits[0, 0, :, :4], logits[0, 1, :, 4:] = 6, 6  # at 16
    store = MemoryStore({"clip": logits}, ("road", "car"), size=(24, 32))
    ensemble = HierarchicalEnsemble(
        [store], postprocess="guided-filter:eps=0.0001", images=tmp_path
    )
    assert (ensemble.predict("clip")[0] == (np.arange(32) >= 14)).all()
    assert (ensemble.with_postprocess(None).predict("clip")[0] == (np.arange(32) >= 16)).all()
    with pytest.raises(InputError, match="images="):
        HierarchicalEnsemble([store], postprocess="guided-filter")
