"""An external storage of files, which can be told to fail."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from temporalio.api.common.v1 import Payload
from temporalio.converter import (
    ExternalStorage,
    StorageDriver,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
)


class Files(StorageDriver):
    """Payloads as files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.failing = False

    def name(self) -> str:
        return "files"

    async def store(
        self, context: StorageDriverStoreContext, payloads: Sequence[Payload]
    ) -> list[StorageDriverClaim]:
        if self.failing:
            raise OSError("the disk is full")
        claims = []
        for payload in payloads:
            data = payload.SerializeToString()
            key = hashlib.sha256(data).hexdigest()
            (self.folder / key).write_bytes(data)
            claims.append(StorageDriverClaim({"key": key}))
        return claims

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        return [
            Payload.FromString((self.folder / claim.claim_data["key"]).read_bytes())
            for claim in claims
        ]


def storage(files: Files, threshold: int = 256_000) -> ExternalStorage:
    """As the user's client has it."""
    return ExternalStorage(drivers=[files], payload_size_threshold=threshold)
