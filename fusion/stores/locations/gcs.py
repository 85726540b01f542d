"""Google Cloud Storage."""

from __future__ import annotations

from typing import Any, ClassVar

from fusion.stores.locations.bucket import CLIENT, RETRIES
from fusion.stores.locations.remote import Remote


class Gcs(Remote):
    """gs://bucket/path; keys come from GOOGLE_... or the machine's default credentials."""

    schemes: ClassVar = ("gs", "gcs")
    about: ClassVar = "Google Cloud Storage"
    keys: ClassVar = (
        "set GOOGLE_SERVICE_ACCOUNT to a key file, or run gcloud auth application-default login"
    )

    @classmethod
    def connect(cls, base: str, host: str) -> Any:
        from obstore.store import GCSStore

        return GCSStore(host, client_options=CLIENT, retry_config=RETRIES)
