"""The reference against arithmetic that shares nothing with it: float64 NumPy, and torch's own interpolation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusion.kernels import arithmetic as reference


def softmax64(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=0))
    return exponentials / exponentials.sum(axis=0)


@pytest.mark.parametrize("classes", [1, 2, 11, 124, 257])
def test_weighted_group_means_against_float64(classes):
    rng = np.random.default_rng(classes)
    logits = [rng.normal(scale=4, size=(classes, 90)).astype(np.float32) for _ in range(4)]
    temperatures, weights, groups = [1.0, 0.7, 2.0, 1.3], [1.0, 1.4], [[0, 3], [2, 1]]
    p = [softmax64(z.astype(np.float64) / t) for z, t in zip(logits, temperatures, strict=True)]
    means = np.stack([(p[0] + p[3]) / 2, (p[2] + p[1]) / 2])
    expected = (means[0] + 1.4 * means[1]) / 2.4
    fused = reference.softmax_average(
        [torch.from_numpy(z) for z in logits],
        weights,
        groups=groups,
        temperatures=temperatures,
        outputs=reference.OUTPUTS,
    )
    np.testing.assert_allclose(fused.probabilities, expected, atol=2e-6)
    np.testing.assert_allclose(fused.group_means, means, atol=2e-6)
    np.testing.assert_array_equal(fused.labels, expected.argmax(axis=0))
    ordered = np.sort(expected, axis=0)
    np.testing.assert_allclose(fused.confidence, ordered[-1], atol=2e-6)
    np.testing.assert_allclose(
        fused.margin, ordered[-1] - (ordered[-2] if classes > 1 else 0), atol=2e-6
    )
    np.testing.assert_allclose(
        fused.entropy, -(expected * np.log(np.maximum(expected, 1e-300))).sum(axis=0), atol=1e-5
    )


def test_exp32_is_within_two_units_in_the_last_place():
    x = torch.cat([torch.linspace(-87, 0, 200001), torch.tensor([0.0, -1e-30, -1e-7])])
    exact = torch.exp(x.double())
    unit = torch.from_numpy(np.spacing(exact.float().numpy())).double()
    assert ((reference.exp32(x).double() - exact).abs() / unit).max() < 2
    assert reference.exp32(torch.tensor([-87.5, -1e30, -torch.inf])).tolist() == [0.0, 0.0, 0.0]
    assert reference.exp32(torch.tensor([torch.nan])).isnan().all()


@pytest.mark.parametrize(
    ("source", "target"),
    [((5, 7), (20, 28)), ((5, 7), (13, 9)), ((9, 12), (4, 5)), ((1, 1), (6, 3)), ((6, 3), (6, 8))],
)
def test_bilinear_against_torch(source, target):
    maps = torch.randn(3, 4, *source, generator=torch.Generator().manual_seed(3))
    expected = torch.nn.functional.interpolate(
        maps.double(), size=target, mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(
        reference.bilinear(maps, target).double(), expected, atol=2e-6, rtol=0
    )
    torch.testing.assert_close(
        reference.bilinear(maps, target, (1, 3)),
        reference.bilinear(maps, target)[..., 1:3, :],
        atol=0,
        rtol=0,
    )


@pytest.mark.parametrize("resize", ["probabilities", "logits"])
def test_both_resizes_against_torch(resize):
    generator = torch.Generator().manual_seed(5)
    logits = [
        torch.randn(6, *shape, generator=generator).double() * 3 for shape in ((4, 5), (8, 6))
    ]

    def resized(maps: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(
            maps[None], size=(16, 15), mode="bilinear", align_corners=False
        )[0]

    single = [
        resized(z.softmax(0)) if resize == "probabilities" else resized(z).softmax(0)
        for z in logits
    ]
    fused = reference.upsample_softmax_average(
        [z.float() for z in logits], [1.0, 3.0], (16, 15), resize=resize, outputs=("probabilities",)
    )
    torch.testing.assert_close(
        fused.probabilities.double(), (single[0] + 3 * single[1]) / 4, atol=1e-6, rtol=0
    )


def test_ties_go_to_the_lowest_class_and_nan_to_the_ignore_label():
    scores = torch.tensor([[0.2, 0.5, torch.nan], [0.4, 0.5, 0.1], [0.4, 0.0, 0.1]])
    assert reference.argmax(scores).tolist() == [1, 0, 255]
    assert reference.argmax(torch.full((300, 1), torch.nan)).tolist() == [65535]


def test_confusion_by_hand():
    targets, labels = torch.tensor([0, 0, 1, 255, 1]), torch.tensor([0, 1, 1, 9, 1])
    assert reference.confusion(targets, labels, 2).tolist() == [[1, 1], [0, 2]]
