"""What values as stored mean: class ids by a class map, or as they are. H W pixels, C classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.errors import InputError
from fusion.kernels.numbers import void_label
from fusion.labels.class_map import ClassMap
from fusion.labels.known_maps import NNUNET, NONE, nnunet_map, read_class_map, read_json
from fusion.labels.layouts import Layout
from fusion.labels.lookup import Value, counted
from fusion.labels.png import PathLike

Map = ClassMap | Mapping[str, Any] | PathLike
Read = tuple[NDArray[np.integer], dict[Value, int]]  # [H, W], pixels of values in no entry


def chosen_map(rule: Layout, given: Map | None) -> ClassMap | None:
    """The map that was asked for; the layout's own by default."""
    if given is None:
        return rule.class_map
    if isinstance(given, str) and given == NONE:
        return None
    if isinstance(given, str) and given == NNUNET:
        if rule.name == NNUNET:
            return rule.class_map
        places = [folder / "dataset.json" for folder in (rule.root, rule.root.parent)]
        for place in places:
            if place.is_file():
                return nnunet_map(read_json(place), str(place))
        raise InputError(f"class_map: got {given!r}, but there is no {places[0]}; give its path")
    return read_class_map(given)


def mapped(known: ClassMap, stored: NDArray[np.integer], classes: int | None) -> Read:
    """Class ids by a map; of its classes only the first `classes`, if that is given."""
    labels, stray = known.read(stored)
    own = len(known.names)
    if classes is None or classes == own:
        return labels, stray
    if classes > own:
        got = f"is read with a class map of {own} classes, {classes} are wanted"
        raise InputError(f"{got}; give a map of those (a class may have no value: [])")
    void, outside = void_label(own), labels >= classes
    outside &= labels != void
    beyond = known.said(counted(known.keys(stored)[outside]))
    labels = np.where(outside | (labels == void), void_label(classes), labels)
    dtype = np.uint8 if void_label(classes) == 255 else np.uint16
    return labels.astype(dtype), {**stray, **beyond}


def as_ids(stored: NDArray[np.integer], classes: int | None) -> Read:
    """Values that are class ids already, void 255 or 65535."""
    void = void_label(classes)
    limit, dtype = void if classes is None else classes, np.uint8 if void == 255 else np.uint16
    outside = (stored >= limit) & (stored != void)
    if stored.dtype.kind == "i":
        outside |= stored < 0
    if not outside.any():
        return stored.astype(dtype, copy=False), {}
    return np.where(outside, void, stored).astype(dtype), counted(stored[outside])
