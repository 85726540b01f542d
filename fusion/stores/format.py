"""The logit store on disk: names, limits, and its JSON documents with every check but the pixels'.

    swin_640_ohem.zarr/
      zarr.json             group; attributes["segfusion"]: format, version, model, classes,
                            profile, values, codec, provenance
      <video key>/          an array a video, [frame, class, y, x]; the unit of commit, appears by
                            rename
        zarr.json           attributes["segfusion"]: video id, frame ids, source size, resize
        c/<shard>/0/0/0     inner chunk = one frame; zstd with checksum
        commit.json         written last: crc32c of every frame, sha256 of both zarr.json, a
                            checksum of itself
      pack-<hash>/          many small videos in one array: `fusion.stores.pack_format`
      .staging/<random>/    work in progress, never read

Where nothing can be renamed (`fusion.stores.locations`), a video's array lies one folder deeper:

      <video key>/<random>/ zarr.json and c/ as above
      <video key>/commit.json   of format version 3: "draft" says which of them counts

Zarr alone reads a missing chunk as fill value and an edited zarr.json as other numbers;
commit.json is what notices.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from typing import Any, Literal

from fusion import parsing
from fusion.errors import CorruptStoreError, InputError, StoreError
from fusion.stores.codec import CHANNELS, MAX_FRAME_ELEMENTS, PROFILES, coding
from fusion.stores.documents import (
    ATTRIBUTES,
    COMMIT,
    MAX_METADATA_BYTES,
    METADATA,
    RESTORE,
    Document,
    attributes_of,
    checked_ids,
    damaged,
    dump,
    parse_json,
    sha256,
)
from fusion.stores.locations import Address, Location, location_of, read_document

FORMAT, VERSION = "segfusion.logits", 1
DRAFT_VERSION = 3  # of a commit.json that says where its video lies
RESIZE = "bilinear, align_corners=False"

Profile = Literal["compact", "exact"]
Values = Literal["logits", "probabilities", "scores", "sigmoid", "sigmoid-probabilities"]
VALUES = ("logits", "probabilities", "scores", *CHANNELS)


def video_key(video: str) -> str:
    """Folder name of a video: a slug and 64 bits of the id's hash; none escapes or collides."""
    digest = sha256(video.encode("utf-8", "surrogatepass"))[:16]
    slug = re.sub(r"[^a-z0-9._-]+", "-", video.lower())[:48].strip(".-")
    return f"{slug or 'video'}-{digest}"


@dataclass(frozen=True)
class StoreInfo:
    """What the group's attributes say.

    Args:
        model: its name.
        classes: C names in channel order.
        profile: how numbers are kept.
        values: what the source was; "probabilities" are kept as their logarithms (a softmax gives
            them back, normalised), "scores" are averaged as they are; "sigmoid" are logits of
            independent channels, "sigmoid-probabilities" their probabilities, kept as logits.
        provenance: free JSON.
    """

    model: str
    classes: tuple[str, ...]
    profile: Profile
    values: Values
    provenance: Document

    @property
    def channels(self) -> bool:
        """Whether classes are independent channels, each decided by itself."""
        return self.values in CHANNELS

    def document(self) -> bytes:
        """The group's zarr.json; InputError where name or provenance cannot stand in it."""
        codec = coding(self.profile, self.values).config
        body = {"format": FORMAT, "version": VERSION, **asdict(self), "codec": codec}
        group = {"zarr_format": 3, "node_type": "group", "attributes": {ATTRIBUTES: body}}
        try:
            document = dump(group)
            parsing.parse_json(document)  # what no reader would take
        except (TypeError, ValueError, RecursionError) as error:
            advice = "give a dict of strings, finite numbers, lists and dicts"
            raise InputError(f"provenance: not JSON ({error}); {advice}") from error
        types = isinstance(self.model, str) and isinstance(self.provenance, dict)
        if not types or len(document) > MAX_METADATA_BYTES:
            got = f"model {self.model!r:.80}, provenance {type(self.provenance).__name__}"
            advice = f"give a string and a dict, below {MAX_METADATA_BYTES} bytes"
            raise InputError(f"{got}, {len(document)} bytes in all; {advice}")
        return document

    @classmethod
    def parse(cls, document: bytes, path: object) -> StoreInfo:
        """What a group's zarr.json says; StoreError for another or a damaged one."""
        body = attributes_of(parse_json(document, path), path)
        if body.get("format") != FORMAT:
            problem = f"not a logit store (format {body.get('format')!r}, expected {FORMAT!r})"
            raise StoreError(f"{path}: {problem}; give a store's folder")
        _check_version(body, path)
        try:
            classes = checked_ids(body.get("classes"))
        except ValueError as error:
            raise CorruptStoreError(f"{path}: classes: {error}, or restore the file") from error
        facts = (body.get(name) for name in ("model", "profile", "values", "provenance"))
        model, profile, values, provenance = facts
        if profile not in tuple(PROFILES) or values not in VALUES:  # may be anything, lists too
            raise damaged(path, f"profile {profile!r}, values {values!r} unknown", RESTORE)
        if not isinstance(model, str) or not isinstance(provenance, dict):
            raise damaged(path, "model or provenance has the wrong type", RESTORE)
        return cls(model, classes, profile, values, provenance)


