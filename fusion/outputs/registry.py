"""The formats by name: a new one is its file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from fusion.errors import InputError
from fusion.outputs.geotiff import GeoTiff
from fusion.outputs.gif import Gif
from fusion.outputs.logit_store import Store
from fusion.outputs.mp4 import Mp4
from fusion.outputs.nifti import Nifti
from fusion.outputs.nnunet import NnUnet
from fusion.outputs.npy import Npy
from fusion.outputs.npz import Npz
from fusion.outputs.output import Output
from fusion.outputs.overlay import Overlay
from fusion.outputs.png import Png
from fusion.outputs.pseudo import Pseudo
from fusion.outputs.uncertainty import Uncertainty
from fusion.outputs.zarr_group import ZarrGroup
from fusion.text import did_you_mean, listed

OUTPUTS: Mapping[str, type[Output]] = {
    kind.name: kind
    for kind in (
        *(Png, Npy, Nifti, GeoTiff, NnUnet, ZarrGroup, Store),
        *(Npz, Uncertainty, Pseudo, Overlay, Gif, Mp4),
    )
}


def output_options() -> dict[str, tuple[str, dict[str, Any]]]:
    """What the command line adds: option -> its flag, and argparse's facts."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for kind in OUTPUTS.values():
        for each in fields(kind):
            if "flag" in each.metadata and each.name not in found:
                form = dict(each.metadata["form"])
                form["help"] = f"{listed(takers(each.name))}: {form['help']}"
                found[each.name] = each.metadata["flag"], form
    return found


def takers(option: str) -> list[str]:
    """The formats that have an option."""
    return [k.name for k in OUTPUTS.values() if option in {each.name for each in fields(k)}]


def output_of(format: str | Output, **options: Any) -> Output:
    """A format by its name; options that are None stand for not given.

    InputError: no such format, or an option that it does not have.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if isinstance(format, Output):
        if given:
            raise InputError(f"{format.name}: got {next(iter(given))}= beside it; leave it out")
        return format
    if format not in OUTPUTS:
        raise InputError(f"format: got {format!r}{did_you_mean(str(format), OUTPUTS)}")
    kind = OUTPUTS[format]
    own = {each.name for each in fields(kind)}
    if unknown := [name for name in given if name not in own]:
        whose = listed(f"{name}'s" for name in takers(unknown[0]))
        known = f", it is {whose}" if whose else ""
        raise InputError(f"{format}: takes no {unknown[0]}={known}; leave it out")
    return kind(**given)
