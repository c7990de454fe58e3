"""Shared: large bytes kept in Temporal outside the log of a thread, and read back.

Each piece is the input of a workflow whose start is delayed for ever: it costs no worker, no
task and no retention, and its first history event, which holds the bytes, can be read with no
worker alive. A client with external storage keeps the bytes there: Temporal's SDK then puts a
reference into that event (temporalio/sdk-python#1341). It would do so from a size on that archives,
which are compressed, seldom have; ``EXTERNAL_AT`` is ours.

A blob is cut into pieces, and a piece is named by thread, scope and the digest of its content.
So a name never stands for two contents: writing a piece again is harmless, and what was read can
be checked. The scope says who wrote it. Ops have one each, so that a blob which is removed is
never one that another op refers to as well. Archives share some (``worker/upkeep.py``), so that
pieces which stay the same are not written again.

Blobs are in one of three states, seen from this process::

    held     in memory, because somebody here says so: not stored yet, or needed until released
    cached   in memory, by piece, as long as there is room
    stored   at the server, for whoever has a reference; until removed
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Container, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import HistoryEventFilterType
from temporalio.api.workflowservice.v1 import (
    DeleteWorkflowExecutionRequest,
    GetWorkflowExecutionHistoryRequest,
)
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.converter import WorkflowSerializationContext
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from ..errors import StorageError
from ..protocol import names
from ..protocol.blob import EXTERNAL_PIECE_BYTES, PIECE_BYTES, Upload
from ..protocol.delta import digest
from ..protocol.stored import BlobRef
from .rpc import is_gone, patiently, undecodable

logger = logging.getLogger(__name__)

T = TypeVar("T")

NEVER = timedelta(days=36_500)
"""Delay of the start of a blob's workflow."""

AT_ONCE = 8
"""RPCs of one upload, download or removal at the same time."""

EXTERNAL_AT = 4_000
"""Size from which a piece goes to the client's external storage, whatever the client has as its
threshold: that is about what passes by, and this lasts as long as the thread. A smaller one would
save nothing, because a reference is up to a kilobyte, and its object is never deleted."""

CACHE_BYTES = 64_000_000
"""Pieces of blobs a process keeps in memory."""


class BlobGoneError(Exception):
    """A blob is not there: it was removed after whoever refers to it was read."""


