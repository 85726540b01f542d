"""The steps that all paths share, against float64."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from fusion.kernels import numbers
from fusion.kernels.arithmetic import decode_gaps, exp32, label_dtype, normalised


def test_exp32_is_within_two_units_in_the_last_place():
    x = torch.cat([torch.linspace(-87, 0, 200001), torch.tensor([0.0, -1e-30, -1e-7])])
    exact = torch.exp(x.double())
    unit = torch.from_numpy(np.spacing(exact.float().numpy())).double()
    assert ((exp32(x).double() - exact).abs() / unit).max() < 2
    assert exp32(torch.tensor([-87.5, -1e30, -torch.inf])).tolist() == [0.0, 0.0, 0.0]
    assert exp32(torch.tensor([torch.nan])).isnan().all()


def test_decoded_gaps_are_correctly_rounded():
    exact = np.array([-24.0 * (q / 255.0) ** 2 for q in range(256)])
    assert np.array_equal(numbers.DECODE_TABLE, exact.astype(np.float32))
    assert torch.equal(
        decode_gaps(torch.arange(256, dtype=torch.uint8)), torch.from_numpy(numbers.DECODE_TABLE)
    )


@pytest.mark.parametrize(
    ("classes", "void", "dtype"),
    [(1, 255, torch.uint8), (255, 255, torch.uint8), (256, 65535, torch.uint16)],
)
def test_void_is_the_last_label_of_the_narrowest_dtype(classes, void, dtype):
    assert numbers.void_label(classes) == void == torch.iinfo(dtype).max
    assert label_dtype(classes) == dtype


def test_normalised_weights_are_float32_shares():
    shares = normalised([1, 1.4, 0, 1e-9])
    assert shares == [float(np.float32(w / (2.4 + 1e-9))) for w in (1, 1.4, 0, 1e-9)]
    assert normalised([1e308, 1e308]) == [0.5, 0.5]
    for wrong in ([], [0.0], [1, -1], [float("nan")], [float("inf")]):
        with pytest.raises(ValueError, match="weights"):
            normalised(wrong)


def test_numbers_need_numpy_alone():
    code = "import sys, fusion.kernels.numbers; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
