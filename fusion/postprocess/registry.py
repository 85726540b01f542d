"""The operations by name: a new one is its file and a line here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fusion.arguments import checked
from fusion.errors import InputError
from fusion.parsing import parse_json
from fusion.postprocess.class_mask import ClassMask
from fusion.postprocess.ema import Ema
from fusion.postprocess.fill_holes import FillHoles
from fusion.postprocess.guided_filter import GuidedFilter
from fusion.postprocess.largest_component import LargestComponent
from fusion.postprocess.operation import Operation
from fusion.postprocess.pipeline import NOTHING, Pipeline
from fusion.postprocess.priors import Priors
from fusion.postprocess.small_components import SmallComponents
from fusion.postprocess.thresholds import Thresholds
from fusion.postprocess.vote import Vote
from fusion.postprocess.window import Window
from fusion.text import did_you_mean

KINDS: tuple[type[Operation], ...] = (
    Ema,
    Window,
    Priors,
    ClassMask,
    GuidedFilter,
    Thresholds,
    Vote,
    SmallComponents,
    FillHoles,
    LargestComponent,
)
OPERATIONS: Mapping[str, type[Operation]] = {kind.name: kind for kind in KINDS}
SWITCHES = {"on": True, "off": False, "true": True, "false": False}
Given = Operation | Mapping[str, Any] | str


@checked
def operation_of(given: Given) -> Operation:
    """An operation of what names it: itself, a configuration, or "window:radius=2,motion=maps".

    In text, several names are joined by "+", and so are numbers of classes, "road:0.3+car:0.1".

    InputError: no such operation or parameter.
    """
    if isinstance(given, Operation):
        return given
    if isinstance(given, str):
        given = _parsed(given)
    if not isinstance(given, Mapping) or "operation" not in given:
        do = 'give {"operation": NAME, PARAMETER: VALUE}'
        raise InputError(f"postprocess: got {given!r:.60}; {do}")
    name = given["operation"]
    if not isinstance(name, str) or name not in OPERATIONS:
        raise InputError(f"postprocess: no operation {name!r}{did_you_mean(str(name), OPERATIONS)}")
    return OPERATIONS[name].from_config(given)


@checked
def pipeline_of(given: Pipeline | Given | Sequence[Given] | None) -> Pipeline:
    """A pipeline of operations, or of what names them; None for nothing.

    A text that ends in .json is a file with a list of configurations.
    """
    if given is None:
        return NOTHING
    if isinstance(given, Pipeline):
        return given
    if isinstance(given, Operation | Mapping | str):
        given = [given]
    found: list[Given] = []
    for each in given:
        of_file = isinstance(each, str) and each.endswith(".json")
        found += _read(Path(str(each))) if of_file else [each]
    return Pipeline(tuple(operation_of(each) for each in found if each != "none"))


def _read(path: Path) -> list[Given]:
    try:
        document = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        do = 'give a list of {"operation": NAME, PARAMETER: VALUE}'
        raise InputError(f"{path}: cannot be read ({error}); {do}") from error
    if isinstance(document, dict) and isinstance(document.get("postprocess"), list):
        document = document["postprocess"]  # of a saved ensemble
    return document if isinstance(document, list) else [document]


def _parsed(text: str) -> dict[str, Any]:
    """NAME:PARAMETER=VALUE,... as a configuration, by the parameters' types."""
    name, _, rest = text.partition(":")
    config: dict[str, Any] = {"operation": name}
    known = OPERATIONS[name].parameters() if name in OPERATIONS else {}
    for pair in filter(None, rest.split(",")):
        key, equals, value = pair.partition("=")
        if not equals or not value:
            raise InputError(f"postprocess: {text!r} has {pair!r}; give NAME:PARAMETER=VALUE,...")
        config[key] = _value(value, known.get(key, {}).get("default"))
    return config


def _value(text: str, usual: Any) -> Any:
    """A value in the type of a parameter's default; what is none is refused where it is checked."""
    if isinstance(usual, bool):
        return SWITCHES.get(text.lower(), text)
    if isinstance(usual, tuple):
        return tuple(text.split("+"))
    if isinstance(usual, dict):
        pairs = [pair.rpartition(":") for pair in text.split("+")]
        return {name: _value(number, 0.0) for name, _, number in pairs} if ":" in text else text
    try:
        return int(text) if isinstance(usual, int) else float(text) if usual != text else text
    except ValueError:
        return text
