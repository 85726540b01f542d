"""Frames through a ring to a device that is none: the same bits, few calls, no race, no leak."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import fusion
from fusion.ensemble import device_stream, ring
from fusion.ensemble.device_stream import DeviceFusion
from fusion.ensemble.stream import Fusion
from fusion.errors import InputError, StoreError
from fusion.kernels import driver as drivers
from fusion.stores import MemoryStore
from tests.ensemble.fake_driver import EARLY, LATE, RANDOM, FakeDriver

FRAMES = [f"f{k:02d}" for k in range(23)]
CLASSES = [f"class {k}" for k in range(5)]
SIZE = (24, 32)


@pytest.fixture(autouse=True)
def afresh(monkeypatch):
    ring.release()
    monkeypatch.setattr(device_stream, "_SAID", set())
    yield
    ring.release()


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    for k, (native, profile) in enumerate(
        [((6, 8), "compact"), ((6, 8), "exact"), ((12, 16), "compact")]
    ):
        draw = np.random.default_rng(k)
        with (
            fusion.LogitWriter(folder / f"m{k}.zarr", CLASSES, profile) as writer,
            writer.video("a", frames=FRAMES, size=SIZE) as out,
        ):
            for _ in FRAMES:
                out.append(draw.normal(0, 3, (5, *native)))
    return [folder / f"m{k}.zarr" for k in range(3)]


@pytest.fixture
def ensemble(paths):
    groups = {"a": paths[:2], "b": paths[1:], "unused": paths[:1]}
    return fusion.HierarchicalEnsemble(groups, {"a": 1, "b": 0.6, "unused": 0})


def on(ensemble, fake) -> DeviceFusion:
    """The ensemble's recipe through a fake driver."""
    given = {f.name: getattr(ensemble.recipe, f.name) for f in fields(Fusion)}
    return DeviceFusion(**given, make_driver=lambda _: fake)


def made(recipe, plan, frames=FRAMES):
    found: dict[str, list] = {}
    for frame, rows, fused in recipe.bands("a", frames, plan):
        found.setdefault(frame, []).append((rows, fused.asked()))
    return found


def equal(one, other):
    assert list(one) == list(other)
    for frame in one:
        for (rows, maps), (theirs, expected) in zip(one[frame], other[frame], strict=True):
            assert rows == theirs
            assert maps.keys() == expected.keys()
            for name in maps:
                assert torch.equal(maps[name], expected[name]), (frame, name)


@pytest.mark.parametrize("resize", ["probabilities", "logits"])
@pytest.mark.parametrize("when", [LATE, EARLY, RANDOM])
def test_the_same_bits_whenever_the_device_runs(paths, when, resize):
    ensemble = fusion.HierarchicalEnsemble({"a": paths[:2], "b": paths[1:]}, resize=resize)
    outputs = ("labels", "margin", "entropy")
    plan = replace(ensemble.plan("a", outputs), frames=6)
    expected = made(ensemble.recipe, plan)
    for seed in range(3 if when == RANDOM else 1):
        fake = FakeDriver(when, seed)
        recipe = on(ensemble, fake)
        equal(made(recipe, plan), expected)
        equal(made(recipe, plan, FRAMES[3:11]), {f: expected[f] for f in FRAMES[3:11]})


@pytest.mark.parametrize("when", [LATE, EARLY, RANDOM])
@pytest.mark.parametrize("output", ["probabilities", "group_means"])
def test_larger_outputs_are_fused_frame_by_frame(ensemble, when, output):
    plan = replace(ensemble.plan("a", (output, "labels")), bands=((0, 10), (10, 24)), frames=4)
    fake = FakeDriver(when)
    recipe = on(ensemble, fake)
    equal(made(recipe, plan), made(ensemble.recipe, plan))
    for way in ("native_means", "maps"):
        pairs = zip(
            getattr(recipe, way)("a", FRAMES[:7], plan),
            getattr(ensemble.recipe, way)("a", FRAMES[:7], plan),
            strict=True,
        )
        assert all(torch.equal(one[1], other[1]) for one, other in pairs)


def test_a_batch_is_a_copy_a_launch_and_a_wait(ensemble):
    plan = replace(ensemble.plan("a"), frames=3)
    fake = FakeDriver()
    recipe = on(ensemble, fake)
    made(recipe, plan)  # the first use of a slot launches, the second records
    made(recipe, plan)
    fake.counts.clear()
    fake.by_batch.clear()
    made(recipe, plan)
    batches = fake.counts["wait"]
    assert batches >= 8
    assert fake.counts == {"up": batches, "graph": batches, "down": batches, "wait": batches}
    for one, other in zip(fake.by_batch[:-1], fake.by_batch[1:], strict=True):
        assert other["wait"] - one["wait"] == 1
        assert all(other[name] - one.get(name, 0) <= 1 for name in other)


