"""Files of every format as a release writes them, with what they say: read for ever by a test.

`python -m tests.faults.released 0.1` writes tests/faults/released/0.1.tar.xz with the code of that
release; archives of older releases are never made again.

    packed.zarr, mixed.zarr     stores with packs, and with a video that was overwritten
    net_*.zarr, labels, ensemble.toml
    plain.json, head.json and its head-*.safetensors, operations.json
                                saved ensembles of versions 1, 2 and 3
    cache                       condensed pixels
    results                     what a search leaves, its best.json and search.json among it
    weights.safetensors, weights.pt
    outputs                     label maps, with the record of what made them
    study.journal, study.db, exact
                                searches that can be gone on from
    expected.json               what their readers gave

What an archive lacks stands in others: 0.1+searches.tar.xz, written by the code of 0.1 as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch

import fusion
from fusion import cli
from fusion.ensemble.heads import head_of
from fusion.models.training import checkpoint
from fusion.outputs import write as write_outputs
from fusion.report.results import read_document
from fusion.search.__main__ import main as search
from fusion.search.storage import opened
from tests.contested import damage as condensed
from tests.samples import CLASSES, write_sample
from tests.stores.common import write

FOLDER = Path(__file__).with_name("released")
STORES = ("packed.zarr", "mixed.zarr")
ENSEMBLES = ("plain.json", "head.json", "operations.json", "results/best.json")
WEIGHTS = ("weights.safetensors", "weights.pt")
TENSORS = {"weight": torch.arange(12.0).reshape(3, 4) / 7, "count": torch.tensor(3)}
STUDIES = {"study.journal": "journal:", "study.db": "sqlite:///"}
TRIALS = ("--sampler", "random", "--trials", "4")
CERTIFIED = ("--certify", "inf", "--gap", "0.05")
STATES = {"study.journal": TRIALS, "study.db": TRIALS, "exact": CERTIFIED}
NETWORK = {"network": "plain", "classes": ["a", "b"], "options": {}, "tau": None, "scale": 1.0}


def make(folder: Path) -> None:
    """Everything but expected.json."""
    toml = write_sample(folder)
    toml.write_text(toml.read_text().replace(f"{folder}/", ""))
    draw = np.random.default_rng(5)
    clips = {f"image {n}": draw.normal(0, 6, (1, 4, 3, 5)).astype(np.float32) for n in range(3)}
    write(folder / "packed.zarr", clips, packed=True)
    write(folder / "mixed.zarr", clips)
    new = {"image 1": -clips["image 1"]}
    write(folder / "mixed.zarr", new, overwrite=True)
    ensemble = fusion.HierarchicalEnsemble.load(toml)
    ensemble = ensemble.regrouped(ensemble.groups, {"weak": 1.4}, temperatures={"net_1": 1.5})
    ensemble.save(folder / "plain.json")
    arrays = {"weight": draw.normal(1, 0.1, (2, 4)), "bias": draw.normal(0, 1, 4)}
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    names = {"units": ["strong", "weak"], "classes": CLASSES}
    head = head_of({"form": "log", **names, "arrays": arrays})
    ensemble.with_head(head).save(folder / "head.json")
    ensemble.with_postprocess(["window:radius=1", "vote"]).save(folder / "operations.json")
    condensed.make(folder / "cache")
    found = ["--ensemble", str(toml), "--labels", str(folder / "labels"), "--range", "weak=0:2:1"]
    found += ["--method", "grid", "--out", str(folder / "results"), "--no-cache"]
    assert cli.run(search, found) == 0
    checkpoint.save(folder / WEIGHTS[0], TENSORS, {"architecture": NETWORK})
    body = {"tensors": TENSORS, "document": json.dumps({"architecture": NETWORK})}
    torch.save(body, folder / WEIGHTS[1])
    write_outputs(ensemble, folder / "outputs", "png")
    for name in STATES:
        searched(folder, name)


def searched(folder: Path, name: str) -> dict[str, Any]:
    """The result of a search that keeps its state under this name, begun or gone on with."""
    out = folder / ("exact" if name == "exact" else "optuna")
    more = ["--ensemble", str(folder / "ensemble.toml"), "--labels", str(folder / "labels")]
    more += ["--folds", "0", "--no-cache", "--out", str(out), "--method", out.name, *STATES[name]]
    if name in STUDIES:
        more += ["--storage", f"{STUDIES[name]}{folder / name}"]
    with contextlib.redirect_stderr(io.StringIO()):  # its bars
        assert cli.run(search, more) == 0
    result: dict[str, Any] = read_document(out)["result"]
    if name in STUDIES:
        shutil.rmtree(out)
    return result


def gone_on(folder: Path, name: str) -> list[Any]:
    """What a search finds that goes on from a copy, and what it found there: nothing is new."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "copy"
        shutil.copytree(folder, place)
        result = searched(place, name)
        if name in STUDIES:
            study = optuna.load_study(
                study_name="segfusion", storage=opened(f"{STUDIES[name]}{place / name}")
            )
            known: list[Any] = [trial.values for trial in study.trials]
        else:
            (state,) = (json.loads(path.read_bytes()) for path in (place / name).glob("exact-*"))
            known = [state["climbed"], state["step"], state["found"]]
    return [result["weights"], result["miou"], result["history"], known]


def read(folder: Path) -> Iterator[tuple[str, Any]]:
    """(name, what a reader gives) of everything as plain JSON, numbers as digests of their bits."""
    for name in STORES:
        store = fusion.LogitStore(folder / name)
        codes = [digest(store.codes(video)) for video in store.videos]
        facts = [store.digest(), list(store.videos), list(store.classes), store.profile]
        yield name, [*facts, codes, [list(store.frames(video)) for video in store.videos]]
    for name in ENSEMBLES:
        ensemble = fusion.HierarchicalEnsemble.load(folder / name)
        said = [ensemble.weights, list(ensemble.temperatures), ensemble.postprocess.get_config()]
        labels = [digest(ensemble.predict(video)) for video in ensemble.videos]
        yield name, [*said, None if ensemble.head is None else ensemble.head.name, labels]
    cache = [condensed.scores(folder / "cache", memory) for memory in (1 << 30, condensed.STREAMED)]
    yield "cache", [hashlib.sha256(each).hexdigest() for each in cache]
    document = read_document(folder / "results")
    kept = {name: document["result"][name] for name in ("method", "weights", "miou", "history")}
    yield "search.json", [kept, sorted(document["inputs"]["splits"])]
    for name in WEIGHTS:
        tensors, architecture = checkpoint.load_weights(folder / name)
        numbers = {key: digest(tensor.numpy()) for key, tensor in sorted(tensors.items())}
        yield name, [numbers, {**architecture.to_json(), "classes": list(architecture.classes)}]
    for name in STATES:
        yield name, gone_on(folder, name)


def digest(array: np.ndarray) -> str:
    array = np.ascontiguousarray(array)
    content = f"{array.dtype.str} {array.shape} ".encode() + array.tobytes()
    return hashlib.sha256(content).hexdigest()


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _nobodys(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    target = Path(sys.argv[2] if len(sys.argv) > 2 else FOLDER) / f"{sys.argv[1]}.tar.xz"
    assert not target.exists(), f"{target} was released"
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        make(place)
        (place / "expected.json").write_text(json.dumps(dict(read(place)), indent=1))
        with tarfile.open(target, "w:xz") as archive:
            for path in sorted(place.iterdir()):
                archive.add(path, path.name, filter=_nobodys)
    print(f"{target}: {target.stat().st_size} bytes")
