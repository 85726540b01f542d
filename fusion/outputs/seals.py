"""Which files in a folder of outputs are whole and this ensemble's: a seal for each.

    <out>/.predicted.seals     a line a file, or folder: SHA-256 of what made it and its name, in
                               16 digits, its bytes, SHA-256 of its content

What made it is its unit's digest (`fusion.outputs.record`). A seal is written after the file,
so what is partial, empty, changed, renamed or of another ensemble has none and is written again.
Of several lines any counts; a torn last one fits no file. Outputs whose folder is read by others
as a whole keep theirs in the record.

No link is followed and no pipe waited for, whatever stands where a file should.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from fusion import plain
from fusion.files import PLAIN, STAGING, check_no_link, locked, opened, refusals, write_bytes

SEALS = ".predicted.seals"
KEY_DIGITS = 16
LINE = re.compile(r"[0-9a-f]{16} \d+ [0-9a-f]{64}")
APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | PLAIN  # its O_RDONLY is 0
Sealed = Callable[[Sequence[str]], None]  # told the names of files that have just been written


def unsealed(names: Sequence[str]) -> None:
    """The `Sealed` of nobody."""


def seal(out: Path, name: str, digest: str) -> str | None:
    """The line of a file, or a folder of files, below an output folder; None for what is neither.

    Args:
        out: the folder.
        name: below it.
        digest: what made it.
    """
    found = hashlib.sha256()
    try:
        files, size = _tree(out / name)
        for path in files:
            found.update(f"{path.relative_to(out).as_posix()!r}\n".encode())
            with plain.opened(path, follow=False) as handle:
                while piece := os.read(handle, plain.PIECE):
                    found.update(piece)
    except OSError:
        return None
    return f"{_key(name, digest)} {size} {found.hexdigest()}"


def known_of(lines: Iterable[str]) -> frozenset[str]:
    """What `is_sealed` looks into: lines, and each without what costs reading."""
    return frozenset(part for line in lines for part in (line, line.rpartition(" ")[0]))


def is_sealed(known: frozenset[str], out: Path, name: str, digest: str) -> bool:
    """Whether a file is as one of the lines says; of another size it is not even read."""
    try:
        size = _tree(out / name)[1]
    except OSError:
        return False
    return f"{_key(name, digest)} {size}" in known and seal(out, name, digest) in known


def _key(name: str, digest: str) -> str:
    return hashlib.sha256(f"{digest} {name!r}".encode()).hexdigest()[:KEY_DIGITS]


def read_seals(out: Path) -> frozenset[str]:
    """All of a folder; none where there is no such file. StoreError: the disk refuses."""
    with refusals(out / SEALS, problem="cannot be read"):
        content = plain.found(out / SEALS)
    return frozenset((content or b"").decode("ascii", "replace").split("\n")) - {""}


def add_seals(out: Path, seals: Collection[str]) -> None:
    """Puts seals behind those of a folder; several processes may."""
    text = "".join(f"{each}\n" for each in seals).encode()
    with refusals(out / SEALS), locked(out), opened(out / SEALS, APPEND) as handle:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "no plain file")
        # what a killed process left of a line ends here
        text = b"\n" + text if _is_torn(out / SEALS) else text
        while text:
            text = text[os.write(handle, text) :]


def tidy(out: Path) -> None:
    """Each seal once and in order, so that equal runs leave equal files."""
    with refusals(out / SEALS), locked(out):
        known = sorted(line for line in read_seals(out) if LINE.fullmatch(line))
        if known:
            write_bytes(out / SEALS, "".join(f"{line}\n" for line in known).encode())


def check_places(out: Path, names: Sequence[str]) -> None:
    """StoreError where writing would follow a link out of the folder.

    Args:
        out: the output folder.
        names: of files below it.
    """
    folders = {str(parent) for name in names for parent in Path(name).parents}
    for place in sorted({out / STAGING, *(out / folder for folder in folders)}):
        check_no_link(place)


def _is_torn(path: Path) -> bool:
    with plain.opened(path, follow=False) as handle:
        size = os.fstat(handle).st_size
        return size > 0 and os.pread(handle, 1, size - 1) != b"\n"


def _tree(path: Path) -> tuple[list[Path], int]:
    """A file, or every file of a folder in order, and their bytes; OSError where any is a link or
    special."""
    files = [path]
    if stat.S_ISDIR(path.lstat().st_mode):
        walk = os.walk(path, onerror=_raise)
        files = sorted(Path(at, n) for at, folders, names in walk for n in (*folders, *names))
        files = [file for file in files if not stat.S_ISDIR(file.lstat().st_mode)]
    found = [file.lstat() for file in files]
    if not all(stat.S_ISREG(each.st_mode) for each in found):
        raise OSError(errno.EINVAL, "no plain file", str(path))
    return files, sum(each.st_size for each in found)


def _raise(error: OSError) -> None:
    raise error
