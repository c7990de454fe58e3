"""Worker side: sends the stream of a run to a caller in another process.

Chunks travel in order, in batches, as arguments of Queries to the mailbox workflow the caller's
process hosts: no history. The run never depends on it: a caller that is gone is forgotten.

A ``Relay`` is one attempt's stream to one mailbox; ``Relays`` are all of an attempt, to its caller
and to those who joined the run. The way of a chunk, from any OS thread to the worker's loop::

    offer    serialized; left out, with a reason, if that cannot be done
    send     large ones: as the difference to the last of their kind, which the receiver has kept
    _send    compressed; numbered; cut into pieces that fit a Query
    _add     on the worker's loop: at the end of the backlog
    _pump    in batches, of which several are under way if the receiver can sort them
    _push    one Query; repeated while the mailbox is full, given up when nobody answers

Callback events go the same way from ``tell``, but as they are. Chunks hold the graph back when too
many of them wait (``offer`` returns ``False``, ``drain`` waits); events cannot, because a sync
callback must not wait on a loop, so that beyond a bound they are dropped.

What must hold for the receiver to put it together: items arrive in the order of their numbers, or
it can sort them (``deltas``); and a difference is numbered after what it is the difference to. For
that there are two locks, and ``_ordering`` is taken before ``_numbering``.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from datetime import timedelta
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol
from temporalio.client import Client
from temporalio.service import RPCError

from .._loops import LoopThread
from ..errors import UnserializableError
from ..logs import about
from ..protocol import names
from ..protocol.delta import diff
from ..protocol.messages import KNOWN_SLOT, Listener, Mail, MailItem, MailStatus, compressed
from ..protocol.wire import pack
from ..seam.chunks import head_of
from ..storage.known import KEPT_FROM_BYTES
from ..values.exact import dump_exact, dump_readable

logger = logging.getLogger(__name__)

MAX_BACKLOG = 256
MAX_BACKLOG_BYTES = 16_000_000
"""Chunks that may wait before the graph waits for the caller."""

MAX_EVENTS = 20_000
MAX_EVENT_BYTES = 64_000_000
"""Events for callback handlers that may wait: a graph does not wait for those, so that there must
be an end to how many there are."""

STALLED_S = 600.0
"""How long a caller that is there may leave its stream unread until the run goes on without it."""

JOINED_STALLED_S = 10.0
"""How long one who joined a run may, until nothing more is sent to it."""

JOINED_END_S = 1.0
"""How long the end of a run waits for those who joined it to have got their stream."""

FULL_PAUSE_S = 0.05
FULL_PAUSE_MAX_S = 1.0
"""Between two Queries to a mailbox that takes no more; it doubles from the first to the second."""

DELTA_MIN_BYTES = 4_000
"""Chunks below this are sent whole."""

KEPT_KINDS = 8
KEPT_BYTES = 64_000_000
"""Chunks that both sides keep, because the next one of a kind may be sent as what differs."""

MAX_KIND = 300
"""Characters of a kind's name, which may hold whatever a node has streamed."""

BATCH_BYTES = 400_000
"""Of one Query. Temporal's SDK warns above 512 kB."""

PUSH_TIMEOUT = timedelta(seconds=3)
PUSH_TRIES = 2
"""After so many Queries that nobody answers, the caller counts as gone."""

WINDOW = 4
"""Full batches that are under way at once to a receiver which can put them in order. What is less
than full waits for the one before it, and goes together with what comes meanwhile."""