@dataclass(frozen=True)
class Packed:
    """Where a video lies that shares an array with others.

    Args:
        folder: the pack's name.
        first: row of its first frame.
        length: numbers in a row; a frame's own come first, then fill.
    """

    folder: str
    first: int
    length: int


@dataclass(frozen=True)
class VideoInfo:
    """One committed video.

    Args:
        video: its id.
        frames: T ids in stored order.
        size: (H, W) of the source images, the resolution of the labels.
        shape: [T, C, h, w] as stored.
        shard_frames: frames in a file.
        crc: crc32c of each frame.
        geometry: plain JSON that says where its pixels lie (see `fusion.geometry`); None for none.
        replaces: packs that hold an older version of this video.
        pack: None where the video has a folder of its own.
        draft: the folder below that in which its array lies; "" for that folder itself.
    """

    video: str
    frames: tuple[str, ...]
    size: tuple[int, int]
    shape: tuple[int, int, int, int]
    shard_frames: int
    crc: tuple[int, ...]
    geometry: Document | None = field(default=None, hash=False)
    replaces: tuple[str, ...] = ()
    pack: Packed | None = None
    draft: str = ""

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        return self.shape[1:]

    @property
    def folder(self) -> str:
        """Name of the folder of the store that holds it."""
        return video_key(self.video) if self.pack is None else self.pack.folder

    def place(self, index: int) -> tuple[str, int]:
        """The file of a frame, below the folder, and its position among the file's frames."""
        if self.pack is not None:
            return "c/0/0", self.pack.first + index
        shard, position = divmod(index, self.shard_frames)
        return f"{self.draft}/c/{shard}/0/0/0".lstrip("/"), position

    def files(self) -> list[str]:
        """Those that hold its frames, below the store."""
        last = len(self.frames) - 1
        step = 1 if self.pack is not None else self.shard_frames
        names = {self.place(min(at, last))[0]: None for at in range(0, last + step, step)}
        return [f"{self.folder}/{name}" for name in names]

    def body(self) -> Document:
        """What the attributes say of this video; new words stand there only where they are used."""
        height, width = self.size
        body = {"video": self.video, "frames": list(self.frames), "height": height, "width": width}
        if self.geometry is not None:
            body["geometry"] = self.geometry
        return {**body, "replaces": list(self.replaces)} if self.replaces else body

    def attributes(self) -> Document:
        """Of the video's array, in its zarr.json."""
        return {ATTRIBUTES: {**self.body(), "resize": RESIZE}}

    def difference(
        self,
        frames: tuple[str, ...],
        size: tuple[int, int] | None,
        geometry: Document | None,
        crc: tuple[int, ...] | None = None,
    ) -> str | None:
        """How the committed video differs from what somebody has; None where it does not.

        Args:
            frames: ids.
            size: (height, width), None for any.
            geometry: None for any.
            crc: of each frame, None where no pixel is known yet.
        """
        if self.frames != frames:
            pairs = enumerate(zip_longest(self.frames, frames))
            at, (theirs, ours) = next((n, pair) for n, pair in pairs if pair[0] != pair[1])
            first = f"the first that differs is number {at}, {theirs!r} there and {ours!r} here"
            return f"frame ids ({len(self.frames)} there, {len(frames)} here; {first})"
        if size not in (None, self.size):
            return f"size ({self.size} there, {size} here)"
        if geometry not in (None, self.geometry):
            return "geometry"
        if crc is not None and crc != self.crc:
            pixels = zip(frames, self.crc, crc, strict=True)
            other = [(frame, one, two) for frame, one, two in pixels if one != two]
            frame, one, two = other[0]
            first = f"the first is frame {frame!r}, crc32c {one:08x} there and {two:08x} here"
            return f"pixels ({len(other)} frames; {first})"
        return None

    def commit(self, metadata: bytes, group: bytes, facts: Mapping[str, Any]) -> bytes:
        """The video's commit.json.

        Args:
            metadata: the zarr.json of its array.
            group: the zarr.json of the store.
            facts: dtype, and who wrote it when.
        """
        version = DRAFT_VERSION if self.draft else VERSION
        known = {**facts, "draft": self.draft} if self.draft else facts
        return commit_document(version, self.shape, self.crc, metadata, group, known)


