"""Weights and checkpoints on disk: named tensors and JSON, written whole or not at all.

safetensors under a checksum (fusion.tensors). Files in torch's own format, which earlier releases
wrote where that package was missing, are read too: their zip's checksums, which torch leaves out,
are compared first, and pickles are opened with weights_only=True, which refuses anything that would
run.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Set
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from fusion import plain
from fusion import tensors as files
from fusion.errors import InputError, StoreError
from fusion.models.registry import Network
from fusion.models.training.architecture import Architecture
from fusion.parsing import parse_json

# of the files that `save` writes
SUFFIX = ".safetensors"
_ADVICE = "give a file that training wrote"


def save(path: Path, tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> None:
    """Writes tensors and document, whole or not at all. StoreError: the disk refuses."""
    plain = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
    files.write(path, plain, document)


def load(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors, on the CPU, and document of a file that `save` wrote.

    A file of an earlier release that has no checksum is read with one line on stderr. StoreError:
    missing, damaged, or no such file.
    """
    try:
        plain.check(path)
        with Path(path).open("rb") as file:  # given a path, torch goes by the suffix
            if file.read(2) == b"PK":
                return _load_torch(file)
        arrays, document = files.load(path, say=True)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}, document
    except OSError as error:
        got = f"{path} cannot be read ({error.strerror or error})"
        raise StoreError(f"weights: {got}; {_ADVICE}") from error
    except Exception as error:  # of pickle, zipfile, torch and safetensors
        reason = (str(error) or type(error).__name__).splitlines()[0]
        got = f"{path} is damaged, or not of this library ({reason})"
        raise StoreError(f"weights: {got}; {_ADVICE}") from error


def _load_torch(file: IO[bytes]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    sound = io.BytesIO()  # records as they were checked: torch's reader finds them by other fields
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(sound, "w") as checked:
        if any(each.compress_type != zipfile.ZIP_STORED for each in archive.infolist()):
            raise ValueError("torch writes no compressed files")  # nor what unfolds to gigabytes
        for name in archive.namelist():
            checked.writestr(name, archive.read(name))
    sound.seek(0)
    content = torch.load(sound, map_location="cpu", weights_only=True)
    return dict(content["tensors"]), parse_json(content["document"])


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
    except (AttributeError, KeyError, TypeError, ValueError) as error:
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
