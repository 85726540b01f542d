"""Numbers at the end of what is taken: right, or refused, never NaN without a word."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fusion
from fusion import kernels
from fusion.errors import InputError
from fusion.kernels.numbers import COLDEST, HOTTEST
from tests.samples import write_sample

BEYOND = (1e-45, 1e-300, 5e-324, np.nextafter(COLDEST, 0), np.nextafter(HOTTEST, 1e30), 1e38)
BAD = (*BEYOND, 0.0, -1.0, float("nan"), float("inf"), "x", None, [], 10**400)


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    return fusion.HierarchicalEnsemble.load(write_sample(tmp_path_factory.mktemp("sample")))


def at(ensemble, temperature, **options):
    names = {store.model: temperature for store in ensemble.stores}
    return fusion.HierarchicalEnsemble(ensemble.groups, temperatures=names, **options)


@pytest.mark.parametrize("resize", ["probabilities", "logits"])
@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_the_coldest_decides_by_each_top_class_the_hottest_by_none(ensemble, mean, resize):
    options = {"mean": mean, "resize": resize}
    for temperature in (COLDEST, HOTTEST):
        found = at(ensemble, temperature, **options).predict_proba("a")
        assert np.isfinite(found).all()
        assert np.allclose(found.sum(1), 1, atol=1e-6)
        assert temperature == COLDEST or np.array_equal(found, np.full_like(found, 0.25))
    cold = at(ensemble, COLDEST, **options).predict("a")
    assert cold.max() < 4  # none is void
    if options == {"mean": "arithmetic", "resize": "logits"}:
        alone = at(ensemble, COLDEST).regrouped({"g": ensemble.stores[:1]}, resize="logits")
        same = ensemble.regrouped({"g": ensemble.stores[:1]}, temperatures=None, resize="logits")
        assert np.array_equal(alone.predict("a"), same.predict("a"))


@pytest.mark.parametrize("temperature", BAD)
def test_what_would_be_no_number_is_refused(ensemble, temperature):
    said = r"temperatures: .*; give a number from 5.4e-20 to 1.8e.19"
    with pytest.raises(InputError, match=said):
        at(ensemble, temperature)
    if isinstance(temperature, float):
        maps = [np.random.default_rng(0).normal(0, 3, (3, 4, 5)).astype(np.float32)]
        with pytest.raises(InputError, match=r"temperatures: got .*; give numbers from 5.4e-20"):
            fusion.fuse(maps, values="logits", temperatures=[temperature])
        with pytest.raises(ValueError, match=r"give 1 numbers from 5.4e-20 to 1.8e.19"):
            kernels.softmax_average([torch.from_numpy(maps[0])], [1], temperatures=[temperature])


def test_the_temperature_of_a_file_is_checked_too(ensemble, tmp_path):
    stores = [str(store.path) for store in ensemble.stores]
    for value in ("1e-45", '"warm"'):
        toml = tmp_path / "ensemble.toml"
        toml.write_text(f'[groups]\nall = {stores}\n[temperatures]\n"{stores[0]}" = {value}\n')
        with pytest.raises(InputError, match=r"temperatures: .*; give a number from"):
            fusion.HierarchicalEnsemble.load(toml)


def test_no_weights_are_not_equal_weights(ensemble):
    """Unlike a group that is left out, which is 1: who gives none has forgotten them."""
    for none in ({}, None):
        with pytest.raises(InputError, match=r"weights: got .*; give (at least one|a dict)"):
            ensemble.with_weights(none)
    assert ensemble.with_weights({"weak": 2.0}).weights == {"strong": 1.0, "weak": 2.0}


def test_no_frames_are_not_all_frames(ensemble):
    """Whatever asks for none gets none, with and without operations after fusion."""
    for each in (ensemble, ensemble.with_postprocess(["vote"])):
        assert each.predict("a", frames=[]).shape == (0, 20, 28)
        assert each.predict_proba("a", frames=()).shape == (0, 4, 20, 28)
        assert list(each.label_maps("a", [])) == list(each.uncertainty("a", [])) == []
