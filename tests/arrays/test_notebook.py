"""What a notebook with three torch networks has to write: three lines of glue."""

from __future__ import annotations

import ast
import inspect

import numpy as np
import torch

import fusion
from fusion.metrics import class_iou, confusion

CLASSES, FOLDS = 4, 3


def notebook(networks, images, labels, others):
    with torch.no_grad():
        val, test = ([net(x).softmax(1) for net in networks] for x in (images, others))

    found = fusion.search_weights(val, labels, folds=FOLDS)
    maps = fusion.fuse(test, found, labels=True)
    probabilities = fusion.fuse(test, found.recommended)

    return found, maps, probabilities


class Net(torch.nn.Module):
    """Blurred votes for the class whose colour a pixel has; noise makes one worse than another."""

    def __init__(self, noise: float, stride: int) -> None:
        super().__init__()
        self.noise, self.stride, self.seed = noise, stride, int(noise * 100)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        draw = torch.Generator().manual_seed(self.seed)
        small = torch.nn.functional.avg_pool2d(images, self.stride)
        return 3 * small + self.noise * torch.randn(small.shape, generator=draw)


def batch(number: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, CLASSES, (number, 5, 7), generator=draw)
    labels = coarse.repeat_interleave(4, 1).repeat_interleave(4, 2)
    return torch.nn.functional.one_hot(labels, CLASSES).permute(0, 3, 1, 2).float(), labels


def test_three_lines_from_three_networks_to_weights_and_labels():
    body = ast.parse(inspect.getsource(notebook)).body[0].body
    glue = [node for node in body if "fusion." in ast.unparse(node)]
    assert len(glue) == 3
    assert all(node.lineno == node.end_lineno for node in glue)

    images, labels = batch(6, seed=0)
    others, wanted = batch(4, seed=1)
    networks = [Net(0.8, 1), Net(1.2, 2), Net(3.0, 1)]
    found, maps, probabilities = notebook(networks, images, labels, others)

    assert (maps.shape, maps.dtype) == ((4, 20, 28), torch.uint8)
    assert (probabilities.shape, probabilities.dtype) == ((4, CLASSES, 20, 28), torch.float32)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(4, 20, 28))

    def miou(predicted: torch.Tensor) -> float:
        pair = (wanted.numpy().astype(np.uint8), predicted.numpy().astype(np.uint8))
        return float(class_iou(confusion(*pair, CLASSES)).mean())

    single = max(miou(fusion.fuse([net(others).softmax(1)], labels=True)) for net in networks[:1])
    assert miou(maps) > single
    assert miou(maps) > miou(fusion.fuse([net(others).softmax(1) for net in networks], labels=True))
    assert found.held_out is not None
    video = found.ensemble.videos[0]
    val = [net(images).softmax(1) for net in networks]
    again = fusion.fuse(val, found, labels=True)
    assert np.array_equal(again[:1].numpy(), found.ensemble.predict(video))
