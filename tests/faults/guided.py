"""Inputs that `atheris` chooses: libFuzzer, which keeps what reached code that nothing reached yet.

An input is one file of a row's sample, other than it was: a line of JSON that says which, and the
bytes. Half of the edits are libFuzzer's own, half those of `tests.faults.mutate`. What it keeps
goes on from one run to the next, in the folder that is given.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.faults.mutate import mutated

LONGEST = 1 << 20  # bytes of an input
MORE = 64  # bytes that libFuzzer may add at once
Try = Callable[[int, int, dict[str, bytes], bool], None]  # row, number, files, checksums mended
Sample = tuple[str, dict[str, bytes], Sequence[Path]]


def packed(row: str, name: str, mend: bool, content: bytes) -> bytes:
    return json.dumps([row, name, mend]).encode() + b"\n" + content


def unpacked(raw: bytes) -> tuple[str, str, bool, bytes] | None:
    """Row, file, whether checksums are mended, bytes; None where libFuzzer made it of nothing."""
    with contextlib.suppress(ValueError):
        line, _, content = raw.partition(b"\n")
        row, name, mend = json.loads(line)
        return row, name, mend, content
    return None


def other(raw: bytes, longest: int, seed: int) -> bytes:
    """An input made of another."""
    import atheris

    found, draw = unpacked(raw), random.Random(seed)
    if found is None:
        return raw
    row, name, mend, content = found
    if draw.random() < 0.5:
        content = mutated(content, name, draw)
    else:
        content = atheris.Mutate(content, len(content) + MORE)
    mend = draw.random() < 0.6 if draw.random() < 0.1 else mend
    return packed(row, name, mend, content)[:longest]


def beginnings(samples: Sequence[Sample]) -> Iterator[bytes]:
    """Every file of every sample, and of what crashed once."""
    for row, files, crashed in samples:
        for name, content in files.items():
            yield packed(row, name, True, content)
            for place in crashed:
                if (place / name).is_file():
                    yield packed(row, name, False, (place / name).read_bytes())


def run(
    samples: Sequence[Sample], seed: int, first: int, number: int, place: Path, do: Try
) -> None:
    """Tries so many inputs; the process ends with the last one.

    Args:
        samples: name, files and crashers of each row.
        seed: of libFuzzer.
        first, number: of inputs, as `do` counts them.
        place: folder of what libFuzzer keeps.
        do: tries one.
    """
    import atheris

    place.mkdir(parents=True, exist_ok=True)
    for raw in beginnings(samples):
        (place / hashlib.sha1(raw, usedforsecurity=False).hexdigest()).write_bytes(raw)
    rows = {name: k for k, (name, _, _) in enumerate(samples)}
    at = first

    def one(raw: bytes) -> None:
        nonlocal at
        found = unpacked(raw)
        if found is None or found[0] not in rows or found[1] not in samples[rows[found[0]]][1]:
            return
        row, name, mend, content = found
        do(rows[row], at, {name: content}, mend)
        at += 1

    quiet = ("-rss_limit_mb=0", "-timeout=86400", "-verbosity=0", "-report_slow_units=86400")
    limits = (f"-seed={seed % 2**31 + 1}", f"-max_len={LONGEST}", f"-runs={number}")
    artifacts = f"-artifact_prefix={place.parent}/libfuzzer-"
    words = ["fuzz", str(place), *quiet, *limits, artifacts]
    atheris.Setup(words, one, custom_mutator=other)
    atheris.Fuzz()
