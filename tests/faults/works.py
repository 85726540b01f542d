"""What is stopped: every command that writes, on small data, and how its results are compared."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusion.labels.png import decode_png
from fusion.outputs import seals
from fusion.stores import LogitWriter
from tests.faults.children import Job
from tests.samples import CLASSES, SIZE, write_sample

VIDEOS, FRAMES, CLIP = 6, 3, (4, 24, 32)
TIMES = ("seconds", "date", "checksum", "time", "writer")  # keys that say when and who,
TIMES += ("sweeps", "resumed")  # and what the last run did of it
OUT = "OUT"


@dataclass(frozen=True)
class Work:
    """A command that writes below folder/out, and is run again to go on.

    Args:
        name: of it.
        module, arguments: the command; OUT, DATA and BESIDE (OUT) stand for its folders.
        again: arguments that a second run has besides.
        state: files whose content depends on what was stopped: left out of comparisons.
        units: of files that appear once, whole, and are never written again.
        before: makes what lies below folder/out beforehand.
        private: environment variables that name folder/out.
    """

    name: str
    module: str
    arguments: tuple[str, ...]
    again: tuple[str, ...] = ()
    state: str = "$^"
    units: str = "$^"
    before: Callable[[Path], Any] | None = None
    private: str | None = None

    def job(self, data: Path, out: Path, more: Sequence[str] = (), **how: Any) -> Job:
        places = {OUT: str(out), "DATA": str(data), "BESIDE": str(out.parent)}
        words = [
            re.sub("OUT|DATA|BESIDE", lambda m: places[m.group()], word) for word in self.arguments
        ]
        environment = {self.private: str(out)} if self.private else {}
        return Job(self.module, [*words, *more], environment=environment, **how)

    def prepare(self, out: Path) -> None:
        """A fresh start in this folder."""
        shutil.rmtree(out.parent, ignore_errors=True)
        out.parent.mkdir(parents=True)
        if self.before:
            self.before(out)

    def tree(self, out: Path) -> dict[str, str]:
        """The results by their digests, without what says when they were made."""
        found = {}
        for path in files_of(out.parent):
            name = str(path.relative_to(out.parent))
            if not re.search(self.state, name):
                found[name] = hashlib.sha256(_timeless(path)).hexdigest()
        return found

    def unit_files(self, out: Path) -> dict[str, tuple[int, int]]:
        """Identity of the files that a second run must leave as they are.

        Of outputs those with a seal, which follows its file, or folder of a store: what was stopped
        in between has none.
        """
        names = {str(path.relative_to(out.parent)): path for path in files_of(out.parent)}
        names = {name: path for name, path in names.items() if re.search(self.units, name)}
        if self.again == RESUME:
            known = {line.partition(" ")[2] for line in seals.read_seals(out)}
            whole = (lambda name: name.split("/")[1]) if self.units == VIDEO else _below_out
            done = {part: seals.seal(out, part, "") for part in {*map(whole, names)}}
            tails = {part: (line or "").partition(" ")[2] for part, line in done.items()}
            names = {n: path for n, path in names.items() if tails[whole(n)] in known}
        return {n: (path.stat().st_ino, path.stat().st_mtime_ns) for n, path in names.items()}


def _below_out(name: str) -> str:
    return name.partition("/")[2]


def files_of(folder: Path) -> list[Path]:
    """What readers see: nothing in a folder of drafts, no scratch file."""
    every = (path for path in sorted(folder.rglob("*")) if path.is_file())
    hidden = (".staging", ".tmp")
    return [path for path in every if not any(part.endswith(hidden) for part in path.parts)]


def leftovers(folder: Path) -> list[str]:
    """Files and folders that a dead process left where nobody reads."""
    found = [path for path in folder.rglob("*") if path.name.endswith(".tmp")]
    found += [each for path in folder.rglob(".staging") for each in path.iterdir()]
    return sorted(str(path.relative_to(folder)) for path in found)


def _timeless(path: Path) -> bytes:
    content = path.read_bytes()
    if path.suffix == ".json":
        return json.dumps(_without(json.loads(content)), sort_keys=True).encode()
    if path.suffix == ".png" and path.parent.name != "figures":
        return decode_png(content, None).tobytes()  # compression may differ, pixels may not
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            return repr(
                [(name, decode_png(archive.read(name)).tobytes()) for name in names]
            ).encode()
    if path.name == ".predicted.seals":  # a line a file, as they were done; some say when
        return b"\n".join(sorted({line.partition(b" ")[0] for line in content.splitlines()}))
    if path.suffix == ".html":
        return re.sub(rb"20\d\d-\d\d-\d\d|\d\d:\d\d", b"", content)
    return content


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without(v) for k, v in value.items() if k not in (*TIMES, "sha256")}
    return [_without(each) for each in value] if isinstance(value, list) else value


def write_data(folder: Path) -> None:
    """Stores, labels, an ensemble, predictions as arrays, and what training needs."""
    write_sample(folder)
    arrays = folder / "arrays"
    arrays.mkdir()
    for video in range(VIDEOS):
        np.save(arrays / f"v{video}.npy", clip(video, 0))
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    from PIL import Image

    for video in ("a", "b", "c"):
        for frame in ("0", "1"):
            path = folder / "images" / video / f"{frame}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(ord(video)).integers(0, 256, (*SIZE, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(path)


def clip(video: int, seed: int) -> np.ndarray:
    return np.random.default_rng([video, seed]).normal(0, 6, (FRAMES, *CLIP)).astype(np.float32)


def write_store(path: Path, seed: int = 0, *, overwrite: bool = False, packed: bool = False):
    """The store that the works on stores begin with, or write."""
    writer = LogitWriter(path, CLASSES)
    ids = [str(t) for t in range(FRAMES)]
    if packed:
        with writer.pack() as pack:
            for video in range(VIDEOS):
                with pack.video(f"v{video}", frames=ids) as out:
                    out.extend(clip(video, seed))
        return
    for video in range(VIDEOS):
        with writer.video(f"v{video}", frames=ids, overwrite=overwrite) as out:
            out.extend(clip(video, seed))


def main(arguments: Sequence[str] | None = None) -> int:
    """Works that are no commands: scripts of users, and the first use of the kernels."""
    what, *rest = sys.argv[1:] if arguments is None else arguments
    if what == "build":
        from fusion.kernels.native import build

        build._library.cache_clear()
        return 0 if build.library() is not None else 1
    seed = 1 if what == "overwrite" else 0
    write_store(Path(rest[0]), seed, overwrite=what == "overwrite", packed=what == "pack")
    return 0


def with_dead_drafts(out: Path) -> None:
    """A store beside whose videos writers died."""
    write_store(out)
    for number in range(6):
        folder = out / ".staging" / f"{number:032x}" / "video"
        folder.mkdir(parents=True)
        (folder.parent / "lock").touch()
        for part in range(20):
            (folder / f"{part}").write_bytes(os.urandom(1000))


def training(out: Path) -> None:
    """A short run's configuration; where it lies is where `out` is."""
    data = out.parents[1] / "data"
    text = f"""
out = "out"
seed = 3
data = {{images = "{data}/images", labels = "{data}/labels", classes = "{data}/classes.txt"}}
network = {{name = "plain", preset = "micro"}}
augment = {{crop = 32}}
train = {{steps = 4, batch = 2, checkpoint_every = 1, learning_rate = 1e-3, warmup = 1}}
swa = {{cycles = 2, every = 1, highest = 1e-3, lowest = 1e-4, refresh = 2}}
"""
    (out.parent / "run.toml").write_text(text)


