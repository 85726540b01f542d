"""Azure Blob Storage."""

from __future__ import annotations

from typing import ClassVar

from fusion.stores.locations.remote import Remote


class Azure(Remote):
    """az://container/path; account and key come from AZURE_STORAGE_... in the environment."""

    schemes: ClassVar = ("az", "azure")
    about: ClassVar = "Azure Blob Storage"
    client: ClassVar = "AzureStore"
    keys: ClassVar = (
        "set AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_KEY"
    )
