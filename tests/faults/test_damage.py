"""Every kind of file that the library writes and reads again, damaged in every way that a disk, a
user or a program may: the same numbers as before, or one error that names the file.

A new kind is a row of KINDS: how it is made, and how it is read. `pytest -m slow
tests/faults/test_damage.py -s` flips every byte and prints the counts; otherwise some are.
Folders of predictions are in test_outputs.py, states of searches in theirs. What carries no name of
its own (a label map, a network's weights) may be taken for another of its kind: who swaps two sound
ones is not noticed by the file itself, so that is not tried there.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fusion
from fusion.ensemble.heads import head_of
from fusion.labels import Labels, write_labels
from fusion.models.data.clips import Clips
from fusion.models.data.statistics import class_statistics
from fusion.models.training import checkpoint
from fusion.outputs import write as write_outputs
from fusion.stores import LogitStore
from tests.contested import damage as condensed
from tests.faults.damage import damages, restore
from tests.faults.outcomes import outcome, said
from tests.outputs.simulated import FakeEnsemble
from tests.samples import CLASSES, write_sample
from tests.stores.common import write as write_store


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    make: writes data of a seed into a folder, and gives the file or folder that is damaged. read:
    all numbers that its readers see. every: in CI one byte of so many is flipped, and one damage of
    `spare` tried. identity: whether it knows whose it is, so that another's is refused. named: what
    an error has to say, of the path.
    """

    make: Callable[[Path, int], Path]
    read: Callable[[Path], Any]
    every: int = 41
    spare: int = 1
    identity: bool = True
    named: Callable[[Path], object] = str


def store(**options):
    def make(folder, seed):
        draw = np.random.default_rng(seed)
        clips = {v: draw.normal(0, 6, (2, 4, 3, 5)).astype(np.float32) for v in ("v", "w")}
        return write_store(folder / "s.zarr", clips, provenance={"seed": seed}, **options)

    return make


def read_store(path):
    known = LogitStore(path)
    facts = [known.info, known.digest(), *(known.describe(video) for video in ("v", "w"))]
    return facts, [known.codes(v).tobytes() + known.read(v).tobytes() for v in ("v", "w")]


def make_fused(folder, seed):
    frames = {"v": ("0", "1"), "w": ("w",)}
    ensemble = FakeEnsemble(seed=seed, videos=tuple(frames), frames_of=frames)
    options = {"soft": "top-k", "top": 2, "model": "fused"}
    write_outputs(ensemble, folder / "s.zarr", "store", **options)
    return folder / "s.zarr"


def make_condensed(folder, seed):
    condensed.make(folder / "cache", "digest" if seed == 0 else "other digest", seed)
    return folder / "cache"


def read_condensed(path):
    return condensed.scores(path, condensed.STREAMED), condensed.scores(path, 1 << 30)


def labels(number, dtype):
    def make(folder, seed):
        mask = np.random.default_rng(seed).integers(0, number, (9, 14)).astype(dtype)
        write_labels(folder / "labels" / "v" / "0.png", mask)
        return folder / "labels" / "v" / "0.png"

    def read(path):
        mask = Labels.open("folder", path.parents[1]).read("v", "0", classes=number)
        return str(mask.dtype), mask.shape, mask.tobytes()

    return Kind(make, read, every=7, identity=False, named=lambda path: path.parents[1])


def state(seed):
    draw = torch.Generator().manual_seed(seed)
    return {
        "weight": torch.randn((4, 3), generator=draw),
        "count": torch.tensor(7 + seed),
        "half": torch.randn(5, generator=draw).half(),
    }


DOCUMENT = {"step": 3, "architecture": {"network": "plain"}, "config": {"seed": 1}}


def make_weights(folder, seed):
    folder.mkdir(exist_ok=True)
    checkpoint.save(folder / "w.safetensors", state(seed), DOCUMENT)
    return folder / "w.safetensors"


def make_torch_weights(folder, seed):
    folder.mkdir(exist_ok=True)
    body = {"tensors": state(seed), "document": json.dumps(DOCUMENT)}
    torch.save(body, folder / "w.pt")
    return folder / "w.pt"


def read_weights(path):
    tensors, document = checkpoint.load(path)
    numbers = {n: (str(t.dtype), t.shape, t.numpy().tobytes()) for n, t in tensors.items()}
    return sorted(numbers.items()), document


def make_ensemble(folder, seed):
    ensemble = fusion.HierarchicalEnsemble.load(write_sample(folder))
    ensemble.with_weights({"strong": 1.0, "weak": 0.25 + seed / 2}).save(folder / "best.json")
    return folder / "best.json"


