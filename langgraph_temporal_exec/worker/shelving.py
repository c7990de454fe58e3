"""Worker side: Activities that close nested namespaces which have ended, and open them again.

See ``workflow/core/closing.py`` for what is closed and when. Closing is two Activities, because a
workflow may end only when the thread has recorded where what it held is: ``close`` reads each
namespace, puts it on a shelf and returns where the shelves are; ``retire`` then has the workflows
end. Either may be repeated: the same content has the same name, and a workflow ends by itself, if
its log still is the one on the shelf.

**Shelves.** Namespaces are mostly small, and many, so a shelf holds many of them. What is new goes
on the last shelf, which is written anew with it, until that is full. The list of shelves has eight
bytes of each namespace. One that holds nothing goes on none, and its workflow ends all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from temporalio import activity
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError

from ..errors import NoWorkersError, ServerUnavailableError, TemporalExecError
from ..protocol import names
from ..protocol.blob import compress_shelf, decompress, is_on, shelf_key
from ..protocol.incarnation import Incarnation
from ..protocol.log import read_ops
from ..protocol.messages import (
    Closed,
    CloseReply,
    CloseRequest,
    ReadRequest,
    ReopenReply,
    ReopenRequest,
    RetireReply,
    RetireRequest,
    Snapshot,
)
from ..protocol.stored import BlobRef, Kept, OpKind, Pack, Shelf, Shelved, Shelves
from ..protocol.wire import pack, unpack
from ..storage import shelves
from ..storage.blobs import BlobGoneError
from ..storage.reader import Reader
from ..storage.rpc import is_gone, opaque_failures
from ..storage.thread_client import UNBOUNDED_CURSOR, Transport
from .upkeep import Work, pack_refs, refs_of_kept

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

SHELF_BYTES = 1_000_000
"""Bytes of namespaces on one shelf, before compression."""

SHELF_FULL_BYTES = 128_000
"""A shelf, compressed, to which nothing is added any more."""

LIST_INLINE_BYTES = 1_000
"""A list of shelves below this is carried in the workflow itself."""

REST_S = 20.0
"""How long a namespace may take to come to rest: an archive of it may be under way."""

END_S = 60.0
"""How long a workflow may take to end, before it is tried again later."""

SIGNAL_AGAIN_S = 5.0
"""A workflow forgets that it is to end when it continues as new."""

BEAT_S = 2.0
"""Pause between two heartbeats."""

AT_ONCE = 8
"""Namespaces that one Activity reads, or has end, at the same time."""

TRIES = 5
"""Readings of shelves that are replaced under the reader's eyes."""

SHELF, SHELF_LIST = "shelf", "shelves"
"""Scopes of the blobs that are written here. They are stored, so they keep their names."""


