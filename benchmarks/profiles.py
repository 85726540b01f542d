"""python -m benchmarks.profiles: what a store profile and a resize mode cost, and a search from
files to weights, on real predictions.

Needs the folder that SEGFUSION_DATA names (see benchmarks/README.md): stores are made of its 22
networks in both profiles.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fusion
from fusion import cli
from fusion.errors import InputError
from fusion.search.formation import auto_groups, score_models
from fusion.stores.codec import DECODE_TABLE
from fusion.text import percent, say_bytes, table


def read_data(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "meta.json").read_text())
    except OSError as error:
        got = f"{folder} has no readable meta.json"
        raise InputError(f"SEGFUSION_DATA: {got}; name the folder of the predictions") from error


def fill(folder: Path, meta: dict[str, Any], out: Path, profile: str) -> list[Path]:
    """Writes every network's predictions as a store of one profile."""
    paths = []
    for model in meta["models"]:
        codes = np.load(folder / f"{model}.npz")
        path = out / profile / f"{model}.zarr"
        with fusion.LogitWriter(path, meta["classes"], profile) as writer:  # type: ignore[arg-type]
            for video, frames in meta["videos"].items():
                with writer.video(video, frames=frames, size=(360, 480)) as target:
                    for frame in codes[video]:
                        target.append(DECODE_TABLE[frame])
        paths.append(path)
    return paths


def bytes_of(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def profile_costs(folder: Path, out: Path) -> dict[str, dict[str, float]]:
    """On the unquantised logits: argmax flips of single models, the largest change of a
    probability, and bytes."""
    raw = {
        name: array
        for name, array in np.load(folder / "raw_float16.npz").items()
        if array.ndim == 4
    }
    found = {}
    for profile in ("compact", "exact"):
        flips = pixels = written = plain = 0
        change = 0.0
        for name, clip in raw.items():
            path = out / "raw" / profile / f"{name.replace('/', '_')}.zarr"
            frames = [str(t) for t in range(len(clip))]
            writer = fusion.LogitWriter(path, [str(c) for c in range(clip.shape[1])], profile)  # type: ignore[arg-type]
            with writer.video("v", frames=frames) as target:
                for frame in clip:
                    target.append(frame)
            kept, true = fusion.LogitStore(path).read("v"), clip.astype(np.float32)
            flips += int((kept.argmax(axis=1) != true.argmax(axis=1)).sum())
            pixels += kept[:, 0].size
            change = max(change, float(np.abs(_softmax(kept) - _softmax(true)).max()))
            written, plain = written + bytes_of(path), plain + clip.nbytes
        found[profile] = {
            "argmax_flips": flips,
            "pixels": pixels,
            "largest_change": change,
            "bytes": written,
            "float16_bytes": plain,
        }
    return found


def _softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def groups_of(paths: Sequence[Path], truth: fusion.Labels) -> dict[str, list[Path]]:
    """The paper's groups, formed on val: ESPNets are the basic family."""
    by_name = {path.stem: path for path in paths}
    miou = {
        name: scores.miou
        for name, scores in score_models(fusion.HierarchicalEnsemble({"all": paths}), truth).items()
    }
    basic = [name for name in by_name if name.startswith("espnet")]
    groups = auto_groups(basic, [name for name in by_name if name not in basic], miou)
    return {group: [by_name[name] for name in names] for group, names in groups.items()}


def timed(call: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    return call(), time.perf_counter() - start


def main(arguments: Sequence[str] | None = None) -> int:
    parser = cli.parser("benchmarks.profiles", __doc__ or "")
    parser.add_argument("--json", action="store_true", help="machine-readable result on stdout")
    options = parser.parse_args(arguments)
    if "SEGFUSION_DATA" not in os.environ:
        advice = "name the folder of the real predictions, see benchmarks/README.md"
        raise InputError(f"SEGFUSION_DATA is not set; {advice}")
    folder = Path(os.environ["SEGFUSION_DATA"])
    meta, truth = read_data(folder), fusion.Labels.folder(folder / "labels")
    result: dict[str, Any] = {"profiles": {}, "resize": {}}
    with tempfile.TemporaryDirectory() as scratch:
        result["unquantised"] = profile_costs(folder, Path(scratch))
        for profile in ("exact", "compact"):
            paths, seconds = timed(
                lambda profile=profile: fill(folder, meta, Path(scratch), profile)
            )
            groups = groups_of(paths, truth)
            scores = fusion.HierarchicalEnsemble(groups).evaluate(truth)
            size = sum(bytes_of(path) for path in paths)
            result["profiles"][profile] = {
                "bytes": size,
                "write_seconds": seconds,
                "uniform_miou": scores.miou,
            }
            for resize in ("probabilities", "logits") if profile == "compact" else ():
                ensemble = fusion.HierarchicalEnsemble(groups, resize=resize)
                scores, seconds = timed(lambda ensemble=ensemble: ensemble.evaluate(truth))
                result["resize"][resize] = {"uniform_miou": scores.miou, "seconds": seconds}
        shape = (
            60,
            80,
            len(meta["classes"]),
            len(meta["models"]),
            sum(map(len, meta["videos"].values())),
        )
        result["float16_bytes"] = 2 * int(np.prod(shape))
        ensemble = fusion.HierarchicalEnsemble(groups)
        found, seconds = timed(lambda: ensemble.search(truth))
        result["search"] = {"miou": found.miou, "weights": found.weights, "seconds": seconds}
    result["peak_memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    cli.print_json(result) if options.json else print(text(result))
    return 0


def text(result: dict[str, Any]) -> str:
    plain = result["float16_bytes"]
    rows = []
    for profile, row in result["profiles"].items():
        raw = result["unquantised"][profile]
        share = [f"{row['bytes'] / plain:.1%}", f"{raw['bytes'] / raw['float16_bytes']:.1%}"]
        flips = [f"{raw['argmax_flips']} of {raw['pixels']}", f"{raw['largest_change']:.4f}"]
        rows.append(
            (
                profile,
                say_bytes(row["bytes"]),
                *share,
                *flips,
                f"{100 * row['uniform_miou']:.4f}",
            )
        )
    header = (
        "profile",
        "22 stores",
        "of float16",
        "(unquantised)",
        "argmax flips",
        "largest |dp|",
        "fused mIoU %",
    )
    modes = [
        (mode, f"{100 * row['uniform_miou']:.2f}", f"{row['seconds']:.1f}")
        for mode, row in result["resize"].items()
    ]
    search = result["search"]
    found = f"val mIoU {percent(search['miou'])} at {search['weights']}"
    return "\n".join(
        [
            table(rows, header),
            "",
            table(modes, ("resize", "fused mIoU %", "seconds")),
            "",
            f"441-point grid, condensation included: {search['seconds']:.1f} s, {found}",
            f"peak memory {say_bytes(result['peak_memory'])}",
        ]
    )


if __name__ == "__main__":
    sys.exit(cli.run(main))
