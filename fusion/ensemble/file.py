"""Ensembles on disk: ensemble.toml, written by people, and best.json, written by `Ensemble.save`.

# ensemble.toml; paths and globs start at this file's folder
resize = "probabilities"          # optional
mean = "arithmetic"               # optional
[groups]
strong = ["cache/mf_0[1-3].zarr"]
weak = ["cache/mf_0[4-9].zarr", "cache/mf_1*.zarr"]
auxiliary = ["cache/swin_*.zarr"]
[weights]                         # optional, default 1 each
weak = 1.4
[temperatures]                    # optional, by path or glob as above
"cache/mf_01.zarr" = 1.2
[thresholds]                      # optional, of independent channels, default 0.5 each
tumour = 0.35
[[postprocess]]                   # optional, operations in order (fusion.postprocess)
operation = "window"
radius = 1

A saved ensemble with a head names a safetensors file beside it, and its SHA-256. It carries the
SHA-256 of itself, so that no damage is taken for a result; who edits one removes that line. Those
of before 0.2 have none.

Both readers return the constructor's arguments, and both take a folder of stores of the same names:
another split's.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fusion import plain, sealed, tensors
from fusion.ensemble.heads import Head, head_of
from fusion.errors import InputError, StoreError
from fusion.files import write_json
from fusion.parsing import parse_toml
from fusion.stores import LogitStore, Store
from fusion.stores.locations import Address, Location, is_url, location_of
from fusion.text import did_you_mean

FORMAT, VERSION = "segfusion.ensemble", 3
PLAIN, WITH_HEAD = 1, 2  # versions of files without postprocessing, which older releases read
TABLES = ("groups", "weights", "temperatures", "multipliers", "thresholds")
KEYS = (*TABLES, "resize", "mean", "postprocess")
ADVICE = "give an ensemble.toml or a saved best.json"


def read_toml(path: Path, stores: Address | None) -> dict[str, Any]:
    """Arguments from a TOML file; InputError for an unknown key or a pattern without a match."""
    try:
        document = parse_toml(plain.content(path))
    except (OSError, ValueError) as error:
        advice = "give an ensemble.toml with a [groups] table"
        raise InputError(f"{path}: cannot be read ({error}); {advice}") from error
    for key in document:
        if key not in KEYS:
            raise InputError(f"{path}: unknown key {key!r}{did_you_mean(key, KEYS)}")
        if key in TABLES and not isinstance(document[key], dict):
            raise InputError(f"{path}: {key} is {document[key]!r:.60}; make it a table [{key}]")
    if not document.get("groups"):
        raise InputError(f"{path}: no [groups] table; name a group with a list of stores")
    place = _Place(path, stores)
    temperatures = document.get("temperatures", {}).items()
    return {
        "groups": {name: place.matching(given) for name, given in document["groups"].items()},
        "weights": document.get("weights"),
        "temperatures": {str(s): t for key, t in temperatures for s in place.matching([key])},
        "multipliers": document.get("multipliers"),
        "thresholds": document.get("thresholds"),
        **{key: document[key] for key in KEYS[len(TABLES) :] if key in document},
    }


def read_json(path: Path, stores: Address | None, *, check: bool) -> dict[str, Any]:
    """Arguments from a saved ensemble.

    Args:
        path: the file.
        stores: another folder, whose stores have these names.
        check: refuse stores with other content than weights were found on; no matter with `stores`.
    """
    try:
        document = sealed.parsed(plain.content(path))
        _check_version(path, document["format"], document["version"])
        document = _unsealed(path, document)
        place, temperatures = _Place(path, stores), {}
        groups: dict[str, list[LogitStore]] = {}
        for name, members in document["groups"].items():
            groups[name] = [LogitStore(place.of_path(member["path"])) for member in members]
            for store, member in zip(groups[name], members, strict=True):
                temperatures[store.place] = float(member["temperature"])
                if check and not stores and store.digest(document["videos"]) != member["digest"]:
                    what = f"not the content the weights of {path} were found on"
                    raise StoreError(f"{store.place}: {what}; search again, or use check=False")
        known = {key: document[key] for key in ("weights", "resize")}
        known["multipliers"] = document.get("multipliers")
        known["mean"] = document.get("mean", "arithmetic")  # files of 0.1.0 know no other
        known["head"] = _read_head(path, document["head"]) if "head" in document else None
        known["postprocess"] = document.get("postprocess")
        return {**known, "groups": groups, "temperatures": temperatures}
    except (InputError, StoreError):
        raise
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {ADVICE}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a saved ensemble ({error!r}); {ADVICE}") from error


def _check_version(path: Path, form: object, version: object) -> None:
    if form != FORMAT:
        raise InputError(f"{path}: format {form!r:.60}, not {FORMAT!r}; {ADVICE}")
    if type(version) is not int or not PLAIN <= version <= VERSION:
        got = f"format version {version!r:.60}, this release reads {PLAIN} to {VERSION}"
        newer = type(version) is int and version > VERSION
        raise InputError(f"{path}: {got}; {'update segfusion' if newer else 'search again'}")


def members(
    path: Path,
    groups: Mapping[str, Sequence[Store]],
    videos: Sequence[str],
    temperatures: Mapping[Store, float],
) -> dict[str, list[dict[str, Any]]]:
    """The stores of each group as a file at `path` keeps them; paths are relative to it.

    InputError: a store in memory, which no file can name.
    """

    def member(store: Store) -> dict[str, Any]:
        facts = {
            "path": store.seen_from(path.parent),
            "model": store.model,
            "digest": store.digest(videos),
        }
        return {**facts, "temperature": temperatures[store]}

    return {name: [member(store) for store in stores] for name, stores in groups.items()}


def write(path: Path, document: Mapping[str, Any], head: Head | None) -> None:
    """A saved ensemble, whole or not at all; its head lies beside it, named by its content."""
    version = VERSION if "postprocess" in document else PLAIN if head is None else WITH_HEAD
    if head is not None:
        config = head.get_config()
        arrays = config.pop("arrays")
        digest = _digest(arrays)
        beside = path.with_name(f"head-{digest[:16]}.safetensors")
        tensors.write(beside, arrays, config)
        document = {**document, "head": {"file": beside.name, "sha256": digest, **config}}
    kept = sealed.sealed({"format": FORMAT, "version": version, **document})
    # a line among others, which people may remove
    first = {key: kept[key] for key in ("format", "version", sealed.SEAL)}
    write_json(path, {**first, **kept})


def _unsealed(path: Path, document: dict[str, Any]) -> dict[str, Any]:
    """What was saved; StoreError where that was changed, on purpose or not."""
    try:
        return sealed.unsealed(document)
    except ValueError as error:
        do = f"search again, or remove its line {sealed.SEAL!r} to use it as it is"
        raise StoreError(f"{path}: {error}; {do}") from error


def _read_head(path: Path, known: Mapping[str, Any]) -> Head:
    """The head of a saved ensemble; StoreError where its file is gone or another's."""
    beside = path.with_name(str(known["file"]))
    arrays, config = tensors.read(beside, "search again, or copy it from where it was saved")
    said = {name: value for name, value in known.items() if name not in ("file", "sha256")}
    if _digest(arrays) != known["sha256"] or config != said:
        raise StoreError(f"{beside}: not the head that {path} was saved with; search again")
    return head_of({**config, "arrays": arrays})


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of arrays: names, shapes, numbers."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        found.update(f"{name} {arrays[name].shape} {arrays[name].dtype.str};".encode())
        found.update(np.ascontiguousarray(arrays[name]).tobytes())
    return found.hexdigest()


