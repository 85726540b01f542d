"""The oracle against torch's own interpolation, and the contract in narrow bands."""

from __future__ import annotations

import pytest
import torch

from fusion.kernels.call import check_upsampling
from fusion.kernels.upsample import naive
from tests.kernels.channels import UpsampleChannels
from tests.kernels.contract import UpsampleContract


class TestNaive(UpsampleContract):
    backend = naive

    def upsample(self, call):
        return naive.upsample(call, band=3)


class TestNaiveChannels(UpsampleChannels):
    backend = naive

    def upsample(self, call):
        return naive.upsample(call, band=3)


def resized(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    options = {"mode": "bilinear", "align_corners": False}
    return torch.nn.functional.interpolate(maps.double(), size=size, **options)


@pytest.mark.parametrize(
    ("source", "target"),
    [((5, 7), (20, 28)), ((5, 7), (13, 9)), ((9, 12), (4, 5)), ((1, 1), (6, 3)), ((6, 3), (6, 8))],
)
def test_bilinear_against_torch(source, target):
    maps = torch.randn(3, 4, *source, generator=torch.Generator().manual_seed(3))
    made = naive.bilinear(maps, target)
    torch.testing.assert_close(made.double(), resized(maps, target), atol=2e-6, rtol=0)
    assert torch.equal(naive.bilinear(maps, target, (1, 3)), made[..., 1:3, :])


@pytest.mark.parametrize("resize", ["probabilities", "logits"])
def test_both_resizes_against_torch(resize):
    generator = torch.Generator().manual_seed(5)
    shapes = ((4, 5), (8, 6))
    logits = [torch.randn(6, *shape, generator=generator).double() * 3 for shape in shapes]
    first, second = (
        resized(z.softmax(0)[None], (16, 15))[0]
        if resize == "probabilities"
        else resized(z[None], (16, 15))[0].softmax(0)
        for z in logits
    )
    options = {"resize": resize, "outputs": ("probabilities",)}
    call = check_upsampling([z.float() for z in logits], [1.0, 3.0], (16, 15), **options)
    made = naive.upsample(call).probabilities.double()
    torch.testing.assert_close(made, (first + 3 * second) / 4, atol=1e-6, rtol=0)


@pytest.mark.parametrize("resize", ["probabilities", "logits"])
def test_channels_against_torch(resize):
    generator = torch.Generator().manual_seed(5)
    shapes = ((4, 5), (8, 6))
    logits = [torch.randn(3, *shape, generator=generator).double() * 3 for shape in shapes]
    first, second = (
        resized(z.sigmoid()[None], (16, 15))[0]
        if resize == "probabilities"
        else resized(z[None], (16, 15))[0].sigmoid()
        for z in logits
    )
    options = {"resize": resize, "outputs": ("labels", "probabilities"), "channels": True}
    made = naive.upsample(
        check_upsampling([z.float() for z in logits], [1.0, 3.0], (16, 15), **options)
    )
    expected = (first + 3 * second) / 4
    torch.testing.assert_close(made.probabilities.double(), expected, atol=1e-6, rtol=0)
    clear = (expected - 0.5).abs() > 1e-6
    assert torch.equal((made.labels == 1)[clear], (expected > 0.5)[clear])