class BlobStore:
    """Blobs of one deployment; safe to use from several threads and loops.

    Args:
        client: The user's client. Its data converter, with codec and external storage, encodes
            all pieces.
        id_prefix: First part of all workflow ids.
        task_queue: Task queue of the workers; blobs have one of their own, derived from it, which
            nobody polls.

    Attributes:
        _prefix: ``id_prefix``.
        _cache: Pieces by digest, the longest unused first. Of whatever thread or scope: what has
            the same digest is the same.
        _cached: Their bytes.
        _held: Whole blobs by reference (``hold``).
        _lock: Guards these: savers are used from several OS threads.
    """

    def __init__(self, client: Client, id_prefix: str, task_queue: str) -> None:
        self._client = _offloading(client)
        self._prefix = id_prefix
        self._task_queue = names.blob_queue(task_queue)
        self._cache: OrderedDict[bytes, bytes] = OrderedDict()
        self._cached = 0
        self._held: dict[BlobRef, bytes] = {}
        self._lock = threading.Lock()

    @property
    def piece_bytes(self) -> int:
        """Size of a piece; larger when all of it is sure to go to external storage."""
        storage = self._client.data_converter.external_storage
        # A selector may leave a piece in Temporal, which refuses large ones.
        sure = storage is not None and storage.driver_selector is None
        return EXTERNAL_PIECE_BYTES if sure else PIECE_BYTES

    # -- writing ------------------------------------------------------------------------------

    def hold(self, uploads: Iterable[Upload]) -> None:
        """Make blobs readable here before they are stored."""
        with self._lock:
            self._held.update({u.ref: u.data for u in uploads})

    def release(self, uploads: Iterable[Upload]) -> None:
        """Undo ``hold``: they are stored, or will never be."""
        with self._lock:
            for upload in uploads:
                self._held.pop(upload.ref, None)

    async def upload(
        self, thread_id: str, uploads: Sequence[Upload], *, known: Container[bytes] = ()
    ) -> None:
        """Store blobs.

        Args:
            thread_id: The thread they belong to.
            uploads: The blobs.
            known: Pieces that are there already.

        Raises:
            StorageError: Naming the value, when Temporal or the external storage refuses it.
        """
        for upload in uploads:
            await _all(
                [
                    partial(self._store, thread_id, upload, name, data)
                    for name, data in upload.pieces()
                    if name not in known
                ]
            )
            for name, data in upload.pieces():
                self._remember(name, data)

    async def _store(self, thread_id: str, upload: Upload, name: bytes, data: bytes) -> None:
        workflow_id = names.blob_workflow_id(self._prefix, thread_id, upload.ref.scope, name)

        async def start() -> None:
            try:
                await self._client.start_workflow(
                    names.BLOB_WORKFLOW,
                    data,
                    id=workflow_id,
                    task_queue=self._task_queue,
                    start_delay=NEVER,
                    # One that is there has the same content. One that was deleted may be written
                    # anew: an archive may come to look as an earlier one did.
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                )
            except WorkflowAlreadyStartedError:
                return

        try:
            await patiently(start)
        except Exception as exc:
            raise StorageError(
                f"{upload.what} could not be stored ({upload.ref.size:,} bytes, kept outside the "
                f"thread's log): {exc}. Nothing of it was recorded and the thread is usable; "
                "repeat the call when the cause is gone."
            ) from exc

    # -- reading ------------------------------------------------------------------------------

    def local(self, ref: BlobRef) -> bytes | None:
        """The bytes, if this process has them in memory."""
        with self._lock:
            held = self._held.get(ref)
            if held is not None:
                return held
            pieces = [self._cache.get(name) for name in ref.pieces]
            if any(piece is None for piece in pieces):
                return None
            for name in ref.pieces:
                self._cache.move_to_end(name)
            return b"".join(piece for piece in pieces if piece is not None)

    async def fetch(self, thread_id: str, ref: BlobRef) -> bytes:
        """The bytes of a blob.

        Raises:
            BlobGoneError: It was removed.
            StorageError: It cannot be read.
            UnreadableError: Not with this client's payload codec and external storage.
        """
        data = self.local(ref)
        if data is not None:
            return data
        pieces = await _all(
            [partial(self._load, thread_id, ref.scope, name) for name in ref.pieces]
        )
        return b"".join(pieces)

    async def _load(self, thread_id: str, scope: str, name: bytes) -> bytes:
        with self._lock:
            known = self._cache.get(name)
        if known is not None:
            return known
        workflow_id = names.blob_workflow_id(self._prefix, thread_id, scope, name)
        request = GetWorkflowExecutionHistoryRequest(
            namespace=self._client.namespace,
            execution=WorkflowExecution(workflow_id=workflow_id),
            # The first event alone; a blob's workflow has no more until it is removed.
            maximum_page_size=1,
            history_event_filter_type=(HistoryEventFilterType.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT),
        )
        try:
            reply = await patiently(
                lambda: self._client.workflow_service.get_workflow_execution_history(
                    request, retry=True
                )
            )
        except RPCError as exc:
            if is_gone(exc):
                raise BlobGoneError(workflow_id) from exc
            raise StorageError(f"The blob {workflow_id} cannot be read: {exc}") from exc
        started = reply.history.events[0].workflow_execution_started_event_attributes
        converter = self._client.data_converter.with_context(
            WorkflowSerializationContext(namespace=self._client.namespace, workflow_id=workflow_id)
        )
        try:
            (data,) = await converter.decode(list(started.input.payloads), [bytes])
        except Exception as exc:
            raise undecodable(f"The blob {workflow_id}", exc) from exc
        # Whatever a codec, an external storage or somebody by hand has made of it.
        if digest(data) != name:
            raise StorageError(f"The blob {workflow_id} is damaged: its digest does not fit.")
        self._remember(name, data)
        return bytes(data)

    def _remember(self, name: bytes, data: bytes) -> None:
        with self._lock:
            if name in self._cache:
                self._cache.move_to_end(name)
                return
            self._cache[name] = data
            self._cached += len(data)
            while self._cached > CACHE_BYTES and len(self._cache) > 1:
                self._cached -= len(self._cache.popitem(last=False)[1])

    # -- removing -----------------------------------------------------------------------------

    async def remove(self, thread_id: str, refs: Iterable[BlobRef]) -> None:
        """Delete blobs from Temporal; those that are gone are no error."""
        pieces = {(ref.scope, name) for ref in refs for name in ref.pieces}
        await self._delete(
            names.blob_workflow_id(self._prefix, thread_id, scope, name)
            for scope, name in sorted(pieces)
        )

    async def sweep(self, thread_id: str, *, before: datetime) -> None:
        """Delete all blobs of a thread that visibility knows and that are older than ``before``.

        Finds what was uploaded but never referred to (its writer died in between).
        """
        # Not those of a thread of this name that was begun since.
        prefix = names.blob_workflow_prefix(self._prefix, thread_id)
        query = f"WorkflowId STARTS_WITH '{prefix}' AND StartTime < '{before.isoformat()}'"
        await self._delete([e.id async for e in self._client.list_workflows(query)])

    async def _delete(self, workflow_ids: Iterable[str]) -> None:
        await _all([partial(delete_execution, self._client, w) for w in workflow_ids])


def _offloading(client: Client) -> Client:
    """The client, with all blobs worth it in its external storage, if it has one."""
    converter = client.data_converter
    storage = converter.external_storage
    if storage is None or storage.payload_size_threshold <= EXTERNAL_AT:
        return client
    settings: dict[str, Any] = {
        **client.config(active_config=True),
        "data_converter": replace(
            converter, external_storage=replace(storage, payload_size_threshold=EXTERNAL_AT)
        ),
        # They have made it what it is, and would do so again.
        "plugins": [],
    }
    return Client(**settings)


async def delete_execution(client: Client, workflow_id: str, run_id: str = "") -> None:
    """Delete one execution, open or closed, with its history; one that is gone is no error."""
    request = DeleteWorkflowExecutionRequest(
        namespace=client.namespace,
        workflow_execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
    )
    try:
        await patiently(
            lambda: client.workflow_service.delete_workflow_execution(request, retry=True)
        )
    except RPCError as exc:
        if not is_gone(exc):
            raise


async def _all(calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """Make all calls, a few at a time; the first failure ends it."""
    # Of this call alone: a semaphore belongs to a loop, and stores are used from several.
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(call: Callable[[], Awaitable[T]]) -> T:
        async with limit:
            return await call()

    tasks = [asyncio.ensure_future(one(call)) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
