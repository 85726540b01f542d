"""Presets beside the papers' numbers of parameters, and published weights that cannot be had."""

from __future__ import annotations

import pytest
import torch

from fusion.errors import InputError, StoreError
from fusion.models.registry import build

pytestmark = pytest.mark.usefixtures("transformers")
# millions. SegFormer (2021), Table 1, ADE20K; Mask2Former (2022), Table 3, ADE20K semantic
PUBLISHED = {
    ("segformer", "b0"): 3.8,
    ("segformer", "b1"): 13.7,
    ("segformer", "b2"): 27.5,
    ("segformer", "b3"): 47.3,
    ("segformer", "b4"): 64.1,
    ("segformer", "b5"): 84.7,
    ("mask2former", "tiny"): 47,
    ("mask2former", "small"): 69,
    ("mask2former", "base"): 107,
    ("mask2former", "large"): 216,
}


@pytest.mark.parametrize(("name", "preset"), PUBLISHED)
def test_presets_have_as_many_parameters_as_published(name, preset):
    with torch.device("meta"):
        network = build(name, 150, {"preset": preset})
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    published = PUBLISHED[name, preset]
    assert millions == pytest.approx(published, abs=0.6 if name == "mask2former" else 0.06)


@pytest.mark.parametrize("name", ["segformer", "mask2former"])
def test_published_weights_that_cannot_be_had(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="there are no published weights for preset 'micro'"):
        build(name, 3, {"preset": "micro", "pretrained": True})
    preset = {"segformer": "b0", "mask2former": "tiny"}[name]
    with pytest.raises(StoreError, match=r"(nvidia/mit-b0|swin-tiny\S+) cannot be (had|loaded)"):
        build(name, 3, {"preset": preset, "pretrained": True})
