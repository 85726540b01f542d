"""Reading ahead, without a server: what is asked for when, and that every byte is the right one."""

from __future__ import annotations

import gc
from concurrent.futures import Future

import numpy as np
import pytest

from fusion.errors import StoreError
from fusion.stores.locations import ahead
from fusion.stores.locations.ahead import Budget, Reading

PIECE = 100


class Wire:
    """Files in memory, behind answers that come when they are waited for or released."""

    def __init__(self, sizes: dict[str, int]) -> None:
        rng = np.random.default_rng(0)
        self.files = {name: rng.bytes(size) for name, size in sizes.items()}
        self.asked: list[tuple[str, int]] = []
        self.broken = False

    def fetch(self, key: str, start: int, end: int) -> Future[memoryview]:
        assert start < end <= len(self.files[key])
        assert start % PIECE == 0
        self.asked.append((key, start // PIECE))
        answer: Future[memoryview] = Future()
        if self.broken:
            answer.set_exception(StoreError("s3://b: gone"))
        else:
            answer.set_result(memoryview(self.files[key][start:end]))
        return answer

    def since(self, count: int) -> list[tuple[str, int]]:
        return self.asked[count:]


@pytest.fixture
def wire(monkeypatch):
    """Ten files of three pieces and a bit, at a latency that asks for four pieces ahead."""
    monkeypatch.setattr(ahead, "PIECE", PIECE)
    monkeypatch.setattr(ahead, "MOST_AHEAD", 4 * PIECE)
    monkeypatch.setattr(ahead, "HELD", Budget())
    return Wire({f"f{n}": 350 for n in range(10)} | {"long": 5000})


def reading_of(wire: Wire, order: list[str]) -> Reading:
    reading = Reading(wire.fetch, lambda: 1.0)
    reading.sizes.update({name: len(data) for name, data in wire.files.items()})
    reading.expects(order)
    return reading


FILES = [f"f{n}" for n in range(10)]


def read_through(reading: Reading, wire: Wire, name: str, step: int = 30) -> None:
    """As a shard is read: its index, then its frames."""
    file, data = reading.open(name), wire.files[name]
    assert file.read(len(data) - 20, 20) == data[-20:]
    for first in range(0, len(data) - 20, step):
        assert file.read(first, step) == data[first : first + step]
    assert file.read(len(data), 5) == b""


def test_every_byte_is_asked_for_once_when_files_are_read_in_order(wire):
    reading = reading_of(wire, FILES)
    for name in FILES:
        read_through(reading, wire, name)
    assert len(wire.asked) == len(set(wire.asked)) == 40


def test_each_answer_is_asked_for_before_it_is_needed(wire):
    """But for the first file and the second one's beginning, nobody ever waits for a latency."""
    reading = reading_of(wire, FILES)
    for name in FILES[:2]:
        read_through(reading, wire, name)
    for n, name in enumerate(FILES[2:], start=2):
        asked = set(wire.asked)
        assert {(name, piece) for piece in range(4)} <= asked
        read_through(reading, wire, name)
        # never further than as many files as were read in a row
        assert all(int(key[1:]) <= n + n + 1 for key, _ in wire.asked)


def test_the_window_grows_while_reading_goes_on_and_closes_at_a_jump(wire):
    reading = reading_of(wire, ["long"])
    file = reading.open("long")
    file.read(4990, 10)
    assert sorted(piece for _, piece in wire.asked) == [0, 49]
    far = []
    for first in range(0, 600, 50):
        file.read(first, 50)
        far.append(max(piece for _, piece in wire.asked if piece < 49) - first // PIECE)
    assert far[0] < far[-1]
    assert max(far) <= 4 + 1
    count = len(wire.asked)
    assert file.read(3000, 50) == wire.files["long"][3000:3050]
    assert wire.since(count) == [("long", 30)]  # a jump: that piece, and nothing ahead


def test_reading_at_random_asks_for_little_more_than_it_needs(wire):
    reading, needed = reading_of(wire, ["long"]), set()
    file = reading.open("long")
    for first in (4000, 100, 2500, 700, 3300, 1500):
        needed.add(first // PIECE)
        assert file.read(first, 40) == wire.files["long"][first : first + 40]
    assert len(set(wire.asked) - {("long", n) for n in needed}) <= 2


def test_nothing_is_held_when_files_are_closed_or_the_budget_is_spent(wire, monkeypatch):
    monkeypatch.setattr(ahead, "BUDGET", 3 * PIECE)
    reading = reading_of(wire, FILES)
    for name in FILES:
        read_through(reading, wire, name)
        assert ahead.HELD._held <= 3 * PIECE + PIECE  # what is needed is taken anyway
    del reading
    gc.collect()
    assert ahead.HELD._held == 0


def test_a_failed_piece_is_asked_for_again(wire):
    reading = reading_of(wire, FILES)
    file = reading.open("f0")
    wire.broken = True
    with pytest.raises(StoreError, match="gone"):
        file.read(330, 20)
    wire.broken = False
    assert file.read(330, 20) == wire.files["f0"][330:350]
    for name in FILES:
        wire.broken = not wire.broken  # what was foreseen fails too, where it is needed only
        try:
            read_through(reading, wire, name)
        except StoreError:
            wire.broken = False
            reading.open(name).read(0, 350)


def test_files_in_no_order_are_read_as_well(wire):
    reading = reading_of(wire, FILES)
    for name in ("f7", "f2", "f9", "f2", "f0", "f8"):
        read_through(reading, wire, name)
    other = reading_of(wire, [])
    read_through(other, wire, "f3")


def test_shares_of_a_budget_add_up_and_end(wire, monkeypatch):
    monkeypatch.setattr(ahead, "BUDGET", 10 * PIECE)
    held = ahead.HELD
    assert held.most == 10 * PIECE
    with held.within(2 * PIECE), held.within(PIECE):
        assert held.most == 3 * PIECE
        with held.within(30 * PIECE):
            assert held.most == 10 * PIECE
        reading = reading_of(wire, FILES)
        for name in FILES:
            read_through(reading, wire, name)
            assert held._held <= 3 * PIECE + reading.needed([name])
    assert held.most == 10 * PIECE
    with ahead.within(None):
        assert held.most == 10 * PIECE


def test_nothing_is_read_ahead_where_a_budget_leaves_nothing(wire):
    with ahead.within(0):
        reading = reading_of(wire, FILES)
        for name in FILES:
            read_through(reading, wire, name)
            assert ahead.HELD._held <= reading.needed([name])
        wanted = {(name, n) for name in FILES for n in range(4)}
        assert set(wire.asked) == wanted


def test_files_that_were_read_in_part_give_up_their_pieces_for_others(wire):
    with ahead.within(0):
        reading = reading_of(wire, FILES)
        files = [reading.open(name) for name in FILES]
        for file, name in zip(files, FILES, strict=True):
            assert file.read(110, 20) == wire.files[name][110:130]
        assert ahead.HELD._held <= PIECE
        for file, name in zip(files, FILES, strict=True):
            assert file.read(0, 350) == wire.files[name]
