"""The store as a state machine, one suite for every place that it may lie at."""

from __future__ import annotations

import itertools
import secrets

import pytest

from fusion.stores.locations import remote
from tests.faults.machines import run_machine, slowly
from tests.faults.store_machine import StoreMachine
from tests.stores.servers import BUCKET, s3_server, speaking_s3


@pytest.fixture(scope="module")
def s3():
    with s3_server() as url:
        yield url


@pytest.fixture(params=["disk", "memory", "s3"])
def machine(request, tmp_path, monkeypatch):
    """Makes a machine over a store that is not there yet."""
    number = itertools.count()
    roots = {"disk": tmp_path, "memory": "memory://machines", "s3": f"s3://{BUCKET}"}
    if request.param == "s3":
        for key, value in speaking_s3(request.getfixturevalue("s3")).items():
            monkeypatch.setenv(key, value)
        monkeypatch.setattr(remote, "_BUCKETS", {})  # those of a server before this one are gone
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # drafts of the dead
    root = f"{roots[request.param]}/{secrets.token_hex(8)}"
    return request.param, lambda: StoreMachine(f"{root}-{next(number)}/s.zarr")


STEPS = {"disk": 15, "memory": 15, "s3": 12}
HISTORIES = {"disk": 12, "memory": 12, "s3": 3}
SLOW = {"disk": 200, "memory": 400, "s3": 40}


def test_any_history_of_a_store(machine):
    kind, make = machine
    run_machine(make, HISTORIES[kind], STEPS[kind])


@pytest.mark.slow
def test_many_histories_of_a_store(machine):
    kind, make = machine
    run_machine(make, slowly(SLOW[kind]), 40)
