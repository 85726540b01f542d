"""Fitted temperatures: planted ones found again, brute force over a fine grid, what refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import fusion
from fusion import cli
from fusion.errors import InputError
from fusion.kernels.arithmetic import bilinear_steps
from fusion.kernels.upsample import naive
from fusion.labels import write_labels
from fusion.search import fit_temperatures
from fusion.search.__main__ import main
from fusion.search.run import Run
from fusion.search.temperatures import STRIDE, fit_each, fit_table, vertex
from tests.samples import CLASSES
from tests.search.simulated import arguments

PLANTED = {"sure": 2.5, "shy": 0.6, "fair": 1.0}


def write_planted(
    folder: Path, planted: dict[str, float], **options
) -> fusion.HierarchicalEnsemble:
    """Stores of T z, and labels drawn from softmax(z)."""
    draw, size, frames = np.random.default_rng(0), (60, 80), ("0", "1", "2")
    writers = {
        name: fusion.LogitWriter(folder / f"{name}.zarr", CLASSES, "exact", **options)
        for name in planted
    }
    for video in ("a", "b"):
        logits = draw.normal(0, 2.0, (len(frames), 4, *size))
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        drawn = (p.cumsum(axis=1) < draw.random((len(frames), 1, *size))).sum(axis=1)
        targets = np.minimum(drawn, 3).astype(np.uint8)
        targets[:, :5] = 255
        for frame, target in zip(frames, targets, strict=True):
            write_labels(folder / "labels" / video / f"{frame}.png", target)
        for name, temperature in planted.items():
            with writers[name].video(video, frames=frames, size=size) as out:
                for frame, frame_p in zip(logits * temperature, p, strict=True):
                    out.append(frame_p if options else frame)
    return fusion.HierarchicalEnsemble({n: [folder / f"{n}.zarr"] for n in planted})


@pytest.mark.parametrize("resize", ["probabilities", "logits"])
def test_planted_temperatures_are_found_again(tmp_path, resize):
    """Labels drawn from softmax(z) of 28,000 pixels; the stores hold T z."""
    ensemble = write_planted(tmp_path, PLANTED)
    ensemble = ensemble.regrouped(ensemble.groups, resize=resize)
    truth = fusion.Labels.folder(tmp_path / "labels")
    found = fit_temperatures(ensemble, truth, stride=1)
    assert list(found) == [str(store.path) for store in ensemble.stores]
    for store in ensemble.stores:
        assert found[str(store.path)] == pytest.approx(PLANTED[store.model], rel=0.02)


@pytest.mark.parametrize("resize", ["probabilities", "logits"])
def test_equals_brute_force_over_a_fine_grid(data, ensemble, truth, resize):
    """By `calibration` of the model alone, which knows nothing of fits."""
    ensemble = ensemble.regrouped(ensemble.groups, resize=resize)
    fits = fit_each(ensemble, truth, stride=1)
    grid = np.geomspace(0.25, 4, 120).tolist()
    for store in ensemble.stores[:2]:
        alone = {"g": [store]}

        def nll(temperature, alone=alone, path=str(store.path)):
            made = ensemble.regrouped(alone, temperatures={path: temperature})
            return made.calibration(truth, scheduler="synchronous").nll

        fit = fits[str(store.path)]
        best = min(grid, key=nll)
        assert fit.temperature == pytest.approx(best, rel=0.013)  # half a step
        assert fit.nll == pytest.approx(nll(fit.temperature), abs=1e-4)
        assert fit.nll_at_one == pytest.approx(nll(1.0), abs=1e-7)
        assert nll(fit.temperature) <= nll(best) + 1e-7
        assert not fit.at_bound


def test_vertex_of_a_parabola():
    at = np.geomspace(0.5, 2, 5)
    values = (np.log(at) - 0.1) ** 2
    assert vertex(at, values, int(values.argmin())) == pytest.approx(np.exp(0.1), abs=1e-12)
    assert vertex(at, values, 0) == 0.5
    assert vertex(at, np.ones(5), 2) == at[2]


def test_the_class_of_a_pixel_is_interpolated_as_all_are():
    draw = np.random.default_rng(0)
    maps = torch.tensor(draw.random((2, 5, 6, 8)), dtype=torch.float32)
    lines, columns = (tuple(s[::3] for s in bilinear_steps(*n)) for n in ((6, 20), (8, 31)))
    classes = torch.tensor(draw.integers(0, 5, (7, 11)))
    whole = naive.bilinear(maps, (20, 31))[..., ::3, ::3]
    assert torch.equal(naive.interpolated(maps, lines, columns), whole)
    expected = whole.gather(1, classes.expand(2, 1, 7, 11))[:, 0]
    assert torch.equal(naive.interpolated_at(maps, classes, lines, columns), expected)


def test_schedulers_and_pieces_change_nothing(ensemble, truth, monkeypatch):
    found = fit_each(ensemble, truth)
    assert fit_each(ensemble, truth, scheduler="processes") == found
    monkeypatch.setattr("fusion.search.temperatures.AT_ONCE", 600)  # four temperatures at once
    assert fit_each(ensemble, truth, scheduler="synchronous") == found
    assert fit_each(ensemble, truth, stride=STRIDE + 1) != found


@pytest.mark.parametrize(("bounds", "end"), [((0.25, 1.5), "sure"), ((0.8, 4.0), "shy")])
def test_a_temperature_at_a_bound_is_said(tmp_path, bounds, end):
    ensemble = write_planted(tmp_path, PLANTED)
    truth = fusion.Labels.folder(tmp_path / "labels")
    with pytest.warns(UserWarning, match=rf"{end}\.zarr: temperature [01.58]+ is at the bound"):
        found = fit_temperatures(ensemble, truth, bounds=bounds)
    assert found[str(tmp_path / f"{end}.zarr")] in bounds
    lines = fit_table(ensemble, fit_each(ensemble, truth, bounds=bounds)).splitlines()
    assert lines[-1].startswith(f"warning: {tmp_path / end}.zarr: temperature")
    assert len(lines) == 2 + 3 + 1


def test_stores_of_probabilities_are_fitted_and_scores_left_out(tmp_path):
    logarithms = write_planted(tmp_path / "p", {"p": 1.0}, values="probabilities")
    scores = write_planted(tmp_path / "s", {"s": 1.0}, values="scores")
    truth = fusion.Labels.folder(tmp_path / "p" / "labels")
    both = logarithms.regrouped({**logarithms.groups, **scores.groups})
    found = fit_temperatures(both, truth)
    assert list(found) == [str(tmp_path / "p" / "p.zarr")]
    assert found[str(tmp_path / "p" / "p.zarr")] == pytest.approx(1.0, rel=0.06)
    assert Run(both, truth).fitted().ensemble.temperatures[1] == 1.0
    with pytest.raises(InputError, match="all 1 stores hold scores, which no temperature divides"):
        fit_temperatures(scores, truth)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bounds": (0.0, 1.0)}, r"bounds: got \(0.0, 1.0\); give \(low, high\)"),
        ({"bounds": (2.0, 1.0)}, "bounds"),
        ({"stride": 0}, "stride: got 0"),
    ],
)
def test_what_cannot_be(ensemble, truth, options, message):
    with pytest.raises(InputError, match=message):
        fit_temperatures(ensemble, truth, **options)


def test_no_labelled_pixel(ensemble, tmp_path):
    for frame in "01":
        write_labels(tmp_path / "a" / f"{frame}.png", np.full((20, 28), 255, np.uint8))
    with pytest.raises(InputError, match="temperatures: no labelled pixel"):
        fit_temperatures(ensemble, fusion.Labels.folder(tmp_path))


def test_models_without_probabilities_are_named(ensemble, truth, monkeypatch):
    def nan(task, codes, size, some, temperatures):
        return np.full((len(temperatures), *some.shape), np.nan, np.float32)

    monkeypatch.setattr("fusion.search.temperatures.VideoLosses.target_probabilities", nan)
    with pytest.raises(InputError, match=r"net_0\.zarr has NaN at labelled pixels"):
        fit_temperatures(ensemble, truth)


def test_a_search_fits_first_and_keeps_what_it_fitted(data, ensemble, truth, tmp_path, capsys):
    fitted = fit_temperatures(ensemble, truth)
    found = ensemble.search(truth, temperatures="fit", ranges={"weak": (0, 1, 0.5)})
    assert found.ensemble.temperatures == tuple(fitted.values())
    assert found.miou == found.ensemble.evaluate(truth).miou
    said = arguments(data, tmp_path, "--temperatures", "fit", "--range", "weak=0:1:0.5")
    said += ["--method", "grid"]
    assert cli.run(main, said) == 0
    err = capsys.readouterr().err
    assert "temperature of" in err
    best = fusion.HierarchicalEnsemble.load(tmp_path / "out" / "best.json")
    assert best.temperatures == found.ensemble.temperatures
    document = json.loads((tmp_path / "out" / "search.json").read_text())
    assert document["result"]["miou"] == found.miou
    with pytest.raises(InputError, match="temperatures: got 'guess'; give 'fit'"):
        ensemble.search(truth, temperatures="guess")
