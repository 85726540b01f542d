"""Torch modules as networks: what forward may give, and one line for what it may not."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from fusion.errors import InputError
from fusion.models.networks.wrapped import Wrapped
from fusion.models.registry import build
from fusion.models.training.architecture import Architecture
from tests.models.contract import NetworkContract

OWN = """
import torch

def make(classes, width=4):
    layers = [torch.nn.Conv2d(3, width, 4, stride=4), torch.nn.Conv2d(width, classes, 1)]
    return torch.nn.Sequential(*layers)

def no_module(classes):
    return [classes]
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "own_factory.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_factory"
    sys.modules.pop("own_factory", None)


@pytest.mark.usefixtures("own_module")
class TestWrapped(NetworkContract):
    name, module = "torch", "own_factory"
    options = {"factory": "make", "classifier": "1", "width": 8}  # noqa: RUF012


class Giving(torch.nn.Module):
    """A module that gives what it was told to."""

    def __init__(self, found) -> None:
        super().__init__()
        self.found, self.layer = found, torch.nn.Conv2d(1, 1, 1)

    def forward(self, images):
        return self.found


PIXELS = torch.randn(1, 3, 4, 4)


@pytest.mark.parametrize(
    "found",
    [
        PIXELS,
        {"out": PIXELS, "aux": PIXELS + 1},  # torchvision
        {"logits": PIXELS},
        SimpleNamespace(logits=PIXELS, loss=None),  # transformers
    ],
)
def test_what_forward_may_give(found):
    assert torch.equal(Wrapped(Giving(found), 3).logits(torch.zeros(1, 3, 32, 32)), PIXELS)


@pytest.mark.parametrize(
    ("found", "got"),
    [
        ((PIXELS, PIXELS), "tuple"),
        ({"masks": PIXELS}, "dict of masks"),
        (PIXELS[:, :2], r"\[1, 2, 4, 4\]"),
        (PIXELS[0], r"\[3, 4, 4\]"),
    ],
)
def test_what_forward_may_not_give(found, got):
    told = rf"forward of Giving gave {got}; give \[1, 3, h, w\], or a dict with 'out' or 'logits'"
    with pytest.raises(InputError, match=told):
        Wrapped(Giving(found), 3).logits(torch.zeros(1, 3, 32, 32))


def test_what_does_not_fit(own_module):
    def refused(match, module=own_module, **options):
        with pytest.raises(InputError, match=match):
            build("torch", 3, options, module=module)

    refused("no module; give module", module=None, factory="make")
    refused(r"own_factory has no function 'maek'; did you mean 'make'\?", factory="maek")
    refused("options .* do not fit", width=3)
    refused(r"own_factory\.make: there is no option 'widht'; did you", factory="make", widht=3)
    refused("got list where a torch.nn.Module belongs", factory="no_module")
    refused("there is no layer '7'; choose one of 0, 1", factory="make", classifier="7")
    refused(r"values is 'logit'; did you mean 'logits'\?", factory="make", values="logit")
    refused("stride is 0; give 1 or more", factory="make", stride=0)
    refused("stride is 'x'; give an int", factory="make", stride="x")


def test_stride_and_values_are_the_module_s(own_module):
    options = {"factory": "make", "stride": 4, "values": "probabilities"}
    network = Architecture("torch", ("a", "b"), options).build(module=own_module)
    assert (network.stride, network.values, network.classifier) == (4, "probabilities", "")
