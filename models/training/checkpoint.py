"""Weights and checkpoints on disk: named tensors with JSON beside them, written whole or not at
all.

safetensors where the package is installed (the extra 'models'), else torch's own format; either is
read by what is in the file. A file can hold numbers only: pickles are opened with
weights_only=True, which refuses anything that would run.
"""

from __future__ import annotations

import importlib.util
import json
import pickle
from collections.abc import Mapping
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
    cpu = {name: tensor.detach().to("cpu") for name, tensor in tensors.items()}
    plain = {k: v.clone(memory_format=torch.contiguous_format) for k, v in cpu.items()}
    need = sum(tensor.nbytes for tensor in plain.values())
    with refusals(path, need), replacing(path, durable=True) as scratch:
        if SUFFIX == ".safetensors":
            _save_safetensors(plain, scratch, {_KEY: json.dumps(document)})
        else:
            torch.save({"tensors": plain, "document": json.dumps(document)}, scratch)


def _save_safetensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:  # its name for a full disk too
        raise OSError(str(error)) from error


def load(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors, on the CPU, and document of a file that `save` wrote.

    StoreError: missing, damaged, or no such file.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"PK"
        return _load_torch(path) if zipped else _load_safetensors(path)
    except StoreError:  # an OSError too, and complete
        raise
    except OSError as error:
        got = f"{path} cannot be read ({error.strerror or error})"
        raise StoreError(f"weights: {got}; {_ADVICE}") from error


def _load_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        got = f"{path} needs the package safetensors"
        raise InputError(f"weights: {got}; pip install 'segfusion[models]'") from error
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            return tensors, json.loads((file.metadata() or {})[_KEY])
    except (SafetensorError, KeyError, ValueError) as error:
        got = f"{path} is damaged, or not of this library ({error})"
        raise StoreError(f"weights: {got}; {_ADVICE}") from error


def _load_torch(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with path.open("rb") as file:  # by its content: given a path, torch goes by the suffix
            content = torch.load(file, map_location="cpu", weights_only=True)
        return dict(content["tensors"]), json.loads(content["document"])
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, ValueError) as error:
        got = f"{path} is damaged, or holds more than tensors ({str(error).splitlines()[0]})"
        raise StoreError(f"weights: {got}; {_ADVICE}") from error


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
    expected = network.state_dict()
    where = f"weights: {path} is of another architecture than {type(network).__name__}: "
    odd = sorted(expected.keys() ^ tensors.keys())
    if odd:
        side = "lacks" if odd[0] in expected else "has an unknown"
        got = f"it {side} tensor {odd[0]!r}, {len(odd)} names differ"
        raise InputError(f"{where}{got}; give weights of the same network and preset")
    for key, tensor in expected.items():
        if tensor.shape != tensors[key].shape:
            got = f"{key!r} is {list(tensors[key].shape)}, expected {list(tensor.shape)}"
            raise InputError(f"{where}{got}; give weights of the same preset and classes")
    network.load_state_dict(dict(tensors))


def check_same(
    path: Path, there: Mapping[str, Any], here: Mapping[str, Any], ignored: frozenset[str]
) -> None:
    """InputError, naming the first difference, where a checkpoint is of another configuration."""
    theirs, ours = _flat(there), _flat(here)
    for key in sorted((theirs.keys() | ours.keys()) - ignored):
        if theirs.get(key) != ours.get(key):
            got = f"{key} = {theirs.get(key)!r} there, {ours.get(key)!r} here"
            advice = "choose another 'out', or delete it to start anew"
            raise InputError(f"{path}: checkpoint of another configuration ({got}); {advice}")


def _flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat
