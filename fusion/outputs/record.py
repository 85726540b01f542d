"""Of what the outputs in a folder are: resuming must not take another ensemble's for its own.

A JSON file in the folder has a digest for each unit: of its stores' numbers, the weights and all
else that decides its pixels, the format and its options. It is written before the unit is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fusion import plain
from fusion.errors import FusionError
from fusion.files import locked, refusals, write_json
from fusion.outputs.content import Content
from fusion.outputs.output import PREDICTED, Output
from fusion.outputs.seals import add_seals, known_of, read_seals, seal
from fusion.outputs.unit import Unit
from fusion.parsing import parse_json


def digests(output: Output, content: Content, units: Sequence[Unit]) -> dict[str, str]:
    """A sha256 for each video."""
    ensemble = content.ensemble
    temperature = dict(zip(ensemble.stores, ensemble.temperatures, strict=True))
    how: dict[str, Any] = {"weights": ensemble.weights, "multipliers": ensemble.multipliers}
    how |= {"resize": ensemble.resize, "mean": ensemble.mean, "head": _of_head(ensemble.head)}
    how |= {"format": output.name, "options": asdict(output), "names": content.names}
    if ensemble.postprocess:
        how["postprocess"] = ensemble.postprocess.get_config()
    how |= {"kind": content.kind, "regions": content.regions, "stored": _of_stored(content)}
    shared = hashlib.sha256(_dump(how))

    def digest(unit: Unit) -> str:
        groups = {
            name: [(store.digest([unit.video]), temperature[store]) for store in stores]
            for name, stores in ensemble.groups.items()
        }
        own = shared.copy()
        own.update(_dump([unit.video, unit.frames, groups]))
        return own.hexdigest()

    return {unit.video: digest(unit) for unit in units}


def document_digest(document: Mapping[str, Any]) -> str:
    """sha256 of a JSON document."""
    return hashlib.sha256(_dump(document)).hexdigest()


def _dump(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, default=str).encode()


def _of_head(head: Any) -> Any:
    if head is None:
        return None
    config = head.get_config()
    arrays = {name: _bytes(array) for name, array in config.pop("arrays").items()}
    return {**config, "arrays": arrays}


def _bytes(array: Any) -> str:
    array = np.ascontiguousarray(array)
    return f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"


def _of_stored(content: Content) -> str | None:
    """What `stored` makes of every class by itself, which tells one class map from another."""
    if content.stored is None:
        return None
    classes = len(content.names)
    probe: np.ndarray = np.arange(classes).astype(np.min_scalar_type(classes))[None]
    if content.regions is not None:
        probe = np.asarray([[0, *content.regions]], np.uint16)
    elif content.independent:
        probe = np.eye(classes, dtype=np.uint8)[:, None]
    try:
        return _bytes(content.stored(probe))
    except FusionError as error:  # of a class that may never be predicted
        return str(error)


def read_record(out: Path, output: Output) -> dict[str, str]:
    """Digests by video; none where there is no record, or a damaged one.

    StoreError: the disk refuses.
    """
    return _read(out, output)[0]


def seals_of(out: Path, output: Output) -> frozenset[str]:
    """Of all files that were written whole, for `is_sealed`."""
    return known_of(read_seals(out) if output.hidden else _read(out, output)[1])


def add_to_record(
    out: Path, output: Output, known: Mapping[str, str], seals: Collection[str] = ()
) -> None:
    """Puts digests, and seals that nothing else keeps, into a folder's record; several processes
    may."""
    name, rest = output.record
    with refusals(out), locked(out):
        units, sealed = _read(out, output)
        body: dict[str, Any] = {"format": output.name, "units": {**units, **known}}
        if not output.hidden:
            body["seals"] = sorted({*sealed, *seals})
        write_json(out / name, {**rest, "attributes": {PREDICTED: body}})


def add_sealed(out: Path, output: Output, names: Sequence[str], digest: str) -> None:
    """Notes that files are whole, and what made them."""
    seals = [each for name in names if (each := seal(out, name, digest))]
    if output.hidden:
        add_seals(out, seals)
    else:
        add_to_record(out, output, {}, seals)


def _read(out: Path, output: Output) -> tuple[dict[str, str], list[str]]:
    place = out / output.record[0]
    with refusals(place, problem="cannot be read"):
        content = plain.found(place)
    try:
        body = parse_json(content or b"")["attributes"][PREDICTED]
        units = {str(video): str(digest) for video, digest in body["units"].items()}
        return units, [str(each) for each in body.get("seals", ())]
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}, []
