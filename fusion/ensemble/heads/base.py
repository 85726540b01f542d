"""What a head is: fusion that may look at every class of every unit, not at one weight a unit.

    S_c = b_c + sum_u sum_k W_uck log P_uk,    F = softmax(S)

A unit is a group of an ensemble: the mean of its models' probabilities, or one model by itself. A
form says which W there are: its parameters, W of these, and the parameters at which it predicts as
the form below it does, towards which training pulls. A new form is one file, one entry in
`fusion.ensemble.heads`, and one test class that inherits tests/ensemble/heads/contract.py.

Linear stacking of log-probabilities: Wolpert, "Stacked Generalization", Neural Networks 5, 1992;
where each class looks at itself alone, a logarithmic opinion pool (Genest and Zidek, "Combining
Probability Distributions", Statistical Science 1, 1986).

U units, C classes, N pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fusion.ensemble.heads.explain import explain
from fusion.errors import InputError
from fusion.text import listed

if TYPE_CHECKING:
    from torch import Tensor

Floats = NDArray[np.float32]
Arrays = Mapping[str, Floats]


@dataclass(frozen=True, eq=False)
class Head(ABC):
    """A trained head; `from_config(head.get_config()) == head`.

    name: of the form. about: what it is, in a few words. below: the form that it falls back to,
    None for the smallest. sizes: of every parameter, in letters: U, C, R (a rank). strengths: of
    training's pull towards the form below, per squared parameter, the strongest first.
    classes_first: whether `scores` is fast where log-probabilities lie in memory as [C, N, U].

    Args:
        units: names, in the order of the sums.
        classes: names.
        arrays: the form's parameters by name, float32; "bias" [C] is in every form.

    Raises:
        InputError: parameters of other names or shapes, or that are not finite.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    below: ClassVar[str | None]
    sizes: ClassVar[Mapping[str, str]]
    strengths: ClassVar[tuple[float, ...]]
    classes_first: ClassVar[bool] = False

    units: tuple[str, ...]
    classes: tuple[str, ...]
    arrays: Arrays

    def __post_init__(self) -> None:
        known = {"U": len(self.units), "C": len(self.classes)}
        if self.arrays.keys() != self.sizes.keys():
            got = f"arrays {sorted(self.arrays)}"
            raise InputError(f"head {self.name!r}: got {got}; give {sorted(self.sizes)}")
        for name, letters in self.sizes.items():
            shape = np.shape(self.arrays[name])
            sizes = [known.setdefault(x, n) for x, n in zip(letters, shape, strict=False)]
            if len(shape) != len(letters) or list(shape) != sizes:
                want = f"[{', '.join(str(known.get(letter, letter)) for letter in letters)}]"
                got = f"{name} of shape {list(shape)}"
                raise InputError(f"head {self.name!r}: got {got}; give {want}")
            if not np.isfinite(self.arrays[name]).all():
                got = f"{name} holds numbers that are not finite"
                raise InputError(f"head {self.name!r}: {got}; train it again")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Head):
            return NotImplemented
        same = (self.name, self.units, self.classes) == (other.name, other.units, other.classes)
        return same and all(np.array_equal(a, other.arrays[n]) for n, a in self.arrays.items())

    def __hash__(self) -> int:
        return hash((self.name, self.units, self.classes))

    def __repr__(self) -> str:
        sizes = f"{len(self.units)} units, {len(self.classes)} classes"
        return f"{type(self).__name__}({sizes}, {self.parameters} parameters)"

    def __str__(self) -> str:
        """What it learned: the units and classes that carry weight, and what is mixed."""
        return explain(self, f"{self!r}\n{self.about}")

    @classmethod
    @abstractmethod
    def start(cls, units: int, classes: int, below: Arrays | None) -> dict[str, Floats]:
        """Parameters that predict as the form below does with its parameters."""

    @property
    @abstractmethod
    def mixing(self) -> Floats:
        """W, float32 [U, C, C] as [unit, class of the score, class of the unit], or its diagonal
        [U, C].
        """

    @staticmethod
    @abstractmethod
    def scores(arrays: Mapping[str, Tensor], logs: Tensor) -> Tensor:
        """S [N, C] of log-probabilities [N, U, C]: what training follows the gradient of."""

    @property
    def bias(self) -> Floats:
        """b, float32 [C]."""
        return self.arrays["bias"]

    @property
    def parameters(self) -> int:
        """How many numbers were trained."""
        return sum(array.size for array in self.arrays.values())

    @property
    def full_mixing(self) -> Floats:
        """W as float32 [U, C, C] whatever the form."""
        mixing = self.mixing
        return (
            mixing
            if mixing.ndim == 3
            else mixing[:, :, None] * np.eye(len(self.classes), dtype=np.float32)
        )

    def probabilities(
        self,
        maps: Sequence[Tensor],
        *,
        values: Sequence[str] | str = "probabilities",
        temperatures: Sequence[float] | None = None,
    ) -> Tensor:
        """F, float32 [C, ...], of a map [C, ...] for every unit; arguments: `kernels.head`."""
        from fusion import kernels

        how: dict[str, Any] = {"values": values, "temperatures": temperatures}
        fused = kernels.head(maps, self.mixing, self.bias, **how).probabilities
        assert fused is not None
        return fused

    def only(self, units: Sequence[str]) -> Self:
        """The head without the blocks of all other units; nothing is trained again."""
        places = [self.units.index(unit) for unit in units]
        arrays = {
            name: np.take(array, places, self.sizes[name].index("U"))
            if "U" in self.sizes[name]
            else array
            for name, array in self.arrays.items()
        }
        return replace(self, units=tuple(units), arrays=arrays)

    def cooled(self, temperature: float) -> Self:
        """The head whose scores S are divided by a temperature."""
        divided = self.scaled(1 / temperature)
        return replace(self, arrays={n: np.asarray(a, np.float32) for n, a in divided.items()})

    def scaled(self, factor: float) -> Arrays:
        """Parameters whose scores S are these times a factor."""
        return {name: array * factor for name, array in self.arrays.items()}

    def get_config(self) -> dict[str, Any]:
        """Everything; arrays as arrays."""
        names = {"units": list(self.units), "classes": list(self.classes)}
        return {"form": self.name, **names, "arrays": dict(self.arrays)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The head of a configuration; InputError where it is of another form or damaged."""
        arrays = {name: np.ascontiguousarray(a, np.float32) for name, a in config["arrays"].items()}
        return cls(tuple(config["units"]), tuple(config["classes"]), arrays)

    def check(self, units: Sequence[str], classes: Sequence[str]) -> None:
        """InputError where an ensemble has other units, or other classes, than the head."""
        if set(units) != set(self.units):
            lacking = sorted(set(self.units) - set(units)) or sorted(set(units) - set(self.units))
            side = "the ensemble lacks" if set(self.units) - set(units) else "the head lacks"
            got = f"trained on {len(self.units)} units, {side} {listed(lacking, 3)}"
            raise InputError(f"head: {got}; give the groups that it was trained on")
        if tuple(classes) != self.classes:
            pairs = zip(self.classes, classes, strict=False)
            first = next((pair for pair in pairs if pair[0] != pair[1]), None)
            how = f"{len(self.classes)} of them, stores have {len(classes)}"
            if first is not None:
                how = f"{first[0]!r} where stores have {first[1]!r}"
            raise InputError(f"head: trained on other classes ({how}); train it on these stores")
