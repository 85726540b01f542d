"""A kernel's time is the device's, a call's the host's: on a device that is simulated."""

from __future__ import annotations

import pytest
import torch

from benchmarks import clock, fusion, measure


class FakeClock:
    """A host and a device, each with a time of its own; a launch takes the host `launch` ms."""

    def __init__(self, launch: float = 0.5) -> None:
        self.host = self.device = 0.0
        self.launch = launch

    def work(self, kernel: float, waits: bool = False) -> None:
        self.host += self.launch
        self.device = max(self.device, self.host) + kernel
        if waits:
            self.host = self.device

    def event(self):
        # an event's time is when the device gets to it: behind all so far, not before now
        self.device = max(self.device, self.host)
        return self.device

    def reached(self, event):
        return self.host > event

    def elapsed(self, start, stop):
        return stop - start

    def busy(self, milliseconds):
        self.device = max(self.device, self.host) + milliseconds

    def synchronize(self):
        self.host = max(self.host, self.device)

    def now(self):
        return self.host


def test_neither_time_is_given_in_the_others_name():
    ticks = FakeClock()
    runs = {"one": lambda: ticks.work(0.045), "peer": lambda: [ticks.work(0.2) for _ in range(10)]}
    times = clock.interleaved(runs, 3, ticks, lambda: None)
    assert list(times) == ["one, kernels", "one, whole call", "peer, kernels", "peer, whole call"]
    assert times["one, kernels"] == pytest.approx([0.045] * 3)
    assert times["one, whole call"] == pytest.approx([0.545] * 3)
    assert times["peer, kernels"] == pytest.approx([2.0] * 3)  # 5 ms of launches are not in it
    assert times["peer, whole call"] == pytest.approx([5.2] * 3)


def test_what_waits_for_the_device_has_no_time_of_kernels():
    ticks = FakeClock()
    runs = {"waits": lambda: ticks.work(0.1, waits=True), "slow": lambda: ticks.work(0.1)}
    times = clock.interleaved(runs, 2, ticks, lambda: None)
    assert times["waits, kernels"] == []
    assert times["waits, whole call"] == pytest.approx([0.6] * 2)
    assert len(times["slow, kernels"]) == 2
    ticks.launch = 1000
    times = clock.interleaved(runs, 2, ticks, lambda: None)
    assert times["slow, kernels"] == []  # the device cannot be kept busy for that long


def test_rows_of_a_gpu_name_what_was_timed(monkeypatch):
    ticks = FakeClock()

    def timed(contenders, rounds, device):
        def run(contender):
            ticks.work(0.1, waits="accumulate" in contender)

        simulated = {name: (lambda name=name: run(name)) for name in contenders}
        return clock.interleaved(simulated, rounds, ticks, lambda: None)

    monkeypatch.setattr(measure, "interleaved", timed)
    case = fusion.CASES["average-codes"]
    rows = fusion.run_case(case, torch.device("cpu"), quick=True, rounds=2, compiles=False)
    assert [row.contender for row in rows[:2]] == ["fusion, kernels", "fusion, whole call"]
    assert [row.median_ms for row in rows[:2]] == pytest.approx([0.1, 0.6])
    assert [row.times_fusion for row in rows[:2]] == [1, 1]
    bound = [row for row in rows if row.status == clock.HOST_BOUND]
    assert bound
    assert all(row.contender.endswith(", kernels") and row.median_ms is None for row in bound)


def test_contenders_are_known_by_either_row():
    assert {clock.contender(f"a, b{kind}") for kind in (clock.KERNELS, clock.CALL, "")} == {"a, b"}
