from __future__ import annotations

import pytest

import fusion
from fusion.report.gather import facts_of
from fusion.report.results import read_results
from tests.report.cases import QUICK, search, write_data


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Stores, labels of two splits, and the results of a search over them."""
    folder = write_data(tmp_path_factory.mktemp("data"))
    search(folder, *QUICK, "--test-labels", str(folder / "second"), "--contributions")
    return folder


@pytest.fixture(scope="session")
def results(data):
    return read_results(data / "results")


@pytest.fixture(scope="session")
def facts(results):
    return facts_of(results)


@pytest.fixture(scope="session")
def found(data):
    return fusion.HierarchicalEnsemble.load(data / "results" / "best.json")


@pytest.fixture(scope="session")
def truths(data):
    folders = {"val": data / "labels", "test": data / "second"}
    return {split: fusion.Labels.folder(folder) for split, folder in folders.items()}


@pytest.fixture(scope="session")
def models(data):
    """Every model by itself, by name."""
    paths = sorted(data.glob("net_*.zarr"))
    return {path.stem: fusion.HierarchicalEnsemble({path.stem: path}) for path in paths}
