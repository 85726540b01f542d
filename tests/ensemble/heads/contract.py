"""What every form of head keeps: a test class that a form's tests inherit by naming it.

class TestMix(HeadContract):
    kind = Mix
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from fusion.ensemble.heads import HEADS, head_of
from fusion.ensemble.heads.base import Arrays, Head
from fusion.errors import InputError

UNITS, CLASSES = ("u0", "u1", "u2"), ("a", "b", "c", "d")
RANK = 2  # of what is drawn


def drawn(kind: type[Head], seed: int = 0) -> Head:
    """A head of random parameters."""
    rng, sizes = np.random.default_rng(seed), {"U": len(UNITS), "C": len(CLASSES), "R": RANK}
    shapes = {name: [sizes[letter] for letter in letters] for name, letters in kind.sizes.items()}
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return kind(UNITS, CLASSES, arrays)


def logs(pixels: int = 7, seed: int = 1) -> torch.Tensor:
    """float64 log-probabilities [N, U, C]."""
    made = np.random.default_rng(seed).normal(0, 3, (pixels, len(UNITS), len(CLASSES)))
    return torch.log_softmax(torch.from_numpy(made), dim=2)


def scores(kind: type[Head], arrays: Arrays, given: torch.Tensor) -> np.ndarray:
    """A form's own scores, float64 [N, C]."""
    tensors = {name: torch.from_numpy(np.float64(array)) for name, array in arrays.items()}
    return kind.scores(tensors, given).numpy()


def by_loop(mixing: np.ndarray, bias: np.ndarray, given: torch.Tensor) -> np.ndarray:
    """b_c + sum_u sum_k W_uck log P_uk, a number at a time."""
    found = np.zeros((len(given), len(bias)))
    for n, pixel in enumerate(given.numpy()):
        for c in range(len(bias)):
            total = float(bias[c])
            for u in range(len(mixing)):
                for k in range(len(bias)):
                    total += float(mixing[u, c, k]) * pixel[u, k]
            found[n, c] = total
    return found


