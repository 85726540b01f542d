"""Test-time augmentation beside what it is defined as."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from fusion.errors import InputError
from fusion.models import tta
from fusion.models.registry import Network
from fusion.models.tta import Views


class Constant(Network):
    """The same logits everywhere."""

    def __init__(self, values: str = "logits") -> None:
        super().__init__()
        self.values = values
        self.level = torch.tensor([0.5, 2.0, 1.5])

    def logits(self, images: Tensor) -> Tensor:
        rows, columns = (side // 4 for side in images.shape[-2:])
        return self.level.view(1, 3, 1, 1).expand(len(images), 3, rows, columns).clone()


class Local(Network):
    """Logits that follow from each 4 x 4 block alone, so that mirroring the image mirrors them."""

    def logits(self, images: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(images, 4) * 3


@pytest.mark.parametrize("values", ["logits", "probabilities"])
def test_tta_of_a_constant_is_that_constant(values):
    network = Constant(values)
    level = network.level
    expected = level.softmax(0) if values == "logits" else level / level.sum()
    for size in ((64, 96), (50, 77)):
        found = Views(flip=True, scales=(0.75, 1.0, 1.5)).predict(network, torch.randn(2, 3, *size))
        assert found.shape[:2] == (2, 3)
        torch.testing.assert_close(found, expected.view(1, 3, 1, 1).expand_as(found))


def test_one_view_is_the_network_itself():
    network, images = Local(), torch.randn(1, 3, 64, 96)
    assert torch.equal(tta.ONE_VIEW.predict(network, images), network.logits(images))


def test_flips_undo_themselves():
    network, images = Local(), torch.randn(1, 3, 64, 96)
    found = Views(flip=True).predict(network, images)
    torch.testing.assert_close(found, network.logits(images).softmax(dim=1))
    mirrored = Views(flip=True, scales=(1.0, 0.5)).predict(network, images.flip(-1))
    torch.testing.assert_close(
        mirrored.flip(-1), Views(flip=True, scales=(1.0, 0.5)).predict(network, images)
    )


def test_tta_is_the_mean_over_views_written_out():
    network, images = Local(), torch.randn(1, 3, 32, 64)
    bilinear = {"mode": "bilinear", "align_corners": False}
    larger = interpolate(images, (64, 128), antialias=True, **bilinear)
    plain = network.logits(images).softmax(1)
    other = interpolate(network.logits(larger).softmax(1), (8, 16), **bilinear)
    found = Views(scales=(1.0, 2.0)).predict(network, images)
    torch.testing.assert_close(found, (plain + other) / 2)


def test_resolution_is_that_of_scale_one():
    images = torch.randn(1, 3, 48, 85)
    assert tta.network_size(images, 1.0, 32) == (64, 96)
    for views in (Views(scales=(0.5, 2.0)), tta.ONE_VIEW):
        assert views.predict(Local(), images).shape == (1, 3, 16, 24)


@pytest.mark.parametrize("scales", [[], [0.0], [float("nan")], [-1.0]])
def test_scales_are_checked(scales):
    with pytest.raises(InputError, match="give numbers above 0"):
        Views(scales=tuple(scales))
