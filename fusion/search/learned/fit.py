"""Training one form: L-BFGS down a path of strengths, from the form below towards more freedom.

    loss(S) + strength * sum (parameters - start)^2

The start predicts as the form below does, so a form without evidence stays there; the strongest
pull comes first, and every next strength begins where the last one ended. Biases are not pulled.
With cross-entropy alone the loss is convex in `log` and `mix`: no step size, no number of steps to
choose, nothing drawn.

Parameters that make the score of a class without a labelled pixel do not move.
U units, C classes, N cells.
"""

from __future__ import annotations

import hashlib
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from fusion import tensors
from fusion.ensemble.heads import Head
from fusion.ensemble.heads.base import Arrays
from fusion.errors import StoreError
from fusion.metrics.objectives import Objective
from fusion.search.learned.cells import Sample
from fusion.search.learned.losses import Loss
from fusion.version import __version__

STEPS = 25  # of L-BFGS at a strength
MEMORY = 10  # steps that L-BFGS remembers
LEAST = 1e-6  # change of the loss that is worth another step


@dataclass(frozen=True)
class Training:
    """How heads are trained.

    objective: what the surrogate follows. share: of the surrogate beside cross-entropy. device:
    where. folder: where paths are kept, each named by all that it depends on, so that what was
    stopped goes on and what was trained before is there at once; None for nowhere.
    """

    objective: Objective
    share: float
    device: torch.device
    folder: Path | None = None

    def path(
        self,
        form: type[Head],
        below: Arrays | None,
        sample: Sample,
        strengths: Sequence[float],
        at: Arrays | None = None,
    ) -> list[Fit]:
        """A fit for every strength, in their order, the strongest first.

        Args:
            form: what is trained.
            below: parameters of the form below it, None where it is the smallest.
            sample: cells.
            strengths: of the pull towards the start.
            at: parameters to descend from, None for the start.
        """
        if self.folder is None:
            return self._descend(form, below, sample, strengths, at)
        key = self._key(form, below, sample, strengths, at)
        file = self.folder / f"{key}.safetensors"
        known = _read(file, key, form, len(strengths))
        if known is None:
            known = self._descend(form, below, sample, strengths, at)
            _write(file, key, known)
        return known

    def _key(
        self,
        form: type[Head],
        below: Arrays | None,
        sample: Sample,
        strengths: Sequence[float],
        at: Arrays | None,
    ) -> str:
        """SHA-256 of all that the fits follow from."""
        said = (form.name, list(strengths), self.objective.name, self.share, STEPS, __version__)
        found = hashlib.sha256(repr(said).encode())
        for place, arrays in enumerate((vars(sample), below or {}, at or {})):
            for name, array in sorted(arrays.items()):
                found.update(f"{place} {name} {array.shape}".encode())
                found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()

    def _descend(
        self,
        form: type[Head],
        below: Arrays | None,
        sample: Sample,
        strengths: Sequence[float],
        at: Arrays | None,
    ) -> list[Fit]:
        units, classes = sample.logs.shape[1:]
        logs, loss = torch.from_numpy(sample.logs).to(self.device), self.loss(sample)
        if form.classes_first:
            logs = logs.permute(2, 0, 1).contiguous().permute(1, 2, 0)
        start = {
            name: torch.from_numpy(array).to(self.device)
            for name, array in form.start(units, classes, below).items()
        }
        move = {name: _free(form.sizes[name], loss.counts.sum(dim=0) > 0) for name in start}
        if not len(logs):  # of void videos alone: no loss, no evidence
            return [Fit(form.start(units, classes, below), math.nan, None) for _ in strengths]
        descent = Descent(form, start, move, logs, loss)
        if at is not None:
            descent.go_to({n: torch.from_numpy(a).to(self.device) for n, a in at.items()})
        return [descent.down(strength) for strength in strengths]

    def loss(self, sample: Sample) -> Loss:
        """Of scores of these cells."""
        counts, case = (
            torch.from_numpy(array).to(self.device) for array in (sample.counts, sample.case)
        )
        return Loss(counts, case, self.objective, self.share)

    def bias(self, scores: Tensor, loss: Loss, start: Tensor) -> Tensor:
        """Biases [C] of the lowest loss, from `start`, beside scores [N, C] without a bias."""
        move = {"bias": _free("C", loss.counts.sum(dim=0) > 0)}
        fit = Descent(Biases, {"bias": start}, move, scores, loss).down(0.0)
        return torch.from_numpy(fit.arrays["bias"]).to(scores)


