"""A search's folder, opened again: what was found, on the stores and labels it was found on.

    results/search.json + best.json (+ weights.json beside a head) -> Results

Nothing is taken on trust: stores and labels must be those of the search, by their digests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from fusion import plain, sealed
from fusion.ensemble import Ensemble
from fusion.errors import FusionError, InputError, StoreError
from fusion.folds import Units
from fusion.hierarchical import HierarchicalEnsemble
from fusion.images import Images
from fusion.labels import Labels
from fusion.metrics.evaluation import objective_of
from fusion.progress import Progress, silent
from fusion.search.report import WEIGHTS_FILE
from fusion.search.split import Split
from fusion.stores import LogitStore
from fusion.stores.locations import Address, Location, is_url, location_of

AGAIN = "search again"


@dataclass(frozen=True)
class Elsewhere:
    """Where data lie now, in the place of what the results say; None for as they say.

    labels, test_labels: ground truth, opened or the path. stores, test_stores: folders with stores
    of the same names. images: pictures.
    """

    labels: Labels | Path | None = None
    stores: Address | None = None
    test_labels: Labels | Path | None = None
    test_stores: Address | None = None
    images: Path | None = None


@dataclass(frozen=True)
class Running:
    """How data are read: memory, device, scheduler as commands take them; what shows progress.

    images: pictures that predictions were made of, None where nobody says.
    """

    memory: str | int = "4GB"
    device: str = "auto"
    scheduler: str = "threads"
    progress: Progress = silent
    images: Images | None = None

    def title(self, text: str) -> str | None:
        """Of a bar, where somebody watches."""
        return None if self.progress is silent else text


@dataclass(frozen=True)
class Data:
    """A split of the search.

    split: the searched groups under the weights found, or the units of a head where no weights
    were. found: what was found. models: every model that was given, by itself, by name.
    """

    split: Split
    found: Ensemble
    models: Mapping[str, Ensemble]


@dataclass(frozen=True)
class Results:
    """What a search left in its folder. document: search.json. data: of its splits, in order."""

    folder: Path
    document: Mapping[str, Any]
    data: tuple[Data, ...]
    running: Running


def read_results(
    folder: Path, elsewhere: Elsewhere | None = None, running: Running | None = None
) -> Results:
    """The results of a search, and the data that they are of.

    Raises:
        InputError: no such folder, results of another kind, labels that are gone or others.
        StoreError: results that were never finished, stores that are gone or others.
    """
    document = read_document(folder)
    try:
        return _read(folder, document, elsewhere or Elsewhere(), running or Running())
    except FusionError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        got = f"{folder / 'search.json'}: not what a search writes ({error!r:.80})"
        raise StoreError(f"{got}; {AGAIN}") from error


def _read(
    folder: Path, document: Mapping[str, Any], elsewhere: Elsewhere, running: Running
) -> Results:
    inputs, data = document["inputs"], list[Data]()
    pictures = elsewhere.images
    if pictures is None and inputs["images"] is not None:
        pictures = folder / inputs["images"]
    running = replace(running, images=Images(pictures) if pictures else None)
    for name in inputs["splits"]:
        asked = _Asked(elsewhere.labels, elsewhere.stores)
        if data:
            shared = _paths(inputs, name) == _paths(inputs, next(iter(inputs["splits"])))
            moved = elsewhere.test_stores or (elsewhere.stores if shared else None)
            asked = _Asked(elsewhere.test_labels, moved, shared, "test-")
        data.append(_open(folder, document, name, asked, running))
    _check_found(folder, document, data[0].found)
    return Results(folder, document, tuple(data), running)


def read_document(folder: Path) -> dict[str, Any]:
    """search.json of a finished search; raises as `read_results`."""
    path = folder / "search.json"
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the --out of a search")
    if not path.is_file():
        if (folder / "best.json").is_file() and not (folder / "compare.json").is_file():
            raise StoreError(f"{path} is missing: the search has not finished; run it again")
        raise InputError(f"{folder} has no search.json; give the --out of a search")
    try:
        document = sealed.unsealed(sealed.parsed(plain.content(path)))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be read ({error}); {AGAIN}") from error
    if not {"result", "ladder"} <= document.keys():
        raise StoreError(f"{path}: not what a search writes; {AGAIN}")
    if not document.get("inputs"):
        raise StoreError(f"{path}: says not what it was made of, as older ones; {AGAIN}")
    searched = document.get("searched")
    if searched not in ("best.json", WEIGHTS_FILE):
        raise StoreError(f"{path}: was searched for {searched!r:.60}; {AGAIN}")
    for name in {"best.json", searched}:
        if not (folder / name).is_file():
            raise StoreError(f"{folder / name} is missing: the results are not whole; {AGAIN}")
    return document


class _Asked(NamedTuple):
    """Of a split: where labels and stores are said to be.

    kept: whether its stores are those of the split that was searched. prefix: of the flag of its
    labels.
    """

    labels: Labels | Path | None
    stores: Address | None
    kept: bool = True
    prefix: str = ""


def _paths(inputs: Mapping[str, Any], split: str) -> list[str]:
    """The stores of a split, as search.json names them."""
    return [facts["path"] for facts in inputs["splits"][split]["stores"].values()]


def _open(
    folder: Path, document: Mapping[str, Any], name: str, asked: _Asked, running: Running
) -> Data:
    """One split's data."""
    inputs, stores = document["inputs"], asked.stores
    known = inputs["splits"][name]
    flag = "--stores DIR" if asked.kept else "--test-stores DIR"
    places = _check_stores(folder, known, stores, flag)
    opened: dict[str, Any] = {"memory": running.memory, "device": running.device}
    opened |= {"align": inputs["align"], "images": running.images}
    if not asked.kept and stores is None:  # as the search found them: by name in one folder
        stores = next(iter(places.values())).parent
    best, searched = (
        HierarchicalEnsemble.load(folder / file, stores=stores, check=False, **opened)
        for file in ("best.json", document["searched"])
    )
    groups = {model: [LogitStore(place)] for model, place in places.items()}
    temperatures = {groups[m][0].place: t for m, t in inputs["temperatures"].items()}
    how: dict[str, Any] = {"resize": searched.resize, "mean": searched.mean}
    whole = HierarchicalEnsemble(groups, temperatures=temperatures, **how, **opened)
    models = {model: whole.regrouped({model: whole.groups[model]}) for model in groups}
    truth = _truth(folder, known["labels"], asked.labels, f"--{asked.prefix}labels PATH")
    if truth.digest(searched.scored_videos(truth)) != known["labels"]["digest"]:
        got = f"{truth.root}: not the labels that {folder} was made with"
        raise InputError(f"{got}; give those, or {AGAIN}")
    wanted = inputs["objective"]
    split = Split(
        searched,
        truth,
        name,
        objective_of(searched, wanted["kind"], wanted["classes"] or None),
        stride=document["stride"],
        scheduler=running.scheduler,
        cache=cache if (cache := folder / "condensed").is_dir() else None,
        progress=running.progress,
        units=Units(document["units"]),
        reach=inputs["reach"],
    )
    return Data(split, best, models)


