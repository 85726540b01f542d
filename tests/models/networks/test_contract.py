"""The networks of the library keep the contract."""

from __future__ import annotations

from typing import ClassVar

import pytest

from tests.models.contract import NetworkContract


class TestPlain(NetworkContract):
    name = "plain"


@pytest.mark.usefixtures("transformers")
class TestSwinUPerNet(NetworkContract):
    name = "swin-upernet"


@pytest.mark.usefixtures("transformers")
class TestSwinUPerNetAsPublished(NetworkContract):
    """With what a new run of a published size has, fewer channels of it."""

    name = "swin-upernet"
    options: ClassVar = {"preset": "micro", "decoder": 32, "auxiliary": 16, "dropout": 0.1}
    per_class = ("model.auxiliary_head.classifier",)


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
