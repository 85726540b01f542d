"""Class maps: which class the values in a mask stand for, and which value stands for a class.

A JSON file, or a dict, of one of these four forms; a class may have several values (a merge):

    {"classes": {"road": 7, "vehicle": [26, 27, 28]}, "void": [0, 255]}
    {"colours": {"water": [0, 0, 255], "land": [[0, 255, 0], [9, 9, 9]]}, "void": [[0, 0, 0]]}
    {"regions": {"whole tumour": [1, 2, 3], "core": [2, 3]}, "background": [0], "void": [255]}
    {"bits": {"cloud": 0, "shadow": 3}}

Class ids are the places in that order. Regions may overlap and bits be set together: both give
channels (`Labels.channels`). `background` are ids of no region (default: 0 where it is in none).
Also understood: "palette": {name: colour}, to show predictions; "order": the id that each region
writes, later ones over earlier ones (nnU-Net's regions_class_order); nnU-Net's dataset.json.

Ids in no entry are errors, or void where the caller says so. Subsets and merges of classes at
evaluation are maps as well: leave an id out, list it under void, or under another class.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.errors import InputError
from fusion.kernels.numbers import MOST_CLASSES, void_label
from fusion.labels.lookup import (
    Array,
    Colour,
    Lookup,
    Value,
    as_values,
    counted,
    one_colour,
    pack,
    packed,
)
from fusion.labels.lookup import unpack as unpacked
from fusion.text import listed

FORMS = ("classes", "colours", "regions", "bits")
EXTRAS = ("void", "background", "order", "palette")


@dataclass(frozen=True)
class ClassMap:
    """What the values in masks mean; frozen, hashable, equal if all fields are.

    Args:
        form: "classes" (ids), "colours", "regions" (sets of ids) or "bits" (of ids).
        names: of C classes; none where bits name no class: bit c is then class c, whatever C.
        values: those of each class, [C].
        void: values of pixels that never count.
        background: ids of no region.
        order: the id that each region writes, [C]; none where none is known.
        palette: a colour of each class, [C], or none.
    """

    form: str
    names: tuple[str, ...]
    values: tuple[tuple[Value, ...], ...]
    void: tuple[Value, ...] = ()
    background: tuple[Value, ...] = ()
    order: tuple[int, ...] = ()
    palette: tuple[Colour, ...] = ()

    def __post_init__(self) -> None:
        if len(self.names) > MOST_CLASSES - 2:
            raise InputError(f"class map: {len(self.names)} classes; there are at most 65533")
        owner: dict[Value, str] = {}
        sets = {"void": self.void, "background": self.background}
        if self.form in ("classes", "colours"):
            sets |= {f"class {n!r}": v for n, v in zip(self.names, self.values, strict=True)}
        else:
            inside = {value for values in self.values for value in values}
            sets |= {"regions": tuple(inside)} if self.form == "regions" else {}
        for name, values in sets.items():
            for value in values:
                if value in owner:
                    twice = f"{value} is listed under {owner[value]} and under {name}"
                    raise InputError(f"class map: {twice}; list each value once")
                owner[value] = name

    @classmethod
    def from_config(cls, config: Mapping[str, Any], what: str = "class map") -> Self:
        """A map of the module's JSON form; what: names it in errors. InputError: another form."""
        if not isinstance(config, Mapping):
            raise InputError(f"{what}: got {config!r:.60}; give a JSON object")
        form = [form for form in FORMS if form in config]
        unknown = [key for key in config if key not in (*FORMS, *EXTRAS)]
        if len(form) != 1 or unknown or not isinstance(config[form[0]], Mapping):
            got = f"keys {listed(config)}" if config else "nothing"
            rule = f'give one of {listed(FORMS)} as {{name: value}}, beside it "void"'
            raise InputError(f"{what}: got {got}; {rule}")
        colours, classes = form[0] == "colours", config[form[0]]
        values = {
            name: as_values(given, f"{what}: {name!r}", colours=colours)
            for name, given in classes.items()
        }
        numbers = values.values() if form[0] == "bits" else ()
        if any(len(v) != 1 or not 0 <= pack(v[0]) < 16 for v in numbers):
            raise InputError(f"{what}: bits are numbered 0 to 15, one a class; got {classes}")
        void = as_values(config.get("void", []), f"{what}: void", colours=colours)
        inside = {value for some in values.values() for value in some} | set(void)
        outside = config.get("background", [] if form[0] != "regions" or 0 in inside else [0])
        order = as_values(config.get("order", []), f"{what}: order", colours=False)
        palette = config.get("palette", {})
        named = isinstance(palette, Mapping) and set(palette) in (set(), set(values))
        if (order and len(order) != len(values)) or not named:
            raise InputError(
                f"{what}: order and palette are of all classes, or none; complete them"
            )
        shown = [one_colour(palette[n], f"{what}: palette") for n in values if palette]
        background = as_values(outside, f"{what}: background", colours=colours)
        pairs = tuple(values), tuple(values.values())
        try:
            flat = tuple(shown)
            return cls(form[0], *pairs, void, background, tuple(map(pack, order)), flat)
        except InputError as error:
            raise InputError(str(error).replace("class map", what, 1)) from None

    def get_config(self) -> dict[str, Any]:
        """The JSON form that `from_config` makes an equal map of."""

        def plain(values: tuple[Value, ...], *, alone: bool = False) -> Any:
            made = [list(v) if isinstance(v, tuple) else v for v in values]
            return made[0] if alone and len(made) == 1 else made

        pairs = zip(self.names, self.values, strict=True)
        config: dict[str, Any] = {self.form: {n: plain(v, alone=True) for n, v in pairs}}
        config["void"] = plain(self.void)
        if self.form == "regions":
            config["background"] = plain(self.background)
        if self.order:
            config["order"] = list(self.order)
        if self.palette:
            config["palette"] = {n: list(c) for n, c in zip(self.names, self.palette, strict=True)}
        return config

    @property
    def exclusive(self) -> bool:
        """Whether a pixel has one class at most; else the map gives channels only."""
        return self.form in ("classes", "colours")

    @property
    def colours(self) -> tuple[Colour, ...]:
        """A colour of each class, [C]: the palette, else the first stored; none of maps of ids."""
        if self.palette or self.form != "colours":
            return self.palette
        return tuple(values[0] for values in self.values if values)  # type: ignore[misc]

    def allowed(self, count: int | None = None) -> str:
        """The values that are in the map, of its first `count` classes, as an error says them."""
        classes = [value for values in self.values[:count] for value in values]
        if not self.exclusive:
            classes += self.background
        if self.form == "bits":
            return f"bits 0..{max(map(pack, classes))}" if classes else "the bits"
        ids = [value for value in classes if isinstance(value, int)]
        is_range = 0 < len(ids) == len(classes) and ids == list(range(ids[0], ids[0] + len(ids)))
        said = f"{ids[0]}..{ids[-1]}" if is_range and len(ids) > 1 else listed(classes)
        void = [*map(str, self.void)]
        joined = " and ".join([", ".join(void[:-1]), void[-1]] if len(void) > 1 else void)
        return f"{said} ({joined or 'none'} {'are' if len(void) > 1 else 'is'} void)"

    def read(self, stored: Array) -> tuple[Array, dict[Value, int]]:
        """Class ids and void [H, W], and the pixels of each value in no entry, which are void too.

        Args:
            stored: ids [H, W], or colours uint8 [H, W, 3].
        """
        if not self.exclusive:
            raise InputError(f"class map: {self.form} overlap; read channels, not label maps")
        values, void = self.keys(stored), void_label(len(self.names))
        codes, other = _codes(self)(values), void_code(len(self.names)) - 1
        stray: dict[Value, int] = {}
        if (outside := codes == other).any():
            stray = self.said(counted(values[outside]))
            codes[outside] = void_code(len(self.names))
        # 65535 wraps around to 255 where there are 255 classes
        return codes.astype(np.uint8 if void == 255 else np.uint16, copy=False), stray

    def keys(self, stored: Array) -> Array:
        """Stored values [H, W] as one number each."""
        if (self.form == "colours") != (stored.ndim == 3):
            kinds = ("ids", "colours") if self.form == "colours" else ("colours", "ids")
            raise InputError(f"holds {kinds[0]}, the class map is of {kinds[1]}; give its own map")
        return packed(stored) if stored.ndim == 3 else stored

    def said(self, found: Mapping[Value, int]) -> dict[Value, int]:
        """Counts by key as counts by stored value."""
        if self.form != "colours":
            return dict(found)
        return {unpacked(pack(value)): pixels for value, pixels in found.items()}

    def stored(self, labels: ArrayLike) -> NDArray[np.unsignedinteger]:
        """Class ids as the data set stores them; of a merged class its first value.

        Args:
            labels: class ids and void [H, W]; of regions and bits: 0 and 1 [C, H, W].

        Returns:
            uint8 or uint16 [H, W], as the largest id of the map asks; colours uint8 [H, W, 3].

        Raises:
            InputError: void where the map has none, a class without a value, channels without
            order.
        """
        array = np.asarray(labels)
        if not self.exclusive:
            return self._merged(array)
        values: list[Value | None] = [some[0] if some else None for some in self.values]
        values += [self.void[0] if self.void else None]
        places = np.where(array == void_label(len(self.names)), len(values) - 1, array)
        lacking = [p for p in np.unique(places).tolist() if p >= len(values) or values[p] is None]
        if lacking:
            wrong = "void" if lacking[0] == len(values) - 1 else f"label {lacking[0]}"
            raise InputError(f"class map: no value stands for {wrong}; add one to the map")
        blank: Value = (0, 0, 0) if self.form == "colours" else 0
        table = np.array([blank if value is None else value for value in values])
        return np.take(table.astype(self.dtype), places, axis=0)

    def _merged(self, channels: NDArray[np.integer]) -> NDArray[np.unsignedinteger]:
        """Ids [H, W] of channels of 0 and 1 [C, H, W]: bits together, regions by their order."""
        if channels.ndim != 3 or (self.names and len(channels) != len(self.names)):
            got = f"got {list(channels.shape)}, the class map has {len(self.names)} channels"
            raise InputError(f"class map: {got}; give [C, H, W] of 0 and 1")
        if channels.size and not 0 <= channels.min() <= channels.max() <= 1:
            raise InputError("class map: channels hold other values than 0 and 1; threshold them")
        if self.form == "bits":
            places = [pack(v[0]) for v in self.values] or list(range(len(channels)))
            bits = sum(c.astype(np.uint16) << p for c, p in zip(channels, places, strict=True))
            made = np.asarray(bits, np.uint16)
            return made.astype(np.uint8) if max(places) < 8 else made
        if not self.order:
            advice = '"order": [id that each region writes] to the map (regions_class_order)'
            raise InputError(f"class map: regions overlap, so add {advice}")
        outside = self.background[0] if self.background else 0
        ids = np.full(channels.shape[1:], outside, self.dtype)
        for channel, value in zip(channels, self.order, strict=True):
            ids[channel == 1] = value
        return ids

    @property
    def dtype(self) -> type[np.unsignedinteger]:
        """The smallest type that holds what `stored` writes."""
        if self.form == "colours":
            return np.uint8
        every = [*self.void, *self.background, *self.order]
        every += [value for values in self.values for value in values]
        if self.form == "bits":
            every = [1 << pack(value) for some in self.values for value in some]
        largest = max(map(pack, every), default=0)
        if largest > 65535 or min(map(pack, every), default=0) < 0:
            raise InputError(f"class map: id {largest} fits no 16-bit file; give ids of 0..65535")
        return np.uint8 if largest < 256 else np.uint16

    def id_colours(self) -> NDArray[np.uint8] | None:
        """Colours [256, 3] of stored 8-bit ids, black for void; None without palette or 8 bits."""
        if self.form != "classes" or not self.palette or self.dtype is not np.uint8:
            return None
        colours = np.zeros((256, 3), np.uint8)
        for values, colour in zip(self.values, self.palette, strict=True):
            colours[list(values)] = colour
        return colours


def void_code(classes: int) -> int:
    """Void as codes have it: they need a value more than labels, for what is in no entry."""
    return 255 if classes < 255 else 65535


@functools.lru_cache(maxsize=32)
def _codes(known: ClassMap) -> Lookup:
    """The table of an exclusive map: class ids, void, and before void what is in no entry."""
    void = void_code(len(known.names))
    codes = {pack(value): void for value in known.void}
    codes |= {pack(v): c for c, values in enumerate(known.values) for v in values}
    return Lookup(codes, void - 1, np.uint8 if void == 255 else np.uint16)