class _Place:
    """Where the stores that a file names are: beside it, or by their names in another folder."""

    def __init__(self, path: Path, stores: Address | None) -> None:
        self.path = path
        self.stores: Location | None = None if stores is None else location_of(stores)
        self._named: dict[str, str] = {}  # name in the other folder -> path in the file
        if isinstance(stores, Path) and not is_url(stores) and not stores.is_dir():
            raise StoreError(f"{stores}: no such folder; give one with stores named as in {path}")

    def of_path(self, given: str) -> Location:
        if self.stores is None:
            return location_of(given if is_url(given) else self.path.parent / given)
        name = Path(given).name
        if self._named.setdefault(name, given) != given:
            twice = f"{self._named[name]} and {given} have one name"
            raise InputError(f"{self.path}: {twice}; stores of another folder are found by name")
        return self.stores / name

    def matching(self, patterns: Any) -> list[str]:
        """Stores that a list of paths and globs names, each once; InputError where one is none."""
        texts = isinstance(patterns, list) and all(isinstance(text, str) for text in patterns)
        if not texts or not patterns:
            got = f"a group is {patterns!r:.60}"
            raise InputError(f"{self.path}: {got}; give a list of paths or globs of stores")
        found: dict[str, None] = {}
        for pattern in patterns:
            place = self.of_path(pattern)
            matches = place.matching()
            if not matches and glob.has_magic(pattern):
                folder = self.stores or location_of(self.path.parent)
                where = f"from folder {folder.identity}"
                problem = f"no store matches {pattern!r} {where}"
                raise InputError(f"{self.path}: {problem}; correct the pattern")
            found.update(dict.fromkeys(matches or [str(place)]))
        return list(found)