def test_another_shape_or_weight_is_another_ring(ensemble):
    fake = FakeDriver()
    plan = replace(ensemble.plan("a"), frames=4)
    equal(made(on(ensemble, fake), plan), made(ensemble.recipe, plan))
    other = ensemble.with_weights({"a": 0.1, "b": 1, "unused": 1})
    recipe = on(ensemble, fake)
    changed = replace(recipe, weights=other.weights)
    equal(made(changed, plan), made(other.recipe, plan))
    three = replace(plan, outputs=("labels", "confidence", "margin"))
    equal(made(changed, three), made(other.recipe, three))


def test_memory_and_few_frames(ensemble):
    """A plan of one frame is one slot of one; a batch of one is a short copy."""
    fake = FakeDriver()
    recipe = on(ensemble, fake)
    for frames, wanted in ((1, FRAMES[:4]), (16, FRAMES[:1]), (2, FRAMES[:5]), (16, FRAMES)):
        plan = replace(ensemble.plan("a"), frames=frames)
        expected = made(ensemble.recipe, plan, wanted)
        equal(made(recipe, plan, wanted), expected)
        (held,) = ring._IDLE
        size = sum(slot.host.numel() for slot in held.slots)
        size += sum(maps.nbytes for slot in held.slots for maps in slot.fetched.values())
        assert size <= plan.bytes + held.layout.stride * frames


def test_stores_in_memory_and_channels():
    draw = np.random.default_rng(0)
    clips = [{"a": draw.normal(0, 3, (9, 3, 6, 8)).astype(np.float32)} for _ in range(2)]
    for values in ("logits", "sigmoid", "scores"):
        stores = [
            MemoryStore(
                {"a": np.abs(c["a"]) / 20} if values == "scores" else c,
                values=values,
                model=f"m{k}",
                size=(13, 17),
            )
            for k, c in enumerate(clips)
        ]
        ensemble = fusion.HierarchicalEnsemble(stores)
        plan = replace(ensemble.plan("a"), frames=4)
        recipe, frames = on(ensemble, FakeDriver(RANDOM)), ensemble.frames("a")
        equal(made(recipe, plan, frames), made(ensemble.recipe, plan, frames))


def test_errors_come_where_they_are_and_nothing_is_left_running(ensemble, monkeypatch):
    plan = replace(ensemble.plan("a"), frames=3)
    store = ensemble.stores[1]
    whole = type(store).codes_into

    def broken(self, video, frames, out):
        if FRAMES[10] in frames:
            raise StoreError("m1: frame f10 is damaged; write it again")
        whole(self, video, frames, out)

    fake = FakeDriver(RANDOM)
    recipe, seen = on(ensemble, fake), []
    with monkeypatch.context() as patch:
        patch.setattr(type(store), "codes_into", broken)
        with pytest.raises(StoreError, match="f10 is damaged"):
            seen.extend(frame for frame, _, _ in recipe.bands("a", FRAMES, plan))
    assert seen == FRAMES[: len(seen)]
    assert len(seen) <= 10
    threads = [t.name for t in threading.enumerate() if t.name.startswith("unpack")]
    assert not threads
    equal(made(recipe, plan), made(ensemble.recipe, plan))


def test_a_copy_waits_for_what_the_caller_launched_on_the_frames_before(ensemble):
    fake, found = FakeDriver(), []
    plan = replace(ensemble.plan("a"), frames=2)
    expected = list(ensemble.recipe._read("a", FRAMES, ["a", "b"], plan))
    for frame, logits in on(ensemble, fake)._read("a", FRAMES, ["a", "b"], plan):

        def work(frame=frame, logits=logits):
            found.append((frame, [z.clone() for z in logits]))

        fake.run(work, fake.current())
    fake.when = EARLY
    fake.run(lambda: None, fake.compute)
    for (frame, maps), (name, theirs) in zip(found, expected, strict=True):
        assert frame == name
        assert all(map(torch.equal, maps, theirs))


def test_whoever_stops_early_leaves_a_ring_that_works(ensemble):
    plan = replace(ensemble.plan("a"), frames=3)
    fake = FakeDriver()
    recipe = on(ensemble, fake)
    for output in ("labels", "probabilities"):
        plan = replace(plan, outputs=(output,))
        for stop in (1, 4, 7):
            bands = recipe.bands("a", FRAMES, plan)
            for _ in range(stop):
                next(bands)
            bands.close()
            assert not fake.copies  # nothing still writes to memory that others may get
        equal(made(recipe, plan), made(ensemble.recipe, plan))
    assert not [t for t in threading.enumerate() if t.name.startswith("unpack")]


