"""Google Cloud Storage."""

from __future__ import annotations

from typing import ClassVar

from fusion.stores.locations.remote import Remote


class Gcs(Remote):
    """gs://bucket/path; keys come from GOOGLE_... or the machine's default credentials."""

    schemes: ClassVar = ("gs", "gcs")
    about: ClassVar = "Google Cloud Storage"
    client: ClassVar = "GCSStore"
    keys: ClassVar = (
        "set GOOGLE_SERVICE_ACCOUNT to a key file, or run gcloud auth application-default login"
    )
