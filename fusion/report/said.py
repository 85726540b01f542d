"""What search.json says already, as facts; scores that are no number are nan."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fusion.ensemble import Ensemble, single_groups
from fusion.ensemble.channels import thresholds_of
from fusion.metrics import CONVENTIONS
from fusion.report.facts import Contender, Estimate, Rung
from fusion.report.results import Results
from fusion.search.held import FOUND, UNIFORM

# lines of a search that facts say in numbers
SHOWN = re.compile(r"95 % interval|held out, |on \d+ new videos|gain over |verdict: ")
Document = Mapping[str, Any]


def number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def estimate(value: float | None, ends: Sequence[float | None] | None) -> Estimate:
    """A score with its interval."""
    low, high = ends or (None, None)
    return Estimate(number(value), number(low), number(high))


def title(results: Results) -> str:
    """What was searched, in a line."""
    groups = results.document["groups"]
    models = len({model for some in groups.values() for model in some})
    splits = " and ".join(data.split.name for data in results.data)
    return f"{models} models in {len(groups)} groups, on {splits}"


def verdict(document: Document) -> str:
    """Whether it was worth the while; without held-out scores what keeps it from being known."""
    known = document["result"]["verdict"]
    return str(known["sentence"] if known else document["honesty"][0])


def remarks(document: Document) -> list[str]:
    """What the search had to say of its number beside what is shown of it anyway."""
    lines = [line for line in document["honesty"] if not SHOWN.match(line)]
    lines = [line for line in lines if line != verdict(document)]
    if document["result"]["head"] is not None and document["searched"] != "best.json":
        form = document["result"]["head"]["form"]
        found = f"what was found is the {form} head; weights and their plane are"
        lines.append(f"{found} of the weights that it was compared with")
    auto = document["result"]["notes"].get("auto")
    return [*([f"auto: {auto}"] if auto else []), *lines]


def objective_name(document: Document) -> str:
    name = document["result"]["convention"]
    return f"mIoU ({name})" if name in CONVENTIONS else str(name)


def score(document: Document) -> Estimate:
    """Of what was found, on the split that was searched."""
    result = document["result"]
    return estimate(result["miou"], result["interval"])


def expected(document: Document) -> Estimate | None:
    """The held-out score, and where the score of as many new videos is to be expected."""
    result = document["result"]
    if result["held_out"] is None:
        return None
    return estimate(result["held_out"], result["prediction_interval"])


def ladder(document: Document) -> tuple[Rung, ...]:
    ends, rungs = document["ladder_intervals"], []
    for row in document["ladder"]:
        name = row["name"]
        scores = {s: estimate(row[s], ends[name][s]) for s in document["splits"] if s in row}
        rungs.append(Rung(name, scores))
    return tuple(rungs)


def contenders(document: Document) -> tuple[Contender, ...]:
    """What held-out folds scored; what was found once, under its own name where it has one."""
    known = document["result"]["verdict"]
    made = []
    for name, row in document["contenders"].items():
        gain = None if name == UNIFORM else estimate(row["gain"], row["gain_interval"])
        recommended = known is not None and known["recommended"] == name
        what = estimate(row["score"], row["interval"])
        made.append(Contender(name, what, gain, recommended=recommended, found=name == FOUND))
    return tuple(made)


def held_out_classes(document: Document) -> dict[str, float]:
    """IoU (or Dice) of classes under what was found without the videos that it is scored on."""
    row = document["contenders"].get(FOUND)
    return {} if row is None else {n: number(value) for n, value in row["classes"].items()}


def weights(results: Results) -> dict[str, float]:
    """Of the groups; none where a head was trained without any."""
    ensemble = results.data[0].split.ensemble
    return {} if ensemble.head is not None else dict(ensemble.weights)


def multipliers(results: Results) -> dict[str, float]:
    """Of what was found by class; of independent channels their thresholds."""
    ensemble = results.data[0].found
    if ensemble.multipliers is None:
        return {}
    if ensemble.channels is not None:
        return thresholds_of(ensemble.multipliers, ensemble.channels)
    return dict(ensemble.multipliers)


def model_weights(ensemble: Ensemble) -> dict[str, float]:
    """Share of each model in the sum, by name; nan under a head, which has no one weight."""
    names = {store: name for name, (store,) in single_groups(ensemble.stores).items()}
    total, shares = sum(ensemble.weights.values()), dict.fromkeys(names.values(), 0.0)
    if ensemble.head is not None:
        return dict.fromkeys(shares, math.nan)
    for group, stores in ensemble.groups.items():
        for store in stores:
            shares[names[store]] += ensemble.weights[group] / total / len(stores)
    return shares


def provenance(results: Results) -> tuple[tuple[str, str], ...]:
    """Command, versions, labels, and every store with the digest of its content."""
    document, inputs = results.document, results.document["inputs"]
    rows = [("command", " ".join(inputs["command"]))]
    rows += [(name, str(value)) for name, value in document["provenance"].items()]
    rows += [("units", document["units"]), ("stride", str(document["stride"]))]
    rows.append(("data", str(document["digest"])))
    for split, known in inputs["splits"].items():
        labels = known["labels"]
        rows.append((f"labels, {split}", f"{labels['path']} ({labels['digest']})"))
        for model, store in known["stores"].items():
            rows.append((f"store, {split}: {model}", f"{store['path']} ({store['digest']})"))
    return tuple(rows)
