"""The formats by name: a new one is its file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from fusion.errors import InputError
from fusion.outputs.geotiff import GeoTiff
from fusion.outputs.logit_store import Store
from fusion.outputs.nifti import Nifti
from fusion.outputs.nnunet import NnUnet
from fusion.outputs.npy import Npy
from fusion.outputs.npz import Npz
from fusion.outputs.output import Output
from fusion.outputs.png import Png
from fusion.outputs.pseudo import Pseudo
from fusion.outputs.uncertainty import Uncertainty
from fusion.outputs.zarr_group import ZarrGroup
from fusion.text import did_you_mean

OUTPUTS: Mapping[str, type[Output]] = {
    kind.name: kind
    for kind in (
        *(Png, Npy, Nifti, GeoTiff, NnUnet, ZarrGroup, Store),
        *(Npz, Uncertainty, Pseudo),
    )
}


def output_options() -> dict[str, tuple[str, dict[str, Any]]]:
    """What the command line adds: option -> its flag, and argparse's facts."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for kind in OUTPUTS.values():
        for each in fields(kind):
            if "flag" in each.metadata:
                form = dict(each.metadata["form"])
                takers = ", ".join(k.name for k in OUTPUTS.values() if each.name in _options(k))
                form["help"] = f"{takers}: {form['help']}"
                found[each.name] = each.metadata["flag"], form
    return found


def _options(kind: type[Output]) -> set[str]:
    return {each.name for each in fields(kind) if "flag" in each.metadata}


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
        takers = [k for k in OUTPUTS.values() if unknown[0] in {f.name for f in fields(k)}]
        whose = f", it is {takers[0].name}'s" if takers else ""
        raise InputError(f"{format}: takes no {unknown[0]}={whose}; leave it out")
    return kind(**given)
