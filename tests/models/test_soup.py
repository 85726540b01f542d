"""Soups beside the recipe of the paper, and beside the fusion of what is in them."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
import torch

import fusion
from fusion.errors import InputError, StoreConflictError
from fusion.models import soup
from fusion.models.data.clips import Clips
from fusion.models.pot import Pot, greedy
from fusion.models.training import checkpoint
from fusion.models.training.run import Run
from tests.models.tools import CPU, plain_weights, same_state, same_weights


def recipe_1(scores: dict[frozenset, float], count: int) -> frozenset:
    """Recipe 1 of Wortsman et al. (2022), line by line; val accuracy of no ingredients is -inf."""
    theta = sorted(range(count), key=lambda i: scores[frozenset([i])], reverse=True)
    ingredients = frozenset()
    for i in range(count):
        before = scores[ingredients] if ingredients else -math.inf
        if scores[ingredients | {theta[i]}] >= before:
            ingredients |= {theta[i]}
    return ingredients


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("count", [1, 2, 5])
def test_greedy_is_the_papers_recipe(count, seed):
    """Scores are of few values, so that ties come."""
    draw = np.random.default_rng(seed)
    subsets = itertools.chain(*(itertools.combinations(range(count), n + 1) for n in range(count)))
    scores = {frozenset(some): draw.integers(0, 6) / 6 for some in subsets}
    asked = []

    def score(some):
        asked.append(some)
        assert list(some) == sorted(some)
        return scores[frozenset(some)]

    assert frozenset(greedy(count, score)) == recipe_1(scores, count)
    assert len(set(asked)) <= 2 * count - 1


def test_greedy_by_hand():
    """b is best; a makes it worse, c does not make it worse, d better."""
    scores = {"b": 0.6, "a": 0.5, "c": 0.4, "d": 0.3, "ab": 0.59, "bc": 0.6, "bcd": 0.7}
    found = greedy(4, lambda some: scores["".join("abcd"[k] for k in some)])
    assert found == (1, 2, 3)
    assert greedy(2, lambda some: math.nan if some == (0,) else 0.1) == (0, 1)


@pytest.fixture
def runs(tmp_path):
    """Three weights files that are near each other, and the training that they could be of."""

    def make(path, seed: int, tau: float | None = None):
        torch.manual_seed(0)
        network, kind = plain_weights(path, [f"class_{c:03d}" for c in range(124)], tau)
        torch.manual_seed(seed)
        state = {k: v + 0.05 * torch.randn_like(v) if v.ndim > 1 else v
                 for k, v in network.state_dict().items()}  # fmt: skip
        network.load_state_dict(state)
        checkpoint.save_network(path, network, kind)
        return path

    return [make(tmp_path / "runs" / f"a_0{k}" / "baseline.safetensors", k) for k in (1, 2, 3)]


@pytest.fixture
def cook(runs, vspw, configure, tmp_path):
    """A pot of the first so many of the runs."""

    def make(count: int = 3, out: str = "stores", **sections) -> Pot:
        given = configure("a", train={"batch": 2}, **{"swa": {"refresh": 2}, **sections})
        clips = Clips.vspw(vspw, "val")
        return Pot(runs[:count], given, clips, tmp_path / out, CPU)

    return make


def test_a_soup_of_one_is_that_one(cook, runs):
    pot = cook()
    assert pot.file((1,)) == runs[1]
    network, _ = checkpoint.load_network(runs[1])
    assert same_state(checkpoint.load_network(pot.file((1,)))[0].state_dict(), network.state_dict())
    store = fusion.LogitStore(pot.store((1,)))
    assert store.model == "a_02"
    assert not (pot.out / "soups").exists()


def test_a_soup_is_the_mean_with_statistics_of_its_own(cook, runs):
    pot = cook()
    path = pot.file((0, 2))
    assert path == pot.out / "soups" / "a_01+a_03.safetensors"
    mean, single = checkpoint.load(path)[0], checkpoint.load(runs[0])[0]
    for name, tensor in mean.items():
        if "running" in name or "batches" in name:
            continue
        both = [checkpoint.load(runs[k])[0][name].double().numpy() for k in (0, 2)]
        np.testing.assert_array_equal(tensor.numpy(), np.mean(both, axis=0).astype(np.float32))
    assert not torch.equal(mean["stem.1.running_mean"], single["stem.1.running_mean"])
    # made again elsewhere it is the same to the bit, and not made again here
    assert same_weights(path, cook(out="other").file((0, 2)))
    before = path.stat().st_mtime_ns
    assert cook().file((0, 2)).stat().st_mtime_ns == before
    store = fusion.LogitStore(pot.store((0, 2)))
    assert store.model == "a_01+a_03"
    assert store.info.provenance["soup"] == ["a_01", "a_03"]


def test_statistics_are_those_of_the_training_images(cook):
    pot = cook()
    network, _ = checkpoint.load_network(pot.file((0, 1)))
    images = list(pot.images())
    assert [batch.shape for batch in images] == [(2, 3, 32, 32)] * 2
    run = Run(pot.config, CPU, resume=False)
    assert all(torch.equal(a, b) for a, (b, _) in zip(images, run.batches(0, 2), strict=True))
    entering = [network.stem[0](batch) for batch in images]
    expected = torch.stack([x.mean((0, 2, 3)) for x in entering]).mean(dim=0)
    torch.testing.assert_close(network.stem[1].running_mean, expected.detach())


def test_images_are_those_of_a_run_whatever_its_data_say(cook):
    """A crop that is left to the images, and which frames there are."""
    pot = cook(augment={"crop": 0}, data={"every": 2, "frames_per_video": 1})
    images = list(pot.images())
    assert [batch.shape for batch in images] == [(2, 3, 64, 64)] * 2  # of 64 x 96
    run = Run(pot.config, CPU, resume=False)
    assert all(torch.equal(a, b) for a, (b, _) in zip(images, run.batches(0, 2), strict=True))


def test_what_makes_no_soup(cook, runs, vspw, configure, tmp_path):
    pot = cook()
    pot.file((0, 1))
    with pytest.raises(StoreConflictError, match=r"a_02\.safetensors is the mean of other weights"):
        cook(swa={"refresh": 1}).file((0, 1))
    with pytest.raises(InputError, match="a_01 names several weights files; give one of each"):
        Pot([runs[0], runs[0]], pot.config, pot.clips, pot.out, CPU)
    other = tmp_path / "runs" / "b" / "baseline.safetensors"
    plain_weights(other, pot.clips.classes, tau=0.1)
    with pytest.raises(InputError, match=r"baseline\.safetensors is of another network than"):
        Pot([runs[0], other], pot.config, pot.clips, pot.out, CPU)
    plain_weights(other, ["a", "b"])
    with pytest.raises(InputError, match="has other classes than the clips in"):
        Pot([other], pot.config, pot.clips, pot.out, CPU)


def test_the_command_beside_fusions_own_numbers(runs, vspw, tmp_path, capsys, monkeypatch):
    """Rows and gains are what `fusion.search` and `HierarchicalEnsemble` say of the stores."""
    toml = tmp_path / "run.toml"
    toml.write_text(
        f'out = "runs/a"\n[data]\nvspw = "{vspw}"\n[network]\nname = "plain"\npreset = "micro"\n'
        "[augment]\ncrop = 32\n[swa]\nrefresh = 2\n"
    )
    given = ["--config", str(toml), "--weights", *map(str, runs), "--out", str(tmp_path / "stores")]
    given += ["--folds", "3", "--device", "cpu"]
    assert soup.main([*given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = {row["method"]: row for row in found["rows"]}
    assert list(rows)[:4] == [
        *("the best single model", soup.UNIFORM_SOUP, soup.GREEDY_SOUP, "uniform weights")
    ]
    truth = fusion.Labels.vspw(vspw, "val")

    def score(*stores) -> float:
        return fusion.HierarchicalEnsemble([*stores]).evaluate(truth).score

    singles = [tmp_path / "stores" / f"a_0{k}.zarr" for k in (1, 2, 3)]
    made = found["soups"]
    assert rows["the best single model"]["val"] == max(score(store) for store in singles)
    assert rows["uniform weights"]["val"] == pytest.approx(score(*singles))
    for name in (soup.UNIFORM_SOUP, soup.GREEDY_SOUP):
        assert rows[name]["val"] == score(made[name]["store"])
    assert rows[soup.GREEDY_SOUP]["val"] >= rows["the best single model"]["val"]
    assert made[soup.UNIFORM_SOUP]["runs"] == ["a_01", "a_02", "a_03"]
    gains = found["gains"]["the best single model"]
    held = [rows[name]["held_out"] for name in (soup.GREEDY_SOUP, "the best single model")]
    assert gains["value"] == pytest.approx(held[0] - held[1])
    written = tmp_path / "stores" / "soups" / "a_01+a_02+a_03.json"
    assert json.loads(written.read_text()) == found
    # again nothing is predicted or averaged; people read the same
    monkeypatch.setattr("fusion.models.training.swa.refreshed", None)
    monkeypatch.setattr("fusion.models.tta.Views.predict", None)
    assert soup.main(given) == 0
    said = capsys.readouterr().out
    assert f"{soup.GREEDY_SOUP}: gain over the best single model" in said
    assert "segfusion search --stores" in said
    with pytest.raises(InputError, match="got one weights file; give at least two"):
        soup.main(["--config", str(toml), "--weights", str(runs[0]), "--out", str(tmp_path)])
