"""Names, options, weights files and configurations: what fits, and one clear line for what does not."""

from __future__ import annotations

import pickle
import sys

import pytest
import torch

from fusion.errors import FusionError, InputError, StoreError
from fusion.models.registry import Architecture, Network, build, names, register
from fusion.models.training import checkpoint, config

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


def test_wrong_names_and_options():
    with pytest.raises(InputError, match=r"no 'maskfromer'; did you mean 'maskformer'\?"):
        build("maskfromer", 3)
    with pytest.raises(InputError, match=r"options \{'widht': 3\} do not fit"):
        build("plain", 3, {"widht": 3})
    with pytest.raises(InputError, match=r"no preset 'tinny'; did you mean 'tiny'\?"):
        build("plain", 3, {"preset": "tinny"})
    with pytest.raises(InputError, match="module 'nowhere_to_be_found' cannot be imported"):
        build("plain", 3, module="nowhere_to_be_found")
    build("plain", 3, {"preset": "micro"})
    with pytest.raises(
        InputError, match=r"network 'plain' is registered by fusion\.models\.plain\.Plain"
    ):
        register("plain")(Network)


def plain_weights(path, classes=("a", "b"), preset="micro", tau=None):
    architecture = Architecture("plain", classes, {"preset": preset}, tau)
    network = architecture.build()
    checkpoint.save_network(path, network, architecture, step=7)
    return network, architecture


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("tau", [None, 0.03])
def test_weights_round_trip(tmp_path, monkeypatch, suffix, tau):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    monkeypatch.setattr(checkpoint, "SUFFIX", suffix)
    network, architecture = plain_weights(tmp_path / f"w{suffix}", tau=tau)
    other, there = checkpoint.load_network(tmp_path / f"w{suffix}")
    assert there == architecture
    assert not other.training
    assert all(
        torch.equal(a, b)
        for a, b in zip(network.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_weights_of_another_architecture(tmp_path):
    path = tmp_path / "w.safetensors"
    network, _ = plain_weights(path)
    with pytest.raises(
        InputError,
        match=r"is of another architecture than Plain: 'head\.weight' is \[2, 16, 1, 1\], expected \[3, 16, 1, 1\]",
    ):
        checkpoint.load_state(build("plain", 3, {"preset": "micro"}), network.state_dict(), "w")
    adjusted = Architecture("plain", ("a", "b"), {"preset": "micro"}, 0.03).build()
    with pytest.raises(InputError, match=r"has an unknown tensor 'head\.bias', 2 names differ"):
        checkpoint.load_state(adjusted, network.state_dict(), "w")


@pytest.mark.parametrize("name", ["plain", "maskformer", "swin-upernet"])
def test_starting_from_other_classes_leaves_the_last_layer(tmp_path, name):
    if name != "plain":
        pytest.importorskip("transformers")
    there = Architecture(name, ("a", "b"), {"preset": "micro"})
    source = there.build()
    checkpoint.save_network(tmp_path / "w", source, there)
    here = Architecture(name, ("a", "b", "c"), {"preset": "micro"})
    network = here.build()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    checkpoint.start_from(network, here, tmp_path / "w")
    per_class = (network.classifier, "model.criterion.empty_weight")
    for key, tensor in network.state_dict().items():
        assert torch.equal(
            tensor, before[key] if key.startswith(per_class) else source.state_dict()[key]
        ), key


def test_starting_with_the_same_classes(tmp_path):
    source, there = plain_weights(tmp_path / "w")
    network = there.build()
    checkpoint.start_from(network, there, tmp_path / "w")
    assert all(
        torch.equal(tensor, source.state_dict()[name])
        for name, tensor in network.state_dict().items()
    )
    adjusted = Architecture("plain", there.classes, there.options, 0.03)
    prior = torch.tensor([0.9, 0.1]).log()
    network = adjusted.build(prior)
    checkpoint.start_from(network, adjusted, tmp_path / "w")
    assert torch.equal(
        network.get_parameter("head.weight"), source.get_parameter("head.weight")[:, :, 0, 0]
    )
    checkpoint.save_network(tmp_path / "v", network, adjusted)
    other = adjusted.build(prior.flip(0))
    checkpoint.start_from(other, adjusted, tmp_path / "v")
    assert torch.equal(other.get_parameter("head.weight"), network.get_parameter("head.weight"))
    assert torch.equal(other.get_buffer("head.log_prior"), prior.flip(0))


def test_starting_from_what_does_not_fit(tmp_path, monkeypatch):
    network, there = plain_weights(tmp_path / "w")
    other = Architecture("plain", there.classes, {"preset": "tiny"})
    with pytest.raises(
        InputError,
        match=r"is plain \{'preset': 'micro'\}, not plain \{'preset': 'tiny'\}; give weights of the same",
    ):
        checkpoint.start_from(other.build(), other, tmp_path / "w")
    monkeypatch.setattr(type(network), "classifier", "")
    more = Architecture("plain", ("a", "c"), there.options)
    with pytest.raises(InputError, match="has other classes, and 'plain' names no last layer"):
        checkpoint.start_from(more.build(), more, tmp_path / "w")
    tensors, document = checkpoint.load(tmp_path / "w")
    checkpoint.save(
        tmp_path / "w",
        {name.replace("mix", "nix"): tensor for name, tensor in tensors.items()},
        document,
    )
    with pytest.raises(InputError, match="is of another architecture than Plain"):
        checkpoint.start_from(there.build(), there, tmp_path / "w")


class Trap:
    """Unpickling this would write a file."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("kind", ["torch", "pickle"])
def test_pickles_are_never_run(tmp_path, kind):
    path, trap = tmp_path / "evil.pt", tmp_path / "ran"
    if kind == "torch":
        torch.save({"tensors": {}, "document": Trap(trap)}, path)
    else:
        path.write_bytes(pickle.dumps(Trap(trap)))
    with pytest.raises(
        FusionError,
        match=r"evil\.pt (is damaged, or (holds more than tensors|not of this)|needs the package)",
    ):
        checkpoint.load(path)
    assert not trap.exists()


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "missing"])
def test_damaged_weights(tmp_path, damage):
    path = tmp_path / "w.safetensors"
    plain_weights(path)
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(
            {
                "truncated": content[:-100],
                "empty": b"",
                "text": b"hello there, this is no weights file",
            }[damage]
        )
    with pytest.raises(
        FusionError, match=r"give a file that training wrote|needs the package safetensors"
    ):
        checkpoint.load_network(path)


def test_the_disk_refuses(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be written \(.*\), 8 bytes needed"):
        checkpoint.save(tmp_path / "file" / "w.safetensors", {"a": torch.zeros(2)}, {})


def write(path, text):
    path.write_text(text)
    return path


def test_config_defaults_and_sections(tmp_path):
    text = 'out = "runs/a"\n[data]\nvspw = "V"\n[network]\nname = "plain"\npreset = "micro"\nstart = "w.pt"\n'
    text += "[augment]\ncrop = 640\nscale = [1, 2]\n[swa]\ncycles = 10"
    found = config.read(write(tmp_path / "run.toml", text))
    assert found.out == str(tmp_path / "runs/a")
    assert found.data.vspw == str(tmp_path / "V")
    assert found.network == config.NetworkChoice(
        "plain", start=str(tmp_path / "w.pt"), options={"preset": "micro"}
    )
    assert found.augment.scale == (1.0, 2.0)
    assert (found.swa.cycles, found.swa.every) == (10, 2000)  # section 2.2
    assert (found.loss.threshold, found.loss.min_kept, found.loss.tau) == (0.7, 200_000, 0.03)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('out = "a"\n[trian]\nsteps = 1', "no section has no key 'trian'; did you mean 'train'?"),
        (
            'out = "a"\n[train]\nlearning_rat = 1',
            r"\[train\] has no key 'learning_rat'; did you mean 'learning_rate'?",
        ),
        ('out = "a"\n[train]\nsteps = "many"', "train.steps is 'many'; give a value of type int"),
        ('out = "a"\n[train]\nsteps = true', "train.steps is True; give a value of type int"),
        ('out = "a"\n[train]\nbatch = 1', "batch norm needs 2 images"),
        ('out = "a"\n[train]\nlearning_rate = nan', "learning_rate is above 0"),
        ('out = "a"\n[train]\nclip = -1', "power and clip 0 or more"),
        ('out = "a"\n[train]\nclip = nan', "power and clip 0 or more"),
        ('out = "a"\n[loss]\nscale = 0', "scale above 0"),
        ('out = "a"\n[loss]\ntau = nan', "tau and kl are 0 or more"),
        ('out = "a"\n[augment]\nscale = [1]', "give a list of 2 numbers"),
        ('out = "a"\n[augment]\ncrop = 100', "crop is a multiple of 32"),
        ('out = "a"\n[loss]\nthreshold = 2.0', "threshold is in 0..1"),
        ('out = "a"\n[swa]\nlowest = 1.0', "0 < lowest <= highest"),
        ('out = "a"\n[data]\nfolds = 3\nfold = 3', "folds count from 0"),
        ('out = "a"\ntrain = 3', r"\[train\] is 3; give a section of keys"),
        ("seed = 1", "no 'out'"),
        ("out = ", "is no TOML"),
    ],
)
def test_bad_configs(tmp_path, text, message):
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        config.read(write(tmp_path / "run.toml", text))


def test_config_that_is_not_there(tmp_path):
    with pytest.raises(StoreError, match="cannot be read"):
        config.read(tmp_path / "run.toml")


def test_errors_are_one_line(tmp_path):
    (tmp_path / "w.pt").write_bytes(b"PK" + bytes(50))
    with pytest.raises(FusionError) as caught:
        checkpoint.load(tmp_path / "w.pt")
    assert "\n" not in str(caught.value)
    assert str(caught.value).count("weights: ") == 1  # not wrapped in itself
