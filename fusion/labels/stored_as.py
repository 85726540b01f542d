"""Predictions as a data set stores its labels: class ids, raw ids or colours. C classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fusion.errors import InputError
from fusion.kernels.numbers import void_label
from fusion.labels.class_map import ClassMap
from fusion.labels.known_maps import NNUNET, NONE, read_class_map
from fusion.labels.lookup import Colour
from fusion.labels.palettes import palette_of
from fusion.labels.png import colour_map

FORMS = ("classes", "stored", "colours")
VSPW = "vspw"  # the palette where nobody names one


@dataclass(frozen=True)
class StoredAs:
    """How label maps are written.

    Args:
        form: "classes" for class ids, "stored" for the values of the class map, "colours" for RGB.
        classes: C.
        class_map: whose values those are; None where class ids are written.
        palette: a colour of each class [C], if any is known.
    """

    form: str
    classes: int
    class_map: ClassMap | None = None
    palette: tuple[Colour, ...] = ()

    @classmethod
    def of(
        cls,
        classes: Sequence[str],
        class_map: str | ClassMap | None = None,
        form: str | None = None,
        palette: str | None = None,
    ) -> Self:
        """What a command's options say.

        Args:
            classes: the C names of what is predicted.
            class_map: a map, or a name or file as `read_class_map` takes it.
            form: default "stored" with a class map, else "classes".
            palette: a name or file as `palette_of` takes it.

        Raises:
            InputError: a map of other classes, or what cannot be written without one.
        """
        if class_map == NNUNET:
            raise InputError(f"class_map: got {NNUNET}; give the path of its dataset.json")
        known = None if class_map in (None, NONE) else read_class_map(class_map or NONE)
        if known is not None:
            known = _of_classes(known, classes)
        form = form or ("classes" if known is None else "stored")
        if form == "stored" and known is None:
            raise InputError("write: got stored without a class map; give class_map=FILE")
        colours = known.colours if known is not None else ()
        if palette is not None:
            colours = palette_of(palette, classes)
        if (colours or form == "colours") and len(colours) < len(classes):
            colours += tuple(map(tuple, colour_map()[len(colours) : len(classes)].tolist()))
        if form == "colours" and len(colours) < len(classes):
            got = f"{len(classes)} classes, {len(colours)} colours"
            raise InputError(f"palette: got {got}; give a colour for each class")
        if known is not None and known.form == "classes":
            known = replace(known, palette=colours)
        return cls(form, len(classes), known, colours)

    @property
    def stored(self) -> Callable[[NDArray[np.integer]], NDArray[np.integer]] | None:
        """From class ids [H, W] to what is written, colours [H, W, 3] too; None: ids themselves."""
        if self.form == "colours":
            table = np.zeros((void_label(self.classes) + 1, 3), np.uint8)  # void is black
            table[: self.classes] = self.palette
            return lambda labels: table[labels]
        if self.form == "classes" or self.class_map is None:
            return None
        return self.class_map.stored

    @property
    def shown(self) -> tuple[Colour, ...] | str:
        """The palette in which written values are shown: a colour of each, or a name."""
        if self.stored is None:
            return self.palette[:256] or VSPW
        by_id = None if self.class_map is None else self.class_map.id_colours()
        return VSPW if by_id is None else tuple(map(tuple, by_id.tolist()))


def _of_classes(known: ClassMap, classes: Sequence[str]) -> ClassMap:
    """The map with its classes in this order. InputError: it has others."""
    if not known.exclusive:
        got = f"class_map: {known.form} overlap, and a label map has one class a pixel"
        raise InputError(f"{got}; give a map of classes or colours")
    if len(known.names) != len(classes):
        got = f"got {len(known.names)} classes, the ensemble has {len(classes)}"
        raise InputError(f"class_map: {got}; give a map of its classes")
    if set(known.names) != set(classes):
        return known
    places = [known.names.index(name) for name in classes]
    shown = tuple(known.palette[place] for place in places) if known.palette else ()
    values = tuple(known.values[place] for place in places)
    return replace(known, names=tuple(classes), values=values, palette=shown)