class _LastOfEachKind:
    """The last chunk of each kind that was sent, so that the next one is sent as what changed.

    A stream of whole values repeats with each superstep what the superstep did not touch.

    Attributes:
        _sent: By kind the number under which the receiver keeps the chunk (``MailItem.slot``), and
            the chunk; the longest unsent first. The receiver keeps these chunks as well.
    """

    def __init__(self) -> None:
        self._sent: OrderedDict[Hashable, tuple[int, bytes]] = OrderedDict()

    def begin_with(self, kind: Hashable, data: bytes) -> None:
        """The receiver has this one already; only before any is sent."""
        assert not self._sent
        self._sent[kind] = KNOWN_SLOT, data

    def replaced_by(self, kind: Hashable, data: bytes) -> tuple[int, bytes | None]:
        """The slot of a chunk (0: it is not kept), and the difference to the one before it."""
        if len(data) > KEPT_BYTES:
            self._sent.pop(kind, None)
            return 0, None
        slot, before = self._sent.pop(kind, (0, b""))
        if not slot:
            slot = self._free_slot()
        self._sent[kind] = slot, data
        while sum(len(d) for _, d in self._sent.values()) > KEPT_BYTES:
            self._sent.popitem(last=False)
        return slot, diff([before], data) if before else None

    def _free_slot(self) -> int:
        if len(self._sent) == KEPT_KINDS:
            return self._sent.popitem(last=False)[1][0]
        taken = {slot for slot, _ in self._sent.values()}
        return next(slot for slot in range(1, KEPT_KINDS + 1) if slot not in taken)


def _kind_of(chunk: Any) -> Hashable:
    return head_of(chunk)[:MAX_KIND]


