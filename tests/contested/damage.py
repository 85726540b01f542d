"""Damages to a condensed cache, one at a time: what a disk, a user or a program may do to it.

`python -m tests.contested.damage` tries every byte (the tests try some) and prints the outcomes.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fusion.contested import condense
from fusion.contested.cache import CondensedCache
from fusion.errors import StoreError
from tests.contested.cases import probabilities, some_targets
from tests.faults.damage import Damage, restore
from tests.faults.damage import damages as file_level

VIDEOS = ("a", "b/c")
CLASSES, GROUPS = 5, 3
WEIGHTS = np.array([[1.0, 1.0, 1.0], [0.2, 0.3, 0.9], [0.0, 1.0, 0.5]])
STREAMED = 12_000  # bytes of memory in which the pixels do not fit
ABSURD = (0, -1, 1, 7, 16, 255, 1 << 31, 1 << 62, 1 << 70, 1.5, 1e999, None, "x", [], True)


def make(
    path: Path, digest: str = "digest", seed: int = 0, videos: tuple[str, ...] = VIDEOS
) -> CondensedCache:
    """A cache of small videos, each written in two blocks."""
    groups, classes = [f"g{g}" for g in range(GROUPS)], [f"c{c}" for c in range(CLASSES)]
    cache = CondensedCache(path, digest, groups, classes)
    for video in cache.missing(videos):
        own = seed + VIDEOS.index(video)
        means = probabilities(GROUPS, CLASSES, 600, own, agree=1.0)
        targets = some_targets(CLASSES, 600, own)
        halves = (slice(0, 350), slice(350, 600))
        cache.write(
            video,
            (
                condense(np.ascontiguousarray(means[:, :, h]), targets[h], CLASSES, ignore=255)
                for h in halves
            ),
        )
    return cache


def scores(path: Path, memory: int) -> bytes:
    """Every number that a search can see, as bytes."""
    condensed = make(path).load(VIDEOS, memory)
    found = (condensed.confusions(WEIGHTS), condensed.confusion(WEIGHTS[1]), condensed.rows)
    return b"".join(array.tobytes() for array in found)


def damages(folder: Path, other: Path, every: int) -> Iterator[Damage]:
    """What can happen to the cache in `folder`; `other` holds other data.

    every: one byte of so many is flipped.
    """
    yield from file_level(folder, other, every)
    first, second = sorted(
        path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."
    )
    aside = folder / "aside"
    yield (
        "videos swapped",
        lambda: (first.rename(aside), second.rename(first), aside.rename(second)),
    )
    for name in ("marker", "pixels"):
        one, two = first / name, second / name
        swap = lambda p=one, q=two: (p.rename(aside), q.rename(p), aside.rename(q))  # noqa: E731
        yield f"{name} swapped between videos", swap
    yield (
        "a video of other data",
        lambda: (shutil.rmtree(first), shutil.copytree(other / first.name, first)),
    )
    yield "a video deleted", lambda: shutil.rmtree(first)
    yield "a video emptied", lambda: [path.unlink() for path in first.iterdir()]
    yield "a video is a file", lambda: (shutil.rmtree(first), first.write_bytes(b""))
    yield "a video is a link", lambda: (first.rename(aside), first.symlink_to(aside))
    yield from span_swaps(first)
    for path in (folder / "marker", first / "marker"):
        yield from edits(path)


def span_swaps(video: Path) -> Iterator[Damage]:
    """Two equal stretches of the pixels change places."""
    raw = (video / "pixels").read_bytes()
    for size in (32, 64, 480, 1000):
        swapped = raw[size : 2 * size] + raw[:size] + raw[2 * size :]
        yield f"pixels: {size} bytes swapped", lambda b=swapped: (video / "pixels").write_bytes(b)


def edits(marker: Path) -> Iterator[Damage]:
    """Every number and name of a marker becomes another one, its checksum made good (and not)."""
    document = json.loads(marker.read_bytes().partition(b"\n")[0])
    places: list[tuple[Any, ...]] = [(key,) for key in document]
    spans = document.get("spans", [])
    places += [("spans", i) for i in range(len(spans))]
    places += [("spans", i, k) for i in range(len(spans)) for k in range(3)]
    for place, sealed in itertools.product(places, (True, False)):
        now: Any = document
        for key in place:
            now = now[key]
        near = (now + 1, now - 1, now + 16) if isinstance(now, int) else ()
        for fresh in (*near, *ABSURD):
            text = json.dumps(replaced(document, place, fresh), sort_keys=True).encode()
            seal = hashlib.sha256(text).hexdigest().encode() if sealed else b"0" * 64
            content = text + b"\n" + seal
            what = f"{marker.parent.name}/marker: {place} = {fresh!r}, sealed {sealed}"
            yield what, lambda c=content: marker.write_bytes(c)


def replaced(document: Any, place: tuple[Any, ...], fresh: Any) -> Any:
    copy = json.loads(json.dumps(document))
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = fresh
    return copy


def try_all(scratch: Path, every: int) -> Counter[str]:
    """What came of every damage, counted; what is neither right nor an error of ours is raised."""
    make(scratch / "sound")
    make(scratch / "other", "other digest", seed=50)
    expected = scores(scratch / "sound", 1 << 30)
    assert scores(scratch / "sound", STREAMED) == expected
    assert not make(scratch / "sound").load(VIDEOS, STREAMED).resident
    found: Counter[str] = Counter()
    place = scratch / "damaged"
    shutil.copytree(scratch / "sound", place)
    for what, damage in damages(place, scratch / "other", every):
        damage()
        found[outcome(place, expected, what)] += 1
        restore(place, scratch / "sound")
    return found


def outcome(place: Path, expected: bytes, what: str) -> str:
    names = set()
    for memory in (STREAMED, 1 << 30):
        try:
            assert scores(place, memory) == expected, f"{what}, memory {memory}: other numbers"
            names.add("right")
        except StoreError as error:
            named = str(place) in str(error)
            names.add(type(error).__name__ if named else f"{what} is not named in {error}")
        except Exception as error:
            raise AssertionError(f"{what}, memory {memory}: {error!r}") from error
    return " and ".join(sorted(names))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        step = int(sys.argv[1]) if len(sys.argv) > 1 else 1
        counts = try_all(Path(scratch), step)
        print(f"{sum(counts.values())} damages: {dict(counts)}")
