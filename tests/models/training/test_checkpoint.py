"""Weights files: round trips, damage, other architectures."""

from __future__ import annotations

import json
import pickle

import pytest
import torch

from fusion.errors import FusionError, InputError, StoreError
from fusion.models.registry import build
from fusion.models.training import checkpoint
from fusion.models.training.architecture import Architecture
from tests.models.tools import plain_weights, same_state


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("tau", [None, 0.03])
def test_weights_round_trip(tmp_path, suffix, tau):
    path = tmp_path / f"w{suffix}"
    network, architecture = plain_weights(path, tau=tau)
    if suffix == ".pt":  # as earlier releases wrote it where safetensors was missing
        document = json.dumps({"architecture": architecture.to_json()})
        torch.save({"tensors": network.state_dict(), "document": document}, path)
    other, there = checkpoint.load_network(path)
    assert there == architecture
    assert not other.training
    assert same_state(network.state_dict(), other.state_dict())


def test_weights_of_another_architecture(tmp_path):
    path = tmp_path / "w.safetensors"
    network, _ = plain_weights(path)
    got = r"'head\.weight' is \[2, 16, 1, 1\], expected \[3, 16, 1, 1\]"
    with pytest.raises(InputError, match=f"is of another architecture than Plain: {got}"):
        checkpoint.load_state(build("plain", 3, {"preset": "micro"}), network.state_dict(), "w")
    adjusted = Architecture("plain", ("a", "b"), {"preset": "micro"}, 0.03).build()
    with pytest.raises(InputError, match=r"has an unknown tensor 'head\.bias', 2 names differ"):
        checkpoint.load_state(adjusted, network.state_dict(), "w")


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
    got = r"evil\.pt (is damaged, or (holds more than tensors|not of this)|needs the package)"
    with pytest.raises(FusionError, match=got):
        checkpoint.load(path)
    assert not trap.exists()


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "missing"])
def test_damaged_weights(tmp_path, damage):
    path = tmp_path / "w.safetensors"
    plain_weights(path)
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        text = b"hello there, this is no weights file"
        path.write_bytes({"truncated": content[:-100], "empty": b"", "text": text}[damage])
    got = "give a file that training wrote|needs the package safetensors"
    with pytest.raises(FusionError, match=got):
        checkpoint.load_network(path)


def test_the_disk_refuses(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be written \(.*\), 8 bytes needed"):
        checkpoint.save(tmp_path / "file" / "w.safetensors", {"a": torch.zeros(2)}, {})


def test_errors_are_one_line(tmp_path):
    (tmp_path / "w.pt").write_bytes(b"PK" + bytes(50))
    with pytest.raises(FusionError) as caught:
        checkpoint.load(tmp_path / "w.pt")
    assert "\n" not in str(caught.value)
    assert str(caught.value).count("weights: ") == 1  # not wrapped in itself