class Relay:
    """Streams one attempt to one mailbox.

    Args:
        client: For the Queries.
        thread: The worker's loop, on which they are sent.
        serde: Serializes chunks.
        mailbox: Workflow id of the caller's mailbox; empty when nobody listens.
        stream_id: Which stream of that mailbox: the run's id, or that of one who joined.
        thread_id: Thread of the run, for logs.
        run_id: The run, for logs.
        attempt: Number of the attempt whose chunks these are.
        patience_s: How long a mailbox that takes no more is waited for.
        deltas: Whether the receiver can put chunks together, from their differences, from pieces
            in any order, and unpack them.
        known: A chunk that the receiver has from before this stream; b"": none.

    Attributes:
        listening: Somebody takes the stream. Once nobody does, nobody will.
        unsent: Why a chunk was left out; "": none was.
        large: The last chunk that was not sent in a moment, for ``KnownChunks``.
        _last: What the receiver keeps; ``None``: it cannot put chunks together.
        _window: How many batches may be under way at once.
        _log: Logs with the ids of thread, run and attempt.
        _seq: Number of the next chunk or event.
        _backlog: What is not under way yet; touched on the worker's loop only.
        _pump: Sends it; ``None`` while there is nothing to send.
        _chunks: Items of chunks that wait or are under way, and ``_chunk_bytes`` their bytes.
        _events: Items of events, and ``_event_bytes`` theirs.
        _numbering: Guards number and counts: items are numbered and handed over in one order.
        _ordering: What is sent as a difference must follow what it is the difference to.
        _known: ``known``, until the first chunk takes its place.
    """

    def __init__(
        self,
        client: Client,
        thread: LoopThread,
        serde: SerializerProtocol,
        *,
        mailbox: str,
        stream_id: str,
        thread_id: str,
        run_id: str,
        attempt: int,
        patience_s: float = STALLED_S,
        deltas: bool = False,
        known: bytes = b"",
    ) -> None:
        self._client = client
        self._thread = thread
        self._serde = serde
        self._mailbox = mailbox
        self._stream_id = stream_id
        self._attempt = attempt
        self._log = about(logger, thread_id=thread_id, run_id=run_id, attempt=attempt)
        self._patience_s = patience_s
        self._last = _LastOfEachKind() if deltas else None
        self._window = WINDOW if deltas else 1
        self._seq = 0
        self._backlog: list[MailItem] = []
        self._pump: asyncio.Task[None] | None = None
        self._chunks = self._chunk_bytes = 0
        self._events = self._event_bytes = 0
        self._numbering = threading.Lock()
        self._ordering = threading.Lock()
        self.listening = bool(mailbox)
        self.unsent = ""
        self.large = b""
        self._known = known

    def offer(self, chunk: Any) -> bool:
        """Send a chunk, from any thread; ``False`` when the sender should wait (``drain``)."""
        if not self.listening:
            return True
        try:
            data = dump_exact(self._serde, chunk, what="a stream chunk")
        except UnserializableError as exc:
            # The caller sees that there are fewer than the outcome says, and there why.
            self.unsent = self.unsent or str(exc)
            self._log.warning("stream %s: a chunk is not relayed: %s", self._stream_id, exc)
            return True
        return self.send(chunk, data)

    def send(self, chunk: Any, data: bytes) -> bool:
        """As ``offer``, for a chunk that is serialized already."""
        if self._last is None or len(data) < DELTA_MIN_BYTES:
            self._send(data, event=False)
        else:
            with self._ordering:
                if self._known:
                    self._last.begin_with(_kind_of(chunk), self._known)
                    # The receiver's slot is taken by this chunk from now on.
                    self._known = b""
                self.large = data if len(data) >= KEPT_FROM_BYTES else self.large
                slot, delta = self._last.replaced_by(_kind_of(chunk), data)
                self._send(delta or data, event=False, slot=slot, delta=delta is not None)
        return self._chunks < MAX_BACKLOG and self._chunk_bytes < MAX_BACKLOG_BYTES

    def tell(self, kind: int, event: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Send an event to the caller's callback handlers of a kind, from any thread."""
        if not self.listening:
            return
        if self._events >= MAX_EVENTS or self._event_bytes >= MAX_EVENT_BYTES:
            self._log.warning(
                "stream %s: its caller is slow; its callback handlers miss %s",
                self._stream_id,
                event,
            )
            return
        self._send(dump_readable(self._serde, (kind, event, args, kwargs)), event=True)

    def end(self, outcome: bytes) -> None:
        """Tell how the run has ended, once that is recorded; on the worker's loop. The receiver
        would learn it from the run itself, two round trips later: nobody waits for this.

        Args:
            outcome: The ``Outcome``, packed.
        """
        small = compressed(outcome)
        data, whole_bytes = (outcome, 0) if small is None else (small, len(outcome))
        if len(data) <= BATCH_BYTES:
            item = MailItem(
                attempt=self._attempt, seq=0, data=data, whole_bytes=whole_bytes, end=True
            )
            with self._numbering:
                self._count(item, 1)
            self._add(item)

    def _send(self, data: bytes, *, event: bool, slot: int = 0, delta: bool = False) -> None:
        # A receiver of an earlier release knows neither packing nor numbered pieces.
        small = compressed(data) if self._last is not None and not event else None
        whole_bytes = 0
        if small is not None:
            data, whole_bytes = small, len(data)
        with self._numbering:
            seq, self._seq = self._seq, self._seq + 1
            for number, start in enumerate(range(0, len(data), BATCH_BYTES), 1):
                end = start + BATCH_BYTES
                item = MailItem(
                    attempt=self._attempt,
                    seq=seq,
                    data=data[start:end],
                    more=end < len(data),
                    event=event,
                    slot=slot,
                    delta=delta,
                    piece=number if self._last is not None else 0,
                    whole_bytes=whole_bytes,
                )
                self._count(item, 1)
                # Under the lock: they must arrive in the order of their numbers.
                self._thread.loop.call_soon_threadsafe(self._add, item)

    def _count(self, item: MailItem, sign: int) -> None:
        if item.event:
            self._events += sign
            self._event_bytes += sign * len(item.data)
        else:
            self._chunks += sign
            self._chunk_bytes += sign * len(item.data)

    async def drain(self) -> None:
        """Return when all chunks were delivered or the caller is gone."""
        await self._thread.call(self._drain())

    async def _drain(self) -> None:
        # Another one may have begun meanwhile.
        while self._pump is not None:
            await asyncio.wait([self._pump])

    def _add(self, item: MailItem) -> None:
        if not self.listening:
            return
        self._backlog.append(item)
        if self._pump is None:
            self._pump = asyncio.create_task(self._run_pump())

    async def _run_pump(self) -> None:
        under_way: set[asyncio.Task[None]] = set()
        try:
            while self.listening and (self._backlog or under_way):
                while self._backlog and self._may_send(len(under_way)):
                    under_way.add(asyncio.create_task(self._deliver(self._next_batch())))
                done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in under_way:
                task.cancel()
            self._pump = None

    def _may_send(self, under_way: int) -> bool:
        # Small chunks rather travel together than at once: each Query costs a round trip.
        if not under_way:
            return True
        waiting = sum(len(item.data) for item in self._backlog)
        return under_way < self._window and waiting >= BATCH_BYTES

    def _next_batch(self) -> tuple[MailItem, ...]:
        size, count = 0, 0
        for item in self._backlog:
            size += len(item.data)
            if count and size > BATCH_BYTES:
                break
            count += 1
        batch = tuple(self._backlog[:count])
        del self._backlog[:count]
        return batch

    async def _deliver(self, batch: tuple[MailItem, ...]) -> None:
        # What is lost in between would leave the rest without sense.
        if not await self._push(batch):
            self.listening = False
        with self._numbering:
            for item in batch:
                self._count(item, -1)

    async def _push(self, batch: tuple[MailItem, ...]) -> bool:
        handle = self._client.get_workflow_handle(self._mailbox)
        mail = pack(Mail(run_id=self._stream_id, items=batch))
        failures = 0
        waited, pause = 0.0, FULL_PAUSE_S
        while failures < PUSH_TRIES:
            try:
                status: int = await handle.query(
                    names.DELIVER_QUERY, mail, result_type=int, rpc_timeout=PUSH_TIMEOUT
                )
            except RPCError as exc:
                self._log.debug("stream %s: its caller does not answer: %s", self._stream_id, exc)
                await asyncio.sleep(0.1 * 2**failures)
                failures += 1
                continue
            # A full mailbox is no failure: whoever is there may take its time.
            if status != MailStatus.FULL:
                return status == MailStatus.TAKEN
            if waited >= self._patience_s:
                self._log.warning(
                    "stream %s: its caller has not read its stream for %d s; it goes on without",
                    self._stream_id,
                    self._patience_s,
                )
                return False
            await asyncio.sleep(pause)
            waited, pause = waited + pause, min(2 * pause, FULL_PAUSE_MAX_S)
        return False


class Relays:
    """The stream of one attempt to its caller and to all who joined the run.

    The graph waits for its caller, never for those who joined: one who is too slow gets no more.

    Args:
        make: Makes the relay of one who joined.
        caller: The relay to the caller, if it is elsewhere.
        result_only: Whether the caller gets nothing of the stream but what ``deliver`` is given.
        listeners: Who joined before this attempt began.

    Attributes:
        _joined: Relays to those who joined, by stream id.
    """

    def __init__(
        self,
        make: Callable[[Listener], Relay],
        caller: Relay | None = None,
        listeners: Iterable[Listener] = (),
        *,
        result_only: bool = False,
    ) -> None:
        self._make = make
        self._result_only = result_only
        self._caller = caller
        self._joined: dict[str, Relay] = {}
        for listener in listeners:
            self.join(listener)

    def join(self, listener: Listener) -> None:
        """One more listener, who gets what comes from now on."""
        if listener.stream_id not in self._joined:
            # Replaced as a whole: whoever goes through it is on another thread.
            self._joined = {**self._joined, listener.stream_id: self._make(listener)}

    def offer(self, chunk: Any) -> bool:
        """As ``Relay.offer``."""
        # One who joined and is too slow loses the stream; nobody waits.
        for relay in self._joined.values():
            if not relay.offer(chunk):
                relay.listening = False
        return self._caller is None or self._result_only or self._caller.offer(chunk)

    @property
    def unsent(self) -> str:
        """Why a chunk could not be sent to the caller; "" if all could."""
        return "" if self._caller is None else self._caller.unsent

    def deliver(self, chunk: Any, data: bytes) -> None:
        """Send the caller a chunk of the result, also as bytes, whatever else it gets."""
        if self._caller is not None and self._caller.listening:
            self._caller.send(chunk, data)

    def end(self, outcome: bytes) -> None:
        """As ``Relay.end``, to the caller."""
        if self._caller is not None:
            self._caller.end(outcome)

    async def drain(self) -> None:
        """Return when the caller has taken all chunks, or is gone."""
        if self._caller is not None:
            await self._caller.drain()

    async def finish(self) -> None:
        """``drain`` at the end of the stream, with a moment for those who joined."""
        joined = [asyncio.ensure_future(relay.drain()) for relay in self._joined.values()]
        if joined:
            await asyncio.wait(joined, timeout=JOINED_END_S)
        for task in joined:
            task.cancel()
        await self.drain()
