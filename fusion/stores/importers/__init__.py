"""What others wrote, as stores: one file per kind of source, one name in IMPORTERS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from fusion.arguments import checked
from fusion.errors import InputError
from fusion.parsing import parse_json
from fusion.progress import Progress, silent
from fusion.stores.importers.arrays import Arrays
from fusion.stores.importers.folders import find
from fusion.stores.importers.geotiff import GeoTiff
from fusion.stores.importers.hdf5 import Hdf5
from fusion.stores.importers.images import Images
from fusion.stores.importers.label_maps import LabelMaps
from fusion.stores.importers.mmsegmentation import MmSegmentation
from fusion.stores.importers.monai import Monai
from fusion.stores.importers.nifti import Nifti
from fusion.stores.importers.nnunet import NnUnet
from fusion.stores.importers.pictures import PNG
from fusion.stores.importers.plan import Beside, Imported, PerVideo, Plan, import_video
from fusion.stores.importers.protocol import Frames, Importer, Known, Source, refusal
from fusion.stores.importers.tensors import Tensors
from fusion.stores.importers.zarrs import Zarrs
from fusion.stores.locations import Address
from fusion.text import did_you_mean

__all__ = [
    "IMPORTERS",
    "OPTIONS",
    "Frames",
    "Imported",
    "Importer",
    "Known",
    "Plan",
    "Source",
    "choose",
    "import_folder",
    "import_video",
    "plan_folder",
    "read_frames",
]

# of several that recognise a folder the first is taken
IMPORTERS: tuple[Any, ...] = (
    NnUnet,
    MmSegmentation,
    Monai,
    Arrays,
    Tensors,
    Nifti,
    GeoTiff,
    Hdf5,
    Zarrs,
    Images,
    LabelMaps,
)
OPTIONS: dict[str, Mapping[str, Any]] = {
    field.name: field.metadata for importer in IMPORTERS for field in fields(importer)
}


def choose(path: Path, kind: str | None = None, **options: Any) -> Importer:
    """The first importer that recognises a folder or file.

    Args:
        path: what to import.
        kind: the importer's own name, to choose it whatever there is.
        options: of OPTIONS; None stands for not given.

    Raises:
        InputError: nothing to import, or an option that this kind of source does not have.
    """
    if kind is not None:
        found = next((each for each in IMPORTERS if each.kind == kind), None)
        if found is None:
            known = [each.kind for each in IMPORTERS]
            raise InputError(f"kind: got {kind!r}{did_you_mean(kind, known)}")
    else:
        found = next((each for each in IMPORTERS if each.recognises(path)), None)
    if found is None and find(path, PNG):
        problem = "PNGs do not say what their numbers are"
        advice = "give kind=images for probabilities, kind=label_maps for class ids"
        raise InputError(f"{path}: {problem}; {advice}")
    if found is None:
        raise refusal(path, *(each.holds for each in IMPORTERS))
    given = {name: value for name, value in options.items() if value is not None}
    for name in given.keys() - {field.name for field in fields(found)}:
        raise InputError(f"{path}: {found.name} take no {name}={given[name]}; leave it out")
    importer: Importer = found(**given)
    return importer


@checked
def plan_folder(
    source: str | Path,
    dest: Address,
    classes: Sequence[str] | int | None = None,
    *,
    kind: str | None = None,
    profile: str = "compact",
    values: str = "auto",
    model: str | None = None,
    frames: Mapping[str, Sequence[str]] | None = None,
    size: tuple[int, int] | Mapping[str, tuple[int, int]] | None = None,
    labels: Beside | None = None,
    intersect: bool = False,
    normalise: bool = False,
    overwrite: bool = False,
    provenance: Mapping[str, Any] | None = None,
    **options: Any,
) -> Plan:
    """Looks through what `import_folder` would import; the same arguments, and writes nothing."""
    path, geometry = Path(source), None
    if labels is not None:
        geometry = labels.geometry
        frames = frames or PerVideo(labels.videos, labels.frames)
        size = size or PerVideo(labels.videos, labels.size)
    importer = choose(path, kind, **options)
    origin = {"source": "files", "kind": getattr(importer, "kind", None)}
    return Plan.of(
        importer,
        path,
        dest,
        classes=classes,
        values=values,
        frames=frames,
        size=size,
        geometry=geometry,
        intersect=intersect,
        normalise=normalise,
        overwrite=overwrite,
        store={
            "profile": profile,
            "model": model,
            "provenance": dict(provenance or {}) | origin,
        },
    )


@checked
def import_folder(
    source: str | Path,
    dest: Address,
    classes: Sequence[str] | int | None = None,
    *,
    progress: Progress = silent,
    **options: Any,
) -> Imported:
    """Fills a store from files. Videos that are there are skipped: run it again to resume.

    Args:
        source: a folder, or one file.
        dest: the store's folder, made if it is missing, or its URL.
        classes: C names in channel order, or C; default what the format says.
        progress: shows how far it is.
        options: `kind` of importer (default: the first that recognises the source), `profile`,
            `values` ("auto": what the format says, else logits; contradicted by the numbers they
            are refused), `model`; `labels`, a `fusion.Labels` that says ids of frames, sizes of
            images and where they lie; or `frames` {video: ids} for files that do not say, `size`
            (height, width) or {video: size}; `intersect` to leave out videos that these do not
            have; `normalise` for probabilities that do not sum to 1; `overwrite`; `provenance`;
            and the importer's own, of OPTIONS.

    Returns:
        How many videos were written, and how many were there already.

    Raises:
        InputError: nothing to import, files or options that are unclear, damaged or contradicted.
        StoreConflictError: dest holds another store, or a video of other frames.
    """
    return plan_folder(source, dest, classes, **options).run(progress)


def read_frames(path: Path) -> dict[str, list[str]]:
    """Frame ids by video: a JSON object {video: [frame, ...]}, at the top or under "videos"."""
    try:
        document = parse_json(path.read_bytes())
        frames = document.get("videos", document)
        if not all(isinstance(ids, list) for ids in frames.values()):
            raise TypeError("a video's frames are no list")
        return {video: [str(frame) for frame in ids] for video, ids in frames.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        advice = "give JSON {video: [frame, ...]}"
        raise InputError(f"{path}: frame ids cannot be read ({error}); {advice}") from error
