"""The benchmark of `auto` and heads runs, and its populations are what they say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import learned
from fusion.kernels.resized import MAP_STEPS
from fusion.search.learned import fit


def test_a_scene_is_searched(monkeypatch, capsys):
    monkeypatch.setattr(fit, "STEPS", 4)
    monkeypatch.setattr(learned, "SIZE", (8, 12))
    assert learned.main(["--quick", "--scene", "confused", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (row,) = found["confused"]["rows"]
    assert list(row["gains"])[1:] == ["the log head", "the mix head", "recommended"]
    assert row["recommended"] in row["held"]
    assert set(found["confused"]["most"]) == {"log", "mix"}
    assert "confused: " in learned.table(found)


def test_the_mean_of_level_networks_is_the_posterior():
    """Each sums to 1, none is the mean, and labels are as frequent as the mean says."""
    said, labels = zip(*(learned.level(np.random.default_rng(n)) for n in range(30)), strict=True)
    said, labels = np.concatenate(said), np.concatenate(labels)
    np.testing.assert_allclose(said.sum(axis=2), 1, atol=1e-4)
    q = said.mean(axis=1)
    assert np.abs(said[:, 0] - q).mean() > 0.02
    for low in np.arange(0, 1, 0.1):
        for c in range(learned.CLASSES):
            some = (q[:, c] >= low) & (q[:, c] < low + 0.1)
            error = 0.5 / np.sqrt(some.sum())
            assert abs((labels[some] == c).mean() - q[:, c][some].mean()) < 4 * error


def test_experts_are_calibrated_and_their_product_knows_more():
    said, labels = learned.experts(np.random.default_rng(0))
    first = said[:, 0]
    right = (first.argmax(axis=1) == labels).mean()
    assert right == pytest.approx(first.max(axis=1).mean(), abs=0.03)
    product, mean = (np.log(said).sum(axis=1), said.mean(axis=1))
    assert (product.argmax(axis=1) == labels).mean() > (mean.argmax(axis=1) == labels).mean()


def test_confused_networks_say_one_class_for_another():
    plain, _ = learned.level(np.random.default_rng(3))
    said, _ = learned.confused(np.random.default_rng(3))
    for model, (false, right) in enumerate([(1, 0), (1, 0), (1, 0), (3, 2)]):
        assert (said[:, model, right] <= 0.5 * plain[:, model, right] + 1e-12).all()
        whole = plain[:, model, [false, right]].sum(axis=1)
        np.testing.assert_allclose(said[:, model, [false, right]].sum(axis=1), whole)
    both, _ = learned.swapped(np.random.default_rng(3))
    np.testing.assert_allclose(both.sum(axis=2), plain.sum(axis=2))
    assert ((both[:, :3, 0] > both[:, :3, 1]) == (plain[:, :3, 1] > plain[:, :3, 0])).all()
    assert np.array_equal(both[:, :3, 2:], plain[:, :3, 2:])


def test_stores_hold_what_the_population_says(tmp_path):
    maps = learned.population("level", 2, 0)
    ensemble = learned.written(maps, tmp_path)
    (frames,) = maps.pixels[1].frames()
    for t, (_, means) in enumerate(ensemble.native_means(maps.videos[1], ["0", "1", "2"])):
        np.testing.assert_allclose(means.numpy(), frames.maps[t], atol=2e-3)
    assert np.array_equal(frames.maps * MAP_STEPS, np.rint(frames.maps * MAP_STEPS))


@pytest.mark.parametrize("wrong", [["--repetitions", "0"], ["--videos", "1"]])
def test_no_sense_no_figure(wrong):
    assert learned.main(wrong) == 2