class Shelving:
    """The Activities; they run on the worker's loop.

    Args:
        transport: RPCs.
        reader: Reads and writes blobs.
    """

    def __init__(self, transport: Transport, reader: Reader) -> None:
        self._transport = transport
        self._reader = reader

    # -- close --------------------------------------------------------------------------------

    @activity.defn(name=names.CLOSE_ACTIVITY)
    @opaque_failures()
    async def close(self, data: bytes) -> bytes:
        """Put namespaces on shelves, and drop others from them."""
        async with _beating():
            return await self._close(unpack(CloseRequest, data))

    async def _close(self, request: CloseRequest) -> bytes:
        found = await _each(request.namespaces, lambda ns: self._at_rest(request.thread_id, ns))
        gone = tuple(n for n, f in zip(request.namespaces, found, strict=True) if f is None)
        kept = [f for f in found if isinstance(f, Kept)]
        listed, garbage = await self._shelve(request, [k for k in kept if not _is_void(k)])
        return pack(
            CloseReply(shelves=listed, closed=tuple(map(_closed, kept)), gone=gone, garbage=garbage)
        )

    async def _at_rest(self, thread_id: str, namespace: str) -> Kept | bool | None:
        """A namespace as its workflow has it; ``None``: there is none; ``False``: it is busy, or
        nobody can read it."""
        workflow_id = self._transport.thread_workflow_id(thread_id, namespace)
        loop = asyncio.get_running_loop()
        until = loop.time() + REST_S
        while True:
            try:
                reply = await self._transport.read_workflow(
                    workflow_id, ReadRequest(cursor=UNBOUNDED_CURSOR, closing=True)
                )
            except ServerUnavailableError:
                raise
            except TemporalExecError as exc:
                # It must not keep others from being closed.
                logger.warning("namespace %r cannot be closed: %s", namespace, exc)
                return False
            if reply is None:
                return None
            if reply.snapshot:
                life = Incarnation.parse(reply.page.incarnation).life
                return Kept(namespace=namespace, life=life, snapshot=reply.snapshot)
            if loop.time() > until:
                return False
            await asyncio.sleep(0.5)

    async def _shelve(
        self, request: CloseRequest, new: Sequence[Kept]
    ) -> tuple[Pack | None, BlobRef | None]:
        """Where shelves are with the changes, and what is not needed any more."""
        thread_id, blobs = request.thread_id, self._reader.blobs
        before = await shelves.listed(blobs, thread_id, request.shelves)
        # An earlier form of a namespace that was opened again since goes as well.
        out = {*request.forget, *(kept.namespace for kept in new)}
        keys = {shelf_key(ns) for ns in out}
        touched = [s for s in before if any(is_on(s.keys, key) for key in keys)]
        if new and before and before[-1].ref.size < SHELF_FULL_BYTES and before[-1] not in touched:
            touched.append(before[-1])
        left: list[Kept] = []
        old: list[BlobRef] = []
        for shelved in touched:
            for kept in await shelves.content(blobs, thread_id, shelved.ref):
                if kept.namespace not in out:
                    left.append(kept)
                elif kept.namespace in request.forget:
                    old += await refs_of_kept(self._reader, thread_id, kept)
        if not touched and not new:
            return request.shelves, None
        work = Work(self._reader, thread_id)
        after = [s for s in before if s not in touched]
        for part in _parts([*left, *new]):
            packed = await work.store(compress_shelf(Shelf(kept=tuple(part))), SHELF)
            assert packed.ref is not None
            part_keys = b"".join(shelf_key(kept.namespace) for kept in part)
            after.append(Shelved(ref=packed.ref, keys=part_keys))
        listed = await self._list(after, work)
        old += [s.ref for s in touched] + pack_refs(request.shelves)
        return listed, await work.garbage(old, [s.ref for s in after] + pack_refs(listed))

    async def _list(self, after: Sequence[Shelved], work: Work) -> Pack | None:
        if not after:
            return None
        data = compress_shelf(Shelves(shelves=tuple(after)))
        if len(data) <= LIST_INLINE_BYTES:
            return Pack(data=data)
        return await work.store(data, SHELF_LIST)

    # -- retire -------------------------------------------------------------------------------

    @activity.defn(name=names.RETIRE_ACTIVITY)
    @opaque_failures()
    async def retire(self, data: bytes) -> bytes:
        """Have the workflows of namespaces end that are on shelves as they are."""
        request = unpack(RetireRequest, data)
        async with _beating():
            ended = await _each(request.closed, lambda c: self._end_in_time(request, c))
        told = list(zip((c.namespace for c in request.closed), ended, strict=True))
        return pack(
            RetireReply(
                changed=tuple(ns for ns, end in told if end is False),
                left=tuple(ns for ns, end in told if end is None),
            )
        )

    async def _end_in_time(self, request: RetireRequest, closed: Closed) -> bool | None:
        """As ``_end``; ``None``: it does neither, because no worker takes it on, for example."""
        try:
            async with asyncio.timeout(END_S):
                return await self._end(request, closed)
        except (TimeoutError, NoWorkersError):
            logger.warning("the workflow of namespace %r does not end", closed.namespace)
            return None

    async def _end(self, request: RetireRequest, closed: Closed) -> bool:
        """Whether the workflow of a namespace has ended; if not, it was written to."""
        workflow_id = self._transport.thread_workflow_id(request.thread_id, closed.namespace)
        handle = self._transport.client.get_workflow_handle(workflow_id)
        loop = asyncio.get_running_loop()
        pause_s, signalled = 0.02, -SIGNAL_AGAIN_S
        while True:
            try:
                if (await handle.describe()).status != WorkflowExecutionStatus.RUNNING:
                    return True
                if loop.time() > signalled + SIGNAL_AGAIN_S:
                    as_kept = [closed.incarnation, closed.base, closed.end, request.at]
                    await handle.signal(names.RETIRE_SIGNAL, args=as_kept)
                    signalled = loop.time()
                elif await self._has_changed(workflow_id, closed):
                    return False
            except RPCError as exc:
                if is_gone(exc):
                    return True
                raise
            await asyncio.sleep(pause_s)
            pause_s = min(1.0, 2 * pause_s)

    async def _has_changed(self, workflow_id: str, closed: Closed) -> bool:
        """Whether the log of a namespace is another than the one on the shelf, for good."""
        reply = await self._transport.read_workflow(
            workflow_id, ReadRequest(cursor=UNBOUNDED_CURSOR, closing=True)
        )
        if reply is None or not reply.snapshot:
            return False
        life = Incarnation.parse(reply.page.incarnation).life
        now = _closed(Kept(namespace=closed.namespace, life=life, snapshot=reply.snapshot))
        return now != closed

    # -- open again ---------------------------------------------------------------------------

    @activity.defn(name=names.REOPEN_ACTIVITY)
    @opaque_failures()
    async def reopen(self, data: bytes) -> bytes:
        """What a shelf holds of a namespace."""
        async with _beating():
            return pack(ReopenReply(kept=await self._find(unpack(ReopenRequest, data))))

    async def _find(self, request: ReopenRequest) -> Kept | None:
        listed: Pack | None = request.shelves
        for left in reversed(range(TRIES)):
            try:
                return await shelves.find(
                    self._reader.blobs, request.thread_id, listed, request.namespace
                )
            except BlobGoneError:
                if not left:
                    raise
                # Replaced since it was asked for.
                reply = await self._transport.read(
                    request.thread_id, "", ReadRequest(cursor=UNBOUNDED_CURSOR)
                )
                listed = reply.shelves if reply is not None else None
        return None


