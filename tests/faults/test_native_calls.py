"""Every function of the compiled library, called with what hypothesis makes up: no byte beside an
array is read or written, and the answer is the oracle's.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusion.kernels.native import bindings, build
from tests.faults.guarded import guarded
from tests.faults.native_calls import CALLS
from tests.faults.threaded import THREADED

pytestmark = pytest.mark.skipif(build.library() is None, reason="FUSION_COMPILED=0")
NAMES = list(bindings.SIGNATURES)
TRIES = {"few": 8, "many": 1500}


def tried(name: str, times: int, *, the_same: bool) -> None:
    """Calls a function so often; it must have been reached."""
    reached = set()

    @settings(
        max_examples=times,
        derandomize=the_same,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.data())
    def once(data):
        with guarded() as place:
            CALLS[name](data.draw, place)
        reached.update(place.called)

    once()
    assert name in reached


def test_every_function_of_the_table_is_called():
    assert CALLS.keys() == bindings.SIGNATURES.keys()


@pytest.mark.parametrize("case", THREADED)
def test_threads_share_what_they_read_and_write_apart(case):
    """Four callers at once, each with four threads of the pool, on the same arrays."""
    work, before = THREADED[case](), torch.get_num_threads()
    torch.set_num_threads(1)
    expected = work()
    torch.set_num_threads(4)
    try:
        with ThreadPoolExecutor(4) as callers:
            made = list(callers.map(lambda _: work(), range(4)))
    finally:
        torch.set_num_threads(before)
    for arrays in made:
        for got, alone in zip(arrays, expected, strict=True):
            assert np.array_equal(got, alone)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_beside_an_array_is_touched(name):
    tried(name, TRIES["few"], the_same=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_nothing_beside_an_array_is_touched_ever(name):
    tried(name, TRIES["many"], the_same=False)
