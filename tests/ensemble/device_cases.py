"""The device's stream over interpreted Triton kernels: test_device_stream.py runs this."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import triton

import fusion
from fusion.ensemble import ring
from fusion.ensemble.device_stream import DeviceFusion
from fusion.ensemble.ensemble import Ensemble
from fusion.kernels import backends
from fusion.kernels.backends import Backend
from fusion.kernels.confusion import naive
from fusion.labels import write_labels
from fusion.metrics.on_device import device_counts
from tests.ensemble.fake_driver import LATE, RANDOM, FakeDriver, no_waits
from tests.ensemble.test_device_stream import CLASSES, FRAMES, equal, made, on

ROOT = str(Path(__file__).parents[2])
SOME = FRAMES[:6]
SIZE = (5, 7)


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    monkeypatch.setattr(backends, "BACKENDS", (Backend("triton", "cpu"),))
    ring.release()
    yield
    ring.release()


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    for k, profile in enumerate(["compact", "exact"]):
        draw = np.random.default_rng(k)
        with (
            fusion.LogitWriter(folder / f"m{k}.zarr", CLASSES, profile) as writer,
            writer.video("a", frames=SOME, size=SIZE) as out,
        ):
            for _ in SOME:
                out.append(draw.normal(0, 3, (5, 2, 4)))
    return [folder / f"m{k}.zarr" for k in range(2)]


@pytest.fixture
def launches(monkeypatch):
    """How often kernels are launched, by what the driver is doing."""
    found: Counter[str] = Counter()
    run = triton.runtime.interpreter.GridExecutor.__call__

    def counted(self, *args, **kwargs):
        found["all"] += 1
        return run(self, *args, **kwargs)

    monkeypatch.setattr(triton.runtime.interpreter.GridExecutor, "__call__", counted)
    return found


@pytest.mark.parametrize("when", [LATE, RANDOM])
def test_the_same_bits_as_frame_by_frame(paths, when, monkeypatch):
    ensemble = fusion.HierarchicalEnsemble({"a": paths, "b": paths[:1]}, {"b": 0.7})
    plan = replace(ensemble.plan("a", ("labels", "margin")), frames=1)
    expected = made(ensemble.recipe, plan, SOME)
    fake = FakeDriver(when)
    with no_waits(monkeypatch, fake, ROOT):  # nothing waits while launches are recorded
        equal(made(on(ensemble, fake), plan, SOME), expected)
    assert fake.counts["recorded"] >= 1
    assert fake.counts["graph"]


def test_a_batch_launches_nothing_beside_its_record(paths, launches, monkeypatch):
    ensemble = fusion.HierarchicalEnsemble({"a": paths, "b": paths[:1]})
    plan = replace(ensemble.plan("a"), frames=2)
    fake = FakeDriver()
    recipe = on(ensemble, fake)
    for _ in range(2):
        made(recipe, plan, SOME)
    monkeypatch.setattr(FakeDriver, "run", None)
    launches.clear()
    fake.counts.clear()
    made(recipe, plan, SOME)
    batches = fake.counts["graph"]
    assert fake.counts == {"up": batches, "graph": batches, "down": batches, "wait": batches}
    assert batches == -(-len(SOME) // ring._IDLE[0].layout.frames)
    assert launches["all"] == batches * 2  # in the records: an average and an interpolation


def test_matrices_are_counted_there(paths, tmp_path, monkeypatch):
    """One copy up and two launches a batch, nothing back but the matrix."""
    ensemble = fusion.HierarchicalEnsemble({"a": paths, "b": paths[:1]}, {"b": 0.7})
    draw = np.random.default_rng(5)
    for frame in SOME:
        target = draw.integers(0, 6, SIZE).astype(np.uint8)
        write_labels(tmp_path / "a" / f"{frame}.png", np.where(target == 5, 255, target))
    truth = fusion.Labels.folder(tmp_path)
    expected = np.zeros((5, 5), np.int64)
    for frame, labels in ensemble.label_maps("a", SOME):
        expected += naive.confusion(ensemble.target(truth, "a", frame), labels, 5)
    fake = FakeDriver(RANDOM)
    ensemble.__dict__["recipe"] = on(ensemble, fake)
    assert isinstance(ensemble.recipe, DeviceFusion)
    monkeypatch.setattr(Ensemble, "plan", _plan_of_two(ensemble))
    for _ in range(3):
        fake.counts.clear()
        assert np.array_equal(device_counts(ensemble, truth, "a", SOME), expected)
    batches = fake.counts["up"]
    assert batches == -(-len(SOME) // ring._IDLE[0].layout.frames)
    assert fake.counts["graph"] == batches
    assert fake.counts["plain"] <= batches + 1  # the counting, and zeros before the first
    assert fake.counts["down"] == 1
    assert fake.counts["wait"] == batches + 1
    fake.counts.clear()
    assert np.array_equal(ensemble.evaluate(truth).confusion, expected)
    assert fake.counts["up"] == batches


def test_a_wrong_label_is_named_as_on_the_cpu(paths, tmp_path, monkeypatch):
    ensemble = fusion.HierarchicalEnsemble(paths)
    recipe = on(ensemble, FakeDriver())

    def target(frame):
        return np.full(SIZE, 7, np.uint8)

    assert recipe.counts("a", SOME, ensemble.plan("a"), target, 5) is None


def _plan_of_two(ensemble):
    plan = replace(ensemble.plan("a"), frames=2)
    return lambda self, video, outputs=("labels",): replace(plan, outputs=tuple(outputs))
