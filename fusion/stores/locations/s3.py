"""Amazon S3, and servers that speak as it does."""

from __future__ import annotations

from typing import ClassVar

from fusion.stores.locations.remote import Remote


class S3(Remote):
    """s3://bucket/path; endpoint, region and keys come from AWS_... in the environment."""

    schemes: ClassVar = ("s3", "s3a")
    about: ClassVar = "Amazon S3 and servers like it"
    client: ClassVar = "S3Store"
    keys: ClassVar = (
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true "
        "for a public bucket"
    )
