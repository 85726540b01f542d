"""Maps of uncertainty, read with Pillow and numpy, against float64 formulas."""

from __future__ import annotations

import json
import math
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

import fusion
from fusion import cli, predict
from fusion.ensemble.uncertainty import KINDS, shares, uncertainty_maps
from fusion.errors import InputError
from fusion.outputs import write
from tests.outputs.contract import OutputContract
from tests.outputs.simulated import FRAMES, FakeEnsemble
from tests.samples import write_sample


def entropy(p, axis=0):
    """In float64; 0 log 0 is 0."""
    p = np.asarray(p, np.float64)
    return -np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0).sum(axis=axis)


class Refuses(OutputContract):
    """Formats that need one distribution over classes."""

    def test_independent_channels(self, tmp_path):
        for number in (1, 3):
            ensemble = self.ensemble(number=number, independent=True)
            with pytest.raises(InputError, match="channels have no distribution over classes"):
                self.write(ensemble, tmp_path)
            assert ensemble.worked == []

    test_composed_regions = None


class TestUncertainty(Refuses):
    kind = "uncertainty"
    options: ClassVar = {"maps": ["margin", "entropy"]}
    flags = ("--maps", "margin", "entropy")
    kinds: ClassVar = ("entropy", "margin")

    def main_files(self, out, video):
        if (out / "entropy" / f"{video}.png").exists():
            return [out / kind / f"{video}.png" for kind in self.kinds]
        frames = FRAMES.get(video, ("0", "1"))
        return [out / kind / video / f"{frame}.png" for kind in self.kinds for frame in frames]

    def read(self, out, video, *, probabilities=False):
        """[T, kinds, H, W]."""
        scales, found = json.loads((out / "uncertainty.json").read_text())["kinds"], []
        files = self.main_files(out, video)
        for file in files:
            with Image.open(file) as image:
                assert image.mode == "I;16"
                kind, most = image.text["segfusion.kind"], float(image.text["segfusion.maximum"])
                assert file.relative_to(out).parts[0] == kind
                assert most == scales[kind]["maximum"]
                assert image.text["segfusion.unit"] == scales[kind]["unit"]
                found.append(np.asarray(image).astype(float) / 65535 * most)
        whole = np.stack(found)
        return np.moveaxis(whole.reshape(2, -1, *whole.shape[1:]), 0, 1)

    def of(self, p):
        top = np.sort(p, axis=0)
        return np.stack([entropy(p), top[-1] - top[-2]])

    def expected(self, ensemble, video):
        return np.stack([self.of(ensemble.probabilities(video, f)) for f in ensemble.frames(video)])

    def predicted(self, ensemble, video):
        return np.stack([self.of(p) for p in ensemble.predict_proba(video)])

    def same(self, found, expected):
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < math.log(300) / 65535

    def test_raw_ids(self, tmp_path):
        with pytest.raises(InputError, match="uncertainty: got stored, holds labels"):
            self.write(self.ensemble(), tmp_path, stored=lambda labels: labels)


class TestUncertaintyArrays(TestUncertainty):
    options: ClassVar = {"maps": ["margin", "entropy"], "form": "npz"}
    flags = (*TestUncertainty.flags, "--maps-as", "npz")

    def main_files(self, out, video):
        if (out / f"{video}.npz").exists():
            return [out / f"{video}.npz"]
        return [out / video / f"{frame}.npz" for frame in FRAMES.get(video, ("0", "1"))]

    def read(self, out, video, *, probabilities=False):
        found = []
        for file in self.main_files(out, video):
            with np.load(file, allow_pickle=False) as arrays:
                assert sorted(arrays) == ["entropy", "margin"]
                assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
                found.append(np.stack([arrays["entropy"], arrays["margin"]]))
        return np.stack(found)


CLASSES = 4


def models(draw, sizes, **options):
    """Memory stores of random logits, three frames of 9 x 12 labels."""
    return [
        fusion.MemoryStore(
            {"v": draw.normal(0, 2, (3, CLASSES, *size))}, size=(9, 12), model=f"m{k}", **options
        )
        for k, size in enumerate(sizes)
    ]


def oracle(ensemble, weights):
    """Disagreement [T, H, W] of members with these weights by store, in float64."""
    alone = {
        store: fusion.HierarchicalEnsemble(
            [store],
            resize=ensemble.resize,
            temperatures={store.place: t},
        )
        .predict_proba("v")
        .astype(np.float64)
        for store, t in zip(ensemble.stores, ensemble.temperatures, strict=True)
    }
    total = sum(weights.values())
    mixture = sum(w / total * alone[store] for store, w in weights.items())
    inner = sum(w / total * entropy(alone[store], axis=1) for store, w in weights.items())
    return entropy(mixture, axis=1) - inner


