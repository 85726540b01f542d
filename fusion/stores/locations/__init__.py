"""Every place a store may lie at, and the one that an address means."""

from __future__ import annotations

import re
from pathlib import Path

from fusion.errors import InputError
from fusion.stores.locations.azure import Azure
from fusion.stores.locations.disk import Disk
from fusion.stores.locations.gcs import Gcs
from fusion.stores.locations.http import Http
from fusion.stores.locations.location import File, Location
from fusion.stores.locations.memory import Memory
from fusion.stores.locations.refusals import MissingError
from fusion.stores.locations.remote import Remote
from fusion.stores.locations.s3 import S3

__all__ = [
    "LOCATIONS",
    "Address",
    "Disk",
    "File",
    "Location",
    "MissingError",
    "Remote",
    "is_url",
    "location_of",
    "read_document",
]

Address = str | Path | Location
LOCATIONS: dict[str, type[Remote]] = {
    scheme: kind for kind in (S3, Gcs, Azure, Http, Memory) for scheme in kind.schemes
}
# a Path keeps one of two slashes, and "C:/" is a drive
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,3}(?=[^/])")


def is_url(address: object) -> bool:
    """Whether an address names a place beyond the disk, though it has been a Path meanwhile."""
    return isinstance(address, Remote) or _URL.match(str(address)) is not None


def location_of(address: Address) -> Location:
    """Where a store lies: a path of the disk, or what a URL names.

    Args:
        address: a path, or a URL of a scheme in `LOCATIONS`.

    Raises:
        InputError: a scheme of no kind, a URL that holds credentials, a library that is missing.
    """
    if isinstance(address, Location):
        return address
    url = _URL.match(str(address))
    if url is None:
        return Disk(Path(address))
    scheme, rest = url[1].lower(), str(address)[url.end() :]
    if scheme == "file":
        return Disk(Path("/", rest))
    if scheme not in LOCATIONS:
        known = ", ".join(f"{name}://" for name in LOCATIONS)
        raise InputError(f"{scheme}://: no kind of place; give a path, or a URL of {known}")
    return LOCATIONS[scheme].of_url(scheme, rest)


def read_document(location: Location) -> bytes:
    """A metadata file, whole, as its location reads it."""
    return location.document()
