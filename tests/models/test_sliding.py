"""Sliding windows beside MONAI's."""

from __future__ import annotations

import pytest
import torch
from monai.inferers import sliding_window_inference

from fusion.errors import InputError
from fusion.models.sliding import blended, check_window


def uneven(images: torch.Tensor) -> torch.Tensor:
    """[N, 3, h, w], which depends on the place in the window, so that blending matters."""
    rows, columns = (torch.linspace(0.5, 2, side) for side in images.shape[-2:])
    return torch.tanh(images) * rows[:, None] + columns


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.7])
@pytest.mark.parametrize("size", [(96, 160), (64, 64), (64, 96)])
def test_the_whole_is_monais(size, overlap):
    images = torch.randn(2, 3, *size)
    expected = sliding_window_inference(images, 64, 2, uneven, overlap=overlap, mode="gaussian")
    torch.testing.assert_close(blended(uneven, images, 64, overlap, 1), expected)


def test_outputs_of_a_stride_are_monais_over_their_own_grid():
    """Of stride 4: what MONAI makes of the image at a quarter, in windows of a quarter."""

    def read(images: torch.Tensor) -> torch.Tensor:
        return uneven(torch.nn.functional.avg_pool2d(images, 4))

    images = torch.randn(1, 3, 96, 160)
    small = torch.nn.functional.avg_pool2d(images, 4)
    expected = sliding_window_inference(small, 16, 1, uneven, overlap=0.5, mode="gaussian")
    torch.testing.assert_close(blended(read, images, 64, 0.5, 32), expected)
    # a step of 19 pixels starts no window off the network's grid
    seen = []
    blended(lambda part: seen.append(part) or read(part), images, 64, 0.7, 16)
    corners = [(int(part.storage_offset()) // 160, part.storage_offset() % 160) for part in seen]
    assert {row for row, _ in corners} == {0, 16, 32}
    assert {column for _, column in corners} == {0, 16, 32, 48, 64, 80, 96}


def test_an_image_below_the_window_is_seen_whole():
    images = torch.randn(1, 3, 32, 64)
    seen = []
    found = blended(lambda part: seen.append(part.shape) or part, images, 512, 0.5, 32)
    assert seen == [images.shape]
    torch.testing.assert_close(found, images)


def test_windows_that_lie_on_no_grid():
    with pytest.raises(InputError, match="window: got 500; give a multiple of 32, such as 512"):
        check_window(500, 32)
    with pytest.raises(InputError, match="and 160 no whole number of them; predict without"):
        blended(lambda part: part[..., :7, :7], torch.zeros(1, 3, 160, 160), 64, 0.5, 32)
