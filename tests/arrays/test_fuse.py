"""`fusion.fuse`: the bits of an ensemble over the same arrays, and a plain float64 mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fusion
from fusion.arrays import images
from fusion.ensemble.heads import HEADS
from fusion.errors import InputError
from fusion.stores import MemoryStore
from fusion.stores.codec import kernel_numbers
from tests.ensemble.test_heads import head_of

N, C = 3, 4
SIZES = ((6, 8), (12, 16), (6, 8))
WEIGHTS = (1.0, 0.4, 2.0)


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def drawn(values: str = "logits", sizes=SIZES, seed: int = 0) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    found = [draw.normal(0, 3, (N, C, *size)) for size in sizes]
    if values in ("probabilities", "scores"):
        found = [softmax(z) * 0.7 for z in found]  # sums to less than one, as MaskFormer's do
    if values == "sigmoid-probabilities":
        found = [1 / (1 + np.exp(-z)) for z in found]
    return [z.astype(np.float32) for z in found]


def ensemble_of(arrays, values, groups=None, weights=WEIGHTS, size=None, **options):
    """The same over stores in memory."""
    largest = size or max((a.shape[-2:] for a in arrays), key=np.prod)
    stores = [
        MemoryStore(a, values=values, model=str(m), size=largest) for m, a in enumerate(arrays)
    ]
    groups = groups or {str(m): [m] for m in range(len(arrays))}
    named = {name: [stores[m] for m in members] for name, members in groups.items()}
    return fusion.HierarchicalEnsemble(
        named, dict(zip(named, weights, strict=True)), **options, device="cpu"
    )


def whole(ensemble, what) -> np.ndarray:
    return np.concatenate([getattr(ensemble, what)(video) for video in ensemble.videos])


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("values", ["probabilities", "logits", "scores"])
@pytest.mark.parametrize("size", [None, (9, 20)])
def test_the_bits_of_an_ensemble_over_the_same_arrays(values, kind, size):
    arrays = drawn(values)
    expected = ensemble_of(arrays, values, size=size)
    given = [kind(array) for array in arrays]
    probabilities = fusion.fuse(given, WEIGHTS, values=values, size=size)
    labels = fusion.fuse(given, WEIGHTS, values=values, size=size, labels=True)
    assert type(probabilities) is type(labels) is type(given[0])
    assert np.array_equal(np.asarray(probabilities), whole(expected, "predict_proba"))
    assert np.array_equal(np.asarray(labels), whole(expected, "predict"))
    assert np.asarray(labels).dtype == np.uint8


def test_a_plain_float64_mean():
    arrays = drawn("probabilities", [(6, 8)] * 3)
    fused = fusion.fuse(arrays, WEIGHTS)
    normal = [a / a.sum(axis=1, keepdims=True, dtype=np.float64) for a in arrays]
    mean = sum(w * p for w, p in zip(WEIGHTS, normal, strict=True)) / sum(WEIGHTS)
    np.testing.assert_allclose(fused, mean, atol=1e-6)
    np.testing.assert_allclose(fusion.fuse(arrays), sum(normal) / 3, atol=1e-6)
    tempered = fusion.fuse(drawn(sizes=[(6, 8)]), values="logits", temperatures=[2])
    np.testing.assert_allclose(tempered, softmax(drawn(sizes=[(6, 8)])[0] / 2.0), atol=1e-6)


def test_groups_temperatures_and_multipliers_are_the_ensembles():
    arrays, groups = drawn(), {"a": [0, 2], "b": [1]}
    boost = [1.0, 2.0, 0.5, 1.0]
    expected = ensemble_of(
        arrays,
        "logits",
        groups,
        (0.3, 0.7),
        temperatures={"2": 1.5, "0": 0.7},
        multipliers=boost,
    )
    how = {"values": "logits", "multipliers": boost}
    listed = fusion.fuse(
        arrays, [0.3, 0.7], groups=[[0, 2], [1]], temperatures=[0.7, 1, 1.5], labels=True, **how
    )
    assert np.array_equal(listed, whole(expected, "predict"))
    named = dict(zip("xyz", arrays, strict=True))
    same = fusion.fuse(
        named,
        {"b": 0.7, "a": 0.3},
        groups={"a": ["x", 2], "b": ["y"]},
        temperatures={"x": 0.7, "z": 1.5},
        labels=True,
        values="logits",
        multipliers=dict(zip(["sky", "road", "car", "tree"], boost, strict=True)),
    )
    assert np.array_equal(same, listed)
    assert not np.array_equal(same, fusion.fuse(arrays, values="logits", labels=True))


@pytest.mark.parametrize("resize", ["probabilities", "logits"])
@pytest.mark.parametrize("mean", ["arithmetic", "geometric"])
def test_an_ensemble_is_a_recipe_for_other_predictions(resize, mean):
    how = {"resize": resize, "mean": mean, "temperatures": {"1": 1.3}}
    groups = {"a": [0, 2], "b": [1]}
    recipe = ensemble_of(drawn(), "logits", groups, (0.3, 0.7), **how)
    others = drawn(seed=5)
    expected = ensemble_of(others, "logits", groups, (0.3, 0.7), **how)
    fused = fusion.fuse(others, recipe, values="logits")
    assert np.array_equal(fused, whole(expected, "predict_proba"))
    some = recipe.regrouped({"a": recipe.groups["a"]})  # what is not in it is left out
    alone = ensemble_of([others[0], others[2]], "logits", {"a": [0, 1]}, (1,), resize=resize)
    if mean == "arithmetic":
        fused = fusion.fuse([o[..., :6, :8] for o in others], some, values="logits", size=(6, 8))
        assert np.array_equal(fused, whole(alone, "predict_proba"))


@pytest.mark.parametrize("form", HEADS)
def test_a_recipe_may_be_a_head(form):
    groups, classes = {"a": [0, 2], "b": [1]}, [str(c) for c in range(C)]
    how = {"head": head_of(groups, form, classes=classes), "multipliers": [1, 2, 0.5, 1]}
    recipe = ensemble_of(drawn(), "logits", groups, (1, 1), **how)
    others = drawn(seed=5)
    expected = ensemble_of(others, "logits", groups, (1, 1), **how)
    fused = fusion.fuse(others, recipe, values="logits")
    assert np.array_equal(fused, whole(expected, "predict_proba"))
    labels = fusion.fuse(others, recipe, values="logits", labels=True)
    assert np.array_equal(labels, whole(expected, "predict"))
    assert not np.array_equal(labels, fused.argmax(axis=1))  # multipliers are the recipe's too


def test_one_image_comes_without_n_and_other_types_are_the_same():
    arrays = drawn("probabilities")
    many = fusion.fuse(arrays, WEIGHTS)
    one = fusion.fuse([a[1] for a in arrays], WEIGHTS)
    assert one.shape == (C, 12, 16)
    assert np.array_equal(one, many[1])
    labels = fusion.fuse([a[1] for a in arrays], WEIGHTS, labels=True)
    assert labels.shape == (12, 16)
    nested = fusion.fuse([a[1].tolist() for a in arrays], WEIGHTS)
    assert np.array_equal(nested, one)
    tensors = [torch.from_numpy(a).double().requires_grad_() for a in arrays]
    assert np.array_equal(fusion.fuse(tensors, WEIGHTS).numpy(), many)
    before = [a.copy() for a in arrays]
    fusion.fuse(arrays, WEIGHTS)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, before, strict=True))


@pytest.mark.parametrize("values", ["probabilities", "logits", "scores"])
def test_tensors_that_stay_on_their_device_have_the_same_checks(values, monkeypatch):
    arrays, bad = drawn(values), drawn(values)[0]
    bad[1, :, 2, 3] = np.nan
    expected = fusion.fuse(arrays, WEIGHTS, values=values)
    with pytest.raises(InputError) as plain:
        fusion.fuse([bad], values=values)
    monkeypatch.setattr(images, "stays", lambda array: True)  # as on a GPU
    tensors = [torch.from_numpy(array) for array in arrays]
    fused = fusion.fuse(tensors, WEIGHTS, values=values).numpy()
    if values == "probabilities":  # another library's logarithms
        np.testing.assert_allclose(fused, expected, atol=1e-6)
    else:
        assert np.array_equal(fused, expected)
    with pytest.raises(InputError) as there:
        fusion.fuse([torch.from_numpy(bad)], values=values)
    assert str(there.value) == str(plain.value)
    with pytest.raises(InputError, match=r"got torch.int64; give floating"):
        fusion.fuse([tensors[0].long()], values=values)


@pytest.mark.parametrize("values", ["sigmoid", "sigmoid-probabilities"])
def test_both_libraries_make_the_same_channels(values):
    (frame,) = drawn(values, [(6, 8)])[0][:1]
    frame[0, 0, 0] = 0.0
    one = kernel_numbers(frame, C, values)
    other = kernel_numbers(torch.from_numpy(frame), C, values, torch)
    assert other.dtype == torch.float32
    np.testing.assert_allclose(other.numpy(), one, rtol=1e-6)
    frame[1, 2, 3] = np.nan
    sentences = []
    for given in ((frame, C, values), (torch.from_numpy(frame), C, values, torch)):
        with pytest.raises(InputError) as refused:
            kernel_numbers(*given)
        sentences.append(str(refused.value))
    assert sentences[0] == sentences[1]


def test_three_hundred_classes_have_wide_labels():
    logits = np.zeros((300, 2, 2), np.float32)
    logits[299, 0, 0] = 1.0
    labels = fusion.fuse([logits], values="logits", labels=True)
    assert labels.dtype == np.uint16
    assert labels.tolist() == [[299, 0], [0, 0]]


BAD = drawn("probabilities")[0]
NOT_FINITE = BAD.copy()
NOT_FINITE[1, 2, 3, 4] = np.nan


@pytest.mark.parametrize(
    ("predictions", "options", "message"),
    [
        (BAD, {}, "predictions: got a ndarray; give a list of arrays, one for each model"),
        ([], {}, "predictions: got none"),
        (
            [BAD[0, 0]],
            {},
            r"prediction '0': got shape \[6, 8\]; give \[C, H, W\] or \[N, C",
        ),
        ([BAD, BAD[:2]], {}, r"prediction '1': got \[2, 4, 6, 8\], '0' has \[3, 4, 'h', 'w'\]"),
        ([BAD, BAD[0]], {}, r"prediction '1': got shape \[4, 6, 8\]"),
        (
            [NOT_FINITE],
            {},
            r"prediction '0', image 1: 1 NaN or \+inf, the first at",
        ),
        ([-BAD], {}, "prediction '0', image 0: 192 negative probabilities"),
        ([BAD.astype(int)], {}, "image 0: got dtype int64; give floating-point"),
        ([BAD], {"values": "votes"}, "values: got 'votes'; choose one of"),
        ([BAD], {"weights": [1, 2]}, "weights: got 2; give 1, of 0"),
        ([BAD], {"weights": [-1]}, "weights: got {'0': -1.0}; give finite numbers >= 0"),
        ([BAD], {"weights": {"swin": 1}}, "weights: unknown group 'swin'"),
        ([BAD], {"groups": [[1]]}, "group '0': 1 is no prediction; choose one of 0"),
        ([BAD], {"groups": [[0, 0]]}, "group '0': got .* each once"),
        ([BAD], {"groups": {"a": []}}, "group 'a': got .* at least one model"),
        ([BAD], {"temperatures": [0]}, "temperatures: got .*; give numbers from"),
        ([BAD], {"temperatures": {"x": 1}}, "temperatures: 'x' is no prediction"),
        ([BAD], {"temperatures": ["hot"]}, "temperatures: .*; give a list of numbers"),
        ([BAD], {"multipliers": [1, 2]}, "multipliers: "),
        ([BAD], {"thresholds": 0.5}, "thresholds: these classes exclude each other"),
        ([BAD], {"size": (0, 4)}, "video 'result': size .* give .height, width. in pixels"),
    ],
)
def test_mistakes_are_one_sentence(predictions, options, message):
    with pytest.raises(InputError, match=message):
        fusion.fuse(predictions, **options)


def test_a_recipe_that_does_not_fit_is_refused():
    recipe = ensemble_of(drawn(), "logits")
    with pytest.raises(InputError, match="weights: '2' is no prediction; choose one of 0, 1"):
        fusion.fuse(drawn()[:2], recipe, values="logits")
    with pytest.raises(InputError, match="says all the rest too; give it alone"):
        fusion.fuse(drawn(), recipe, values="logits", temperatures=[1, 1, 1])
    with pytest.raises(InputError, match="got 3 of values 'logits'; the ensemble has 4 classes"):
        fusion.fuse([a[:, :3] for a in drawn()], recipe, values="logits")
    with pytest.raises(InputError, match="got 4 of values 'sigmoid'; the ensemble has 4 classes"):
        fusion.fuse(drawn(), recipe, values="sigmoid")


@pytest.mark.parametrize("values", ["sigmoid", "sigmoid-probabilities"])
@pytest.mark.parametrize("thresholds", [None, 0.3, [0.2, 0.4, 0.5, 0.9]])
def test_channels_are_masks(values, thresholds):
    arrays = drawn(values, [(6, 8)] * 3)
    how = {"values": values, "thresholds": thresholds}
    fused = fusion.fuse(arrays, WEIGHTS, **how)
    masks = fusion.fuse(arrays, WEIGHTS, labels=True, **how)
    p = [a.astype(np.float64) if values != "sigmoid" else 1 / (1 + np.exp(-a)) for a in arrays]
    mean = sum(w * q for w, q in zip(WEIGHTS, p, strict=True)) / sum(WEIGHTS)
    np.testing.assert_allclose(fused, mean, atol=1e-6)
    limits = np.broadcast_to(0.5 if thresholds is None else thresholds, (C,))[:, None, None]
    clear = np.abs(mean - limits) > 1e-5
    assert masks.shape == (N, C, 6, 8)
    assert np.array_equal(masks[clear], (mean > limits)[clear])
    expected = ensemble_of(arrays, values, thresholds=thresholds)
    assert np.array_equal(masks, whole(expected, "predict"))
    assert np.array_equal(fused, whole(expected, "predict_proba"))
