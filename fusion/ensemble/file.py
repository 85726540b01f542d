"""Ensembles on disk: ensemble.toml, written by people, and best.json, written by `HierarchicalEnsemble.save`.

# ensemble.toml; paths and globs start at this file's folder
resize = "probabilities"          # optional
[groups]
strong = ["cache/mf_0[1-3].zarr"]
weak = ["cache/mf_0[4-9].zarr", "cache/mf_1*.zarr"]
auxiliary = ["cache/swin_*.zarr"]
[weights]                         # optional, default 1 each
weak = 1.4
[temperatures]                    # optional, by path or glob as above
"cache/mf_01.zarr" = 1.2
"""

from __future__ import annotations

import difflib
import glob
import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fusion.errors import InputError, StoreError

FORMAT, VERSION = "segfusion.ensemble", 1
KEYS = ("groups", "weights", "temperatures", "resize")


def read_toml(path: Path) -> dict[str, Any]:
    """Arguments of `HierarchicalEnsemble` from a TOML file; InputError names an unknown key's closest relative."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); give an ensemble.toml with a [groups] table"
        ) from error
    for key in document:
        if key not in KEYS:
            close = difflib.get_close_matches(key, KEYS, n=1)
            raise InputError(
                f"{path}: unknown key {key!r}{f', did you mean {close[0]!r}?' if close else ''}; known are {KEYS}"
            )
    for key in ("groups", "weights", "temperatures"):
        if not isinstance(document.get(key, {}), dict):
            raise InputError(f"{path}: {key} is {document[key]!r:.60}; make it a table [{key}]")
    if not document.get("groups"):
        raise InputError(
            f"{path}: no [groups] table; name at least one group with a list of stores"
        )
    groups = {name: expand(patterns, path) for name, patterns in document["groups"].items()}
    temperatures = {
        str(found): value
        for key, value in document.get("temperatures", {}).items()
        for found in expand([key], path)
    }
    return {
        "groups": groups,
        "weights": document.get("weights"),
        "temperatures": temperatures or None,
        "resize": document.get("resize", "probabilities"),
    }


def expand(patterns: Any, path: Path) -> list[Path]:
    """Stores that a list of paths and globs names, from the folder of `path`; a pattern without a match is an error."""
    if (
        not isinstance(patterns, list)
        or not patterns
        or not all(isinstance(pattern, str) for pattern in patterns)
    ):
        raise InputError(
            f"{path}: a group is {patterns!r:.60}; give a list of paths or globs of stores"
        )
    found: list[Path] = []
    for pattern in patterns:
        matches = sorted(glob.glob(str(path.parent / pattern)))
        if not matches and glob.has_magic(pattern):
            raise InputError(
                f"{path}: no store matches {pattern!r} from folder {path.parent.absolute()}; correct the pattern"
            )
        found += [
            Path(match) for match in matches or [path.parent / pattern] if Path(match) not in found
        ]
    return found


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """JSON by temporary file and rename: whole or not at all."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        scratch.replace(path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise StoreError(
            f"{path}: cannot be written ({error.strerror}); check the folder's rights and space"
        ) from error


def read_json(path: Path, stores: Path | None, check: bool) -> dict[str, Any]:
    """Arguments of `HierarchicalEnsemble` from a saved ensemble.

    stores: a folder that holds stores of the same names, for another split; the digests do not apply to those. check: refuse
    stores whose content is not what the weights were found on.
    """
    from fusion.stores import LogitStore

    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] != FORMAT or document["version"] > VERSION:
            raise InputError(
                f"{path}: format {document['format']!r} version {document['version']}; expected {FORMAT!r} {VERSION}"
            )
        groups: dict[str, list[LogitStore]] = {}
        temperatures: dict[str, float] = {}
        for name, members in document["groups"].items():
            groups[name] = []
            for member in members:
                place = (
                    stores / Path(member["path"]).name if stores else path.parent / member["path"]
                )
                store = LogitStore(place)
                if (
                    check
                    and stores is None
                    and store.digest(document["videos"]) != member["digest"]
                ):
                    raise StoreError(
                        f"{place}: not the content the weights of {path} were found on; search again, or use check=False"
                    )
                groups[name].append(store)
                temperatures[str(place)] = float(member["temperature"])
        return {
            "groups": groups,
            "weights": document["weights"],
            "temperatures": temperatures,
            "resize": document["resize"],
        }
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); give an ensemble.toml or a saved best.json"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: not a saved ensemble ({error!r}); give an ensemble.toml or a saved best.json"
        ) from error


def parse_assignments(pairs: Iterable[str], what: str) -> dict[str, str]:
    """name=value arguments of the command line."""
    found = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign or not name or not value:
            raise InputError(f"{what}: got {pair!r}; give NAME=VALUE")
        found[name] = value
    return found
