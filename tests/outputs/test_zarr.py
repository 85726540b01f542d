"""Groups and stores, read with plain Zarr and by the formulas of their codes."""

from __future__ import annotations

import json
import os
from typing import ClassVar

import numpy as np
import pytest
import zarr

import fusion
from fusion.errors import InputError, StoreError
from fusion.outputs import write
from tests.outputs.contract import OutputContract
from tests.outputs.simulated import FRAMES, VOLUME, FakeEnsemble
from tests.samples import write_sample


class TestZarr(OutputContract):
    kind = "zarr"
    geometry: ClassVar = {"case": VOLUME}

    def main_files(self, out, video):
        return [out / video / "zarr.json"]

    def read(self, out, video, *, probabilities=False):
        group = zarr.open_group(out, mode="r")
        members = {name for name, _ in group.members()}  # warns of files that are none
        assert video in members
        array = group[video]
        facts = array.attrs["segfusion.predicted"]
        assert facts["video"] == video
        assert tuple(array.attrs["frames"]) == tuple(FRAMES.get(video, ("0", "1")))
        assert facts.get("geometry") == self.geometry.get(video)
        assert array.chunks == (1, *array.shape[1:])
        return array[:]


@pytest.mark.parametrize("flags", [{}, {"overwrite": True}, {"resume": True}])
def test_another_group_is_left_alone(tmp_path, flags):
    theirs = zarr.create_group(tmp_path)
    theirs.create_array("case", shape=(2,), dtype="uint8")[:] = 7
    before = (tmp_path / "zarr.json").read_bytes()
    with pytest.raises(StoreError, match=r"zarr\.json: is no group of predictions"):
        write(FakeEnsemble(), tmp_path, "zarr", **flags)
    assert (tmp_path / "zarr.json").read_bytes() == before
    assert zarr.open_group(tmp_path)["case"][:].tolist() == [7, 7]


def test_folders_that_are_no_arrays_are_left_alone(tmp_path):
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "precious").write_bytes(b"1")
    for kind in ("zarr", "npy"):
        (tmp_path / "case.npy").mkdir(exist_ok=True)
        with pytest.raises(StoreError, match=r"case(.npy)?: is taken by a folder"):
            write(FakeEnsemble(), tmp_path, kind, overwrite=True)
    assert (tmp_path / "case" / "precious").read_bytes() == b"1"


@pytest.mark.parametrize("name", ["zarr.json", "__x"])
def test_names_that_zarr_keeps(tmp_path, name):
    ensemble = FakeEnsemble(videos=(name,), frames_of={name: ("0",)})
    with pytest.raises(InputError, match="is a name that Zarr keeps"):
        write(ensemble, tmp_path, "zarr")


class TestStore(OutputContract):
    """Probabilities to the precision of its codes."""

    kind = "store"
    options: ClassVar = {"model": "fused"}

    def folder(self, out, video):
        (found,) = (
            folder
            for folder in out.iterdir()
            if (folder / "zarr.json").is_file()
            and json.loads((folder / "zarr.json").read_text())["attributes"]["segfusion"]["video"]
            == video
        )
        return found

    def main_files(self, out, video):
        return [self.folder(out, video) / "commit.json"]

    def read(self, out, video, *, probabilities=False):
        """By the formulas of gap and angle codes."""
        codes = zarr.open_array(self.folder(out, video), mode="r")[:].astype(float)
        facts = json.loads((out / "zarr.json").read_text())["attributes"]["segfusion"]
        if facts["values"] == "sigmoid-probabilities":
            return (np.sin((codes + 0.5) * np.pi / 512) ** 2).astype(np.float32)
        assert facts["values"] == "probabilities"
        weights = np.exp(-24 * (codes / 255) ** 2)
        return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)

    def same(self, found, expected):
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < 0.008

    def stable(self, found):
        own = ("commit.json", ".predicted.seals")  # the former says when, the latter of which
        return {name: data for name, data in found.items() if not name.endswith(own)}

    @pytest.mark.parametrize("name", ["../x", ".", "a/b", "x" * 300])
    def test_ids_that_cannot_be_file_names(self, tmp_path, name):
        """A store takes any."""
        ensemble = self.ensemble(videos=("case", name), frames_of={**FRAMES, name: ("f", "g")})
        self.write(ensemble, tmp_path / "s")
        self.same(self.read(tmp_path / "s", name), self.expected(ensemble, name))
        assert os.listdir(tmp_path) == ["s"]


def test_an_ensemble_is_a_model_of_the_next(tmp_path):
    ensemble = fusion.HierarchicalEnsemble.load(write_sample(tmp_path))
    options = {"profile": "exact", "model": "both"}
    assert write(ensemble, tmp_path / "fused.zarr", "store", **options) == (6, 0)
    store = fusion.LogitStore(tmp_path / "fused.zarr")
    assert (store.model, store.profile, store.classes) == ("both", "exact", ensemble.classes)
    again = fusion.HierarchicalEnsemble({"one": [store]})
    assert np.abs(again.predict_proba("a") - ensemble.predict_proba("a")).max() < 1e-3
    assert (again.predict("a") == ensemble.predict("a")).mean() > 0.99
    other = FakeEnsemble()
    for flags in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(StoreError, match=r"holds a store with classes .*another folder"):
            write(other, tmp_path / "fused.zarr", "store", **options, **flags)
    assert other.worked == []


def test_stored_ids_are_no_probabilities(tmp_path):
    for kind in ("npy", "store"):
        with pytest.raises(InputError, match="stored: probabilities are no label maps"):
            write(FakeEnsemble(), tmp_path, kind, probabilities=True, stored=lambda labels: labels)