def commit_document(
    version: int,
    shape: Sequence[int],
    crc: Sequence[int],
    metadata: bytes,
    group: bytes,
    facts: Mapping[str, Any],
) -> bytes:
    """The commit.json of an array with this zarr.json in a store with that one."""
    held = {"frames": len(crc), "shape": list(shape), "crc32c": list(crc)}
    sums = {"metadata_sha256": sha256(metadata), "group_sha256": sha256(group)}
    body = {"format": FORMAT, "version": version, **held, **sums, **facts}
    return dump({**body, "checksum": sha256(dump(body))})


def parse_video(folder: Address, store: StoreInfo, group: bytes) -> VideoInfo:
    """Reads and cross-checks both documents of a committed video; allocates none of its pixels."""
    place = location_of(folder)
    array, body = committed_documents(place, group, VERSION)
    return _video_info(array, body, store, place / METADATA)


def committed_documents(folder: Location, group: bytes, version: int) -> tuple[Document, Document]:
    """zarr.json and commit.json of a committed folder, which vouch for each other.

    Args:
        folder: of a video, or a pack.
        group: the zarr.json of the store.
        version: of the format, for this kind of folder.
    """
    path = folder / COMMIT
    if folder.is_link():
        raise damaged(folder, "a link", "stores hold plain folders only, copy it instead")
    document = read_document(path)
    # commit.json is believed once its own checksum fits, zarr.json once commit.json vouches for it
    body = parse_json(document, path)
    checksum = body.pop("checksum", None)
    try:
        sound = checksum == sha256(dump(body))
    except (ValueError, RecursionError):  # NaN, or nested deeper than dump goes
        sound = False
    if not sound:
        raise damaged(path, "checksum does not match its content (edited or damaged)")
    draft = body.get("draft", "")
    _check_version(body, path, DRAFT_VERSION if draft and version == VERSION else version)
    if not isinstance(draft, str) or not re.fullmatch("([0-9a-f]{32})?", draft):
        raise damaged(path, f"names a folder {draft!r:.80}")
    metadata_path = folder / draft / METADATA if draft else folder / METADATA
    metadata, group_path = read_document(metadata_path), folder.parent / METADATA
    for place, actual in ((metadata_path, metadata), (group_path, group)):
        name = "group_sha256" if place is group_path else "metadata_sha256"
        if body.get(name) != sha256(actual):
            problem = f"not the file that was committed with {folder.name}"
            raise damaged(place, problem, "restore it or write the video again")
    return parse_json(metadata, metadata_path), body


