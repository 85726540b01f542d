"""MMSegmentation's logits: <image>.npy of data_sample.seg_logits.data, [C, H, W].

The suffix that Cityscapes gives its images ("_leftImg8bit") is taken off. What tools/test.py --out
or DumpResults pickled (.pkl) is a program that would have to be run: refused unless
`unsafe_pickle` says that the file is trusted. Such a file is a list of data samples, which need
seg_logits; label maps alone have no confidence.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np

from fusion.errors import InputError
from fusion.geometry import slice_ids
from fusion.stores.importers.arrays import frames_of_files, load_array
from fusion.stores.importers.axes import as_clip
from fusion.stores.importers.folders import checked, ends, files_in, find
from fusion.stores.importers.protocol import Frames, Importer, Source, option

SUFFIXES, PICKLES = (".npy",), (".pkl", ".pickle")
IMAGE = "_leftImg8bit"
INSTEAD = "numpy.save each data_sample.seg_logits.data as <image>.npy"


@dataclass(frozen=True)
class MmSegmentation(Importer):
    """MMSegmentation's .npy dumps, and its .pkl where that is trusted."""

    kind: ClassVar[str] = "mmsegmentation"
    name: ClassVar[str] = "MMSegmentation's logits"
    holds: ClassVar[str] = "<image>_leftImg8bit.npy [C,H,W], or MMSegmentation's .pkl"

    unsafe_pickle: bool | None = option(
        "run the code of .pkl files: only for files that you trust", action="store_true"
    )

    @staticmethod
    def recognises(path: Path) -> bool:
        found = [file for source in find(path, SUFFIXES) for file in source.files]
        named = any(file.stem.endswith(IMAGE) for file in found)
        return named or (not found and bool(_pickles(path)) and not find(path, (".npz",)))

    def videos(self, path: Path) -> list[Source]:
        found = find(path, SUFFIXES, plain=lambda name: name.removesuffix(IMAGE))
        for file in () if found else _pickles(path):
            if not self.unsafe_pickle:
                problem = "a pickle, which runs whatever code it holds when it is read"
                trust = "pass unsafe_pickle=True for a file that you trust"
                raise InputError(f"{file}: {problem}; {INSTEAD}, or {trust}")
            names = [_name(sample, n) for n, sample in enumerate(_samples(file))]
            found += [Source(name, (file,), False, name, n) for n, name in enumerate(names)]
        return checked(path, found, self.holds)

    def frames(self, source: Source, classes: Sequence[str]) -> Frames:
        def clip(file: Path) -> np.ndarray:
            return as_clip(load_array(file, None), len(classes), None, file)

        if source.index is None:
            frames = frames_of_files(source, clip, SUFFIXES)
            return frames._replace(ids=[name.removesuffix(IMAGE) for name in frames.ids])
        file, sample = source.files[0], _samples(source.files[0])[source.index]
        logits: Any = sample.get("seg_logits")
        logits = logits.get("data") if isinstance(logits, Mapping) else logits
        if logits is None:
            held = f"holds {sorted(map(str, sample))[:8]}, no seg_logits"
            raise InputError(f"{file}, {source.video!r}: {held}; {INSTEAD}")
        array = np.asarray(logits)
        return Frames(slice_ids(1), as_clip(array, len(classes), None, file))


def _pickles(path: Path) -> Iterable[Path]:
    if path.is_file():
        return [path] if ends(path, PICKLES) else []
    return files_in(path, PICKLES) if path.is_dir() else []


_read: dict[tuple[Path, int], list[Mapping[str, Any]]] = {}  # the last file: one is all its images


def _samples(file: Path) -> list[Mapping[str, Any]]:
    """The data samples of a trusted pickle; read once for all of its images."""
    key = (file, file.stat().st_mtime_ns)
    if key not in _read:
        try:
            with file.open("rb") as content:
                samples = pickle.load(content)
        except Exception as error:  # anything, from code of anybody's
            reason = (str(error) or type(error).__name__).splitlines()[0][:160]
            raise InputError(f"{file}: cannot be unpickled ({reason}); {INSTEAD}") from error
        if not isinstance(samples, list) or not all(isinstance(s, Mapping) for s in samples):
            held = type(samples[0] if isinstance(samples, list) and samples else samples).__name__
            raise InputError(f"{file}: holds no list of data samples but {held}; {INSTEAD}")
        _read.clear()
        _read[key] = samples
    return _read[key]


def _name(sample: Mapping[str, Any], n: int) -> str:
    """The stem of the sample's image."""
    path = sample.get("img_path")
    if not isinstance(path, str):
        return slice_ids(n + 1)[n]
    return PurePosixPath(path.replace("\\", "/")).stem.removesuffix(IMAGE)
