"""What others wrote, as stores: one file per kind of source, one name in IMPORTERS."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from fusion.errors import InputError
from fusion.stores.importers.arrays import Arrays
from fusion.stores.importers.protocol import Importer, Source, refusal
from fusion.stores.writer import LogitWriter

__all__ = ["IMPORTERS", "OPTIONS", "Importer", "Source", "choose", "import_video", "read_frames"]

IMPORTERS: tuple[Any, ...] = (Arrays,)  # of several that recognise a folder the first is taken
OPTIONS: dict[str, Mapping[str, Any]] = {
    field.name: field.metadata for importer in IMPORTERS for field in fields(importer)
}


def choose(folder: Path, **options: Any) -> Importer:
    """The first importer that recognises a folder.

    Args:
        folder: what to import.
        options: of OPTIONS; None stands for not given.

    Raises:
        InputError: nothing to import, or an option that this kind of source does not have.
    """
    kind = next((kind for kind in IMPORTERS if kind.recognises(folder)), None)
    if kind is None:
        raise refusal(folder, *(kind.holds for kind in IMPORTERS))
    given = {name: value for name, value in options.items() if value is not None}
    for name in given.keys() - {field.name for field in fields(kind)}:
        raise InputError(f"{folder}: {kind.name} take no {name}={given[name]}; leave it out")
    return kind(**given)


def import_video(
    writer: LogitWriter,
    importer: Importer,
    source: Source,
    *,
    frames: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
) -> bool:
    """Writes one source as a video. Run it again to resume.

    Args:
        writer: the store's.
        importer: the one that found the source.
        source: the video.
        frames: ids for a source that does not name its own; default 00000, 00001, ...
        size: (height, width) of the images; default the arrays' own.

    Returns:
        False where the video was committed already.
    """
    own, arrays = importer.frames(source, len(writer.info.classes))
    ids = frames if frames and not source.named else own
    if len(ids) != len(own):
        problem = f"{len(own)} frames, but {len(ids)} frame ids are given for it"
        raise InputError(f"{source.files[0]}: {problem}; make them agree")
    with writer.video(source.video, frames=ids, size=size) as out:
        for array in () if out.committed else arrays:
            out.append(array)
    return not out.committed


def read_frames(path: Path) -> dict[str, list[str]]:
    """Frame ids by video: a JSON object {video: [frame, ...]}, at the top or under "videos"."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        frames = document.get("videos", document)
        if not all(isinstance(ids, list) for ids in frames.values()):
            raise TypeError("a video's frames are no list")
        return {video: [str(frame) for frame in ids] for video, ids in frames.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        advice = "give JSON {video: [frame, ...]}"
        raise InputError(f"{path}: frame ids cannot be read ({error}); {advice}") from error
