"""The networks of the library keep the contract."""

from __future__ import annotations

import pytest

from tests.models.contract import NetworkContract


class TestPlain(NetworkContract):
    name = "plain"


@pytest.mark.usefixtures("transformers")
class TestSwinUPerNet(NetworkContract):
    name = "swin-upernet"


@pytest.mark.usefixtures("transformers")
class TestMaskFormer(NetworkContract):
    name, values = "maskformer", "probabilities"
    per_class = ("model.criterion.empty_weight",)


@pytest.mark.usefixtures("transformers")
class TestSegFormer(NetworkContract):
    name = "segformer"


@pytest.mark.usefixtures("transformers")
class TestMask2Former(NetworkContract):
    name, values = "mask2former", "probabilities"
    per_class = ("model.criterion.empty_weight",)
