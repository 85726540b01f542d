"""Writing a logit store: every video appears whole, by one rename, or not at all.

A video that is committed already with the same frame ids is skipped; with others it is refused,
unless it is to be replaced. Of two writers of one video the first to rename wins; the other
compares and drops its own. Running the same program again is the way to resume.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from fusion.arguments import checked
from fusion.errors import InputError, StoreConflictError
from fusion.geometry import slice_ids
from fusion.stores import format as disk
from fusion.stores.catalog import PackIndex
from fusion.stores.codec import PROFILES
from fusion.stores.locations import Address, Location, location_of, read_document
from fusion.stores.pack_writer import PackWriter
from fusion.stores.tiles import MEMORY, TileWriter, Window, checked_tiling, window_of
from fusion.stores.video_writer import Request, Target, VideoWriter, checked_names
from fusion.text import html_table, listed

Durability = Literal["commit", "none"]  # what a commit waits for

__all__ = ["LogitWriter", "PackWriter", "TileWriter", "VideoWriter"]


@checked
class LogitWriter:
    """Opens or creates a store for writing. Several writers, in several processes, may fill one.

    Args:
        path: the store's folder, or its URL (s3://, gs://, az://, memory://).
        classes: C names in channel order.
        profile: "compact" (uint8 gap codes, the default) or "exact" (float16).
        values: what `append` is given: "logits", "probabilities" (any non-negative numbers; they
            are normalised per pixel and kept as logarithms), "scores" (averaged as they are;
            "exact" only), "sigmoid" (logits of independent channels: C = 1 for binary masks, many
            labels a pixel, regions) or "sigmoid-probabilities" (their probabilities).
        model: a name, default the folder's.
        provenance: free JSON (checkpoint digest, TTA, seed, command).
        durability: "commit" waits until a video is on the disk before its block ends: no power cut
            takes it away. "none" leaves that to the system, which writes within about half a
            minute: faster for many small videos on disks that are slow to answer; killed processes
            lose nothing more, but what a power cut catches is missing, or found damaged when it is
            read and by `segfusion stores verify`. It has no meaning on servers.

    Raises:
        InputError: bad arguments.
        StoreConflictError: the folder holds a store of another model, class list, profile or kind
            of values.
    """

    def __init__(
        self,
        path: Address,
        classes: Sequence[str],
        profile: disk.Profile = "compact",
        *,
        values: disk.Values = "logits",
        model: str | None = None,
        provenance: dict[str, Any] | None = None,
        durability: Durability = "commit",
    ) -> None:
        self.location = location_of(path)
        if durability not in get_args(Durability):
            choice = f"choose one of {get_args(Durability)}"
            raise InputError(f"{self.location}: durability {durability!r}; {choice}")
        if profile not in PROFILES or values not in disk.VALUES:
            choice = f"choose one of {tuple(PROFILES)} and one of {disk.VALUES}"
            raise InputError(f"{self.location}: profile {profile!r}, values {values!r}; {choice}")
        if values == "scores" and profile != "exact":
            raise InputError(f"{self.location}: gap codes cannot keep scores; use profile='exact'")
        names, model = checked_names("classes", classes), model or Path(self.location.name).stem
        self.info = disk.StoreInfo(model, names, profile, values, provenance or {})
        group = _create(self.location, self.info)
        packs = PackIndex(self.location, self.info, group)
        self._target = Target(self.location, self.info, group, packs, durability == "commit")

    def __enter__(self) -> LogitWriter:
        return self

    def __exit__(self, *_: object) -> None:
        """Videos commit themselves; there is nothing left to close."""

    @property
    def path(self) -> Path:
        """The store's folder; InputError where it lies on a server."""
        return self.location.folder

    def __repr__(self) -> str:
        info = self.info
        kept = f"{info.profile}, {info.values} of {len(info.classes)} classes"
        return f"LogitWriter({str(self.location)!r}: {kept}, model {info.model!r})"

    def _repr_html_(self) -> str:
        info = self.info
        rows = [("values", f"{info.profile}, {info.values}"), ("model", info.model)]
        rows.append(("classes", f"{len(info.classes)}: {listed(info.classes)}"))
        return html_table(rows, ("", ""), f"LogitWriter {self.location}")

    def video(
        self,
        video: str,
        *,
        frames: Sequence[str],
        size: tuple[int, int] | None = None,
        geometry: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> VideoWriter:
        """A context to append each frame in order; leaving it commits, an exception discards.

        Args:
            video: its id, any string.
            frames: ids, each once, in the order of the appends.
            size: (height, width) in pixels of the source images, the resolution of the labels;
                default the arrays' own.
            geometry: plain JSON that says where the pixels lie, as `fusion.geometry` reads it from
                files; kept with the video. Where given it counts in the store's digest.
            overwrite: whether to replace a committed video, sound or damaged. Readers find the old
                one until the new one is complete; of two writers the last wins.

        Raises:
            InputError: no ids, no such size or geometry.
            StoreConflictError: the video is committed with other frame ids, size or geometry.
        """
        return VideoWriter(self._target, Request.of(video, frames, size, geometry, overwrite))

    def pack(self) -> PackWriter:
        """A context for many small videos, such as single images, which are committed together.

        Its `video` is used as the writer's own; a video exists for readers once its pack is full
        (64 MiB of codes, 4,096 frames) or the block has ended, be it by an exception.

            with writer.pack() as pack:
                for image, logits in predictions:
                    with pack.video(image, frames=["0"]) as out:
                        out.append(logits)
        """
        return PackWriter(self._target)

    def tiles(
        self,
        video: str,
        size: Sequence[int],
        *,
        frames: Sequence[str] | None = None,
        window: Window = "gaussian",
        sigma_scale: float = 0.125,
        source_size: tuple[int, int] | None = None,
        geometry: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        memory: int | str = MEMORY,
    ) -> TileWriter:
        """A context for the overlapping tiles of a sliding window over one image or one case.

        Leaving it commits the blended whole, an exception discards.

            with writer.tiles("case", (155, 240, 240)) as tiles:
                for at in tile_positions((155, 240, 240), (128, 128, 128), 0.5):
                    tiles.add(logits_of_a_crop, at=at)

        Args:
            video: its id.
            size: of the whole, (Y, X) of an image (a single frame) or (Z, Y, X) of a case, whose
                frames are its slices.
            frames: ids; default 00000, 00001, ...
            window: how tiles are weighted: "constant", "gaussian" (MONAI's) or "nnunet".
            sigma_scale: of both bells, a share of the tile's side.
            source_size: (height, width) of the source images; default that of the whole.
            geometry: as `video`.
            overwrite: as `video`.
            memory: bytes of sums, 4 (C + 1) a pixel, that are kept in memory; larger ones in a
                scratch file of the store's folder. A number, or a text such as "4GB".

        Raises:
            InputError: no such size, window or memory; when the block ends, a pixel in no tile.
            StoreConflictError: as `video`.
        """
        where = f"video {video!r}"
        whole, most = checked_tiling(len(self.info.classes), size, memory, where)
        planes = whole[0] if len(whole) == 3 else 1
        ids = slice_ids(planes) if frames is None else frames
        request = Request.of(video, ids, source_size, geometry, overwrite)
        if len(request.frames) != planes:
            problem = f"{len(request.frames)} frame ids for {planes} slices of size {list(whole)}"
            raise InputError(f"{where}: {problem}; make them agree")
        return TileWriter(self._target, request, whole, window_of(window, sigma_scale), most)


def _create(root: Location, info: disk.StoreInfo) -> bytes:
    """Writes a new store's group document, or returns that of the store there, if it agrees."""
    document, path = info.document(), root / disk.METADATA
    if not path.exists():
        path.create(document)  # of two creators the first wins
    there = read_document(path)
    found = disk.StoreInfo.parse(there, path)
    for name in ("model", "classes", "profile", "values"):
        if getattr(found, name) != getattr(info, name):
            have, got = (f"{getattr(store, name)!r:.80}" for store in (found, info))
            problem = f"holds a store with {name} {have}, got {got}"
            raise StoreConflictError(f"{root}: {problem}; write to another folder")
    return there
