"""The gains of several repetitions: what another training, and other scenes, would have said."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from benchmarks.paper.produce import SPLITS

Numbers = Mapping[str, Mapping[str, Mapping[str, float]]]  # of `tables.numbers`


def printed(seeds: Sequence[Numbers]) -> str:
    """Markdown: every gain's mean over seeds, and each seed's; rows that all seeds have."""
    lines = [f"## Gains of {len(seeds)} seeds", ""]
    lines += ["| | val, mean | each | test, mean | each |", "|---|---|---|---|---|"]
    for title, rows in seeds[0].items():
        shown = [
            _row(name, [seed[title][name] for seed in seeds])
            for name in rows
            if "gain over" in name and all(name in seed.get(title, {}) for seed in seeds)
        ]
        lines += [f"| **{title}** | | | | |", *shown] if shown else []
    return "\n".join(lines)


def _row(name: str, values: Sequence[Mapping[str, float]]) -> str:
    cells = [name]
    for split in SPLITS:
        each = [value[split] for value in values if split in value]
        cells += [f"{statistics.mean(each):+.2f}" if each else "-"]
        cells += [", ".join(f"{value:+.2f}" for value in each) or "-"]
    return "| " + " | ".join(cells) + " |"
