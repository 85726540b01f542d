"""Files that every released version wrote are read as they were meant, and a version that is not
read says which it is, which are, and what to do. Stores of both profiles are in
tests/stores/test_released.py.
"""

from __future__ import annotations

import json
import shutil
import tarfile

import pytest

import fusion
from fusion.contested import cache
from fusion.errors import InputError, StoreError
from fusion.outputs import write
from tests.contested import damage as condensed
from tests.faults import released

NAMES = sorted(path.name.removesuffix(".tar.xz") for path in released.FOLDER.glob("*.tar.xz"))
RELEASES = [name for name in NAMES if "+" not in name]


@pytest.fixture(scope="module", params=RELEASES)
def folder(request, tmp_path_factory):
    place = tmp_path_factory.mktemp(request.param)
    for name in NAMES:
        if name.partition("+")[0] == request.param:
            with tarfile.open(released.FOLDER / f"{name}.tar.xz") as archive:
                archive.extractall(place, filter="data")
    return place


def test_there_are_some():
    assert RELEASES[:1] == ["0.1"]


def test_everything_reads_as_it_was_written(folder, capsys):
    expected: dict[str, object] = {}
    for path in folder.glob("expected*.json"):
        expected |= json.loads(path.read_text())
    found = {name: released.plain(value) for name, value in released.read(folder)}
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert value == expected[name], name
    lines = capsys.readouterr().err.splitlines()
    assert all("weights.safetensors: has no checksum" in line for line in lines), lines


def test_outputs_go_on(folder, tmp_path):
    """Those of 0.1 say what made them and not which are whole: they are written again."""
    shutil.copytree(folder / "outputs", tmp_path / "outputs")
    ensemble = fusion.HierarchicalEnsemble.load(folder / "plain.json")
    before = {p: p.read_bytes() for p in sorted((tmp_path / "outputs").rglob("*.png"))}
    assert sum(write(ensemble, tmp_path / "outputs", "png", resume=True)) == len(before) == 6
    assert {p: p.read_bytes() for p in before} == before
    with pytest.raises(StoreError, match="is of another ensemble, other options or another ver"):
        write(ensemble.regrouped(ensemble.groups), tmp_path / "outputs", "png", resume=True)


@pytest.mark.parametrize("name", ["plain.json", "head.json", "operations.json"])
@pytest.mark.parametrize("version", [0, 4, "3", None, 1e9])
def test_ensembles_of_other_versions(folder, tmp_path, name, version):
    document = json.loads((folder / name).read_text()) | {"version": version}
    document.pop("sha256", None)
    (tmp_path / name).write_text(json.dumps(document))
    do = "update segfusion" if version == 4 else "search again"
    said = rf"{name}: format version {version!r}, this release reads 1 to 3; {do}"
    with pytest.raises(InputError, match=said):
        fusion.HierarchicalEnsemble.load(tmp_path / name)


@pytest.mark.parametrize(("version", "do"), [(0, "write it again"), (2, "update segfusion")])
def test_stores_of_other_versions(folder, tmp_path, version, do):
    shutil.copytree(folder / "net_0.zarr", tmp_path / "s.zarr")
    path = tmp_path / "s.zarr" / "zarr.json"
    document = json.loads(path.read_text())
    document["attributes"]["segfusion"]["version"] = version
    path.write_text(json.dumps(document))
    said = rf"zarr\.json: format version {version}, this release reads 1; {do}"
    with pytest.raises(StoreError, match=said):
        fusion.LogitStore(tmp_path / "s.zarr")


def test_a_cache_of_an_older_version_is_built_again_and_a_newer_one_left_alone(
    folder, tmp_path, capsys, monkeypatch
):
    digest = "d" * 64
    (tmp_path / digest[:16]).mkdir()
    newer = tmp_path / f"{digest[:16]}.{cache.VERSION + 1}"
    newer.mkdir()
    place = cache.cache_folder(tmp_path, digest)
    assert not (tmp_path / digest[:16]).exists()
    assert "condensed pixels in an older format; they are built again" in capsys.readouterr().err
    assert newer.exists()
    assert place != newer
    shutil.copytree(folder / "cache", tmp_path / "cache")
    monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    with pytest.raises(StoreError, match="holds condensed pixels of another version; delete it"):
        condensed.make(tmp_path / "cache")
