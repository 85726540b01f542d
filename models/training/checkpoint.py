"""Weights and checkpoints on disk: named tensors and JSON, written whole or not at all.

safetensors under a checksum (fusion.tensors). Files in torch's own format, which earlier releases
wrote where that package was missing, are read too: their zip's checksums, which torch leaves out,
are compared first, and pickles are opened with weights_only=True, which refuses anything that would
run. Checkpoints of others are read the same way, for `start` to make something of.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping, Set
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from fusion import plain
from fusion import tensors as files
from fusion.errors import InputError, StoreError
from fusion.models.networks import official
from fusion.models.registry import Network
from fusion.models.training.architecture import Architecture
from fusion.parsing import parse_json
from fusion.text import listed

# of the files that `save` writes
SUFFIX = ".safetensors"
_ADVICE = "give weights that training wrote, such as baseline.safetensors"
# how files begin that torch wrote before its zip format: a pickled number
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_STATES = ("model", "state_dict")  # where others keep their tensors
_TRUST = "where you trust it, write its tensors into a file of their own with python -c"
_PICKLE = (
    f"{_TRUST} \"import pickle, torch; found = pickle.load(open('FILE.pkl', 'rb'))['model']; "
    "torch.save({k: torch.as_tensor(v) for k, v in found.items()}, 'FILE.pth')\""
)
_OBJECTS = (
    f"{_TRUST} \"import torch; found = torch.load('FILE.pth', weights_only=False); "
    "torch.save(found['state_dict'], 'TENSORS.pth')\""
)


def save(path: Path, tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> None:
    """Writes tensors and document, whole or not at all. StoreError: the disk refuses."""
    plain = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
    files.write(path, plain, document)


def load(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors, on the CPU, and document of a file that `save` wrote.

    A file of an earlier release that has no checksum is read with one line on stderr. StoreError:
    missing, damaged, or somebody else's.
    """
    tensors, document = read(path)
    if document is None:
        advice = "as `start` in [network] training can begin with it, where it fits"
        raise StoreError(f"weights: {path} is {what(tensors)}, not of this library; {advice}")
    return tensors, document


def what(tensors: Mapping[str, Tensor]) -> str:
    """A checkpoint of others in words."""
    source = official.recognised(tensors)
    if source:
        return f"a checkpoint of {source.name}"
    return f"{len(tensors)} tensors of no network known here ({listed(tensors, 3)})"


def read(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """The same of any file of tensors; no document where `save` did not write it.

    StoreError: missing, damaged, no tensors, or a pickle that would have to be run.
    """
    try:
        plain.check(path)
        with Path(path).open("rb") as file:  # given a path, torch goes by the suffix
            begin = file.read(len(_LEGACY))
            if begin.startswith(b"PK") or begin == _LEGACY:
                return _of_torch(path, _load_torch(file, begin))
            if begin[:1] == b"\x80" and b"\x02" <= begin[1:2] <= b"\x05":
                raise StoreError(f"weights: {path} is a pickle, which can run anything; {_PICKLE}")
        if (foreign := _foreign(path)) is not None:
            return foreign, None
        arrays, document = files.load(path, say=True)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}, document
    except StoreError:
        raise
    except OSError as error:
        got = f"{path} cannot be read ({error.strerror or error})"
        raise StoreError(f"weights: {got}; {_ADVICE}") from error
    except pickle.UnpicklingError as error:
        reason = str(error).replace("\n", " ")[:120]
        got = f"{path} holds more than tensors and plain data ({reason} ...)"
        raise StoreError(f"weights: {got}; {_OBJECTS}") from error
    except Exception as error:  # of zipfile, torch and safetensors
        reason = (str(error) or type(error).__name__).splitlines()[0]
        got = f"{path} is damaged, or no file of tensors ({reason})"
        raise StoreError(f"weights: {got}; {_ADVICE}") from error


def _foreign(path: str | Path) -> dict[str, Tensor] | None:
    """The tensors of a safetensors file that is not of this library."""
    try:
        with safe_open(path, "pt") as file:
            if files.KEY in (file.metadata() or {}):
                return None
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except SafetensorError:  # which reading it as ours says better
        return None


def _of_torch(path: str | Path, content: Any) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Tensors and document of what was in a file of torch."""
    if isinstance(content, dict) and content.keys() == {"tensors", "document"}:
        return dict(content["tensors"]), parse_json(content["document"])
    inner = content if isinstance(content, dict) else {}
    for key in _STATES:
        inner = inner[key] if isinstance(inner.get(key), dict) else inner
    tensors = {str(k): v for k, v in inner.items() if isinstance(v, Tensor)}
    if not tensors:
        got = f"keys {listed(content, 4)}" if isinstance(content, dict) else type(content).__name__
        raise StoreError(f"weights: {path} holds no tensors by name, but {got}; {_ADVICE}")
    if all(name.startswith("module.") for name in tensors):  # saved from inside data parallelism
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors, None


def _load_torch(file: IO[bytes], begin: bytes) -> Any:
    if begin == _LEGACY:
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)
    sound = io.BytesIO()  # records as they were checked: torch's reader finds them by other fields
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(sound, "w") as checked:
        if any(each.compress_type != zipfile.ZIP_STORED for each in archive.infolist()):
            raise ValueError("torch writes no compressed files")  # nor what unfolds to gigabytes
        for name in archive.namelist():
            checked.writestr(name, archive.read(name))
    sound.seek(0)
    return torch.load(sound, map_location="cpu", weights_only=True)


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
    return tensors, described(document, path)


def described(document: Mapping[str, Any], path: str | Path) -> Architecture:
    """What network a file's document says that it is of."""
    try:
        return Architecture.from_json(document["architecture"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        got = f"{path} does not say which network it is of ({error})"
        raise StoreError(f"weights: {got}; {_ADVICE}") from error


def load_state(network: nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Fills a network; InputError, naming `path`, where the tensors are another architecture's."""
    if odd := differences(network.state_dict(), tensors):
        where = f"weights: {path} is of another architecture than {type(network).__name__}"
        raise InputError(f"{where}: it {odd}; give weights of the same network, preset and classes")
    network.load_state_dict(dict(tensors))


def differences(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str:
    """Which tensors keep a network from taking others, three of each kind; "" where none do."""
    lacks = [name for name in expected if name not in tensors]
    unknown = [name for name in tensors if name not in expected]
    other = [
        f"{name} is {list(tensors[name].shape)}, expected {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    kinds = {"lacks {}": lacks, "has {} unknown": unknown, "has {} of another shape": other}
    found = {kind: names for kind, names in kinds.items() if names}
    return ", ".join(f"{k.format(len(names))} ({listed(names, 3)})" for k, names in found.items())


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
