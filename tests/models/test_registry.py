"""Networks by name and networks of one's own: what fits, and one clear line for what does not."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from fusion.errors import InputError
from fusion.models.registry import Network, build, names, register
from tests.models.contract import NetworkContract

OWN = """
import torch
from fusion.models.registry import Network, register

@register("one-layer")
class OneLayer(Network):
    classifier = "layer"
    def __init__(self, classes, width=1):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, classes, 1, stride=4)
    def logits(self, images):
        return self.layer(images)
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "own_networks.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_networks"
    sys.modules.pop("own_networks", None)


def test_a_network_of_one_s_own_is_one_file(own_module):
    network = build("one-layer", 4, {"width": 2}, module=own_module)
    assert network(torch.zeros(1, 3, 32, 64)).shape == (1, 4, 8, 16)
    assert "one-layer" in names()


@pytest.mark.usefixtures("own_module")
class TestOneOfOnesOwn(NetworkContract):
    name, options, module = "one-layer", {"width": 2}, "own_networks"


def test_wrong_names_and_options():
    with pytest.raises(InputError, match=r"no 'maskfromer'; did you mean 'maskformer'\?; a net"):
        build("maskfromer", 3)
    with pytest.raises(InputError, match="no option 'widht'; choose one of preset"):
        build("plain", 3, {"widht": 3})
    got = r"'plain': there is no option 'prest'; did you mean 'preset'\? \(options: preset\)"
    with pytest.raises(InputError, match=got):
        build("plain", 3, {"prest": "micro"})
    for wrong in ("false", 1, "microsoft/swin"):
        with pytest.raises(InputError, match=rf"pretrained is {wrong!r}; give True or False"):
            build("swin-upernet", 3, {"preset": "micro", "pretrained": wrong})
    with pytest.raises(InputError, match=r"no preset 'tinny'; did you mean 'tiny'\?"):
        build("plain", 3, {"preset": "tinny"})
    with pytest.raises(InputError, match="module 'nowhere_to_be_found' cannot be imported"):
        build("plain", 3, module="nowhere_to_be_found")
    build("plain", 3, {"preset": "micro"})
    there = r"network 'plain' is registered by fusion\.models\.networks\.plain\.Plain"
    with pytest.raises(InputError, match=there):
        register("plain")(Network)


def test_networks_know_nothing_of_training():
    """Losses stand on networks; the arrow must not point back, from inside a function either."""
    code = "from fusion.models.registry import build\nimport sys\nbuild('plain', 3)\n"
    code += "print([name for name in sys.modules if name.startswith('fusion.models.training')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