MINE = "tests.faults.works"
SEARCH = ("--ensemble", "DATA/ensemble.toml", "--labels", "DATA/labels", "--out", OUT)
PREDICT = ("--ensemble", "DATA/ensemble.toml", "--out", OUT)
OPTUNA = (*SEARCH, "--method", "optuna", "--trials", "12", "--folds", "0")
STUDY = r"study\.db|study\.journal|trials.csv|(best|recommended|search).json"
VIDEO = r"^out/[^/]+-[0-9a-f]{16}/"  # of a store
PIXELS = r"condensed/.*/.*/"
RESUME = ("--resume",)
_search: dict[str, Any] = {"module": "fusion.search", "units": PIXELS}
_predict: dict[str, Any] = {"module": "fusion.predict", "again": RESUME}
WEIGHTS = "DATA/run/averaged.safetensors"
IMPORT = ("import", "DATA/arrays", OUT, "--classes", "DATA/classes.txt")
WORKS = {
    work.name: work
    for work in (
        Work("write", MINE, ("write", OUT), units=VIDEO),
        Work("pack", MINE, ("pack", OUT)),
        Work("overwrite", MINE, ("overwrite", OUT), before=write_store),
        Work("gc", "fusion.stores", ("gc", "--age", "0", OUT), before=with_dead_drafts),
        Work("import", "fusion.stores", IMPORT, units=VIDEO),
        Work("grid", arguments=(*SEARCH, "--method", "grid", "--steps", "8"), **_search),
        Work(
            "sqlite",
            arguments=OPTUNA,
            state=STUDY,
            **_search,
        ),
        Work(
            "journal",
            arguments=(*OPTUNA, "--storage", "journal:BESIDE/study.journal"),
            state=STUDY,
            **_search,
        ),
        Work("exact", arguments=(*SEARCH, "--method", "exact"), state=r"exact-\w+.json", **_search),
        Work("png", arguments=PREDICT, units=r"\.png$", **_predict),
        Work("zip", arguments=(*PREDICT, "--zip"), units=r"\.png$", **_predict),
        Work("npy", arguments=(*PREDICT, "--format", "npy"), units=r"\.npy$", **_predict),
        Work("store", arguments=(*PREDICT, "--format", "store"), units=VIDEO, **_predict),
        Work("evaluate", "fusion.evaluate", SEARCH[:4]),
        Work("report", "fusion.report", ("DATA/results", "--out", OUT)),
        Work(
            "train",
            "fusion.models.train",
            ("--config", "BESIDE/run.toml", "--device", "cpu"),
            state=r"log\.csv",
            before=training,
        ),
        Work(
            "network",
            "fusion.models.predict",
            ("--weights", WEIGHTS, "--images", "DATA/images", "--out", OUT, "--device", "cpu"),
            units=VIDEO,
        ),
        Work("build", MINE, ("build",), private="XDG_CACHE_HOME"),
    )
}
