"""The place of a process among those of a run."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from fusion.errors import InputError
from fusion.models.registry import build
from fusion.models.training.distributed import World, synchronised, world
from tests.models.tools import as_processes, same_state


def test_places_follow_from_the_environment(monkeypatch):
    assert (world("cpu").rank, world("cpu").size, world("cpu").first) == (0, 1, True)
    for name, value in {"WORLD_SIZE": "8", "RANK": "5", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert (world("cpu").rank, world("cpu").size, world("cpu").first) == (5, 8, False)
    assert world("cpu").device == torch.device("cpu")


def test_a_gpu_without_a_number_is_each_process_s_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "2")
    devices = [world(name).device for name in ("auto", "cuda", "cuda:1")]
    assert [device.index for device in devices] == [2, 2, 1]


@pytest.mark.parametrize("device", ["tpu", "meta", "cuda:99"])
def test_no_such_device(device):
    with pytest.raises(InputError, match=f"device: got '{device}'"):
        world(device)


@pytest.mark.parametrize(("size", "device"), [(1, "cuda"), (2, "cuda"), (2, "cpu")])
def test_batch_norm_counts_over_all_gpus(size, device, capsys):
    """torch's own layer, converted, not run: it takes two GPUs."""
    network = build("plain", 3, {"preset": "micro"})
    before = network.state_dict()
    synchronised(network, World(0, size, torch.device(device)))
    norms = [each for each in network.modules() if "BatchNorm" in type(each).__name__]
    both = size == 2 and device == "cuda"
    assert all(isinstance(each, nn.SyncBatchNorm) == both for each in norms)
    assert len(norms) == 10
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    said = "batch norm counts in each process alone: torch synchronises it on GPUs only\n"
    assert capsys.readouterr().err == (said if (size, device) == (2, "cpu") else "")
    synchronised(network, World(1, size, torch.device("cpu")))
    assert capsys.readouterr().err == ""


SHARED = """
import sys, torch
from fusion.models.registry import build
from fusion.models.training.distributed import connected, shared, world
torch.manual_seed(0)
network, place = build("plain", 3, {"preset": "micro"}), world("cpu")
with connected(place):
    torch.manual_seed(place.rank)
    network.train()(torch.rand(2, 3, 32, 32))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    shared(network, place)
torch.save((before, network.state_dict()), sys.argv[1])
"""


def test_processes_share_the_statistics_of_batch_norm(tmp_path):
    """Two that saw other batches: afterwards both have what the first one had."""
    store, places = as_processes(2)
    files = [tmp_path / f"{place['RANK']}.pt" for place in places]
    ranks = [
        subprocess.Popen([sys.executable, "-c", SHARED, str(file)], env={**os.environ, **place})
        for file, place in zip(files, places, strict=True)
    ]
    assert [rank.wait(timeout=600) for rank in ranks] == [0, 0], store
    (first, told), (second, heard) = (torch.load(file, weights_only=True) for file in files)
    means = [name for name in first if name.endswith("running_mean")]
    assert len(means) == 10
    assert not any(torch.equal(first[name], second[name]) for name in means)
    assert same_state(first, told)
    assert same_state(first, heard)