@pytest.mark.parametrize("resize", ["probabilities", "logits"])
@pytest.mark.parametrize("memory", ["4GB", 24_000])
def test_disagreement_is_mutual_information(resize, memory):
    sizes = [(3, 4), (3, 4), (3, 4), (6, 8), (6, 8)]
    a, b, c, d, e = models(np.random.default_rng(0), sizes)
    ensemble = fusion.HierarchicalEnsemble(
        {"two": [a, b], "three": [b, c, e], "left out": [d]},
        {"two": 3.0, "three": 1.0, "left out": 0.0},
        temperatures={a.place: 1.7},
        resize=resize,
        memory=memory,
    )
    weights = {a: 3 / 2, b: 3 / 2 + 1 / 3, c: 1 / 3, e: 1 / 3}
    expected = oracle(ensemble, weights)
    assert shares(ensemble) == pytest.approx({store: w / 4 for store, w in weights.items()})
    maps = list(ensemble.uncertainty("v"))
    assert [frame for frame, _ in maps] == list(ensemble.frames("v"))
    for (_, made), wanted, p in zip(maps, expected, ensemble.predict_proba("v"), strict=True):
        assert list(made) == list(KINDS)
        assert {array.dtype for array in made.values()} == {np.dtype(np.float32)}
        np.testing.assert_allclose(made["disagreement"], wanted, atol=3e-6)
        np.testing.assert_allclose(made["entropy"], entropy(p), atol=3e-6)
        top = np.sort(p, axis=0)
        assert np.array_equal(made["confidence"], top[-1])
        np.testing.assert_allclose(made["margin"], top[-1] - top[-2], atol=1e-7)
    assert expected.max() > 0.1
    alone = list(ensemble.uncertainty("v", ["00001"], ["disagreement"]))
    assert [frame for frame, _ in alone] == ["00001"]
    assert np.array_equal(alone[0][1]["disagreement"], maps[1][1]["disagreement"])


def test_members_that_say_the_same():
    (one,) = models(np.random.default_rng(1), [(3, 4)])
    for stores in ([one], {"a": [one], "b": [one]}):
        for _, made in fusion.HierarchicalEnsemble(stores).uncertainty("v"):
            assert made["disagreement"].max() < 1e-6


def test_disagreement_of_a_geometric_mean_is_the_mixtures():
    stores = models(np.random.default_rng(2), [(3, 4), (3, 4)])
    one, two = (
        list(fusion.HierarchicalEnsemble(stores, mean=mean).uncertainty("v"))
        for mean in ("arithmetic", "geometric")
    )
    for (_, a), (_, b) in zip(one, two, strict=True):
        assert np.array_equal(a["disagreement"], b["disagreement"])
        assert not np.array_equal(a["entropy"], b["entropy"])


def test_what_has_no_such_maps(tmp_path):
    stores = models(np.random.default_rng(3), [(3, 4), (3, 4)])
    ensemble = fusion.HierarchicalEnsemble(stores)
    for kinds, said in (
        (["entropi"], "no map 'entropi'; did you mean 'entropy'"),
        ([], r"got \[\]; give kinds of"),
        (["margin", "margin"], "got .*, each once"),
    ):
        with pytest.raises(InputError, match=f"uncertainty: {said}"):
            ensemble.uncertainty("v", kinds=kinds)
        if kinds:
            with pytest.raises(InputError, match=f"uncertainty: {said}"):
                write(FakeEnsemble(), tmp_path, "uncertainty", maps=kinds)
    scores = fusion.MemoryStore(np.ones((1, 2, 3, 4)), values="scores")
    with pytest.raises(InputError, match="holds scores, which are no probabilities; write it"):
        fusion.HierarchicalEnsemble([scores]).uncertainty("0000")
    with pytest.raises(InputError, match="a head weighs no models"):
        write(FakeEnsemble(head=object()), tmp_path, "uncertainty", maps=["disagreement"])
    with pytest.raises(InputError, match=r"got form='tiff'; choose of \('png', 'npz'\)"):
        write(FakeEnsemble(), tmp_path, "uncertainty", maps=["margin"], form="tiff")
    tight = fusion.HierarchicalEnsemble(stores, memory=2000)
    next(tight.uncertainty("v", kinds=["disagreement"]))
    with pytest.raises(InputError, match="memory: 2000 bytes are too few for disagreement beside"):
        uncertainty_maps(tight, "v")
    assert list(tmp_path.iterdir()) == []


def test_by_the_command(tmp_path, capsys):
    toml = write_sample(tmp_path)
    out = ["--ensemble", str(toml), "--format", "uncertainty", "--out", str(tmp_path / "maps")]
    assert cli.run(predict.main, out) == 0
    assert "6 uncertainty maps written" in capsys.readouterr().out
    folders = sorted(path.name for path in (tmp_path / "maps").iterdir() if path.is_dir())
    assert folders == ["disagreement", "entropy"]
    assert cli.run(predict.main, [*out, "--maps", "margin", "--resume"]) == 0  # a folder a kind
    path = tmp_path / "maps" / "uncertainty.json"
    kinds = json.loads(path.read_text())["kinds"]
    assert {kind: facts["maximum"] for kind, facts in kinds.items()} == {
        "disagreement": math.log(4),
        "entropy": math.log(4),
        "margin": 1.0,
    }
    path.write_text("[]")
    assert cli.run(predict.main, [*out, "--maps", "margin", "--overwrite"]) == 0
    assert list(json.loads(path.read_text())["kinds"]) == ["margin"]
