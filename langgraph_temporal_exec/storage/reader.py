"""Shared: brings a process's view of a thread up to date and answers questions from it.

**What it models.** A ``Replica`` is what is known; a reader is who fetches what is missing. It has
no memory of its own. Four things can be fetched:

- *Pages* of a log: by Query, from the worker that has the workflow, or from the workflow's history
  when none answers. A Query that no worker takes fails only when its time is up
  (temporalio/temporal#5252), so ``HistoryReader.or_worker`` sends none where nobody polls, and
  else has both ways race. Lists read histories first (``of_histories``).
- *Archives* and the head: packs, inline or in blobs. A pack of a higher level lists archives.
- *Blobs*: large values, and bodies of large ops. They need no worker.
- *Shelves*: nested namespaces that are closed. They are asked when a namespace has no workflow.

**How much is read.** A cold process reads the latest part only: the head (what the latest
checkpoint needs of the archives) and the log behind it, which moves into an archive at 256 kB.
Archives are read when a question needs them: ``Store`` asks ``Replica.lacks`` first, and
a value whose base is not known raises ``UnknownBaseError``. A process that has read the thread
before reads what is new. If that has moved into archives meanwhile, it reads up to ``MAX_GAP`` of
them and goes on (``_without_gap``); beyond that the head is cheaper. Of a history all events of
the workflow's latest run are read: its input holds what was carried over from the one before.

**What is retried.** Everything is read while others write. What makes a reading start over::

    seen here            because                             what follows
    page does not fit    the replica was emptied since it    the next page, from the position that
                         was asked for                       is right now
    blob of a page gone  the head, or an archive in the gap, the next page
                         was replaced
    archive gone         archives were compacted             all is forgotten and read again
    blob of a value gone likewise                            all is forgotten, and the namespace
                                                             is read whole
    base not known       the namespace is partial            its archives are read

Each of them at most ``TRIES`` times; then it is a ``StorageError``, whose remedy is to read again.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence
from typing import Self, TypeVar

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from temporalio.service import RPCError

from ..errors import StorageError
from ..protocol.blob import Upload, decompress, decompress_segments
from ..protocol.log import read_ops
from ..protocol.messages import LogPage, ReadReply, ReadRequest
from ..protocol.stored import BlobRef, Op, Pack, Segment
from ..values.ops import with_body
from . import shelves
from .blobs import BlobGoneError, BlobStore
from .history import HistoryReader
from .replica import MissingBlobsError, Replica
from .resolver import UnknownBaseError
from .thread_client import UNBOUNDED_CURSOR, Transport

T = TypeVar("T")

TRIES = 5
"""Reads of a thread whose archives are rewritten under the reader's eyes."""

AT_ONCE = 8
"""Blobs that one reading fetches at the same time."""

MAX_GAP = 8
"""Archives read to go on from where reading stopped; beyond, it starts over at the head."""