def read_ensemble(path):
    ensemble = fusion.HierarchicalEnsemble.load(path)
    facts = [ensemble.weights, ensemble.temperatures, ensemble.resize, ensemble.mean]
    return facts, ensemble.predict("a").tobytes()


def make_head(folder, seed):
    toml = write_sample(folder)
    draw = np.random.default_rng(seed)
    arrays = {"weight": draw.normal(1, 0.1, (2, 4)), "bias": draw.normal(0, 1, 4)}
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    names = {"units": ["strong", "weak"], "classes": CLASSES}
    head = head_of({"form": "log", **names, "arrays": arrays})
    fusion.HierarchicalEnsemble.load(toml).with_head(head).save(folder / "best.json")
    (file,) = folder.glob("head-*.safetensors")
    return file


def read_head(path):
    ensemble = fusion.HierarchicalEnsemble.load(path.with_name("best.json"), check=False)
    return ensemble.head, ensemble.predict("a").tobytes()


def clips_of(folder):
    return Clips.folder(folder / "images", folder / "labels", classes=("a", "b", "c"))


def make_statistics(folder, seed):
    mask = np.random.default_rng(seed).integers(0, 3, (4, 5)).astype(np.uint8)
    write_labels(folder / "labels" / "v" / "0.png", mask)
    (folder / "images" / "v").mkdir(parents=True)
    class_statistics(clips_of(folder), folder / "out" / "statistics.json")
    return folder / "out" / "statistics.json"


def read_statistics(path):
    known = class_statistics(clips_of(path.parents[1]), path)
    return known.videos.tolist(), known.pixels.tolist(), known.log_prior().tolist()


def store_name(path):
    """Errors of frames name the store, the video and the frame."""
    return path.name


KINDS = {
    "store": Kind(store(), read_store, spare=3, named=store_name),
    "store, exact": Kind(store(profile="exact"), read_store, spare=3, named=store_name),
    "store of packs": Kind(store(packed=True), read_store, spare=2, named=store_name),
    "store of packs, exact": Kind(
        store(packed=True, profile="exact"), read_store, spare=2, named=store_name
    ),
    "fused store": Kind(make_fused, read_store, spare=9, named=store_name),
    "condensed cache": Kind(make_condensed, read_condensed, every=1999, spare=3),
    "label map": labels(4, np.uint8),
    "label map, wide": labels(300, np.uint16),
    "weights": Kind(make_weights, read_weights, every=5, identity=False),
    "weights, torch": Kind(make_torch_weights, read_weights, every=31, identity=False),
    "best.json": Kind(make_ensemble, read_ensemble, every=61, identity=False),
    "head": Kind(make_head, read_head, every=97),
    "statistics": Kind(make_statistics, read_statistics, every=7),
}


def try_all(folder, kind, every, spare=1):
    """What came of every damage."""
    path = kind.make(folder / "one", 0)
    other = kind.make(folder / "two", 1) if kind.identity else None
    if other is not None and path.is_file():
        (folder / "theirs").mkdir()
        shutil.copyfile(other, folder / "theirs" / path.name)
    expected, found = kind.read(path), Counter()
    sound = folder / "sound"
    shutil.copytree(path, sound) if path.is_dir() else shutil.copyfile(path, sound)
    tried = damages(path, other if path.is_dir() else None, every)
    if other is not None and path.is_file():
        theirs = folder / "theirs" / path.name
        tried = itertools.chain(
            tried, [(f"{path.name}: of other data", lambda: shutil.copyfile(theirs, path))]
        )
    for number, (what, damage) in enumerate(tried):
        if number % spare:
            continue
        try:
            damage()
        except FileNotFoundError:  # others' files have other names, where names are digests
            assert what.endswith("of other data")
        found[outcome(lambda: kind.read(path), expected, what, kind.named(path))] += 1
        (path.parent / "aside").unlink(missing_ok=True)
        restore(path, sound)
    return found


@pytest.mark.parametrize("name", KINDS)
def test_the_same_numbers_or_one_error_that_names_the_file(tmp_path, name, capsys):
    kind = KINDS[name]
    found = try_all(tmp_path, kind, kind.every, kind.spare)
    assert found.keys() != {"right"}


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_to_the_end(tmp_path, name, capsys):
    every = {"condensed cache": 13, "store": 1}.get(name, 1)
    line = said(name, try_all(tmp_path, KINDS[name], every))
    with capsys.disabled():
        print(line)
