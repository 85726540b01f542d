"""The look into folders that importers share: <video>.<suffix> and <video>/<frame>.<suffix>."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fusion.errors import InputError
from fusion.stores.importers.protocol import Source, refusal
from fusion.text import natural_order


def listed(folder: Path) -> list[Path]:
    """What is in a folder, without hidden files, in natural order."""
    try:
        seen = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        problem = f"cannot be listed ({error.strerror})"
        raise InputError(f"{folder}: {problem}; check the folder's rights") from error
    return sorted(seen, key=lambda entry: natural_order(entry.name))


def ends(path: Path, suffixes: Sequence[str]) -> bool:
    """Whether a name ends so, with something before it."""
    return any(path.name.endswith(suffix) and path.name != suffix for suffix in suffixes)


def stem(path: Path, suffixes: Sequence[str]) -> str:
    """A name without the first of these suffixes that it has."""
    found = (suffix for suffix in suffixes if path.name.endswith(suffix))
    return path.name.removesuffix(next(found, ""))


def files_in(folder: Path, suffixes: Sequence[str]) -> tuple[Path, ...]:
    """The plain files in a folder that end so."""
    return tuple(file for file in listed(folder) if ends(file, suffixes) and file.is_file())


def find(
    path: Path, suffixes: Sequence[str], *, plain: Callable[[str], str] = lambda name: name
) -> list[Source]:
    """Files of a kind: one is a video, a subfolder of them is a video with a file per frame.

    Args:
        path: the folder, or one file.
        suffixes: of the kind; the longer of two that end alike first.
        plain: what a name becomes without what its format puts before or behind it.
    """
    if path.is_file():
        named = plain(stem(path, suffixes))
        return [Source(named, (path,), named=False)] if ends(path, suffixes) else []
    found = []
    for entry in listed(path) if path.is_dir() else []:
        if entry.is_dir():
            if files := files_in(entry, suffixes):
                found.append(Source(entry.name, files, named=True))
        elif ends(entry, suffixes):
            found.append(Source(plain(stem(entry, suffixes)), (entry,), named=False))
    return found


def checked(path: Path, found: list[Source], holds: str) -> list[Source]:
    """Sources that may be read: some, each id once, and no link that leads out of the folder."""
    if not found:
        raise refusal(path, holds)
    first: dict[str, Source] = {}
    for source in found:
        other = first.setdefault(source.video, source)
        if other is not source:
            both = " and ".join(_place(each, path) for each in (other, source))
            problem = f"video {source.video!r} is there twice ({both})"
            raise InputError(f"{path}: {problem}; keep one, or give the folder of one of them")
    if path.is_dir():
        root = path.resolve()
        for file in (file for source in found for file in source.files):
            if not file.resolve().is_relative_to(root):
                problem = f"a link that leads out of {path}"
                raise InputError(f"{file}: {problem}; copy the file there, or give its own folder")
    return found


def _place(source: Source, path: Path) -> str:
    file = source.files[0]
    shown = file.relative_to(path) if file.is_relative_to(path) else file
    return str(shown if source.part is None else f"{shown}: {source.part}")
