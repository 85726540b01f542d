"""The Triton average at label resolution against the oracle: interpreted, or on a real GPU."""

from __future__ import annotations

import torch

from fusion.kernels.arithmetic import OUTPUTS
from fusion.kernels.average import triton as native
from fusion.kernels.call import check_upsampling
from fusion.kernels.upsample import cells, triton
from tests.kernels.channels import UpsampleChannels
from tests.kernels.contract import Near, UpsampleContract
from tests.kernels.interpreted import DEVICE


class TestTriton(Near, UpsampleContract):
    backend = triton
    device = DEVICE

    def test_bands_of_native_sums_are_the_whole(self, monkeypatch):
        logits, _ = self.make("float16", 4, 5, [(9, 7)])
        call = check_upsampling(logits, [1, 2, 3, 4], (16, 22), outputs=OUTPUTS)
        average, heights = native.average, []

        def recorded(part):
            heights.append(part.logits[0].shape[1])
            return average(part)

        monkeypatch.setattr(native, "average", recorded)
        whole = self.upsample(call).asked()
        monkeypatch.setattr(cells, "BAND_BYTES", 4 * 4 * 5 * 7 * 3)  # three native rows
        banded = self.upsample(call).asked()
        assert all(torch.equal(whole[name], banded[name]) for name in OUTPUTS)
        assert max(heights) == 9
        assert max(heights[1:]) <= 5  # the band and its neighbours


class TestTritonChannels(UpsampleChannels):
    """Equal bits here too."""

    backend = triton
    device = DEVICE
