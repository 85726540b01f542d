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


class Pointwise(Network):
    """Logits of each pixel alone: the same network in every view and window."""

    stride = 4

    def __init__(self, values: str = "logits") -> None:
        super().__init__()
        self.values = values

    def logits(self, images: Tensor) -> Tensor:
        outputs = torch.stack([images[:, 0] * 2, images[:, 1] - images[:, 2], images[:, 2]], dim=1)
        return outputs if self.values == "logits" else outputs.softmax(1) * 7


EVERYTHING = {"flip": True, "vertical": True, "rotate": True}


@pytest.mark.parametrize("values", ["logits", "probabilities"])
@pytest.mark.parametrize("merge", tta.MERGES)
@pytest.mark.parametrize("more", [{}, {"window": 16}, {"window": 16, "overlap": 0.0}])
def test_an_equivariant_network_is_the_same_in_all_views(values, merge, more):
    network, images = Pointwise(values), torch.randn(2, 3, 20, 36)
    views = Views(merge=merge, **EVERYTHING, **more)
    found = views.predict(network, images)
    if views.values(network) == "logits":
        found = found.softmax(1)
    torch.testing.assert_close(found, Pointwise().logits(images).softmax(1))


class Lopsided(Network):
    """What is left of and above a pixel counts, and how wide the image is."""

    stride = 4

    def logits(self, images: Tensor) -> Tensor:
        return images.cumsum(-1) / images.shape[-1] + images.roll(1, -2) * 3


@pytest.mark.parametrize("view", Views(scales=(1.0, 0.5), **EVERYTHING).views)
def test_a_view_is_undone(view):
    images = torch.randn(1, 3, 8, 12)
    there = view.of(images, 4)
    assert torch.equal(view.undone(there), tta.resized(images, there_size(view)))
    named = Views(scales=(1.0, 0.5), **EVERYTHING, only=view.name)
    assert named.views == (view,)


def there_size(view):
    return (8, 12) if view.scale == 1 else (4, 8)  # 6 is as far from 4 as from 8: Python's round


def test_views_written_out():
    """Upside down and turned, by NumPy's names of these, merged in both spaces."""
    network, images = Lopsided(), torch.randn(2, 3, 8, 12)

    def seen(turn, back):
        return back(network.logits(turn(images)))

    looks = [
        seen(lambda x: x, lambda y: y),
        seen(lambda x: x.flip(3), lambda y: y.flip(3)),
        seen(lambda x: x.flip(2), lambda y: y.flip(2)),
        seen(lambda x: x.flip(2, 3), lambda y: y.flip(2, 3)),
    ]
    both = {"flip": True, "vertical": True}
    expected = torch.stack([one.softmax(1) for one in looks]).mean(0)
    torch.testing.assert_close(Views(**both).predict(network, images), expected)
    found = Views(**both, merge="logits").predict(network, images)
    geometric = torch.stack([one.softmax(1) for one in looks]).log().mean(0).exp()
    torch.testing.assert_close(found.softmax(1), geometric / geometric.sum(1, keepdim=True))
    turned = [
        looks[0],
        seen(lambda x: torch.rot90(x, 1, (2, 3)), lambda y: torch.rot90(y, 3, (2, 3))),
        seen(lambda x: torch.rot90(x, 2, (2, 3)), lambda y: torch.rot90(y, 2, (2, 3))),
        seen(lambda x: torch.rot90(x, 3, (2, 3)), lambda y: torch.rot90(y, 1, (2, 3))),
    ]
    expected = torch.stack([one.softmax(1) for one in turned]).mean(0)
    torch.testing.assert_close(Views(rotate=True).predict(network, images), expected)


def test_probabilities_in_logit_space_are_their_logarithms():
    """0.9 and 0.1, 0.4 and 0.6: geometric means 0.6 and sqrt(0.06), 0.71 to 0.29."""

    class Two(Network):
        values, stride = "probabilities", 4

        def logits(self, images: Tensor) -> Tensor:
            left = (torch.arange(4) < 2).expand(1, 1, 4, 4)  # of what it is shown
            return torch.cat([torch.where(left, 0.9, 0.4), torch.where(left, 0.1, 0.6)], dim=1)

    found = Views(flip=True, merge="logits").predict(Two(), torch.zeros(1, 3, 4, 4)).softmax(1)
    expected = torch.tensor([0.6, 0.06**0.5]) / (0.6 + 0.06**0.5)
    torch.testing.assert_close(found, expected.view(1, 2, 1, 1).expand_as(found))
    assert tta.merged_space(torch.tensor([[1.0, 0.0]]), "probabilities", "logits").isfinite().all()


def test_every_view_by_itself_is_the_whole_together():
    network, images = Lopsided(), torch.randn(1, 3, 20, 28)
    views = Views(flip=True, rotate=True, scales=(1.0, 1.5), window=16)
    alone = [view.predict(network, images) for view in views.each().values()]
    assert len(alone) == 16
    torch.testing.assert_close(torch.stack(alone).mean(0), views.predict(network, images))


def test_names_of_views():
    names = list(Views(scales=(1.0, 0.75), **EVERYTHING).each())
    assert len(names) == len(set(names)) == 16
    assert list(Views(flip=True, vertical=True).each()) == [
        "plain",
        "flip",
        "vertical",
        "rotate180",
    ]
    assert list(Views(flip=True, scales=(2.0, 0.75)).each()) == [
        *("plain_x2", "flip_x2", "plain_x0.75", "flip_x0.75")
    ]


def test_equal_views_are_said_alike_and_as_before():
    assert tta.ONE_VIEW.facts() == {"flip": False, "scales": [1.0]}
    assert Views(flip=True, scales=(2.0, 1.0)).facts() == {"flip": True, "scales": [2.0, 1.0]}
    whole, part = Views(rotate=True, flip=True), Views(flip=True)
    assert whole.each()["flip"].facts() == part.each()["flip"].facts()
    assert whole.each()["plain"].facts() == tta.ONE_VIEW.facts()
    assert Views(**EVERYTHING).facts() == Views(rotate=True, flip=True).facts() == {
        "flip": True, "scales": [1.0], "views": sorted(whole.each()),
    }  # fmt: skip
    windows = Views(window=64, merge="logits").facts()
    assert windows == tta.ONE_VIEW.facts() | {"window": 64, "overlap": 0.5, "merge": "logits"}
    # one view has nothing to merge
    assert Views(merge="logits").facts() == tta.ONE_VIEW.facts()


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"window": -1}, "window is -1; give 0 or more"),
        ({"overlap": 1.0}, "overlap is 1.0; give a share of the window"),
        ({"merge": "votes"}, "merge is 'votes'; give one of probabilities, logits"),
        ({"only": "flip"}, "no 'flip' among plain; give one of these"),
    ],
)
def test_what_no_views_are(wrong, error):
    with pytest.raises(InputError, match=f"views: {error}"):
        Views(**wrong)
    with pytest.raises(InputError, match="window: got 10; give a multiple of 32, such as 32"):
        Views(window=10).values(Local())
