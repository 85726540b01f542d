"""Every parser of other people's bytes: one table, a row a parser.

A row makes a small valid sample in a folder and says how it is read. A new parser is a row here;
`test_fuzz` asks one of every importer and every label layout.
"""

from __future__ import annotations

import contextlib
import json
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = ["sky", "road", "car"]
RNG = np.random.default_rng
JSON = {"sky": [1, 2, 3], "road": [4, 5, 6], "car": [7, 8, 9]}


@dataclass(frozen=True)
class Parser:
    """A row.

    Args:
        name: of the parser.
        make: writes a sample into an empty folder; returns what is opened.
        read: reads all of it.
        exact: whether damage may never go unnoticed: its checksums cover everything.
        mend: makes checksums right again after an edit, for what lies behind them.
    """

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], object]
    exact: bool = False
    mend: Callable[[Path], None] | None = None


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


# -- importers


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


def _total(array: np.ndarray) -> float:
    with np.errstate(all="ignore"):
        return float(np.sum(array, dtype=np.float64))


def _imported(kind: str, classes: list[str] | None = None) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        """All that an import looks at before its writer."""
        from fusion.stores.importers import choose

        importer, found = choose(path, kind), []
        known = importer.known(path)
        names = list(classes or known.classes or CLASSES)
        for source in importer.videos(path):
            frames = importer.frames(source, names)
            for array in frames.arrays:
                assert np.shape(array)[0] == len(names), array.shape
                found.append((source.video, array.shape, _total(array)))
            json.dumps(frames.geometry)
        return found

    return read


IMPORTED = {
    "nnunet": _nnunet,
    "mmsegmentation": _mmsegmentation,
    "monai": _volume("a_trans.nii.gz"),
    "arrays": _npy,
    "tensors": _tensors,
    "nifti": _volume("a.nii"),
    "geotiff": _rasters,
    "hdf5": _hdf5,
    "zarr": _zarr(logits, (2, 3, 4, 5)),
    "images": _grey,
    "label_maps": _label_maps,
}


# -- label layouts


def _masks(*names: str, root: str = ".", **others: str) -> Callable[[Path], Path]:
    """Label PNGs below a folder, and texts beside them by name (`_` stands for `.`)."""

    def make(folder: Path) -> Path:
        from fusion.labels import write_labels

        for name in names:
            write_labels(folder / name, ids())
        for name, text in others.items():
            (folder / name.replace("_", ".")).write_text(text)
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


def _opened(layout: str, **options: Any) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        from fusion.labels import Labels

        labels = Labels.open(layout, path, **options)
        labels.summary()
        found = []
        for video in labels.videos:
            for frame in labels.frames(video):
                labels.size(video, frame)
                read = labels.read(video, frame, classes=124 if layout == "vspw" else 3)
                found.append((video, frame, read.shape, int(read.sum(dtype=np.int64))))
        return found

    return read


TABLE = "mask,image,unit,frame\nm/a.png,i.jpg,a,0\nm/b.png,i.jpg,a,1\n"
LAID_OUT = {
    "folder": _masks("clip/f0.png", "clip/f1.png"),
    "flat": _masks("a.png", "b.png"),
    "glob": _masks("deep/a_gt.png"),
    "vspw": _masks("data/a/mask/0.png", val_txt="a\n"),
    "cityscapes": _masks("gtFine/val/ulm/ulm_000000_000019_gtFine_labelIds.png"),
    "nnunet": _nnunet_labels,
    "coco": _coco,
    "csv": _masks("m/a.png", "m/b.png", root="list.csv", list_csv=TABLE),
    "nifti": _label_volumes,
    "geotiff": _label_rasters,
    "zarr": _label_arrays,
    "hf": _hugging_face,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "glob": {"pattern": "**/{unit}_gt.png"},
    "vspw": {"stray": "void"},
    "cityscapes": {"stray": "void"},
}


# -- files of one kind of picture or number


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


