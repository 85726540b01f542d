"""Presets beside the papers' numbers of parameters, and published weights that cannot be had."""

from __future__ import annotations

import pytest
import torch

from fusion.errors import InputError, StoreError
from fusion.models.networks.swin_upernet import PUBLISHED
from fusion.models.registry import build

pytestmark = pytest.mark.usefixtures("transformers")
# millions of parameters, all for the 150 classes of ADE20K
# Xie et al. (arXiv 2105.15203), Table 1(a), columns "Params": encoder, decoder
SEGFORMER = {
    "b0": (3.4, 0.4),
    "b1": (13.1, 0.6),
    "b2": (24.2, 3.3),
    "b3": (44.0, 3.3),
    "b4": (60.8, 3.3),
    "b5": (81.4, 3.3),
}
# Cheng et al. (arXiv 2112.01527), Table V, semantic segmentation on ADE20K val, "#params.";
# the 216 of Swin-L in Tables 1 and 2 is of 200 queries on COCO
MASK2FORMER = {"tiny": 47, "small": 69, "base": 107, "large": 215}

# Liu et al. (arXiv 2103.14030), Table 3, "UperNet"; Cheng et al. (arXiv 2107.06278), Table 1
SWIN_UPERNET = {"tiny": 60, "small": 81, "base": 121, "large": 234}
MASKFORMER = {"tiny": 42, "small": 63, "base": 102, "large": 212}


def millions(network):
    return sum(parameter.numel() for parameter in network.parameters()) / 1e6


@pytest.mark.parametrize("preset", SEGFORMER)
def test_segformer_has_as_many_parameters_as_published(preset):
    with torch.device("meta"):
        model = build("segformer", 150, {"preset": preset}).model
    encoder, decoder = SEGFORMER[preset]
    assert round(millions(model.decode_head), 1) == decoder
    # the table's encoders are what its decoders leave of the totals, as Table 2 rounds these
    assert round(millions(model), 1) == pytest.approx(encoder + decoder)


@pytest.mark.parametrize("preset", MASK2FORMER)
def test_mask2former_has_as_many_parameters_as_published(preset):
    with torch.device("meta"):
        network = build("mask2former", 150, {"preset": preset})
    assert round(millions(network)) == MASK2FORMER[preset]


@pytest.mark.parametrize("preset", SWIN_UPERNET)
def test_swin_upernet_has_as_many_parameters_as_published(preset):
    with torch.device("meta"):
        network = build("swin-upernet", 150, {"preset": preset, **PUBLISHED})
    assert round(millions(network)) == SWIN_UPERNET[preset]


@pytest.mark.parametrize("preset", MASKFORMER)
def test_maskformer_has_as_many_parameters_as_published(preset):
    with torch.device("meta"):
        network = build("maskformer", 150, {"preset": preset})
    assert round(millions(network)) == MASKFORMER[preset]


@pytest.mark.parametrize("name", ["segformer", "mask2former"])
def test_published_weights_that_cannot_be_had(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="there are no published weights for preset 'micro'"):
        build(name, 3, {"preset": "micro", "pretrained": True})
    preset = {"segformer": "b0", "mask2former": "tiny"}[name]
    with pytest.raises(StoreError, match=r"(nvidia/mit-b0|swin-tiny\S+) cannot be (had|loaded)"):
        build(name, 3, {"preset": preset, "pretrained": True})