class HeadContract:
    """kind: the form."""

    kind: ClassVar[type[Head]]

    @property
    def head(self) -> Head:
        return drawn(self.kind)

    def test_it_is_registered_and_the_chain_below_it_ends(self):
        assert HEADS[self.kind.name] is self.kind
        passed, below = [self.kind.name], self.kind.below
        while below is not None:
            assert below not in passed
            passed, below = [*passed, below], HEADS[below].below
        assert list(HEADS).index(passed[-1]) == 0
        assert list(self.kind.strengths) == sorted(self.kind.strengths, reverse=True)
        assert self.kind.sizes["bias"] == "C"

    def test_a_configuration_is_the_head(self):
        config = self.head.get_config()
        again, any_form = self.kind.from_config(config), head_of(config)
        assert again == any_form == self.head
        assert hash(again) == hash(self.head)
        assert again != drawn(self.kind, seed=1)
        assert again != replace(again, units=("u0", "u1", "u3"))
        for name, array in again.arrays.items():
            moved = array.copy()
            moved.flat[-1] += 1
            assert again != replace(again, arrays={**again.arrays, name: moved})
        assert again != "head"
        with pytest.raises(InputError, match=f"got form '{self.kind.name}x'; did you mean"):
            head_of({**config, "form": f"{self.kind.name}x"})

    def test_it_starts_as_the_form_below_with_its_parameters(self):
        sizes, given = (len(UNITS), len(CLASSES)), logs()
        plain = self.kind.start(*sizes, None)
        mean = given.mean(dim=1).numpy()  # of logarithms: the geometric mean's scores
        np.testing.assert_allclose(scores(self.kind, plain, given), mean, rtol=1e-6)
        self.kind(UNITS, CLASSES, plain)
        if self.kind.below is None:
            return
        below = drawn(HEADS[self.kind.below], seed=5)
        start = self.kind.start(*sizes, below.arrays)
        assert np.array_equal(
            scores(self.kind, start, given), scores(type(below), below.arrays, given)
        )
        made, smaller = self.kind(UNITS, CLASSES, start), type(below)(UNITS, CLASSES, below.arrays)
        assert np.array_equal(made.full_mixing, smaller.full_mixing)

    def test_scores_are_the_sum_of_the_formula(self):
        head, given = self.head, logs()
        expected = by_loop(head.full_mixing, head.bias, given)
        np.testing.assert_allclose(scores(self.kind, head.arrays, given), expected, rtol=2e-6)

    def test_mixing_is_the_diagonal_or_all_of_it(self):
        head, size = self.head, len(CLASSES)
        mixing, full = head.mixing, head.full_mixing
        assert full.shape == (len(UNITS), size, size)
        assert full.dtype == mixing.dtype == np.float32
        if mixing.ndim == 3:
            assert np.array_equal(mixing, full)
        else:
            assert np.array_equal(mixing, full.diagonal(axis1=1, axis2=2))
            assert not full[:, ~np.eye(size, dtype=bool)].any()

    def test_probabilities_are_the_softmax_of_scores(self):
        head, given = self.head, logs(pixels=12)
        maps = [given[:, u].exp().T.reshape(-1, 3, 4).float() for u in range(len(UNITS))]
        found = head.probabilities(maps).flatten(1).T.numpy()
        expected = torch.softmax(torch.from_numpy(by_loop(head.full_mixing, head.bias, given)), 1)
        np.testing.assert_allclose(found, expected.numpy(), atol=5e-6)

    @pytest.mark.parametrize("temperature", [0.5, 3.0])
    def test_cooling_divides_scores(self, temperature):
        cooled, given = self.head.cooled(temperature), logs()
        expected = scores(self.kind, self.head.arrays, given) / temperature
        np.testing.assert_allclose(scores(self.kind, cooled.arrays, given), expected, rtol=1e-5)
        assert all(array.dtype == np.float32 for array in cooled.arrays.values())
        assert (cooled.units, cooled.classes) == (UNITS, CLASSES)

    def test_gradients_are_finite_differences(self):
        head, given = self.head, logs(pixels=3)
        arrays = {n: torch.from_numpy(np.float64(a)) for n, a in head.arrays.items()}
        names, leaves = list(arrays), [a.requires_grad_() for a in arrays.values()]

        def made(*parameters: torch.Tensor) -> torch.Tensor:
            return self.kind.scores(dict(zip(names, parameters, strict=True)), given)

        assert torch.autograd.gradcheck(made, leaves)

    def test_what_is_no_head_is_refused_in_a_sentence(self):
        head = self.head
        for name, array in head.arrays.items():
            for number in (np.nan, -np.inf):
                damaged = array.copy()
                damaged.flat[1] = number
                said = f"^head '{head.name}': {name} holds numbers that are not finite; train it"
                with pytest.raises(InputError, match=said):
                    replace(head, arrays={**head.arrays, name: damaged})
            for given in (array.ravel()[:-1], array[..., None]):
                said = rf"^head '{head.name}': got {name} of shape \[[\d, ]+\]; give \[[\d, R]+\]$"
                with pytest.raises(InputError, match=said):
                    replace(head, arrays={**head.arrays, name: given})
            rest = {n: a for n, a in head.arrays.items() if n != name}
            with pytest.raises(InputError, match=r"got arrays \[.*\]; give \[.*'bias'"):
                replace(head, arrays=rest)
        with pytest.raises(InputError, match=r"got arrays .*'more'"):
            replace(head, arrays={**head.arrays, "more": head.bias})
        with pytest.raises(InputError, match=r"of shape \[.*\]; give \[.*5"):
            replace(head, classes=(*CLASSES, "e"))

    def test_other_units_and_classes_are_named(self):
        head = self.head
        head.check(UNITS[::-1], CLASSES)  # in any order
        wrong = {
            (UNITS[:2], CLASSES): "the ensemble lacks u2; give the groups that it was trained on",
            ((*UNITS, "u9"), CLASSES): "the head lacks u9",
            (UNITS, CLASSES[:3]): "4 of them, stores have 3",
            (UNITS, (*CLASSES[:3], "e")): "'d' where stores have 'e'",
        }
        for given, said in wrong.items():
            with pytest.raises(InputError, match=said):
                head.check(*given)

    def test_it_says_its_size(self):
        head = self.head
        assert head.parameters == sum(array.size for array in head.arrays.values())
        expected = f"{self.kind.__name__}(3 units, 4 classes, {head.parameters} parameters)"
        assert repr(head) == expected
