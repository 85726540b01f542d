"""Class maps that need no file, files of them, and nnU-Net's dataset.json: the one reader of maps.

cityscapes    34 labelIds -> the 19 classes of the benchmark        Cordts et al., CVPR 2016
ade20k-150    0 ("other") is void, 1..150 -> 0..149                 Zhou et al., CVPR 2017
vspw          0 ("others") and 255 are void, 1..124 -> 0..123       Miao et al., CVPR 2021
voc           0..20 as they are, 255 is void, VOC's colours         Everingham et al., 2010
binary        0 -> background, 1 and 255 -> foreground
binary-void   0 -> background, 1 -> foreground, 255 is void
bits          bit c of an id is channel c
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from fusion.arguments import checked
from fusion.errors import InputError
from fusion.labels.class_map import ClassMap
from fusion.labels.lookup import Colour
from fusion.labels.png import PathLike, colour_map
from fusion.parsing import once, parse_json
from fusion.text import did_you_mean

VSPW_CLASSES = 124
_CITYSCAPES: dict[str, tuple[int, Colour]] = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}
_VOC = """background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse
motorbike person pottedplant sheep sofa train tvmonitor"""
_ADE20K = """wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet,
sidewalk, person, earth, door, table, mountain, plant, curtain, chair, car, water, painting, sofa,
shelf, house, sea, mirror, rug, field, armchair, seat, fence, desk, rock, wardrobe, lamp, bathtub,
railing, cushion, base, box, column, signboard, chest of drawers, counter, sand, sink, skyscraper,
fireplace, refrigerator, grandstand, path, stairs, runway, case, pool table, pillow, screen door,
stairway, river, bridge, bookcase, blind, coffee table, toilet, flower, book, hill, bench,
countertop, stove, palm, kitchen island, computer, swivel chair, boat, bar, arcade machine, hovel,
bus, towel, light, truck, tower, chandelier, awning, streetlight, booth, television receiver,
airplane, dirt track, apparel, pole, land, bannister, escalator, ottoman, bottle, buffet, poster,
stage, van, ship, fountain, conveyer belt, canopy, washer, plaything, swimming pool, stool, barrel,
basket, waterfall, tent, bag, minibike, cradle, oven, ball, food, step, tank, trade name, microwave,
pot, animal, bicycle, lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase, traffic
light, tray, ashcan, fan, pier, crt screen, plate, monitor, bulletin board, shower, radiator, glass,
clock, flag"""


def plain(
    names: Iterable[str], first: int, void: tuple[int, ...], *, colours: bool = False
) -> ClassMap:
    """Ids that count up from `first` in the order of the names; colours: VOC's, of the ids."""
    known = tuple(names)
    ids = tuple((first + c,) for c in range(len(known)))
    shown = [tuple(colour_map()[value].tolist()) for (value,) in ids] if colours else []
    return ClassMap("classes", known, ids, void, palette=tuple(shown))


def cityscapes() -> ClassMap:
    ids, colours = zip(*_CITYSCAPES.values(), strict=True)
    void = tuple(sorted({*range(34), 255} - set(ids)))
    values = tuple((value,) for value in ids)
    return ClassMap("classes", tuple(_CITYSCAPES), values, void, palette=colours)


def vspw(names: Iterable[str] | None = None) -> ClassMap:
    """names: of the 124 classes; default class_000 and so on."""
    known = (f"class_{c:03d}" for c in range(VSPW_CLASSES)) if names is None else names
    return plain(known, 1, (0, 255), colours=True)


def _binary(foreground: tuple[int, ...], void: tuple[int, ...]) -> ClassMap:
    return ClassMap("classes", ("background", "foreground"), ((0,), foreground), void)


MAPS: dict[str, Callable[[], ClassMap]] = {
    "cityscapes": functools.cache(cityscapes),
    "ade20k-150": functools.cache(
        lambda: plain((" ".join(name.split()) for name in _ADE20K.split(",")), 1, (0,))
    ),
    "vspw": functools.cache(vspw),
    "voc": functools.cache(lambda: plain(_VOC.split(), 0, (255,), colours=True)),
    "binary": functools.cache(lambda: _binary((255, 1), ())),
    "binary-void": functools.cache(lambda: _binary((1,), (255,))),
    "bits": functools.cache(lambda: ClassMap("bits", (), ())),
}
NNUNET, NONE = "nnunet", "none"  # the data set's dataset.json; stored values are class ids


def map_of(names: Iterable[str]) -> str | None:
    """The name in `MAPS` of the map that has exactly these classes, in whatever order."""
    wanted = {*names}
    return next((name for name, known in MAPS.items() if wanted == {*known().names}), None)


@checked
def read_class_map(given: ClassMap | Mapping[str, Any] | PathLike) -> ClassMap:
    """A class map as somebody names it.

    Args:
        given: a map, its JSON form as a dict, a name in `MAPS`, or the path of a JSON file: of such
            a form, or nnU-Net's dataset.json.

    Raises:
        InputError: no such name or file, or what is no map in it.
    """
    if isinstance(given, ClassMap):
        return given
    if isinstance(given, Mapping):
        return ClassMap.from_config(given)
    if str(given) in MAPS:
        return MAPS[str(given)]()
    path = Path(given)
    if not path.is_file():
        choices = [*MAPS, NNUNET, NONE]
        text = f"class_map: got {str(given)!r}, which is no file and no map's name"
        raise InputError(f"{text}{did_you_mean(str(given), choices)}")
    document = read_json(path)
    if isinstance(document, dict) and "labels" in document:
        return nnunet_map(document, f"class map {path}")
    return ClassMap.from_config(document, f"class map {path}")


def read_json(path: Path) -> Any:
    """A JSON document. InputError: none, or one that names something twice."""
    try:
        return parse_json(path.read_bytes(), pairs=once)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no readable JSON ({error}); restore or correct it") from error


def nnunet_map(document: Mapping[str, Any], what: str) -> ClassMap:
    """The classes of a dataset.json, version 1 or 2, background included; regions where it has any.

    "ignore" is void. Regions leave the background out, as nnU-Net's own channels do.
    """
    labels = document.get("labels")
    if not isinstance(labels, Mapping) or not labels:
        raise InputError(f'{what}: got no "labels"; give a dataset.json with names and ids')
    if all(str(key).isdigit() for key in labels):  # version 1: id -> name
        if not all(isinstance(name, str) for name in labels.values()):
            raise InputError(f'{what}: "labels" give {list(labels.values())!r:.60}; give names')
        labels = {name: int(value) for value, name in labels.items()}
    void = [labels[name] for name in labels if name == "ignore"]
    named = {name: value for name, value in labels.items() if name != "ignore"}
    if not any(isinstance(value, list) for value in named.values()):
        ranked = dict(
            sorted(named.items(), key=lambda item: item[1] if type(item[1]) is int else 0)
        )
        return ClassMap.from_config({"classes": ranked, "void": void}, what)
    regions = {n: v for n, v in named.items() if v not in (0, [0], [])}
    config = {"regions": regions, "void": void, "order": document.get("regions_class_order", [])}
    return ClassMap.from_config(config, what)