def test_what_runs_out_of_memory_is_done_with_less(ensemble):
    plan = replace(ensemble.plan("a"), frames=12)
    fake = FakeDriver()
    made(on(ensemble, fake), plan)
    (held,) = ring._IDLE
    whole = sum(slot.device.numel() for slot in held.slots)
    ring.release()
    for limit, said in ((whole, ["fewer frames"]), (10, ["fewer frames", "on the CPU"])):
        device_stream._SAID.clear()

        class Small(FakeDriver):
            def __init__(self, limit=limit):
                super().__init__(LATE, 0, limit)

        recipe = replace(on(ensemble, fake), make_driver=lambda _, kind=Small: kind())
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            equal(made(recipe, plan), made(ensemble.recipe, plan))
            equal(made(recipe, plan), made(ensemble.recipe, plan))
        assert len(caught) == len(said)
        for warning, part in zip(caught, said, strict=True):
            assert part in str(warning.message)
        ring.release()


@pytest.mark.parametrize("nth", [2, 3, 5])
def test_memory_that_runs_out_in_the_middle_of_a_video(ensemble, nth):
    """Frames of the batches before are not given again; what is left goes on in smaller ones."""
    plan, moved = replace(ensemble.plan("a"), frames=2), []

    class Full(FakeDriver):
        def copy(self, *given):
            moved.append(given)
            if len(moved) == nth:
                raise torch.OutOfMemoryError("CUDA out of memory")
            super().copy(*given)

    recipe = replace(on(ensemble, FakeDriver()), make_driver=lambda _: Full(EARLY))
    device_stream._SAID.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        equal(made(recipe, plan), made(ensemble.recipe, plan))
    assert ["fewer frames" in str(each.message) for each in caught] == [True]
    ring.release()


def test_memory_that_runs_out_between_bands_of_a_frame(ensemble, monkeypatch):
    """Bands that were given are not given again."""
    plan = replace(ensemble.plan("a", ("probabilities",)), bands=((0, 10), (10, 24)), frames=4)
    expected, calls = made(ensemble.recipe, plan), []
    whole = Fusion.bands

    def failing(self, *args):
        for count, band in enumerate(whole(self, *args)):
            if isinstance(self, DeviceFusion) and count == 5 - len(calls) % 2:
                calls.append(count)
                raise torch.OutOfMemoryError("CUDA out of memory")
            yield band

    recipe = on(ensemble, FakeDriver())
    monkeypatch.setattr(Fusion, "bands", failing)
    with pytest.warns(UserWarning, match="fewer frames|on the CPU"):
        equal(made(recipe, plan), expected)
    assert len(calls) == 3  # of 4, 2 and 1 frames at a time


def test_other_errors_of_the_device_are_raised(ensemble, monkeypatch):
    recipe, plan = on(ensemble, FakeDriver()), ensemble.plan("a")

    def broken(*args):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(FakeDriver, "copy", broken)
    with pytest.raises(RuntimeError, match="illegal memory"):
        made(recipe, plan)


def test_a_driver_that_records_nothing_launches_frame_by_frame(ensemble, monkeypatch):
    monkeypatch.setattr(FakeDriver, "graph", lambda *args: None)
    recipe, plan = on(ensemble, FakeDriver()), replace(ensemble.plan("a"), frames=3)
    for _ in range(2):
        equal(made(recipe, plan), made(ensemble.recipe, plan))


def test_no_driver_that_triton_takes_is_said(monkeypatch):
    import triton

    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla K80")
    monkeypatch.setattr(torch.cuda, "device", lambda _: torch.no_grad())
    with pytest.raises(InputError, match=rf"cuda:0: Triton {triton.__version__} finds no driver"):
        drivers.check_triton(device)

    class Target:
        backend, arch = "cuda", 37

        def get_current_target(self):
            return self

    class Runtime:
        class driver:
            active = Target()

    monkeypatch.setattr(triton, "runtime", Runtime)
    with pytest.raises(InputError, match=r"Tesla K80 has compute capability 3\.7.*device='cpu'"):
        drivers.check_triton(device)
    Target.arch = 90
    drivers.check_triton(device)
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(InputError, match="cuda:0: Triton is not installed"):
        drivers.check_triton(device)


def test_every_device_case_passes_interpreted():
    """The same through the Triton kernels, in a process where they are interpreted."""
    cases = str(Path(__file__).with_name("device_cases.py"))
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", cases]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
