"""Every parser of other people's bytes: one table, a row a parser.

A row makes a small valid sample in a folder and says how it is read. A new parser is a row here;
`test_fuzz` asks one of every importer and every label layout.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults.seeds import (
    CLASSES,
    JSON,
    TABLE,
    TRAINING,
    _checkpoint,
    _coco,
    _ensemble,
    _grey,
    _hdf5,
    _hugging_face,
    _kinds_of_png,
    _label_arrays,
    _label_files,
    _label_maps,
    _label_rasters,
    _label_volumes,
    _masks,
    _mmsegmentation,
    _nnunet,
    _nnunet_labels,
    _npy,
    _outputs,
    _pictures,
    _plain_pickle,
    _rasters,
    _regions,
    _results,
    _said,
    _store,
    _tensors,
    _text,
    _volume,
    _zarr,
    ids,
    logits,
)


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


LAID_OUT = {
    "folder": _masks("clip/f0.png", "clip/f1.png"),
    "flat": _masks("a.png", "b.png"),
    "glob": _masks("deep/a_gt.png"),
    "vspw": _masks("data/a/mask/0.png", val_txt="a\n"),
    "cityscapes": _masks("gtFine/val/ulm/ulm_000000_000019_gtFine_labelIds.png"),
    "voc": _masks("SegmentationClass/a.png", **{"ImageSets/Segmentation/val_txt": "a\n"}),
    "ade20k": _masks("annotations/validation/a.png", "images/x.png"),
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
    "ade20k": {"stray": "void"},
}


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


def _every_npy(path: Path) -> object:
    from fusion.labels.formats import FORMATS

    kind = FORMATS[".npy"]
    return [(kind.size(file), kind.read(file, 8).array.sum()) for file in sorted(path.glob("*"))]


def _every_picture(path: Path) -> object:
    from fusion.images import Images

    images, found = Images(path), []
    for file in sorted((path / "u").iterdir()):
        images.check("u", file.stem, (6, 9))
        found.append(int(images.read("u", file.stem, (6, 9)).sum(dtype=np.int64)))
    return found


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


def _fused(path: Path) -> object:
    import fusion

    ensemble = fusion.HierarchicalEnsemble.load(path)
    repr(ensemble)
    return [ensemble.predict(video).sum() for video in ensemble.videos]


def _weights(path: Path) -> object:
    from fusion.models.training.checkpoint import load_weights

    tensors, architecture = load_weights(path)
    return sorted(tensors), repr(architecture)


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


def _unpickled(path: Path) -> object:
    from fusion.stores.importers.pickles import read_plain

    return [repr(read_plain(file, "restore it"))[:1000] for file in sorted(path.glob("*.pkl"))]


def _of_search(kept: str) -> Any:
    """What a search on a few pixels keeps, or goes on from: a journal of Optuna, a state."""
    from fusion.search.exact.climb import Exact
    from fusion.search.method import Problem
    from fusion.search.study import Optuna
    from tests.search.simulated import small

    method = (
        Optuna(trials=3, storage=f"journal:{kept}", sampler="random")
        if kept.endswith(".log")
        else Exact(climbs=1, gap=0.03, certify=1.0, state=Path(kept))
    )
    return method, Problem(small(2, seed=5, pixels=200), digest=lambda: "a few pixels")


def _searched(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        method, problem = _of_search(str(folder / name))
        method.search(problem)
        return folder / name

    return make


def _study(path: Path) -> object:
    method, problem = _of_search(str(path))
    return len(method.search(problem).history)


def _state(path: Path) -> object:
    from fusion.search.exact.journal import Journal

    found = Journal(_of_search(str(path))[1], path)
    return found.found, found.current, found.climbed, found.step


def _sealed_again(path: Path) -> None:
    from fusion import sealed

    document = json.loads(path.read_bytes())
    document.pop(sealed.SEAL)
    path.write_text(json.dumps(sealed.sealed(document)))


def _records(path: Path) -> object:
    from fusion.outputs import OUTPUTS
    from fusion.outputs.record import read_record, seals_of

    kinds = [OUTPUTS["png"](), OUTPUTS["zarr"]()]
    return [(sorted(read_record(path, kind)), len(seals_of(path, kind))) for kind in kinds]


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
        Parser("state of exact", _searched("state.json"), _state, mend=_sealed_again),
        Parser("study, journal", _searched("study.log"), _study),
        Parser("training", _text("run.toml", TRAINING), _training),
        *(Parser(f"class map {n}", _said("map.json", m), _mapped) for n, m in MAPS.items()),
        *_read_by(
            [
                (
                    "palette",
                    _said("p.json", JSON),
                    _named("fusion.labels.palettes", "palette_of", CLASSES),
                ),
                *(
                    (name, written, _named("fusion.labels.classes", "read_classes"))
                    for name, written in {
                        "classes": _said("c.json", CLASSES),
                        "class numbers": _said("c.json", {"sky": "1", "others": "0", "road": 2}),
                        "class lines": _text("c.txt", "sky\nroad\ncar\n"),
                    }.items()
                ),
                (
                    "frame ids",
                    _said("f.json", {"videos": {"a": ["0", 1], "b": ["x"]}}),
                    _named("fusion.stores.importers", "read_frames"),
                ),
                ("records of outputs", _outputs, _records),
                (
                    "scheduler file",
                    _said("s.json", {"address": "tcp://127.0.0.1:8786"}),
                    _named("fusion.cluster", "_address_in"),
                ),
                (
                    "dataset.json",
                    _said("dataset.json", MAPS["dataset.json"] | {"file_ending": ".nii.gz"}),
                    _named("fusion.outputs.nnunet", "_read"),
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