def _every_png(path: Path) -> object:
    from fusion.errors import FusionError
    from fusion.labels.png import read_png, read_size
    from fusion.stores.importers.pictures import read_picture

    found: list[object] = []
    reads: tuple[Callable[[Path], object], ...] = (
        read_size,
        lambda file: read_png(file, depth=None).sum(),
        lambda file: read_png(file, depth=8).sum(),
        lambda file: read_picture(file, palette=True).sum(),
    )
    for file in sorted(path.glob("*.png")):
        for read in reads:
            with contextlib.suppress(FusionError):  # of kinds that it does not take
                found.append(read(file))
    return found


def _label_files(folder: Path) -> Path:
    np.save(folder / "a.npy", ids())
    np.save(folder / "b.npy", (ids(3, 6, 9) > 1))
    return folder


def _every_npy(path: Path) -> object:
    from fusion.labels.formats import FORMATS

    kind = FORMATS[".npy"]
    return [(kind.size(file), kind.read(file, 8).array.sum()) for file in sorted(path.glob("*"))]


def _pictures(folder: Path) -> Path:
    from PIL import Image

    colours = Image.fromarray(np.stack([ids() * 80] * 3, -1))
    for ending in ("jpg", "png", "bmp", "webp", "tif"):
        (folder / "u").mkdir(exist_ok=True)
        colours.save(folder / "u" / f"{ending}.{ending}")
    return folder


def _every_picture(path: Path) -> object:
    from fusion.images import Images

    images, found = Images(path), []
    for file in sorted((path / "u").iterdir()):
        images.check("u", file.stem, (6, 9))
        found.append(int(images.read("u", file.stem, (6, 9)).sum(dtype=np.int64)))
    return found


# -- stores, ensembles, heads


def _store(*, packed: bool) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        from tests.stores.common import write

        clips = {"a": logits(2, 3, 4, 5), "b": logits(1, 3, 4, 5)}
        return write(folder / "s.zarr", clips, classes=CLASSES, packed=packed)

    return make


def _mended(path: Path) -> None:
    """Checksums of a store's documents as its writer would have them; folders named by them."""
    from fusion.stores.documents import dump, sha256
    from fusion.stores.format import video_key
    from fusion.stores.pack_format import is_pack, pack_name

    group = (path / "zarr.json").read_bytes()
    for marker in sorted(path.glob("*/commit.json")):
        metadata, body = (marker.parent / "zarr.json").read_bytes(), json.loads(marker.read_bytes())
        body |= {"metadata_sha256": sha256(metadata), "group_sha256": sha256(group)}
        body.pop("checksum", None)
        marker.write_bytes(dump({**body, "checksum": sha256(dump(body))}))
        said = json.loads(metadata)["attributes"]["segfusion"]
        if is_pack(marker.parent.name):
            name = pack_name(body["metadata_sha256"], body["crc32c"])
        else:
            name = video_key(said["video"])
        marker.parent.rename(path / name)


def _whole_store(path: Path) -> object:
    from fusion.stores import LogitStore

    store = LogitStore(path)
    facts = store.classes, store.model, store.values, store.profile
    return facts, [(v, store.frames(v), store.codes(v).tobytes().hex()) for v in store.videos]


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


def _fused(path: Path) -> object:
    import fusion

    ensemble = fusion.HierarchicalEnsemble.load(path)
    repr(ensemble)
    return [ensemble.predict(video).sum() for video in ensemble.videos]


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


def _weights(path: Path) -> object:
    from fusion.models.training.checkpoint import load_weights

    tensors, architecture = load_weights(path)
    return sorted(tensors), repr(architecture)


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


def _training(path: Path) -> object:
    from fusion.models.training.config import read

    return read(path).to_json()


def _named(module: str, name: str, *more: Any) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        import importlib

        return repr(getattr(importlib.import_module(module), name)(path, *more))

    return read


def _mapped(path: Path) -> object:
    from fusion.labels.known_maps import read_class_map

    known = read_class_map(path)
    read_class_map(known.get_config())
    colours = known.form == "colours"
    values = np.stack([ids()] * 3, -1) if colours else ids()
    return known.allowed(), known.read(values)[0].sum() if known.exclusive else known.names


