"""A disk that is only recorded, and what a power cut may leave of it at every moment.

The model, which is what POSIX promises and no more: the content of a file is on the disk once the
file is synced, a name once its folder is; a rename is one change of both its folders. Of all that
is not synced any part may be there: names without content, content cut short, a later change
without an earlier one.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.layer import Call, Layer, under

State = tuple[tuple[str, bytes | None], ...]  # files by path, and folders, whose content is None


@dataclass(eq=False)
class Node:
    """A file or folder. now: as programs see it. synced: what is on the disk for certain."""

    folder: bool
    now: Any
    synced: Any


@dataclass
class Change:
    """Names that come and go together: (folder, name, what it then is; None for nothing)."""

    edits: list[tuple[Node, str, Node | None]]


@dataclass
class Disk(Layer):
    """What programs did below a root, and the states that a power cut may have left.

    states: each with the promises that had been given: what must be there.
    """

    root: Any
    random_cuts: int = 2
    lose: tuple[str, ...] = ()
    states: dict[tuple[State, frozenset[str]], str] = field(default_factory=dict)
    promised: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        super().__init__(self.root)
        self.top, self.pending = self._read(Path(self.root)), list[Change]()
        self.open: dict[int, Node] = {}
        self.draw, self.moment = random.Random(0), 0
        self.keep("the beginning")

    def _read(self, path: Path) -> Node:
        if path.is_dir():
            entries = {each.name: self._read(each) for each in sorted(path.iterdir())}
            return Node(True, dict(entries), dict(entries))
        content = path.read_bytes()
        return Node(False, content, content)

    def promise(self, what: str) -> None:
        """From now on this must be there, whatever happens."""
        self.promised |= {what}
        self.keep(f"{what} is promised")

    # --- what happens

    def call(self, call: Call) -> Any:
        with self.lock:
            result = call.do()
            if self._see(call, result):
                self.moment += 1
                places = " ".join(os.path.relpath(place, self.root) for place in call.places)
                self.keep(f"{self.moment}: {call.name} {places}")
            return result

    def _see(self, call: Call, result: Any) -> bool:
        places = call.places
        if call.name in ("open", "create"):
            return self._opened(call, result, call.name == "create")
        if call.name == "write":
            self._written(self.open[call.handle or 0], call.handle)
        elif call.name == "truncate":
            node = self.open.get(call.handle or 0, self._at(places[0]))
            if node is not None:
                node.now = Path(places[0]).read_bytes()
        elif call.name == "fsync":
            if call.name not in self.lose:
                self._sync(self.open[call.handle or 0])
        elif call.name == "mkdir":
            self._change((places[0], Node(True, {}, {})))
        elif call.name in ("unlink", "rmdir"):
            self._change((places[0], None))
        elif call.name in ("rename", "replace"):
            self._change((places[0], None), (places[1], self._at(places[0])))
        elif call.name == "link":
            self._change((places[1], self._at(places[0])))
        elif call.name == "exchange":
            if result:
                one, two = (self._at(place) for place in places)
                self._change((places[0], two), (places[1], one))
        else:
            return False
        return True

    def _opened(self, call: Call, handle: int, fresh: bool) -> bool:
        if fresh:
            self._change((call.places[0], Node(False, b"", b"")))
        node = self._at(call.places[0])
        if node is None:
            return False
        self.open[handle] = node
        if not fresh and not node.folder and call.flags & os.O_TRUNC:
            node.now = b""
            return True
        return fresh

    def closed(self, handle: int) -> None:
        super().closed(handle)
        self.open.pop(handle, None)

    def _written(self, node: Node, handle: int | None) -> None:
        node.now = Path(f"/proc/self/fd/{handle}").read_bytes()

    def _sync(self, node: Node) -> None:
        if not node.folder:
            node.synced = node.now
            return
        for change in list(self.pending):
            if any(folder is node for folder, _, _ in change.edits):
                _apply(change)
                self.pending.remove(change)

    def _change(self, *edits: tuple[str, Node | None]) -> None:
        found = []
        for place, node in edits:
            folder = self._at(os.path.dirname(place))
            assert folder is not None, place
            found.append((folder, os.path.basename(place), node))
        for folder, name, node in found:
            folder.now.pop(name, None)
            if node is not None:
                folder.now[name] = node
        self.pending.append(Change(found))

    def _at(self, place: str) -> Node | None:
        node: Node | None = self.top
        for name in Path(os.path.relpath(place, self.root)).parts:
            if node is None or not node.folder:
                return None
            node = node.now.get(name)
        return node

    # --- what may be left

    def keep(self, why: str) -> None:
        """Adds the states that a power cut may leave now."""
        everything, nothing = len(self.pending) * [True], len(self.pending) * [False]
        cuts = [(everything, part) for part in (1.0, 0.5, 0.0, -1.0)] + [(nothing, 0.0)]
        # the last change alone: the disk need not keep their order
        cuts += [([*nothing[1:], True], part) for part in (1.0, 0.0)] if self.pending else []
        for _ in range(self.random_cuts if self.pending else 0):
            cuts.append(([self.draw.random() < 0.5 for _ in nothing], self.draw.random()))
        for chosen, part in cuts:
            key = self._state(chosen, part), self.promised
            self.states.setdefault(key, f"{why} ({sum(chosen)} of {len(chosen)} names, {part})")

    def _state(self, chosen: list[bool], part: float) -> State:
        """Of the changes that are not synced the chosen ones, and a part of such content.

        part: -1 for zeros, as of a file whose size was written before its content.
        """
        names: dict[Node, dict[str, Node]] = {}
        for change, there in zip(self.pending, chosen, strict=True):
            for folder, name, node in change.edits if there else ():
                entries = names.setdefault(folder, dict(folder.synced))
                entries.pop(name, None)
                if node is not None:
                    entries[name] = node
        found: list[tuple[str, bytes | None]] = []

        def walk(folder: Node, path: str) -> None:
            for name, node in sorted(names.get(folder, folder.synced).items()):
                if node.folder:
                    found.append((f"{path}{name}", None))
                    walk(node, f"{path}{name}/")
                elif node.now == node.synced or part == 0:
                    found.append((f"{path}{name}", node.synced))
                else:
                    length = len(node.now)
                    cut = bytes(length) if part < 0 else node.now[: int(length * part)]
                    found.append((f"{path}{name}", cut))

        walk(self.top, "")
        return tuple(found)


def _apply(change: Change) -> None:
    for folder, name, node in change.edits:
        folder.synced.pop(name, None)
        if node is not None:
            folder.synced[name] = node


@contextlib.contextmanager
def recorded(root: Path, **how: Any) -> Iterator[Disk]:
    """Records what the block does below a root."""
    with under(Disk(root, **how)) as disk:
        yield disk


def make(state: State, root: Path) -> None:
    """Puts a state into an empty folder."""
    for name, content in state:
        if content is None:
            (root / name).mkdir()
        else:
            (root / name).write_bytes(content)
