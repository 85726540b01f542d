"""What a peer is: another way to the same answer, of a library that may not be here."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_said: set[str] = set()


@dataclass(frozen=True)
class Peer:
    """A contender.

    Args:
        name: its row's.
        run: from what its kind of contest is about to the answer.
        needs: modules that have to be there.
        install: what `pip install` brings them.
        there: whether the machine has what else it takes, such as a GPU.
        answers: of a peer that answers another question: its right answer, by the definition.
    """

    name: str
    run: Callable[..., Any]
    needs: tuple[str, ...] = ()
    install: str = ""
    there: Callable[[], bool] = lambda: True
    answers: Callable[..., Any] | None = None

    def __call__(self, *problem: Any) -> Any:
        return self.run(*problem)

    def missing(self) -> str | None:
        """What to do before it can run; None where it can."""
        absent = [module for module in self.needs if importlib.util.find_spec(module) is None]
        if absent:
            return f"{self.name}: left out, there is no {absent[0]}; pip install {self.install}"
        return None if self.there() else f"{self.name}: left out, this machine has no GPU"


def table(*peers: Peer) -> dict[str, Peer]:
    """One kind of contest's contenders by name."""
    return {peer.name: peer for peer in peers}


def present(peers: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Those that can run here; a line on stderr, once, says why another one cannot."""
    kept = {}
    for name, run in peers.items():
        missing = run.missing() if isinstance(run, Peer) else None
        if missing is None:
            kept[name] = run
        elif missing not in _said:
            _said.add(missing)
            print(missing, file=sys.stderr)
    return kept