def _check_version(body: Document, path: object, version: int = VERSION) -> None:
    if body.get("version") != version:
        found = body.get("version")
        got = f"format version {found!r}, this release reads {version}"
        older = isinstance(found, int) and found < version
        do = "write it again" if older else "update segfusion"
        raise StoreError(f"{path}: {got}; {do}")


@dataclass(frozen=True)
class Described:
    """What a zarr.json says of its array, as far as it is ours."""

    shape: tuple[int, ...]
    shard: tuple[int, ...]
    chunk: tuple[int, ...]
    crc: tuple[int, ...]
    body: Document


def described(array: Document, commit: Document, store: StoreInfo, path: object) -> Described:
    """An array of ours: codecs, dtype and chunks are this library's; the errors of others say what
    is wrong. KeyError, TypeError, ... where the document has another form."""
    shape = tuple(map(int, array["shape"]))
    shard = tuple(map(int, array["chunk_grid"]["configuration"]["chunk_shape"]))
    (outer,) = array["codecs"]
    inner = [codec["name"] for codec in outer["configuration"]["codecs"]]
    chunk = tuple(outer["configuration"]["chunk_shape"])
    crc, dtype = tuple(map(int, commit["crc32c"])), array["data_type"]
    known = outer["name"] == "sharding_indexed" and inner == ["bytes", "zstd"]
    frame = shape[1:]
    if not known or dtype != PROFILES[store.profile].dtype.name:
        problem = f"codecs {outer['name']} {inner} or dtype {dtype} are not this profile's"
    elif list(shape) != commit.get("shape") or len(crc) != shape[0]:
        problem = f"shape {list(shape)}, committed {commit.get('shape')} of {len(crc)} frames"
    elif min(shape) < 1 or math.prod(frame) > MAX_FRAME_ELEMENTS:
        problem = f"absurd shape {list(shape)}"
    elif chunk != (1, *frame) or shard[1:] != frame or not 1 <= shard[0] <= shape[0]:
        problem = f"absurd shape {list(shape)} or chunks {list(chunk)}"
    else:
        return Described(shape, shard, chunk, crc, attributes_of(array, path))
    raise damaged(path, problem)


NOT_OURS = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError)


def _video_info(array: Document, commit: Document, store: StoreInfo, path: Location) -> VideoInfo:
    """zarr.json is by now the committed one; refuses what this library would not have written."""
    try:
        found = described(array, commit, store, path)
        frames, size, geometry = parse_body(found.body)
        _, channels, height, width = found.shape
        shape = (len(frames), channels, height, width)
        replaces = tuple(map(str, found.body.get("replaces", ())))
        video = found.body["video"]
        info = VideoInfo(
            video,
            frames,
            size,
            shape,
            found.shard[0],
            found.crc,
            geometry,
            replaces,
            draft=commit.get("draft", ""),
        )
        key = video_key(info.video)
    except NOT_OURS as error:
        raise damaged(path, f"not an array of a logit store ({error!r})") from error
    if path.parent.name != key:  # a copied or renamed folder would stand for the video twice
        problem = f"holds video {info.video!r}, whose folder is {key}"
        raise damaged(path, problem, f"rename or remove {path.parent.name}")
    if shape != found.shape or channels != len(store.classes):
        expected = [len(frames), len(store.classes), height, width]
        problem = f"shape {list(found.shape)}, expected {expected} by frames and classes"
        raise damaged(path, problem)
    return info


def parse_body(body: Document) -> tuple[tuple[str, ...], tuple[int, int], Document | None]:
    """Frame ids, size and geometry of what `VideoInfo.body` made; ValueError for anything else."""
    frames, geometry = checked_ids(body["frames"]), body.get("geometry")
    size = (int(body["height"]), int(body["width"]))
    if min(size) < 1 or not isinstance(body["video"], str):
        raise ValueError(f"size {size} of video {body['video']!r:.80}")
    if geometry is not None and not isinstance(geometry, dict):
        raise ValueError(f"geometry {geometry!r:.80}")
    return frames, size, geometry
