"""Stores behind a plain web server: read only, found by the server's own listings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import unquote

from fusion.errors import StoreError
from fusion.stores.documents import COMMIT, METADATA
from fusion.stores.locations.bucket import CLIENT, RETRIES
from fusion.stores.locations.refusals import MissingError
from fusion.stores.locations.remote import Remote, done

_LINK = re.compile(rb"""<a\s[^>]*href=["']?([^"' >?#]+)""", re.IGNORECASE)


class Http(Remote):
    """http://host/path or https://, whose folders the server lists as links.

    Nothing says how large files are, so each costs a question before it is read.
    """

    schemes: ClassVar = ("http", "https")
    about: ClassVar = "web servers that list folders and answer Range requests; read only"
    keys: ClassVar = "give a server that lets everybody read, or copy the store to a disk"

    @classmethod
    def connect(cls, base: str, host: str) -> Any:
        from obstore.store import HTTPStore

        return HTTPStore.from_url(base, client_options=CLIENT, retry_config=RETRIES)

    def _entries(self) -> list[str]:
        page = self._seen.bucket.document(str(self), self._key)
        links = [unquote(link.decode("latin1")) for link in _LINK.findall(page)]
        names = {link.removeprefix("./").rstrip("/").rpartition("/")[2] for link in links}
        return sorted(name for name in names if name and not name.startswith("."))

    def _list(self) -> dict[str, int]:
        """Of commits only: a folder that has none does not exist."""
        names = self._entries()
        if METADATA not in names:
            do = "switch its listing of folders on (nginx: autoindex on), or copy the store"
            raise StoreError(f"{self}: the server does not list this folder; {do}")
        bucket, found = self._seen.bucket, {}
        places = [self / name / COMMIT for name in names if name != METADATA]
        asked = [bucket.later(bucket.document, str(each), each._key) for each in places]
        for place, answer in zip(places, asked, strict=True):
            try:
                document = answer.result()
            except MissingError:
                continue
            self._seen.documents[place._key] = done(document)
            found[f"{place.parent.name}/{COMMIT}"] = len(document)
        return found

    def total(self) -> int:
        import obstore

        bucket, names = self._seen.bucket, self._listing()
        places = [self / METADATA, *(self / name for name in names)]
        places += [place.parent / METADATA for place in places[1:]]
        keys = [*(place._key for place in places), *self._seen.reading.order]
        asked = [bucket.later(bucket.ask, str(self), obstore.head, key) for key in keys]
        return sum(int(answer.result()["size"]) for answer in asked)

    def gather(self, folders: Sequence[str]) -> None:
        bucket = self._seen.bucket
        for folder in folders:
            place = self / folder / METADATA
            later = bucket.later(bucket.document, str(place), place._key)
            self._seen.documents[place._key] = later