@dataclass(frozen=True)
class Fit:
    """Parameters, their loss (nan without cells), and the step at which it was no number (None:
    never).
    """

    arrays: Arrays
    loss: float
    stopped: int | None


def _write(file: Path, key: str, fits: Sequence[Fit]) -> None:
    arrays = {f"{place} {n}": a for place, fit in enumerate(fits) for n, a in fit.arrays.items()}
    tensors.write(file, arrays, {"key": key, "fits": [[f.loss, f.stopped] for f in fits]})


def _read(file: Path, key: str, form: type[Head], number: int) -> list[Fit] | None:
    """The fits of a file; None where there is none that is whole: they are made again.

    A line on stderr says so where there is something.
    """
    if not os.path.lexists(file):
        return None
    try:
        if not file.is_file():  # nobody waits at a pipe
            raise ValueError("no plain file")
        arrays, document = tensors.read(file, "remove it")
        if document.get("key", key) != key:  # releases up to 0.1 wrote none
            raise ValueError("of another head")
        rows = [{n: arrays[f"{place} {n}"] for n in form.sizes} for place in range(number)]
        return [Fit(row, *told) for row, told in zip(rows, document["fits"], strict=True)]
    except (StoreError, KeyError, TypeError, ValueError, AttributeError) as error:
        print(f"{file}: heads are trained again, these cannot be used ({error})", file=sys.stderr)
        return None


def _free(letters: str, seen: Tensor) -> Tensor:
    """1 for parameters that may move: all, but those of the scores of unseen classes."""
    shape = [1] * len(letters)
    if "C" in letters and ("U" in letters or letters == "C"):  # else C is a class of the units
        place = letters.index("C")
        shape[place] = len(seen)
        return seen.to(torch.float32).view(shape)
    return torch.ones(shape, device=seen.device)


class Scoring(Protocol):
    """What is trained: anything that makes scores [N, C] of parameters."""

    def scores(self, arrays: Mapping[str, Tensor], logs: Tensor, /) -> Tensor: ...


class Biases:
    """Biases alone, beside scores that are what they are."""

    @staticmethod
    def scores(arrays: Mapping[str, Tensor], scores: Tensor) -> Tensor:
        return scores + arrays["bias"]


class Descent:
    """L-BFGS on what parameters differ from their start."""

    def __init__(
        self,
        form: Scoring,
        start: Mapping[str, Tensor],
        move: Mapping[str, Tensor],
        logs: Tensor,
        loss: Loss,
    ) -> None:
        self.form, self.start, self.move, self.logs, self.loss = form, start, move, logs, loss
        self.moved = {n: torch.zeros_like(a, requires_grad=True) for n, a in start.items()}
        self.steps = 0

    def go_to(self, arrays: Mapping[str, Tensor]) -> None:
        """Begins at these parameters, where they may move."""
        with torch.no_grad():
            for name, moved in self.moved.items():
                moved.copy_((arrays[name] - self.start[name]) * self.move[name])

    def arrays(self) -> dict[str, Tensor]:
        return {n: self.start[n] + self.moved[n] * self.move[n] for n in self.start}

    def value(self, strength: float) -> Tensor:
        """The loss with its pull."""
        pull = sum(m.square().sum() for n, m in self.moved.items() if n != "bias")
        return self.loss(self.form.scores(self.arrays(), self.logs)) + strength * pull

    def down(self, strength: float) -> Fit:
        """The minimum at this strength, from where the last one was."""
        how: dict[str, Any] = {"line_search_fn": "strong_wolfe", "tolerance_change": LEAST}
        numbers = list(self.moved.values())
        optimiser = torch.optim.LBFGS(numbers, max_iter=STEPS, history_size=MEMORY, **how)
        best = math.inf, [number.detach().clone() for number in numbers]

        def closure() -> Tensor:
            nonlocal best
            optimiser.zero_grad()
            value = self.value(strength)
            self.steps += 1
            if not torch.isfinite(value):
                raise FloatingPointError(self.steps)
            if value.item() < best[0]:
                best = value.item(), [number.detach().clone() for number in numbers]
            value.backward()
            return value

        stopped = None
        try:
            optimiser.step(closure)
        except FloatingPointError as error:
            stopped = int(error.args[0])
        with torch.no_grad():  # the best met, whatever the last line search tried
            for number, kept in zip(numbers, best[1], strict=True):
                number.copy_(kept)
        arrays = {
            n: np.ascontiguousarray(a.detach().cpu().numpy()) for n, a in self.arrays().items()
        }
        return Fit(arrays, best[0], stopped)
