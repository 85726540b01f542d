"""Published weights that cannot be had, and the extra that is not installed."""

from __future__ import annotations

import sys

import pytest

from fusion.errors import InputError, StoreError
from fusion.models.registry import build
from fusion.models.training.run import Run
from tests.models.tools import CPU


def test_published_weights_that_cannot_be_had(transformers, configure, monkeypatch):
    with pytest.raises(InputError, match="no published weights for preset 'micro'"):
        Run(configure(network={"name": "swin-upernet", "pretrained": True}), CPU)

    def refuse(*_, **__):
        raise OSError("no such model here\nand more")

    monkeypatch.setattr(transformers.SwinBackbone, "from_pretrained", refuse)
    got = r"swin-tiny-patch4-window7-224 cannot be loaded \(no such model here\); connect"
    with pytest.raises(StoreError, match=got):
        build("swin-upernet", 1, {"preset": "tiny", "pretrained": True})


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    got = r"needs the extra 'models' .*; pip install 'segfusion\[models\]', or use 'plain'"
    with pytest.raises(InputError, match=got):
        build("swin-upernet", 1, {"preset": "micro"})
