"""Who computes what: one registry, one choice."""

from __future__ import annotations

import pytest
import torch

from fusion import kernels
from fusion.kernels import backends
from fusion.kernels.backends import Backend, choose
from fusion.kernels.native import build
from tests.kernels.inputs import make

OPERATIONS = ("average", "head", "upsample", "confusion")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_first_backend_that_supports_the_device_is_chosen(operation, monkeypatch):
    assert choose(operation, "cpu").__name__ == f"fusion.kernels.{operation}.cpu"
    monkeypatch.setattr(build, "library", lambda: None)
    assert choose(operation, "cpu").__name__ == f"fusion.kernels.{operation}.naive"


@pytest.mark.parametrize("operation", [*OPERATIONS, "contested"])
def test_gpu_tensors_go_to_triton(operation):
    pytest.importorskip("triton")
    assert choose(operation, "cuda").__name__ == f"fusion.kernels.{operation}.triton"


def test_a_backend_without_the_operation_is_passed_over():
    assert choose("sweep", "cpu").__name__ == "fusion.kernels.sweep.cpu"
    with pytest.raises(ValueError, match="device: got cuda"):
        choose("sweep", "cuda")


def test_a_device_that_nobody_takes_is_named():
    with pytest.raises(ValueError, match="device: got meta; fusion runs on cpu and cuda"):
        choose("average", "meta")


def test_a_backend_is_one_entry(monkeypatch):
    mine = Backend("naive", "meta")
    monkeypatch.setattr(backends, "BACKENDS", (*backends.BACKENDS, mine))
    assert choose("confusion", "meta").__name__ == "fusion.kernels.confusion.naive"


@pytest.mark.parametrize("resize", ["probabilities", "logits"])
def test_results_do_not_depend_on_the_backend(resize, monkeypatch):
    """Several tiles and bands, with and without a compiler."""
    logits, values = make("mixed", 5, 6, (30, 60))
    options = {"groups": [[0, 3], [1], [4, 2]], "values": values, "outputs": ("labels", "margin")}

    def run() -> list[torch.Tensor]:
        whole = kernels.softmax_average([z.repeat(1, 1, 4) for z in logits], [1, 0, 2], **options)
        options["resize"], options["rows"] = resize, (2, 70)
        large = kernels.upsample_softmax_average(logits, [1, 0, 2], (80, 9), **options)
        del options["resize"], options["rows"]
        return [whole.labels, whole.margin, large.labels, large.margin]

    compiled = run()
    monkeypatch.setattr(build, "library", lambda: None)
    assert all(torch.equal(a, b) for a, b in zip(compiled, run(), strict=True))
