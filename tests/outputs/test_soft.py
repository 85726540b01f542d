"""Fused probabilities as one more store: what is re-read is what its codes make of the stream."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fusion
from fusion import cli, predict
from fusion.errors import InputError, StoreConflictError
from fusion.outputs import write
from fusion.outputs.top_classes import top_classes
from fusion.stores.codec import PROFILES
from tests.outputs.simulated import FakeEnsemble
from tests.samples import write_sample

PROMISE = {"compact": 0.008, "float16": 0.0008, "top-k": 0.008}  # of at most 11 classes
SOFT = tuple(PROMISE)


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    """Two groups, four classes, 5 x 7 in 20 x 28."""
    return fusion.HierarchicalEnsemble.load(write_sample(tmp_path_factory.mktemp("sample")))


def shared(p, count):
    """A slow twin of `top_classes`."""
    made = np.array(p, np.float64)
    for pixel in np.ndindex(p.shape[1:]):
        order = sorted(range(len(p)), key=lambda c: (-p[(c, *pixel)], c))
        rest = order[count:]
        if len(rest) > 1:
            made[(rest, *pixel)] = sum(float(p[(c, *pixel)]) for c in rest) / len(rest)
    return made


@pytest.mark.parametrize("count", [1, 2, 5, 8, 9, 10, 30])
def test_the_rest_is_shared_evenly(count):
    draw = np.random.default_rng(count)
    p = draw.dirichlet(np.full(10, 0.3), (4, 5)).astype(np.float32).transpose(2, 0, 1)
    p[:, 0, 0] = 0.1  # a tie: the lower classes are kept
    p[:, 0, 1] = [1, *[0] * 9]
    found = top_classes(p, count)
    np.testing.assert_allclose(found, shared(p, count), atol=1e-7)
    np.testing.assert_allclose(found.sum(axis=0), p.sum(axis=0), atol=1e-6)
    assert np.array_equal(found.argmax(axis=0), p.argmax(axis=0))
    if count >= 9:
        assert np.array_equal(found, p)
    even = np.full((60, 2, 2), 1 / 60, np.float32)
    even[::2] += 0.001
    np.testing.assert_allclose(top_classes(even, count), shared(even, count), atol=1e-7)


def streamed(ensemble, video, at):
    """Fused probabilities, [T, C, ...], as they should go into a store."""
    if at == "labels":
        return ensemble.predict_proba(video)
    means = [means for _, means in ensemble.native_means(video, ensemble.frames(video))]
    shares = np.array(list(ensemble.weights.values())) / sum(ensemble.weights.values())
    return np.stack([np.tensordot(shares, mean.numpy().astype(float), 1) for mean in means])


@pytest.mark.parametrize("at", ["labels", "stores"])
@pytest.mark.parametrize("soft", SOFT)
def test_what_is_read_is_what_the_codes_make_of_the_stream(tmp_path, ensemble, soft, at):
    options = {"top": 2} if soft == "top-k" else {}
    assert write(ensemble, tmp_path / "f.zarr", "store", soft=soft, at=at, **options) == (6, 0)
    store = fusion.LogitStore(tmp_path / "f.zarr")
    coding = PROFILES[store.profile]
    assert store.profile == ("exact" if soft == "float16" else "compact")
    for video in ensemble.videos:
        found, stream = store.read(video), streamed(ensemble, video, at)
        assert found.shape == (2, 4, *((20, 28) if at == "labels" else (5, 7)))
        assert store.describe(video).size == (20, 28)
        if at == "stores":  # the oracle above sums in float64
            softened = torch.softmax(torch.from_numpy(found), dim=1).numpy()
            wanted = np.stack([shared(p, options.get("top", 4)) for p in stream])
            assert np.abs(softened - wanted).max() < PROMISE[soft]
            continue
        for one, p in zip(found, stream, strict=True):
            kept = top_classes(p, 2) if soft == "top-k" else p
            with np.errstate(divide="ignore"):
                logarithms = np.log(kept)
            assert np.array_equal(one, coding.decode(coding.encode(logarithms)))


@pytest.mark.parametrize("at", ["labels", "stores"])
@pytest.mark.parametrize("soft", SOFT)
def test_a_fused_store_is_a_member_of_another_ensemble(tmp_path, ensemble, soft, at):
    write(
        ensemble, tmp_path / "f.zarr", "store", soft=soft, at=at, top=3 if soft == "top-k" else None
    )
    again = fusion.HierarchicalEnsemble([tmp_path / "f.zarr"])
    for video in ensemble.videos:
        p, found = ensemble.predict_proba(video), again.predict_proba(video)
        assert np.abs(p - found).max() < PROMISE[soft]
        differ = again.predict(video) != ensemble.predict(video)
        ranked = np.sort(p, axis=1)
        close = ranked[:, -1] - ranked[:, -2] < 2 * PROMISE[soft]
        assert not (differ & ~close).any()  # labels differ only where two classes nearly tie
        if at == "labels" and soft != "float16":
            assert not differ.any()
    other = ensemble.stores[0]
    both = fusion.HierarchicalEnsemble({"fused": [tmp_path / "f.zarr"], "other": [other]})
    mean = (
        ensemble.predict_proba("a") + fusion.HierarchicalEnsemble([other]).predict_proba("a")
    ) / 2
    assert np.abs(both.predict_proba("a") - mean).max() < PROMISE[soft]


def test_top_k_of_many_classes_takes_less(tmp_path):
    draw = np.random.default_rng(0)
    logits = {f"v{k}": draw.normal(0, 2, (2, 40, 30, 40)).astype(np.float32) for k in range(2)}
    ensemble = fusion.HierarchicalEnsemble([fusion.MemoryStore(logits)])
    sizes = {}
    for soft in SOFT:
        write(ensemble, tmp_path / soft, "store", soft=soft)
        sizes[soft] = sum(f.stat().st_size for f in (tmp_path / soft).rglob("c/*/*/*/*"))
    assert 2 * sizes["top-k"] < sizes["compact"] < sizes["float16"]


def test_channels(tmp_path):
    draw = np.random.default_rng(1)
    scene = fusion.MemoryStore(draw.normal(0, 2, (2, 3, 6, 8)), values="sigmoid", size=(12, 16))
    ensemble = fusion.HierarchicalEnsemble([scene])
    with pytest.raises(InputError, match="channels have no top classes a pixel; use soft='compact"):
        write(ensemble, tmp_path, "store", soft="top-k")
    write(ensemble, tmp_path / "s", "store", at="stores")
    store = fusion.LogitStore(tmp_path / "s")
    assert store.describe("0000").frame_shape == (3, 6, 8)
    again = fusion.HierarchicalEnsemble([store])
    assert np.abs(again.predict_proba("0000") - ensemble.predict_proba("0000")).max() < 0.0031


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"soft": "exact"}, r"soft='exact', at=None; choose of \('compact', 'float16', 'top-k'\)"),
        ({"at": "model"}, r"soft=None, at='model'; choose of .* and of \('labels', 'stores'\)"),
        ({"soft": "compact", "profile": "exact"}, "soft= and profile=; leave profile= out"),
        ({"top": 3}, "top=3 of soft='compact'; give 1 or more, with soft='top-k'"),
        ({"soft": "top-k", "top": 0}, "top=0 of soft='top-k'; give 1 or more"),
    ],
)
def test_options_that_are_none(tmp_path, options, said):
    ensemble = FakeEnsemble()
    with pytest.raises(InputError, match=f"store: got {said}"):
        write(ensemble, tmp_path / "out", "store", **options)
    assert ensemble.worked == []
    assert not (tmp_path / "out").exists()


def test_ensembles_whose_labels_are_no_interpolations(tmp_path):
    draw = np.random.default_rng(2)
    small, large = (
        fusion.MemoryStore(draw.normal(size=(1, 3, *size)), size=(8, 8), model=str(size))
        for size in ((2, 2), (4, 4))
    )
    for ensemble, said in (
        (fusion.HierarchicalEnsemble([small], mean="geometric"), "mean='geometric'"),
        (fusion.HierarchicalEnsemble([small], resize="logits"), "resize='logits'"),
        (fusion.HierarchicalEnsemble([small, large]), "'0000' is kept in 2x2, 4x4"),
    ):
        with pytest.raises(InputError, match=f"at='stores': .*{said}.*; use at='labels'"):
            write(ensemble, tmp_path / "out", "store", at="stores")
        write(ensemble, tmp_path / said.replace("'", ""), "store", at="labels")
    assert not (tmp_path / "out").exists()


def test_native_maps_within_little_memory(tmp_path, ensemble):
    from fusion.ensemble.native import native_maps

    tight = fusion.HierarchicalEnsemble(ensemble.groups, memory=6000)
    assert len(tight.plan("a", ("probabilities",)).bands) > 2
    for (_, one), (_, two) in zip(native_maps(tight, "a"), native_maps(ensemble, "a"), strict=True):
        assert np.array_equal(one, two)


def test_one_store_has_one_form(tmp_path, ensemble):
    write(ensemble, tmp_path / "s", "store", videos=["a"], soft="top-k", top=2)
    for options in ({}, {"soft": "top-k"}, {"soft": "top-k", "top": 2, "at": "stores"}):
        for flags in ({}, {"overwrite": True}, {"resume": True}):
            with pytest.raises(StoreConflictError, match=r"holds a store with (soft|top|at)"):
                write(ensemble, tmp_path / "s", "store", videos=["b"], **options, **flags)
    assert write(ensemble, tmp_path / "s", "store", resume=True, soft="top-k", top=2) == (4, 2)


def test_by_the_command(tmp_path, capsys):
    toml = write_sample(tmp_path)
    out = ["--ensemble", str(toml), "--format", "store", "--out", str(tmp_path / "f")]
    assert cli.run(predict.main, [*out, "--soft", "top-k", "--top", "2", "--at", "stores"]) == 0
    assert "6 probability maps written" in capsys.readouterr().out
    assert fusion.LogitStore(tmp_path / "f").info.provenance == {
        "fused": "probabilities of an ensemble",
        "soft": "top-k",
        "top": 2,
        "at": "stores",
    }
    assert cli.run(predict.main, [*out, "--top", "2"]) == 2
    assert "got --top 2 of --soft compact; give 1 or more, with --soft top-k" in (
        capsys.readouterr().err
    )
