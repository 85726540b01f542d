"""Weights and checkpoints on disk: named tensors with JSON beside them, written whole or not at all.

safetensors where the package is installed (the extra 'models'), else torch's own format; either is read by what is in the file. A
file can hold numbers only: pickles are opened with weights_only=True, which refuses anything that would run.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fusion.errors import InputError, StoreError
from fusion.models.registry import Architecture, Network

SUFFIX = (
    ".safetensors" if importlib.util.find_spec("safetensors") else ".pt"
)  # of the files that `save` writes
_KEY = "segfusion"  # of the JSON among safetensors' metadata


def save(path: Path, tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> None:
    """Writes tensors and document by way of a scratch file and one rename. StoreError: the disk refuses."""
    plain = {
        name: tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if SUFFIX == ".safetensors":
            _save_safetensors(plain, scratch, {_KEY: json.dumps(document)})
        else:
            torch.save({"tensors": plain, "document": json.dumps(document)}, scratch)
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        scratch.replace(path)
    except OSError as error:
        need = sum(tensor.nbytes for tensor in plain.values())
        raise StoreError(
            f"{path}: cannot be written ({error.strerror or error}), {need} bytes needed; check rights and disk"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink()


def _save_safetensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:  # its name for a full disk too
        raise OSError(str(error)) from error


def load(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors, on the CPU, and document of a file that `save` wrote. StoreError: missing, damaged, or no such file."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == b"PK"
        return _load_torch(path) if zipped else _load_safetensors(path)
    except StoreError:  # an OSError too, and complete
        raise
    except OSError as error:
        raise StoreError(
            f"weights: {path} cannot be read ({error.strerror or error}); give a file that training wrote"
        ) from error


def _load_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise InputError(
            f"weights: {path} needs the package safetensors; pip install 'segfusion[models]'"
        ) from error
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            return tensors, json.loads((file.metadata() or {})[_KEY])
    except (SafetensorError, KeyError, ValueError) as error:
        raise StoreError(
            f"weights: {path} is damaged, or not of this library ({error}); give a file that training wrote"
        ) from error


def _load_torch(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with path.open("rb") as file:  # by its content: given a path, torch goes by the suffix
            content = torch.load(file, map_location="cpu", weights_only=True)
        return dict(content["tensors"]), json.loads(content["document"])
    except (pickle.UnpicklingError, RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise StoreError(
            f"weights: {path} is damaged, or holds more than tensors ({reason}); give a file that training wrote"
        ) from error


def save_network(path: Path, network: nn.Module, architecture: Architecture, **facts: Any) -> None:
    """A network's state with all that `load_network` needs to build it. facts: free JSON (step, seed, ...)."""
    save(path, network.state_dict(), {**facts, "architecture": architecture.to_json()})


def load_network(path: str | Path, *, module: str | None = None) -> tuple[Network, Architecture]:
    """The network of a weights file, in evaluation mode. module: as in `registry.build`."""
    tensors, architecture = _load_weights(path)
    network = architecture.build(module=module)
    load_state(network, tensors, str(path))
    return network.eval(), architecture


def _load_weights(path: str | Path) -> tuple[dict[str, Tensor], Architecture]:
    tensors, document = load(path)
    try:
        return tensors, Architecture.from_json(document["architecture"])
    except (KeyError, TypeError) as error:
        raise StoreError(
            f"weights: {path} does not say which network it is of ({error}); give a file that training wrote"
        ) from error


def start_from(network: Network, architecture: Architecture, path: str | Path) -> None:
    """Fills a network with the weights of a file, for training to go on from.

    Where the file's classes are others, the last layer and what else has a row a class stay as they are. Where they are the same, the
    last layer is taken too; logit adjustment keeps its own prior, and has no use for a bias. InputError: the file is of another
    network or other options; the classes differ and the network does not name its last layer.
    """
    tensors, found = _load_weights(path)
    if (found.network, found.options) != (architecture.network, architecture.options):
        got = f"{found.network} {found.options}, not {architecture.network} {architecture.options}"
        raise InputError(
            f"network: start {path} is {got}; give weights of the same network and options"
        )
    same = found.classes == architecture.classes
    if not (same or network.classifier):
        raise InputError(
            f"network: start {path} has other classes, and {architecture.network!r} names no last layer to leave out"
        )
    own = network.state_dict()
    last = {
        name
        for name in own.keys() | tensors.keys()
        if network.classifier and name.startswith(f"{network.classifier}.")
    }
    taken = {name: tensor for name, tensor in tensors.items() if name not in last}
    if not same:
        taken |= {
            name: own[name]
            for name, tensor in taken.items()
            if name in own and own[name].shape != tensor.shape
        }
    for name in last & own.keys():
        fits = same and name in tensors and not name.endswith(".log_prior")
        # reshaped: a 1 x 1 convolution's [C, D, 1, 1] into the cosine classifier's [C, D]
        taken[name] = tensors[name].reshape(own[name].shape) if fits else own[name]
    load_state(network, taken, str(path))


def load_state(network: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Fills a network; InputError where the tensors are another architecture's."""
    expected = network.state_dict()
    name = type(network).__name__
    odd = sorted(expected.keys() ^ tensors.keys())
    if odd:
        side = "lacks" if odd[0] in expected else "has an unknown"
        got = f"{side} tensor {odd[0]!r}, {len(odd)} names differ"
        raise InputError(
            f"weights: {where} is of another architecture than {name}: it {got}; give weights of the same network and preset"
        )
    for key, tensor in expected.items():
        if tensor.shape != tensors[key].shape:
            got = f"{key!r} is {list(tensors[key].shape)}, expected {list(tensor.shape)}"
            raise InputError(
                f"weights: {where} is of another architecture than {name}: {got}; give weights of the same preset and classes"
            )
    network.load_state_dict(dict(tensors))


def check_same(
    path: Path, there: Mapping[str, Any], mine: Mapping[str, Any], ignored: frozenset[str]
) -> None:
    """InputError, naming the first difference, where a checkpoint's configuration is not this run's."""
    theirs, ours = _flat(there), _flat(mine)
    differ = sorted(
        key
        for key in theirs.keys() | ours.keys()
        if key not in ignored and theirs.get(key) != ours.get(key)
    )
    if differ:
        key = differ[0]
        got = f"{key} = {theirs.get(key)!r} there, {ours.get(key)!r} here"
        raise InputError(
            f"{path}: checkpoint of another configuration ({got}); choose another 'out', or delete it to start anew"
        )


def _flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat
