"""Weight averaging and test-time augmentation beside what they are defined as."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fusion.errors import InputError
from fusion.models import tta
from fusion.models.registry import Network, build
from fusion.models.training import checkpoint, swa


class Constant(Network):
    """The same logits everywhere."""

    def __init__(self, values: str = "logits") -> None:
        super().__init__()
        self.values = values
        self.level = torch.tensor([0.5, 2.0, 1.5])

    def logits(self, images: Tensor) -> Tensor:
        return (
            self.level.view(1, 3, 1, 1)
            .expand(len(images), 3, images.shape[-2] // 4, images.shape[-1] // 4)
            .clone()
        )


class Local(Network):
    """Logits that follow from each 4 x 4 block alone, so that mirroring the image mirrors them."""

    def logits(self, images: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(images, 4) * 3


def test_cycles():
    rates = [swa.cyclical(step, 4, 1.0, 0.2) for step in range(8)]
    assert rates == pytest.approx([0.8, 0.6, 0.4, 0.2] * 2)


def test_the_average_is_the_mean_of_the_files(tmp_path):
    paths, states = [], []
    for k in range(7):
        torch.manual_seed(k)
        states.append({"a": torch.randn(40, 3), "b.count": torch.tensor(k)})
        paths.append(tmp_path / f"{k}{checkpoint.SUFFIX}")
        checkpoint.save(paths[-1], states[-1], {})
    found = swa.average(paths)
    expected = np.mean([state["a"].numpy().astype(np.float64) for state in states], axis=0).astype(
        np.float32
    )
    np.testing.assert_array_max_ulp(
        found["a"].numpy(), expected, 1
    )  # NumPy adds the seven in another order
    assert found["b.count"] == 6
    assert torch.equal(swa.average(paths[:1])["a"], states[0]["a"])


def test_averages_of_different_networks_are_refused(tmp_path):
    paths = [tmp_path / f"{k}{checkpoint.SUFFIX}" for k in range(2)]
    for k, path in enumerate(paths):
        checkpoint.save(path, {"a": torch.zeros(k + 1)}, {})
    with pytest.raises(InputError, match="is of another network than"):
        swa.average(paths)
    with pytest.raises(InputError, match="no weights to average"):
        swa.average([])


def test_batch_norm_is_counted_anew(tmp_path):
    network = build("plain", 3, {"preset": "micro"})
    path = tmp_path / f"w{checkpoint.SUFFIX}"
    checkpoint.save(path, network.state_dict(), {})
    images = [torch.randn(4, 3, 32, 32) + 2 for _ in range(3)]
    swa.averaged(network, [path], images, torch.device("cpu"))
    norm = network.stem[1]
    entering = [network.stem[0](batch) for batch in images]
    torch.testing.assert_close(
        norm.running_mean, torch.stack([x.mean(dim=(0, 2, 3)) for x in entering]).mean(dim=0)
    )
    torch.testing.assert_close(
        norm.running_var, torch.stack([x.var(dim=(0, 2, 3)) for x in entering]).mean(dim=0)
    )
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.momentum == 0.1


@pytest.mark.parametrize("values", ["logits", "probabilities"])
def test_tta_of_a_constant_is_that_constant(values):
    network = Constant(values)
    level = network.level
    expected = level.softmax(0) if values == "logits" else level / level.sum()
    for size in ((64, 96), (50, 77)):
        found = tta.predict(network, torch.randn(2, 3, *size), flip=True, scales=(0.75, 1.0, 1.5))
        assert found.shape[:2] == (2, 3)
        torch.testing.assert_close(found, expected.view(1, 3, 1, 1).expand_as(found))


def test_one_view_is_the_network_itself():
    network, images = Local(), torch.randn(1, 3, 64, 96)
    assert torch.equal(tta.predict(network, images), network.logits(images))


def test_flips_undo_themselves():
    network, images = Local(), torch.randn(1, 3, 64, 96)
    torch.testing.assert_close(
        tta.predict(network, images, flip=True), network.logits(images).softmax(dim=1)
    )
    mirrored = tta.predict(network, images.flip(-1), flip=True, scales=(1.0, 0.5))
    torch.testing.assert_close(
        mirrored.flip(-1), tta.predict(network, images, flip=True, scales=(1.0, 0.5))
    )


def test_tta_is_the_mean_over_views_written_out():
    network, images = Local(), torch.randn(1, 3, 32, 64)
    larger = torch.nn.functional.interpolate(
        images, (64, 128), mode="bilinear", align_corners=False, antialias=True
    )
    views = [network.logits(images).softmax(1)]
    views.append(
        torch.nn.functional.interpolate(
            network.logits(larger).softmax(1), (8, 16), mode="bilinear", align_corners=False
        )
    )
    torch.testing.assert_close(
        tta.predict(network, images, scales=(1.0, 2.0)), (views[0] + views[1]) / 2
    )


def test_resolution_is_that_of_scale_one():
    images = torch.randn(1, 3, 48, 85)
    assert tta.network_size((48, 85), 1.0, 32) == (64, 96)
    assert (
        tta.predict(Local(), images, scales=(0.5, 2.0)).shape
        == tta.predict(Local(), images).shape
        == (1, 3, 16, 24)
    )


@pytest.mark.parametrize("scales", [[], [0.0], [float("nan")], [-1.0]])
def test_scales_are_checked(scales):
    with pytest.raises(InputError, match="give numbers above 0"):
        tta.check_scales(scales)