def _operations(path: Path) -> object:
    from fusion.postprocess.registry import pipeline_of

    return repr(pipeline_of(str(path)))


def _results(folder: Path) -> Path:
    (folder / "search.json").write_text(json.dumps(FOUND | {"searched": "best.json"}))
    (folder / "best.json").write_text("{}")
    return folder


def _plain_pickle(folder: Path) -> Path:
    facts = {"a": [1, 2.5, "x", (None, True)], "b": np.arange(6).reshape(2, 3), "c": np.float32(1)}
    for protocol in (2, 4):
        (folder / f"{protocol}.pkl").write_bytes(pickle.dumps(facts, protocol=protocol))
    return folder


def _unpickled(path: Path) -> object:
    from fusion.stores.importers.pickles import read_plain

    return [repr(read_plain(file, "restore it"))[:1000] for file in sorted(path.glob("*.pkl"))]


def _read_by(rows: Iterable[tuple[str, Callable, Callable]]) -> list[Parser]:
    return [Parser(*row) for row in rows]


MAP = "fusion.labels.known_maps"
MAPS = {
    "classes": {"classes": {"sky": 0, "road": [1, 3], "car": 2}, "void": [255], "palette": JSON},
    "colours": {"colours": {"sky": [0, 0, 0], "road": [[1, 1, 1], [2, 2, 2]]}, "void": [[9, 9, 9]]},
    "regions": {"regions": {"whole": [1, 2], "core": [2]}, "order": [1, 2], "background": [0]},
    "bits": {"bits": {"cloud": 0, "shadow": 3}},
    "dataset.json": {"labels": {"background": 0, "road": 1, "car": 2, "ignore": 3}},
}
PARSERS: dict[str, Parser] = {
    each.name: each
    for each in (
        *(Parser(f"importer {k}", make, _imported(k)) for k, make in IMPORTED.items()),
        Parser("importer nnunet, regions", _regions, _imported("nnunet")),
        *(
            Parser(f"layout {n}", make, _opened(n, **OPTIONS.get(n, {})))
            for n, make in LAID_OUT.items()
        ),
        Parser("label pngs", _kinds_of_png, _every_png),
        Parser("label arrays", _label_files, _every_npy),
        Parser("pictures", _pictures, _every_picture),
        Parser("store", _store(packed=False), _whole_store, True, _mended),
        Parser("store, packed", _store(packed=True), _whole_store, True, _mended),
        *(Parser(f"ensemble {n}", _ensemble(n), _fused) for n in ("e.toml", "a.json", "head.json")),
        *(Parser(f"checkpoint {n}", _checkpoint(n), _weights) for n in ("w.safetensors", "w.pt")),
        Parser("training", _text("run.toml", TRAINING), _training),
        *(Parser(f"class map {n}", _said("map.json", m), _mapped) for n, m in MAPS.items()),
        *_read_by(
            [
                (
                    "palette",
                    _said("p.json", JSON),
                    _named("fusion.labels.palettes", "palette_of", CLASSES),
                ),
                (
                    "classes",
                    _said("c.json", CLASSES),
                    _named("fusion.labels.classes", "read_classes"),
                ),
                (
                    "class lines",
                    _text("c.txt", "sky\nroad\ncar\n"),
                    _named("fusion.labels.classes", "read_classes"),
                ),
                (
                    "frame ids",
                    _said("f.json", {"videos": {"a": ["0", 1], "b": ["x"]}}),
                    _named("fusion.stores.importers", "read_frames"),
                ),
                ("results", _results, _named("fusion.report.results", "read_document")),
                (
                    "postprocessing",
                    _said("p.json", [{"operation": "window", "radius": 2}, {"operation": "vote"}]),
                    _operations,
                ),
                ("pickles", _plain_pickle, _unpickled),
            ]
        ),
    )
}
