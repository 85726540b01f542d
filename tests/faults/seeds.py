"""Small valid samples of every kind of file that is read: what the fuzzer edits."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = ["sky", "road", "car"]
RNG = np.random.default_rng
JSON = {"sky": [1, 2, 3], "road": [4, 5, 6], "car": [7, 8, 9]}


def logits(*shape: int) -> np.ndarray:
    return RNG(3).normal(0, 3, shape).astype(np.float32)


def shares(*shape: int, axis: int = 0) -> np.ndarray:
    raised = np.exp(logits(*shape))
    return raised / raised.sum(axis, keepdims=True)


def ids(*size: int) -> np.ndarray:
    return RNG(4).integers(0, 3, size or (6, 9)).astype(np.uint8)


def _text(name: str, text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder / name

    return make


def _said(name: str, document: Any) -> Callable[[Path], Path]:
    return _text(name, json.dumps(document, indent=1))


def _npy(folder: Path) -> Path:
    np.save(folder / "a.npy", logits(2, 3, 4, 5))
    np.savez_compressed(folder / "b.npz", probabilities=logits(3, 4, 5))
    return folder


def _tensors(folder: Path) -> Path:
    import torch
    from safetensors.numpy import save_file

    torch.save({"a": torch.from_numpy(logits(1, 3, 4, 5))}, folder / "a.pt")
    save_file({"b": logits(1, 3, 4, 5)}, folder / "b.safetensors")
    return folder


def _nnunet(folder: Path) -> Path:
    from fusion.geometry import write_nifti

    place = {"spacing": [1.0, 2.0, 3.0], "origin": [0.0] * 3, "direction": np.eye(3).ravel()}
    facts = {"shape_before_cropping": (2, 4, 5), "bbox_used_for_cropping": [[0, 2], [1, 4], [0, 5]]}
    np.savez_compressed(folder / "a.npz", probabilities=shares(3, 2, 3, 5))
    (folder / "a.pkl").write_bytes(pickle.dumps({"sitk_stuff": place, **facts}))
    np.savez_compressed(folder / "b.npz", probabilities=shares(3, 2, 4, 5))
    write_nifti(folder / "b.nii.gz", ids(2, 4, 5), None)
    labels = {"background": 0, "road": 1, "car": 2}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".nii.gz"}))
    (folder / "plans.json").write_text(json.dumps({"transpose_backward": [0, 1, 2]}))
    return folder


def _regions(folder: Path) -> Path:
    stuff = {"original_affine": np.diag([-1.0, 1, 1, 1]), "reoriented_affine": np.eye(4)}
    np.savez_compressed(folder / "a.npz", softmax=shares(2, 2, 4, 5))
    (folder / "a.pkl").write_bytes(pickle.dumps({"nibabel_stuff": stuff}, protocol=2))
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    document = {"labels": labels, "regions_class_order": [1, 2], "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(document))
    return folder


def _mmsegmentation(folder: Path) -> Path:
    np.save(folder / "a_leftImg8bit.npy", logits(3, 4, 5))
    return folder


def _volume(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        from fusion.geometry import write_nifti

        write_nifti(folder / name, shares(3, 2, 4, 5), {"affine": np.diag([1, 2, 3, 1])})
        return folder

    return make


def _rasters(folder: Path) -> Path:
    from fusion.geometry import write_geotiff

    write_geotiff(folder / "a.tif", shares(3, 4, 5), {"transform": [1, 0, 5, 0, -1, 7]})
    return folder


def _hdf5(folder: Path) -> Path:
    import h5py

    with h5py.File(folder / "a.h5", "w") as file:
        file["maps"] = logits(2, 3, 4, 5)
        file.create_dataset("packed", data=logits(2, 3, 4, 5), chunks=(1, 3, 4, 5), compression=4)
        file["names"] = ["one", "two"]
    return folder


def _zarr(values: Callable[..., np.ndarray], shape: tuple[int, ...]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import zarr

        for version in (2, 3):
            group = zarr.open_group(folder / f"v{version}.zarr", mode="w", zarr_format=version)
            array = group.create_array("a", data=values(*shape), chunks=(1, *shape[1:]))
            array.attrs["frames"] = [f"f{t}" for t in range(shape[0])]
        return folder

    return make


def _grey(folder: Path) -> Path:
    from PIL import Image

    for c, channel in enumerate(shares(3, 4, 5)):
        (folder / "clip" / "f0").mkdir(parents=True, exist_ok=True)
        deep = np.rint(channel * 65535).astype(np.uint16)
        Image.fromarray(deep).save(folder / "clip" / "f0" / f"{c}.png")
    return folder


def _label_maps(folder: Path) -> Path:
    from fusion.geometry import write_nifti
    from fusion.labels import write_labels

    write_labels(folder / "clip" / "f0.png", ids())
    write_nifti(folder / "case.nii.gz", ids(2, 4, 5), None)
    return folder


def _masks(*names: str, root: str = ".", **others: str) -> Callable[[Path], Path]:
    """Label PNGs below a folder, and texts beside them by name (`_` stands for `.`)."""

    def make(folder: Path) -> Path:
        from fusion.labels import write_labels

        for name in names:
            write_labels(folder / name, ids())
        for name, text in others.items():
            path = folder / name.replace("_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return folder / root

    return make


def _coco(folder: Path) -> Path:
    from fusion.labels.png import write_colours

    colours = np.zeros((6, 9, 3), np.uint8)
    colours[..., 0] = ids() + 1
    write_colours(folder / "panoptic_val" / "a.png", colours)
    segments = [{"id": n + 1, "category_id": n} for n in range(3)]
    annotations = [{"file_name": "a.png", "segments_info": segments}]
    categories = [{"id": n, "name": name, "color": [n, n, n]} for n, name in enumerate(CLASSES)]
    document = {"annotations": annotations, "categories": categories}
    (folder / "panoptic_val.json").write_text(json.dumps(document))
    return folder / "panoptic_val.json"


def _hugging_face(folder: Path) -> Path:
    import datasets

    rows = {"mask": [ids().tolist(), ids().tolist()]}
    datasets.Dataset.from_dict(rows).save_to_disk(str(folder / "data"))
    return folder / "data"


def _label_volumes(folder: Path) -> Path:
    from fusion.geometry import write_nifti

    write_nifti(folder / "a.nii.gz", ids(2, 6, 9), None)
    write_nifti(folder / "b.nii", ids(2, 6, 9).astype(np.int16), None)
    return folder


def _label_rasters(folder: Path) -> Path:
    from fusion.geometry import write_geotiff

    write_geotiff(folder / "a.tif", ids(1, 6, 9), None)
    return folder


def _label_arrays(folder: Path) -> Path:
    return _zarr(ids, (2, 6, 9))(folder) / "v3.zarr"


def _nnunet_labels(folder: Path) -> Path:
    _label_volumes(folder)
    (folder / "labelsTr").mkdir()
    (folder / "a.nii.gz").rename(folder / "labelsTr" / "a.nii.gz")
    (folder / "b.nii").unlink()
    labels = {"background": 0, "road": 1, "car": 2, "ignore": 3}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".nii.gz"}))
    return folder


TABLE = "mask,image,unit,frame\nm/a.png,i.jpg,a,0\nm/b.png,i.jpg,a,1\n"


def _kinds_of_png(folder: Path) -> Path:
    from PIL import Image, PngImagePlugin

    grey, text = Image.fromarray(ids()), PngImagePlugin.PngInfo()
    text.add_text("note", "words " * 50, zip=True)
    text.add_itxt("other", "more words " * 50, zip=True)
    grey.save(folder / "grey.png", pnginfo=text)
    palette = Image.fromarray(ids()).convert("P")
    palette.save(folder / "palette.png")
    palette.save(folder / "few.png", bits=2)
    Image.fromarray(ids().astype(np.uint16)).save(folder / "deep.png")
    Image.fromarray(ids() > 0).save(folder / "bits.png")
    Image.fromarray(np.stack([ids()] * 3, -1)).save(folder / "colours.png")
    return folder


def _label_files(folder: Path) -> Path:
    np.save(folder / "a.npy", ids())
    np.save(folder / "b.npy", (ids(3, 6, 9) > 1))
    return folder


def _pictures(folder: Path) -> Path:
    from PIL import Image

    colours = Image.fromarray(np.stack([ids() * 80] * 3, -1))
    for ending in ("jpg", "png", "bmp", "webp", "tif"):
        (folder / "u").mkdir(exist_ok=True)
        colours.save(folder / "u" / f"{ending}.{ending}")
    return folder


def _store(*, packed: bool) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        from tests.stores.common import write

        clips = {"a": logits(2, 3, 4, 5), "b": logits(1, 3, 4, 5)}
        return write(folder / "s.zarr", clips, classes=CLASSES, packed=packed)

    return make


def _ensemble(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import fusion
        from fusion.ensemble.heads import HEADS

        store = _store(packed=False)(folder)
        if name.endswith(".toml"):
            text = '[groups]\nnets = ["*.zarr"]\n[weights]\nnets = 1.5\n[temperatures]\n'
            text += '"s.zarr" = 1.25\n[multipliers]\nsky = 1.5\nroad = 1.0\ncar = 0.5\n'
            text += '[[postprocess]]\noperation = "window"\nradius = 1\n'
            (folder / name).write_text("resize = 'probabilities'\n" + text)
            return folder / name
        head = None
        if name == "head.json":
            kind = HEADS["log"]
            head = kind(("nets",), tuple(CLASSES), kind.start(1, 3, None))
        fusion.HierarchicalEnsemble({"nets": [store]}, head=head).save(folder / name)
        return folder / name

    return make


def _checkpoint(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import torch

        from fusion.models.training import checkpoint

        document = {"architecture": ARCHITECTURE, "step": 3}
        tensors = {"weight": torch.ones(2, 3), "bias": torch.zeros(3)}
        if name.endswith(".pt"):
            torch.save({"tensors": tensors, "document": json.dumps(document)}, folder / name)
        else:
            checkpoint.save(folder / name, tensors, document)
        return folder / name

    return make


ARCHITECTURE = {
    "network": "plain",
    "classes": CLASSES,
    "options": {"preset": "micro"},
    "tau": 1.0,
    "scale": 1.0,
}
TRAINING = """out = "runs/a"
seed = 3
[data]
vspw = "VSPW_480p"
folds = 5
fold = 1
[network]
name = "plain"
preset = "micro"
[augment]
crop = 64
[loss]
ohem = true
temperature = 2.0
[train]
steps = 100
learning_rate = 6e-5
[swa]
cycles = 2
"""
FOUND = {"result": {"weights": {"a": 1.0}}, "ladder": [], "inputs": {"splits": {"val": {}}}}


def _results(folder: Path) -> Path:
    (folder / "search.json").write_text(json.dumps(FOUND | {"searched": "best.json"}))
    (folder / "best.json").write_text("{}")
    return folder


def _plain_pickle(folder: Path) -> Path:
    facts = {"a": [1, 2.5, "x", (None, True)], "b": np.arange(6).reshape(2, 3), "c": np.float32(1)}
    for protocol in (2, 4):
        (folder / f"{protocol}.pkl").write_bytes(pickle.dumps(facts, protocol=protocol))
    return folder


def _outputs(folder: Path) -> Path:
    from fusion.outputs import write
    from tests.outputs.simulated import FakeEnsemble

    for kind in ("png", "zarr"):
        write(FakeEnsemble(videos=("a",), frames_of={"a": ("0",)}), folder / kind, kind)
    for path in [*folder.glob("png/.*"), folder / "zarr" / "zarr.json"]:
        path.rename(folder / path.name)
    for kind in ("png", "zarr"):
        shutil.rmtree(folder / kind)
    return folder
