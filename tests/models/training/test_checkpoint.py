"""Weights files: round trips, damage, other architectures."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fusion.errors import FusionError, InputError, StoreError
from fusion.models.registry import build
from fusion.models.training import checkpoint
from fusion.models.training.architecture import Architecture
from fusion.models.training.start import start_from
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
    got = (
        r"it has 2 of another shape \(head\.weight is \[2, 16, 1, 1\], expected \[3, 16, 1, 1\], h"
    )
    with pytest.raises(InputError, match=f"is of another architecture than Plain: {got}"):
        checkpoint.load_state(build("plain", 3, {"preset": "micro"}), network.state_dict(), "w")
    adjusted = Architecture("plain", ("a", "b"), {"preset": "micro"}, 0.03).build()
    got = (
        r"it lacks 1 \(head\.log_prior\), has 1 unknown \(head\.bias\), has 1 of another shape \(he"
    )
    with pytest.raises(InputError, match=got):
        checkpoint.load_state(adjusted, network.state_dict(), "w")
    few = {name: tensor for name, tensor in network.state_dict().items() if "stages" not in name}
    count = len(network.state_dict()) - len(few)
    got = (
        rf"it lacks {count} \(stages\.0\.0\.0\.weight, stages\.0\.0\.1\.\w+, stages\.0\S+, \.\.\.\)"
    )
    with pytest.raises(InputError, match=got):
        checkpoint.load_state(network, few, "w")


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
    got = r"evil\.pt (holds more than tensors|is a pickle, which can run anything; where you trust)"
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
    got = "give weights that training wrote, such as baseline.safetensors"
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


@pytest.mark.parametrize("form", ["zip", "before the zip", "safetensors"])
def test_other_people_s_files_are_called_what_they_are(tmp_path, form):
    path, state = tmp_path / "w.pth", {"conv1.weight": torch.ones(2, 3), "bn1.bias": torch.ones(4)}
    if form == "safetensors":
        save_file(state, path)
    else:
        content = {"model": state, "epoch": 3}
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    tensors, document = checkpoint.read(path)
    assert document is None
    assert same_state(tensors, state)
    got = r"is 2 tensors of no network known here \((conv1|bn1)\S+, \S+\), not of this library; as"
    with pytest.raises(StoreError, match=got):
        checkpoint.load(path)
    network, there = plain_weights(tmp_path / "own")
    with pytest.raises(
        InputError, match=r"start .* is 2 tensors of no network known here .*; give"
    ):
        start_from(network, there, path)


def test_a_checkpoint_known_by_name(tmp_path):
    torch.save({"model": {"layers.0.blocks.0.attn.qkv.weight": torch.ones(3)}}, tmp_path / "w.pth")
    with pytest.raises(StoreError, match="is a checkpoint of Swin of its authors, not of this"):
        checkpoint.load_network(tmp_path / "w.pth")


@pytest.mark.parametrize("content", [{"a": {"b": 1}}, [1, 2], {}])
def test_a_file_of_torch_without_tensors(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(StoreError, match=r"w\.pth holds no tensors by name, but (keys|list)"):
        checkpoint.load(tmp_path / "w.pth")


def test_pickles_of_detectron2_are_refused_with_what_to_do(tmp_path):
    """The command in the error, run on a file as theirs are, gives what can be read."""
    path = tmp_path / "FILE.pkl"
    path.write_bytes(pickle.dumps({"model": {"a.weight": np.ones((2, 3), np.float32)}}))
    with pytest.raises(StoreError) as caught:
        checkpoint.load(path)
    said = str(caught.value)
    assert "FILE.pkl is a pickle, which can run anything; where you trust it" in said
    code = said.split('python -c "')[1].rstrip('"')
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    tensors, _ = checkpoint.read(tmp_path / "FILE.pth")
    assert same_state(tensors, {"a.weight": torch.ones(2, 3)})