@contextlib.asynccontextmanager
async def _beating() -> AsyncIterator[None]:
    """Around an Activity: whoever waits for it learns soon that its worker has died."""

    async def beat() -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(BEAT_S)

    beats = asyncio.create_task(beat())
    try:
        yield
    finally:
        beats.cancel()


def _is_void(kept: Kept) -> bool:
    """Whether a namespace was opened by whoever dropped checkpoints of it, and holds nothing.

    It was dropped itself after they had read it. On a shelf it would be for ever: it belongs to no
    checkpoint with which it could go. If an attempt was fenced from it, that is not forgotten.
    """
    state = unpack(Snapshot, kept.snapshot)
    if state.epoch or state.segments:
        return False
    # After a compaction there is a head, with nothing in it.
    head = state.head
    summed_up = head is not None and (head.ref is not None or bool(decompress(head.data)))
    return not summed_up and all(op.kind == OpKind.DROP for op in read_ops(state.log))


def _closed(kept: Kept) -> Closed:
    state = unpack(Snapshot, kept.snapshot)
    return Closed(
        namespace=kept.namespace,
        incarnation=str(Incarnation(life=kept.life, generation=state.generation)),
        base=state.base,
        end=state.base + len(state.log),
    )


def _parts(kept: Iterable[Kept]) -> list[list[Kept]]:
    """What goes on one shelf each."""
    parts: list[list[Kept]] = []
    size = 0
    for one in kept:
        if not parts or size + len(one.snapshot) > SHELF_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(one)
        size += len(one.snapshot)
    return parts


async def _each(items: Sequence[T], do: Callable[[T], Awaitable[R]]) -> list[R]:
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(item: T) -> R:
        async with limit:
            return await do(item)

    return list(await asyncio.gather(*(one(item) for item in items)))
