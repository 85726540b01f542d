"""The limits beside each case."""

from __future__ import annotations

import json

import torch

from benchmarks import roofline


def test_roofline_names_the_limit_of_every_case(capsys):
    assert roofline.main(["--quick", "--rounds", "1", "--json", "--case", "upsample-logits"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["limit"] in ("memory", "arithmetic")
    assert min(row["measured_ms"], row["memory_ms"], row["arithmetic_ms"]) > 0


def test_what_stays_in_the_caches_is_one_row_as_often():
    z = torch.arange(2.0 * 3 * 100).reshape(2, 3, 100)
    whole, few = roofline.again(z, narrow=False), roofline.again(z, narrow=True)
    assert whole.shape == z.shape
    assert torch.equal(whole[:, 2], z[:, 0])
    assert few.shape == (2, 5, 64)
    assert torch.equal(few[:, 4], z[:, 0, :64])
    assert few.stride(1) == 0
