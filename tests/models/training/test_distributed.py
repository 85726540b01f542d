"""The place of a process among those of a run."""

from __future__ import annotations

import pytest
import torch

from fusion.errors import InputError
from fusion.models.training.distributed import world


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