def _check_stores(
    folder: Path, known: Mapping[str, Any], stores: Address | None, flag: str
) -> dict[str, Location]:
    """Where the stores of a split are, by model; StoreError where one is gone, or another."""
    places = {}
    for model, facts in known["stores"].items():
        kept = facts["path"]
        if stores is None:
            place = location_of(kept if is_url(kept) else folder / kept)
        else:
            place = location_of(stores) / Path(kept).name
        if place.missing() is not None:
            raise StoreError(f"{place}: no such store, {folder} was made with it; give {flag}")
        if LogitStore(place).digest(known["videos"]) != facts["digest"]:
            raise StoreError(f"{place}: not the content that {folder} was made with; {AGAIN}")
        places[model] = place
    return places


def _truth(
    folder: Path, known: Mapping[str, Any], given: Labels | Path | None, flag: str
) -> Labels:
    """The labels that the results tell of, or where they are now."""
    if isinstance(given, Labels):
        return given
    place = folder / known["path"] if given is None else given
    if not place.exists():
        raise InputError(f"{place}: no such labels, {folder} was made with them; give {flag}")
    meaning = known["map"]
    if isinstance(meaning, Mapping):
        meaning = str(folder / meaning["file"])
    options = {name: known[name] for name in ("pattern", "column") if name in known}
    how = {"stray": known["stray"], "class_map": meaning, **options}
    return Labels.open(known["layout"], place, known["split"], **how)


def _check_found(folder: Path, document: Mapping[str, Any], best: Ensemble) -> None:
    """StoreError where a later search has begun to write over the results."""
    result = document["result"]
    if (head := best.head) is not None:
        told = result["head"] or {}
        same = [head.name, list(head.units)] == [told.get("form"), told.get("units")]
    else:
        multipliers = None if best.multipliers is None else dict(best.multipliers)
        mine = [dict(best.weights), multipliers]
        same = result["head"] is None and mine == [result["weights"], result["multipliers"]]
    if not same:
        got = f"{folder / 'best.json'} is not what search.json beside it tells of"
        raise StoreError(f"{got}: a later search has not finished; run it again")
