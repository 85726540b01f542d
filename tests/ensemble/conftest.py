from __future__ import annotations

import pytest

from tests.ensemble.simulated import make_store


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return [make_store(folder / f"m{k}.zarr", k) for k in range(5)]
