"""Worker side: Activities that keep the log of a thread small: archive, discard, erase."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from temporalio import activity
from temporalio.client import WorkflowExecutionStatus
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.service import RPCError

from ..errors import UnreadableError
from ..protocol import names
from ..protocol.blob import (
    BLOB_AT,
    PIECE_BYTES,
    SHARED_PIECE_BYTES,
    SHARED_PIECES_UP_TO,
    Upload,
    compress,
    compress_segments,
    plan,
)
from ..protocol.log import OFF_CHANNEL, Log, blobs_of, parts_of, read_ops, self_contained
from ..protocol.messages import (
    ArchiveReply,
    ArchiveRequest,
    DiscardRequest,
    EraseRequest,
    LogPage,
    ReadRequest,
)
from ..protocol.stored import (
    BlobList,
    BlobRef,
    Kept,
    Op,
    OpKind,
    Pack,
    Segment,
    Value,
)
from ..protocol.wire import pack, unpack
from ..storage import shelves
from ..storage.blobs import BlobGoneError
from ..storage.reader import Reader
from ..storage.resolver import Resolver, UnknownBaseError
from ..storage.rpc import is_gone, opaque_failures
from ..storage.thread_client import Transport

HEAD_INLINE_BYTES = 30_000
"""A head pack below this is carried in the workflow itself."""

PARKED_HEAD_BYTES = 2_000
"""The same of a thread that is parked; hardly more than what a blob costs by itself."""

FAN_OUT = 64
"""Archives of one level before they are summed up in one of the next level."""

SEGMENT_BYTES = 400_000
"""Ops in one archive, before compression."""

CHILD_WAIT_S = 120.0

DISCARD_S = 150.0
"""Less than the timeout of the Activity."""

ERASE_TRIES = 5
"""How often an external storage is asked for what a deleted thread had; a quarter of a minute."""

ARCHIVE, HEAD, COMPACTED, GARBAGE = "archive", "head", "thin", "garbage"
"""Scopes of the blobs that are written here. They are stored, so they keep their names."""


@dataclass
class _Contents:
    """A log as the workflow has it now."""

    page: LogPage
    raw: list[bytes]
    ops: list[Op]
    head: list[Op] = field(default_factory=list)


class _MissingError(Exception):
    """A value needs a blob that is not in memory."""


MAX_ARCHIVING = 4
"""Logs that one process archives at once: it reads them into memory."""


class Upkeep:
    """The Activities; they run on the worker's loop.

    Args:
        transport: RPCs.
        reader: Reads logs and blobs.
    """

    def __init__(self, transport: Transport, reader: Reader) -> None:
        self._transport = transport
        self._reader = reader
        self._archiving = asyncio.Semaphore(MAX_ARCHIVING)

    # -- archive ------------------------------------------------------------------------------

    @activity.defn(name=names.ARCHIVE_ACTIVITY)
    @opaque_failures()
    async def archive(self, data: bytes) -> bytes:
        """Move a log into archives, and sum up what its latest checkpoint needs."""
        async with self._archiving:
            return await self._archive(data)

    async def _archive(self, data: bytes) -> bytes:
        request = unpack(ArchiveRequest, data)
        contents = await self._contents(request)
        work = Work(self._reader, request.thread_id)
        reply = await (
            self._compact(request, contents, work)
            if request.compact
            else self._move(request, contents, work)
        )
        return pack(reply)

    async def _contents(self, request: ArchiveRequest) -> _Contents:
        first: LogPage | None = None
        raw: list[bytes] = []
        incarnation, cursor = "", 0
        while True:
            reply = await self._transport.read_workflow(
                request.workflow_id, ReadRequest(incarnation=incarnation, cursor=cursor)
            )
            page = reply.page if reply is not None else None
            if page is None or (first is None and page.start != request.base):
                # Part of normal operation: the workflow has continued as new meanwhile.
                raise ApplicationError(
                    "The log has changed since this was asked for.",
                    non_retryable=True,
                    category=ApplicationErrorCategory.BENIGN,
                )
            first = first or page
            raw += page.ops
            incarnation, cursor = page.incarnation, page.start + len(page.ops)
            if not page.more or cursor >= request.end:
                break
        raw = raw[: request.end - request.base]
        ops = await self._reader.whole(request.thread_id, raw)
        head = (
            await self._reader.unpack(request.thread_id, first.head)
            if first.head is not None
            else []
        )
        return _Contents(page=first, raw=raw, ops=ops, head=head)

    async def _move(self, request: ArchiveRequest, contents: _Contents, work: Work) -> ArchiveReply:
        try:
            if _lacks_archives(contents):
                raise UnknownBaseError
            ops = [*contents.head, *contents.ops]
            work.learn(ops)
            packed_head, head_refs = await self._head(Log.of(ops).head(), request, contents, work)
        except UnknownBaseError:
            # What the head needs, or builds on, is in the archives only.
            archived = await self._reader.segments(request.thread_id, contents.page.segments)
            ops = [op for segment in archived for op in segment] + contents.ops
            work = Work(self._reader, request.thread_id)
            work.learn(ops)
            packed_head, head_refs = await self._head(Log.of(ops).head(), request, contents, work)
        segments = list(contents.page.segments)
        if contents.raw:
            stored = await work.store(compress(contents.raw), ARCHIVE)
            segments.append(Segment(first=request.base, end=request.end, pack=stored))
        merged = await self._merged(segments, work)
        old = refs_of(contents.head, (HEAD,)) + pack_refs(contents.page.head)
        garbage = await work.garbage(old, head_refs)
        return ArchiveReply(segments=merged, head=packed_head, garbage=garbage)

    async def _compact(
        self, request: ArchiveRequest, contents: _Contents, work: Work
    ) -> ArchiveReply:
        """Rewrite everything without what was dropped."""
        flat = await self._reader.flat(request.thread_id, contents.page.segments)
        archived = await self._reader.segments(request.thread_id, flat)
        ops = [op for segment in archived for op in segment] + contents.ops
        work.learn(ops)
        kept = await work.self_contained(Log.of(ops).compacted(), COMPACTED, known=())
        segments = [
            Segment(
                first=0 if i == 0 else request.end,
                end=request.end,
                pack=await work.store(compress(chunk), ARCHIVE),
            )
            for i, chunk in enumerate(_chunks(kept))
        ]
        whole = await self._reader.whole(request.thread_id, kept)
        work = Work(self._reader, request.thread_id)
        work.learn(whole)
        packed_head, head_refs = await self._head(Log.of(whole).head(), request, contents, work)
        merged = await self._merged(segments, work)
        old = refs_of([*ops, *contents.head]) + pack_refs(contents.page.head)
        old += [s.pack.ref for s in (*flat, *contents.page.segments) if s.pack.ref]
        new = refs_of(whole) + head_refs + [s.pack.ref for s in (*segments, *merged) if s.pack.ref]
        garbage = await work.garbage(old, new)
        return ArchiveReply(segments=merged, head=packed_head, garbage=garbage)

    async def _head(
        self, head: Sequence[Op], request: ArchiveRequest, contents: _Contents, work: Work
    ) -> tuple[Pack, list[BlobRef]]:
        known = {name for ref in refs_of(contents.head, (HEAD,)) for name in ref.pieces}
        kept = await work.self_contained(head, HEAD, known=known)
        data = compress(kept)
        inline = PARKED_HEAD_BYTES if request.park else HEAD_INLINE_BYTES
        packed = Pack(data=data) if len(data) <= inline else await work.store(data, HEAD)
        return packed, refs_of(read_ops(kept), (HEAD,)) + pack_refs(packed)

    async def _merged(self, segments: list[Segment], work: Work) -> tuple[Segment, ...]:
        """Sum up archives, so that their number stays bounded."""
        level = 0
        while True:
            start = len(segments)
            while start and segments[start - 1].pack.level == level:
                start -= 1
            tail = segments[start:]
            if len(tail) < FAN_OUT:
                return tuple(segments)
            level += 1
            packed = await work.store(compress_segments(tail), ARCHIVE, level=level)
            merged = Segment(first=tail[0].first, end=tail[-1].end, pack=packed)
            segments = [*segments[:start], merged]

    # -- removal ------------------------------------------------------------------------------

    @activity.defn(name=names.DISCARD_ACTIVITY)
    @opaque_failures()
    async def discard(self, data: bytes) -> None:
        """Remove blobs nothing refers to any more."""
        request = unpack(DiscardRequest, data)
        # It must not go on when the workflow has given it up: a blob may be written again then.
        async with asyncio.timeout(DISCARD_S):
            await self._discard(request)

    async def _discard(self, request: DiscardRequest) -> None:
        blobs = self._reader.blobs
        with contextlib.suppress(BlobGoneError):
            listed = await blobs.fetch(request.thread_id, request.garbage)
            await blobs.remove(request.thread_id, unpack(BlobList, listed).refs)
            await blobs.remove(request.thread_id, [request.garbage])

    @activity.defn(name=names.ERASE_ACTIVITY)
    @opaque_failures()
    async def erase(self, data: bytes) -> None:
        """Remove all that a deleted thread or namespace keeps outside its history."""
        request = unpack(EraseRequest, data)
        thread_id = request.thread_id
        blobs = self._reader.blobs
        refs, opened = await self._readable_refs(request)
        await blobs.remove(thread_id, refs)
        if request.namespace:
            return
        await asyncio.gather(*(self._closed(thread_id, ns) for ns in opened))
        await blobs.sweep(thread_id, before=datetime.fromtimestamp(request.deleted_s, UTC))

    async def _readable_refs(self, request: EraseRequest) -> tuple[list[BlobRef], list[str]]:
        try:
            return await self._all_refs(request)
        except UnreadableError:
            # An external storage may have lost for ever what says which blobs there are. Then
            # those go that visibility knows.
            if activity.info().attempt < ERASE_TRIES:
                raise
            return [], []

    async def _all_refs(self, request: EraseRequest) -> tuple[list[BlobRef], list[str]]:
        refs: list[BlobRef] = []
        opened: dict[str, None] = {}
        incarnation, cursor = "", 0
        more = True
        while more:
            reply = await self._transport.read_workflow(
                request.workflow_id,
                ReadRequest(incarnation=incarnation, cursor=cursor, erasing=True),
            )
            if reply is None:
                break
            page = reply.page
            found, named = await refs_of_page(self._reader, request.thread_id, page)
            refs += found
            opened.update(dict.fromkeys(named))
            if reply.shelves is not None and not page.more:
                refs += await refs_of_shelves(self._reader, request.thread_id, reply.shelves)
            incarnation, cursor = page.incarnation, page.start + len(page.ops)
            more = page.more
        return refs, list(opened)

    async def _closed(self, thread_id: str, namespace: str) -> None:
        """Wait until a nested namespace has ended; end it if it does not."""
        workflow_id = self._transport.thread_workflow_id(thread_id, namespace)
        handle = self._transport.client.get_workflow_handle(workflow_id)
        deadline = asyncio.get_running_loop().time() + CHILD_WAIT_S
        try:
            # Its parent's signal may have been lost with a namespace that is not remembered.
            await handle.signal(names.DELETE_SIGNAL)
            while (await handle.describe()).status == WorkflowExecutionStatus.RUNNING:
                if asyncio.get_running_loop().time() > deadline:
                    await handle.terminate(reason="the thread was deleted")
                await asyncio.sleep(0.1)
        except RPCError as exc:
            if not is_gone(exc):
                raise


class Work:
    """Values and blobs of one Activity.

    Args:
        reader: Reads and writes blobs.
        thread_id: The thread they belong to.
    """

    def __init__(self, reader: Reader, thread_id: str) -> None:
        self._reader = reader
        self._blobs = reader.blobs
        self._thread_id = thread_id
        self._resolver = Resolver(reader.blobs)

    def learn(self, ops: Iterable[Op]) -> None:
        """Ops whose values others build on."""
        for op in ops:
            self._resolver.learn(parts_of(op))

    async def store(self, data: bytes, scope: str, *, level: int = 0) -> Pack:
        """Bytes as a pack in a blob."""
        upload = plan(data, scope=scope, what="an archive", piece_bytes=self._blobs.piece_bytes)
        await self._blobs.upload(self._thread_id, [upload])
        return Pack(ref=upload.ref, level=level)

    async def self_contained(
        self, ops: Sequence[Op], scope: str, *, known: Iterable[bytes]
    ) -> list[bytes]:
        """See ``protocol.log.self_contained``; large values go into blobs of ``scope``."""
        held: list[Upload] = []
        try:
            uploads: list[Upload] = []
            while True:
                uploads.clear()
                try:
                    result = self_contained(
                        ops, self._whole, lambda v, d: self._place(v, d, scope, uploads)
                    )
                except _MissingError:
                    held += await self._hold()
                    continue
                await self._blobs.upload(self._thread_id, uploads, known=frozenset(known))
                return result
        finally:
            self._blobs.release(held)

    async def _hold(self) -> list[Upload]:
        missing = list(self._resolver.missing)
        self._resolver.missing.clear()
        held = [
            Upload(
                ref=ref,
                data=await self._blobs.fetch(self._thread_id, ref),
                what="",
            )
            for ref in missing
        ]
        self._blobs.hold(held)
        return held

    def _whole(self, value: Value) -> bytes:
        data = self._resolver.whole(value)
        if data is None:
            raise _MissingError
        return data

    def _place(self, value: Value, data: bytes, scope: str, uploads: list[Upload]) -> Value:
        plain = Value(
            channel=value.channel,
            key=value.key,
            type=value.type,
            data=data,
            digest=value.digest,
        )
        if value.channel == OFF_CHANNEL or len(data) < BLOB_AT:
            return plain
        # Also with external storage: nobody deletes what is replaced there.
        piece = SHARED_PIECE_BYTES if len(data) <= SHARED_PIECES_UP_TO else PIECE_BYTES
        upload = plan(data, scope=scope, what=f"channel {value.channel!r}", piece_bytes=piece)
        uploads.append(upload)
        return Value(
            channel=value.channel,
            key=value.key,
            type=value.type,
            data=b"",
            digest=value.digest,
            blob=upload.ref,
        )

    async def garbage(self, old: Iterable[BlobRef], new: Iterable[BlobRef]) -> BlobRef | None:
        """A blob that lists the pieces of ``old`` that are not in ``new``, if there are any."""
        kept = {(ref.scope, name) for ref in new for name in ref.pieces}
        gone: dict[str, dict[bytes, None]] = {}
        for ref in old:
            for name in ref.pieces:
                if (ref.scope, name) not in kept:
                    gone.setdefault(ref.scope, {})[name] = None
        if not gone:
            return None
        refs = tuple(BlobRef(size=0, scope=s, pieces=tuple(p), piece=0) for s, p in gone.items())
        packed = await self.store(pack(BlobList(refs=refs)), GARBAGE)
        return packed.ref


async def refs_of_page(
    reader: Reader, thread_id: str, page: LogPage
) -> tuple[list[BlobRef], list[str]]:
    """All blobs of a page and of the archives before it, and the namespaces it names."""
    refs = pack_refs(page.head)
    ops: list[Op] = []
    # A second try finds some of them gone.
    with contextlib.suppress(BlobGoneError):
        ops += await reader.whole(thread_id, page.ops)
        flat = await reader.flat(thread_id, page.segments)
        refs += [s.pack.ref for s in (*flat, *page.segments) if s.pack.ref]
        for segment in await reader.segments(thread_id, flat):
            ops += segment
        if page.head is not None:
            ops += await reader.unpack(thread_id, page.head)
    refs += refs_of(ops)
    return refs, [name for op in ops for name in op.opened]


async def refs_of_kept(reader: Reader, thread_id: str, kept: Kept) -> list[BlobRef]:
    """All blobs of a closed namespace."""
    refs: list[BlobRef] = []
    incarnation, cursor, more = "", 0, True
    while more:
        page = shelves.read(kept, ReadRequest(incarnation=incarnation, cursor=cursor)).page
        refs += (await refs_of_page(reader, thread_id, page))[0]
        incarnation, cursor, more = page.incarnation, page.start + len(page.ops), page.more
    return refs


async def refs_of_shelves(reader: Reader, thread_id: str, listed: Pack) -> list[BlobRef]:
    """All blobs of all closed namespaces, and those they are kept in."""
    refs = pack_refs(listed)
    with contextlib.suppress(BlobGoneError):
        for shelved in await shelves.listed(reader.blobs, thread_id, listed):
            refs.append(shelved.ref)
            for kept in await shelves.content(reader.blobs, thread_id, shelved.ref):
                refs += await refs_of_kept(reader, thread_id, kept)
    return refs


def _lacks_archives(contents: _Contents) -> bool:
    """Whether what the latest checkpoint needs is in the archives only.

    It was dropped, so that an older one is the latest; or it descends from an older one.
    """
    log = Log.of([*contents.head, *contents.ops])
    before, live = Log.of(contents.head).live, log.live
    if before and (not live or live[-1] < before[-1]):
        return True
    if not live or not contents.page.segments:
        return False
    line = {op.checkpoint_id for op in log.ancestors(live[-1])}
    in_head = {op.checkpoint_id for op in contents.head if op.kind == OpKind.PUT}
    # It is complete for what descends from its latest, not for what branches off before.
    branched = bool(before) and before[-1] not in line and bool(line & in_head)
    return branched or log.lacks(live[-1])


def refs_of(ops: Iterable[Op], scopes: Sequence[str] = ()) -> list[BlobRef]:
    """Blobs that ops refer to by themselves."""
    return [r for op in ops for r in blobs_of(op) if not scopes or r.scope in scopes]


def pack_refs(packed: Pack | None) -> list[BlobRef]:
    """The blob of a pack, if it is in one."""
    return [packed.ref] if packed is not None and packed.ref is not None else []


def _chunks(ops: Sequence[bytes]) -> list[list[bytes]]:
    """What goes into one archive each; no ops need none."""
    chunks: list[list[bytes]] = []
    size = 0
    for op in ops:
        if not chunks or size + len(op) > SEGMENT_BYTES:
            chunks.append([])
            size = 0
        chunks[-1].append(op)
        size += len(op)
    return chunks