class Reader:
    """Reads threads of one deployment.

    Args:
        transport: For Queries to workers.
        blobs: For archives and large values.
        history: For reading without workers.

    Attributes:
        _histories_first: This copy spares the workers; see ``of_histories``.
    """

    def __init__(self, transport: Transport, blobs: BlobStore, history: HistoryReader) -> None:
        self._transport = transport
        self.blobs = blobs
        self._history = history
        self._histories_first = False

    def of_histories(self) -> Self:
        """A copy that reads histories and spares the workers, for reading many threads.

        A worker that does not have a thread in its cache replays its workflow before it answers,
        which takes more than ten times the work of folding its history, and drops another thread
        from the cache.
        """
        twin = copy.copy(self)
        twin._histories_first = True
        return twin

    # -- asking -------------------------------------------------------------------------------

    async def answer(
        self,
        replica: Replica,
        serde: SerializerProtocol,
        question: Callable[[BaseCheckpointSaver[str]], T],
        *,
        checkpoint_ns: str,
        hidden: bool = False,
    ) -> T:
        """Answer a question about one namespace, fetching what it needs; see ``Replica.ask``.

        Raises:
            StorageError: Part of the thread cannot be read.
        """
        # What was fetched must stay in memory until the question is answered: the cache may be
        # smaller than all that one answer needs.
        held: list[Upload] = []
        tries = 0
        try:
            while tries < TRIES:
                try:
                    return replica.ask(serde, question, checkpoint_ns=checkpoint_ns, hidden=hidden)
                except MissingBlobsError as exc:
                    # No try: each time it has more of what it needs.
                    try:
                        held += await self._hold(replica.thread_id, exc.refs)
                    except BlobGoneError:
                        tries += 1
                        replica.forget()
                        # All of it: the question may be about more than the head.
                        await self.refresh_all(replica, checkpoint_ns)
                except UnknownBaseError:
                    tries += 1
                    if not await self.load_older(replica, checkpoint_ns):
                        break
        finally:
            self.blobs.release(held)
        raise StorageError(
            f"Thread {replica.thread_id!r} refers to values that are not there any more "
            f"(namespace {checkpoint_ns!r}). If it was being pruned, read it again."
        )

    async def _hold(self, thread_id: str, refs: set[BlobRef]) -> list[Upload]:
        """Fetch blobs and keep them in memory until they are released."""
        fetched = await self._fetch_all(thread_id, list(refs))
        held = [
            Upload(ref=ref, data=data, what="") for ref, data in zip(refs, fetched, strict=True)
        ]
        self.blobs.hold(held)
        return held

    async def _fetch_all(self, thread_id: str, refs: Sequence[BlobRef]) -> list[bytes]:
        limit = asyncio.Semaphore(AT_ONCE)

        async def fetch(ref: BlobRef) -> bytes:
            async with limit:
                return await self.blobs.fetch(thread_id, ref)

        return list(await asyncio.gather(*(fetch(ref) for ref in refs)))

    # -- reading ------------------------------------------------------------------------------

    async def refresh(
        self, replica: Replica, checkpoint_ns: str, *, runs: bool = False
    ) -> ReadReply | None:
        """Read what is new in a namespace.

        Args:
            replica: The thread as far as it was read.
            checkpoint_ns: The namespace.
            runs: Name the thread's runs as well.

        Returns:
            The last reply, whose page was the last one; ``None`` when it does not exist.
        """
        tries = 0
        while tries < TRIES:
            incarnation, cursor = replica.position(checkpoint_ns)
            request = ReadRequest(incarnation=incarnation, cursor=cursor, runs=runs)
            reply = await self.read(replica.thread_id, checkpoint_ns, request)
            if reply is None:
                return None
            try:
                fits = await self.absorb(replica, checkpoint_ns, reply.page, reply.namespaces)
            except BlobGoneError:
                tries += 1
                continue
            if fits and not reply.page.more:
                return reply
            # A page that fits is progress; a long log has as many as it has.
            tries += not fits
        raise self._too_fast(replica.thread_id, checkpoint_ns)

    def _too_fast(self, thread_id: str, checkpoint_ns: str) -> StorageError:
        return StorageError(
            f"Thread {thread_id!r} (namespace {checkpoint_ns!r}) changes faster than it can be "
            "read; read it again."
        )

    async def read(
        self, thread_id: str, checkpoint_ns: str, request: ReadRequest
    ) -> ReadReply | None:
        """One page, from a worker or, when none answers, from history; ``None``: no such thread.

        Raises:
            ServerUnavailableError: Temporal does not answer.
        """
        workflow_id = self._transport.thread_workflow_id(thread_id, checkpoint_ns)
        # A worker would answer for a closed workflow as well, but replay all of it each time.
        if not checkpoint_ns or not await self._has_completed(workflow_id):
            first = (
                self._history.before_worker if self._histories_first else self._history.or_worker
            )
            reply = await first(
                workflow_id,
                request,
                lambda: self._transport.read(thread_id, checkpoint_ns, request),
            )
            if reply is not None or not checkpoint_ns:
                return reply
        return await self._shelved(
            thread_id, checkpoint_ns, request, lambda asked: self.read(thread_id, "", asked)
        )

    async def recorded(
        self, thread_id: str, checkpoint_ns: str, request: ReadRequest
    ) -> ReadReply | None:
        """One page from history, also if a worker could be asked; ``None``: no such thread.

        A worker that does not have the thread in its cache replays its workflow before it
        answers, which takes more than ten times the work of folding its history.
        """
        workflow_id = self._transport.thread_workflow_id(thread_id, checkpoint_ns)
        reply = await self._history.read(workflow_id, request)
        if reply is not None or not checkpoint_ns:
            return reply
        return await self._shelved(
            thread_id, checkpoint_ns, request, lambda asked: self.recorded(thread_id, "", asked)
        )

    async def _has_completed(self, workflow_id: str) -> bool:
        try:
            return await self._transport.has_completed(workflow_id)
        except (RPCError, RuntimeError):
            # Whoever asks next says so in our words.
            return False

    async def _shelved(
        self,
        thread_id: str,
        checkpoint_ns: str,
        request: ReadRequest,
        read: Callable[[ReadRequest], Awaitable[ReadReply | None]],
    ) -> ReadReply | None:
        """One page of a namespace that was closed; ``None``: it was not.

        Args:
            thread_id: The thread.
            checkpoint_ns: The namespace.
            request: What is asked for.
            read: Reads the thread itself.
        """
        for _ in range(TRIES):
            thread = await read(ReadRequest(cursor=UNBOUNDED_CURSOR))
            if thread is None or checkpoint_ns in thread.forgotten:
                return None
            try:
                kept = await shelves.find(self.blobs, thread_id, thread.shelves, checkpoint_ns)
            except BlobGoneError:
                continue
            return None if kept is None else shelves.read(kept, request)
        raise self._too_fast(thread_id, checkpoint_ns)

    async def absorb(
        self, replica: Replica, checkpoint_ns: str, page: LogPage, namespaces: Sequence[str]
    ) -> bool:
        """Fold a page; see ``Replica.absorb``."""
        # Decoded and fetched without the replica's lock: it may change meanwhile, and refuses what
        # does not fit any more.
        page = await self._without_gap(replica, checkpoint_ns, page)
        head = [] if page.head is None else await self.unpack(replica.thread_id, page.head)
        first, unread = replica.unread(checkpoint_ns, page)
        ops = await self.whole(replica.thread_id, unread)
        return replica.absorb(checkpoint_ns, page, namespaces, head, first, ops)

    async def _without_gap(self, replica: Replica, checkpoint_ns: str, page: LogPage) -> LogPage:
        """A page that joins on to what was read, when only the latest archives lie between."""
        incarnation, cursor = replica.position(checkpoint_ns)
        if page.incarnation != incarnation or page.start <= cursor:
            return page
        gap = [s for s in page.segments if s.end > cursor]
        # Those that were summed up in others are many.
        if len(gap) > MAX_GAP or any(s.pack.level for s in gap):
            return page
        ops: list[bytes] = []
        for segment in gap:
            ops += decompress(await self._bytes(replica.thread_id, segment.pack))
        joined = tuple(ops[cursor - gap[0].first :]) + page.ops if gap else page.ops
        return LogPage(incarnation=incarnation, start=cursor, ops=joined, more=page.more)

    async def load_older(self, replica: Replica, checkpoint_ns: str) -> bool:
        """Read the archives of a namespace; ``False`` when there was nothing left to read."""
        for _ in range(TRIES):
            if not replica.is_partial(checkpoint_ns):
                return False
            incarnation, _cursor = replica.position(checkpoint_ns)
            try:
                segments = await self.segments(replica.thread_id, replica.older(checkpoint_ns))
            except BlobGoneError:
                # Rewritten since: the next read brings the new ones.
                replica.forget()
                if await self.refresh(replica, checkpoint_ns) is None:
                    return False
                continue
            if replica.absorb_older(checkpoint_ns, incarnation, segments):
                return True
        if replica.is_partial(checkpoint_ns):
            raise self._too_fast(replica.thread_id, checkpoint_ns)
        return True

    async def segments(self, thread_id: str, segments: Sequence[Segment]) -> list[list[Op]]:
        """The ops of archives, oldest first."""
        flat = await self.flat(thread_id, segments)
        refs = [s.pack.ref for s in flat if s.pack.ref is not None]
        contents = iter(await self._fetch_all(thread_id, refs))
        result = []
        for segment in flat:
            data = segment.pack.data if segment.pack.ref is None else next(contents)
            result.append(await self.whole(thread_id, decompress(data)))
        return result

    async def flat(self, thread_id: str, segments: Sequence[Segment]) -> list[Segment]:
        """Segments of level 0, oldest first."""
        result: list[Segment] = []
        for segment in segments:
            if segment.pack.level == 0:
                result.append(segment)
                continue
            data = await self._bytes(thread_id, segment.pack)
            result += await self.flat(thread_id, decompress_segments(data))
        return result

    async def unpack(self, thread_id: str, pack: Pack) -> list[Op]:
        """The ops of a pack of level 0."""
        return await self.whole(thread_id, decompress(await self._bytes(thread_id, pack)))

    async def _bytes(self, thread_id: str, pack: Pack) -> bytes:
        return pack.data if pack.ref is None else await self.blobs.fetch(thread_id, pack.ref)

    async def whole(self, thread_id: str, data: Sequence[bytes]) -> list[Op]:
        """Decode ops, and fetch the bodies of those that are kept outside."""
        ops = read_ops(data)
        outside = [op.body for op in ops if op.body is not None]
        if not outside:
            return ops
        bodies = iter(await self._fetch_all(thread_id, outside))
        return [op if op.body is None else with_body(op, next(bodies)) for op in ops]

    async def refresh_all(self, replica: Replica, checkpoint_ns: str) -> bool:
        """Read a namespace with its archives; ``False`` when it does not exist."""
        if await self.refresh(replica, checkpoint_ns) is None:
            return False
        await self.load_older(replica, checkpoint_ns)
        return True
