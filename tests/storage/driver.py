"""External storages of files, which can be told to fail, and what the server has of it."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.contrib.aws.s3driver import S3StorageDriverClient
from temporalio.converter import (
    ExternalStorage,
    StorageDriver,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
)
from temporalio.service import RPCError

from langgraph_temporal_exec.storage.rpc import is_gone


class Files(StorageDriver):
    """Payloads as files in a folder.

    Attributes:
        failing: Nothing can be stored.
        silent: Nothing can be read.
        stored: Bytes that were stored, by workflow id.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.failing = False
        self.silent = False
        self.stored: Counter[str] = Counter()

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
            self.stored[getattr(context.target, "id", None) or ""] += len(data)
            claims.append(StorageDriverClaim({"key": key}))
        return claims

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        if self.silent:
            raise OSError("the disk does not answer")
        return [
            Payload.FromString((self.folder / claim.claim_data["key"]).read_bytes())
            for claim in claims
        ]


def storage(files: Files, threshold: int = 256_000) -> ExternalStorage:
    """As the user's client has it."""
    return ExternalStorage(drivers=[files], payload_size_threshold=threshold)


class FolderS3(S3StorageDriverClient):
    """A bucket of Temporal's own driver, as a folder; from any event loop, as it is used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loops: set[int] = set()
        self.sizes: dict[str, int] = {}

    def _file(self, key: str) -> Path:
        self.loops.add(id(asyncio.get_running_loop()))
        return self.folder / hashlib.sha256(key.encode()).hexdigest()

    async def put_object(self, *, bucket: str, key: str, data: bytes) -> None:
        self.sizes[key] = len(data)
        await asyncio.to_thread(self._file(key).write_bytes, data)

    async def object_exists(self, *, bucket: str, key: str) -> bool:
        return await asyncio.to_thread(self._file(key).exists)

    async def get_object(self, *, bucket: str, key: str) -> bytes:
        return await asyncio.to_thread(self._file(key).read_bytes)


async def blobs_of(client: Client, prefix: str) -> dict[str, list[Payload]]:
    """What the server has of all blobs, by scope: "archive", "head", and "value" for others."""
    found: dict[str, list[Payload]] = {}
    async for execution in client.list_workflows(f"WorkflowId STARTS_WITH '{prefix}/blob/'"):
        scope = execution.id.split("/")[-2]
        try:
            history = await client.get_workflow_handle(execution.id).fetch_history()
        except RPCError as exc:
            if not is_gone(exc):
                raise
            # Visibility does not know yet that it was removed.
            continue
        started = history.events[0].workflow_execution_started_event_attributes
        kind = scope if scope in ("archive", "head", "garbage", "thin") else "value"
        found.setdefault(kind, []).extend(started.input.payloads)
    return found
