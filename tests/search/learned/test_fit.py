"""Training against another optimiser, at its limits, and where the loss is no number."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from fusion.ensemble.heads import HEADS
from fusion.metrics.objectives import objective
from fusion.search.learned import fit
from fusion.search.learned.cells import Sample
from fusion.search.learned.fit import Training
from fusion.search.learned.losses import Loss

UNITS, CLASSES, CELLS = 3, 4, 200
CPU = torch.device("cpu")


def sample(seed: int = 0, unseen: int | None = None) -> Sample:
    """Cells of models that are right more often than not; the second confuses two classes."""
    rng = np.random.default_rng(seed)
    truth = rng.choice([c for c in range(CLASSES) if c != unseen], CELLS)
    logits = rng.normal(0, 1.5, (CELLS, UNITS, CLASSES))
    logits[np.arange(CELLS), :, truth] += [1.0, 2.0, 0.5]
    logits[:, 1, [1, 2]] = logits[:, 1, [2, 1]]
    logs = torch.log_softmax(torch.from_numpy(logits), 2).numpy().astype(np.float32)
    counts = np.eye(CLASSES, dtype=np.float32)[truth] * rng.integers(1, 5, (CELLS, 1))
    return Sample(logs, counts.astype(np.float32), np.arange(CELLS) // 50)


def independent(form, given: Sample, wanted, share, strength) -> tuple[float, dict]:
    """The minimum of the same loss in float64, by SciPy."""
    kind, start = HEADS[form], HEADS[form].start(UNITS, CLASSES, None)
    ends = np.cumsum([array.size for array in start.values()])
    arrays = [np.float64(array) for array in (given.logs, given.counts)]
    logs, counts = map(torch.from_numpy, arrays)
    loss = Loss(counts, torch.from_numpy(given.case), wanted, share)

    def parts(flat: torch.Tensor) -> dict[str, torch.Tensor]:
        pieces = torch.tensor_split(flat, ends[:-1].tolist())
        return {n: p.view(start[n].shape) for n, p in zip(start, pieces, strict=True)}

    def value(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        moved = torch.from_numpy(numbers).requires_grad_()
        tensors = {n: torch.from_numpy(np.float64(start[n])) + p for n, p in parts(moved).items()}
        pull = sum(p.square().sum() for n, p in parts(moved).items() if n != "bias")
        total = loss(kind.scores(tensors, logs)) + strength * pull
        total.backward()
        return total.item(), moved.grad.numpy()

    how = {"maxiter": 3000, "maxfun": 5000, "ftol": 1e-12, "gtol": 1e-9}
    found = minimize(value, np.zeros(ends[-1]), jac=True, method="L-BFGS-B", options=how)
    moved = parts(torch.from_numpy(found.x))
    return found.fun, {n: start[n] + moved[n].numpy() for n in start}


def labels(form, arrays, given: Sample) -> np.ndarray:
    tensors = {n: torch.from_numpy(np.float64(a)) for n, a in arrays.items()}
    return HEADS[form].scores(tensors, torch.from_numpy(np.float64(given.logs))).argmax(1).numpy()


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("form", ["log", "mix"])
def test_it_ends_where_another_optimiser_ends(monkeypatch, form, share):
    """With steps enough; with those that it has, half a percent of the loss from there."""
    given, wanted, kind = sample(), objective("vspw"), HEADS[form]
    train = Training(wanted, share, CPU)
    quick = train.path(kind, None, given, kind.strengths)
    monkeypatch.setattr(fit, "STEPS", 100)
    fits = train.path(kind, None, given, kind.strengths)
    assert len(fits) == len(quick) == len(kind.strengths)
    for short, found, strength in zip(quick, fits, kind.strengths, strict=True):
        least, arrays = independent(form, given, wanted, share, strength)
        assert found.loss == pytest.approx(least, rel=1e-4)
        assert least * (1 - 1e-5) <= short.loss <= least * 1.005
        mine, theirs, soon = (labels(form, a, given) for a in (found.arrays, arrays, short.arrays))
        assert (mine != theirs).mean() <= 0.005  # one, at a tie
        assert (soon != theirs).mean() <= 0.02
        assert found.stopped is None
    assert fits[0].loss > fits[-1].loss  # a weaker pull leaves more room
    start = labels(form, kind.start(UNITS, CLASSES, None), given)
    assert (start != mine).mean() > 0.05


@pytest.mark.parametrize("form", HEADS)
def test_an_endless_pull_stays_at_the_start(form):
    (found,) = Training(objective("vspw"), 1.0, CPU).path(HEADS[form], None, sample(), [1e6])
    for name, array in HEADS[form].start(UNITS, CLASSES, None).items():
        if name != "bias":
            np.testing.assert_allclose(found.arrays[name], array, atol=1e-5)


@pytest.mark.parametrize("form", HEADS)
def test_it_starts_from_the_form_below(form):
    given, train = sample(), Training(objective("vspw"), 1.0, CPU)
    below = HEADS[form].below
    if below is None:
        return
    (small,) = train.path(HEADS[below], None, given, [0.003])
    (found,) = train.path(HEADS[form], small.arrays, given, [1e6])
    assert np.array_equal(labels(form, found.arrays, given), labels(below, small.arrays, given))


@pytest.mark.parametrize("form", HEADS)
def test_scores_of_unseen_classes_do_not_move(form):
    kind = HEADS[form]
    (found,) = Training(objective("vspw"), 1.0, CPU).path(kind, None, sample(unseen=2), [1e-3])
    units, classes = (f"u{n}" for n in range(UNITS)), (f"c{n}" for n in range(CLASSES))
    head = kind(tuple(units), tuple(classes), found.arrays)
    start = kind(head.units, head.classes, kind.start(UNITS, CLASSES, None))
    assert np.array_equal(head.full_mixing[:, 2], start.full_mixing[:, 2])
    assert head.bias[2] == 0
    seen = [0, 1, 3]
    assert (np.abs(head.full_mixing - start.full_mixing)[:, seen, seen] > 1e-4).all()
    if form == "mix":  # others may look at what was said of it
        assert (np.abs(head.full_mixing[:, seen, 2]) > 1e-6).any()


@pytest.mark.parametrize("bad", [1, 6])
def test_a_loss_that_is_no_number_stops_with_the_best_before(monkeypatch, bad):
    calls = []

    class Broken(Loss):
        def __call__(self, scores):
            value = super().__call__(scores)
            calls.append(value.item())
            return value * (float("nan") if len(calls) >= bad else 1.0)

    monkeypatch.setattr(fit, "Loss", Broken)
    training = Training(objective("vspw"), 1.0, CPU)
    (found,) = training.path(HEADS["log"], None, sample(), [1e-3])
    assert found.stopped == bad
    assert all(np.isfinite(array).all() for array in found.arrays.values())
    start = HEADS["log"].start(UNITS, CLASSES, None)
    if bad == 1:
        assert all(np.array_equal(array, start[n]) for n, array in found.arrays.items())
        return
    best = min(calls[: bad - 1])
    assert best <= found.loss < calls[0]  # with its pull
    given = sample()
    loss = Loss(*map(torch.from_numpy, (given.counts, given.case)), objective("vspw"), 1.0)
    tensors = {n: torch.from_numpy(a) for n, a in found.arrays.items()}
    mine = loss(HEADS["log"].scores(tensors, torch.from_numpy(given.logs)))
    assert float(mine) == pytest.approx(best, rel=1e-5)


@pytest.mark.parametrize("name", ["vspw", "dice", "case-iou", "case-dice-nnunet"])
def test_without_a_labelled_cell_it_stays_at_the_start(name):
    given = sample()
    nothing = Sample(given.logs[:0], given.counts[:0], given.case[:0])
    fits = Training(objective(name), 1.0, CPU).path(HEADS["log"], None, nothing, [0.1, 0.01])
    for found in fits:
        for n, array in HEADS["log"].start(UNITS, CLASSES, None).items():
            assert np.array_equal(found.arrays[n], array)


def test_fits_are_kept_by_all_that_they_follow_from(tmp_path, monkeypatch):
    given, wanted = sample(), objective("vspw")
    plain, kept = (Training(wanted, 1.0, CPU, folder) for folder in (None, tmp_path))
    kind = HEADS["log"]

    def same(mine, theirs) -> bool:
        pairs = list(zip(mine, theirs, strict=True))
        arrays = all(np.array_equal(a.arrays[n], b.arrays[n]) for a, b in pairs for n in a.arrays)
        return arrays and [a.loss for a, _ in pairs] == [b.loss for _, b in pairs]

    expected = plain.path(kind, None, given, [0.1, 0.01])
    assert same(kept.path(kind, None, given, [0.1, 0.01]), expected)
    (file,) = tmp_path.iterdir()
    monkeypatch.setattr(Training, "_descend", None)  # nothing is trained again
    assert same(kept.path(kind, None, given, [0.1, 0.01]), expected)
    monkeypatch.undo()
    other = Sample(given.logs * np.float32(1.001), given.counts, given.case)
    kept.path(kind, None, other, [0.1, 0.01])
    kept.path(kind, None, given, [0.1])
    kept.path(kind, expected[0].arrays, given, [0.1, 0.01])
    Training(wanted, 0.5, CPU, tmp_path).path(kind, None, given, [0.1, 0.01])
    Training(objective("dice"), 1.0, CPU, tmp_path).path(kind, None, given, [0.1, 0.01])
    assert len(list(tmp_path.iterdir())) == 6
    for damage in (b"", file.read_bytes()[:-5]):
        file.write_bytes(damage)
        assert same(kept.path(kind, None, given, [0.1, 0.01]), expected)
