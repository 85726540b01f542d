"""Weights and checkpoints on disk: named tensors and JSON, written whole or not at all.

safetensors where the package is installed (the extra 'models'), else torch's own format; either is
read by what is in the file. A file can hold numbers only: pickles are opened with
weights_only=True, which refuses anything that would run.
"""

from __future__ import annotations

import importlib.util
import json
import pickle
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fusion.errors import InputError, StoreError
from fusion.files import refusals, replacing
from fusion.models.registry import Network
from fusion.models.training.architecture import Architecture

# of the files that `save` writes
SUFFIX = ".safetensors" if importlib.util.find_spec("safetensors") else ".pt"
_KEY = "segfusion"  # of the JSON among safetensors' metadata
_ADVICE = "give a file that training wrote"


def save(path: Path, tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> None:
    """Writes tensors and document, whole or not at all. StoreError: the disk refuses."""
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    need = sum(tensor.nbytes for tensor in plain.values())
    with refusals(path, need), replacing(path, durable=True) as scratch:
        if SUFFIX == ".pt":
            torch.save({"tensors": plain, "document": json.dumps(document)}, scratch)
            return
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        try:
            save_file(plain, scratch, {_KEY: json.dumps(document)})
        except SafetensorError as error:  # its name for a full disk too
            raise OSError(str(error)) from error


def load(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors, on the CPU, and document of a file that `save` wrote.

    StoreError: missing, damaged, or no such file. InputError: its package is not installed.
    """
    try:
        with Path(path).open("rb") as file:  # given a path, torch goes by the suffix
            if file.read(2) == b"PK":
                file.seek(0)
                content = torch.load(file, map_location="cpu", weights_only=True)
                return dict(content["tensors"]), json.loads(content["document"])
        return _load_safetensors(path)
    except ImportError as error:
        got = f"{path} needs the package safetensors"
        raise InputError(f"weights: {got}; pip install 'segfusion[models]'") from error
    except OSError as error:
        got = f"{path} cannot be read ({error.strerror or error})"
        raise StoreError(f"weights: {got}; {_ADVICE}") from error
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, ValueError) as error:
        got = f"{path} is damaged, or not of this library ({str(error).splitlines()[0]})"
        raise StoreError(f"weights: {got}; {_ADVICE}") from error


def _load_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            return tensors, json.loads((file.metadata() or {})[_KEY])
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def save_network(path: Path, network: nn.Module, architecture: Architecture, **facts: Any) -> None:
    """A network's state with all that `load_network` needs. facts: free JSON (step, seed, ...)."""
    save(path, network.state_dict(), {**facts, "architecture": architecture.to_json()})


def load_network(path: str | Path, *, module: str | None = None) -> tuple[Network, Architecture]:
    """The network of a weights file, in evaluation mode. module: as in `registry.build`."""
    tensors, architecture = load_weights(path)
    network = architecture.build(module=module)
    load_state(network, tensors, path)
    return network.eval(), architecture


def load_weights(path: str | Path) -> tuple[dict[str, Tensor], Architecture]:
    """The tensors of a weights file, and what network they are of."""
    tensors, document = load(path)
    try:
        return tensors, Architecture.from_json(document["architecture"])
    except (KeyError, TypeError) as error:
        got = f"{path} does not say which network it is of ({error})"
        raise StoreError(f"weights: {got}; {_ADVICE}") from error


def load_state(network: nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Fills a network; InputError, naming `path`, where the tensors are another architecture's."""
    expected, kind = network.state_dict(), type(network).__name__
    where = f"weights: {path} is of another architecture than {kind}: "
    if odd := sorted(expected.keys() ^ tensors.keys()):
        side = "lacks" if odd[0] in expected else "has an unknown"
        got = f"it {side} tensor {odd[0]!r}, {len(odd)} names differ"
        raise InputError(f"{where}{got}; give weights of the same network and preset")
    for key, tensor in expected.items():
        if tensor.shape != tensors[key].shape:
            got = f"{key!r} is {list(tensors[key].shape)}, expected {list(tensor.shape)}"
            raise InputError(f"{where}{got}; give weights of the same preset and classes")
    network.load_state_dict(dict(tensors))


def difference(
    there: Mapping[str, Any], here: Mapping[str, Any], ignored: Set[str] = frozenset()
) -> tuple[str, Any, Any] | None:
    """The first key, in order, whose values differ, and both values; inner keys as outer.inner."""
    theirs, ours = _flat(there), _flat(here)
    keys = sorted((theirs.keys() | ours.keys()) - ignored)
    rows = ((key, theirs.get(key), ours.get(key)) for key in keys)
    return next((row for row in rows if row[1] != row[2]), None)


def _flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat
