"""Shared: the threads of one deployment as this process reads and writes them.

The parts of this package that need threads are given a ``Store``: the saver, handles of runs,
lists, maintenance, Studio and the worker. It knows threads, checkpoints and writes, and nothing of
LangGraph's checkpointer interface; ``TemporalSaver`` and ``worker.bound.BoundSaver`` are that
interface, over a store.

Everything but the serializer is shared by all copies of a store:

- ``transport``: RPCs to the workflows of the deployment, and its options.
- ``blobs``: large values, outside the logs.
- ``history``: logs folded from Temporal's histories, where no worker answers.
- ``reader``: brings replicas up to date, from workers or from ``history``.
- ``replicas``: what this process has read of threads; bounded, the longest unused go first.

``serde`` is the saver's serializer. LangGraph copies a saver to allow the classes of one graph
(``with_allowlist``), which makes a copy of the store with another serializer.

A store may be that of an attempt (``of_attempt``). Then the attempt's own replica stands for its
thread: what the attempt has written is in there before it is in the log, and as nobody else writes
to the thread meanwhile, reading needs no RPC.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, Self, TypeVar, cast
from weakref import WeakKeyDictionary

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from ..errors import TemporalExecError
from ..options import Options
from ..protocol.incarnation import Incarnation
from ..protocol.messages import AppendRequest, ReadReply
from ..values.ops import Encoded, Known, Nothing, Writer
from .blobs import BlobStore
from .history import HistoryReader
from .reader import Reader
from .replica import Replica, Replicas
from .rpc import WHOLE_DEPLOYMENT, StaleReadError
from .thread_client import Transport, check_thread_id
from .visibility import thread_ids

T = TypeVar("T")

logger = logging.getLogger(__name__)

PAGE = 50
"""Checkpoints that are decoded at a time while a history is listed."""

STALE_TRIES = 5
"""Tries of an append to a log that is compacted again and again meanwhile."""


class AttemptView(Protocol):
    """What a store needs of the attempt through which it reads."""

    @property
    def thread_id(self) -> str:
        """The thread that the attempt has."""
        ...

    @property
    def replica(self) -> Replica:
        """The thread, with what the attempt has written and not sent yet."""
        ...

    async def load(self, checkpoint_ns: str) -> None:
        """Read a nested namespace, if the attempt has not done so yet."""
        ...


class Store:
    """See the module. Safe to use from several threads and event loops.

    Args:
        transport: RPCs.
        serde: Serializer of the state.

    Attributes:
        blobs, history, reader, replicas: See the module.
        _read_locks: By event loop, thread and namespace: one reader at a time.
        _attempt: Through which this copy reads; ``None``: it is no attempt's.
        _shares: What it reads of threads is kept for others to go on from.
    """

    def __init__(self, transport: Transport, serde: SerializerProtocol) -> None:
        self.transport = transport
        self.serde = serde
        self.blobs = BlobStore(
            transport.client, transport.options.id_prefix, transport.options.task_queue
        )
        self.history = HistoryReader(transport.client, transport.has_workflow_worker)
        self.reader = Reader(transport, self.blobs, self.history)
        self.replicas = Replicas(self.blobs)
        # Locks belong to a loop and go with it.
        self._read_locks: WeakKeyDictionary[
            asyncio.AbstractEventLoop, dict[tuple[str, str], asyncio.Lock]
        ] = WeakKeyDictionary()
        self._attempt: AttemptView | None = None
        self._shares = True

    def with_serde(self, serde: SerializerProtocol) -> Self:
        """A copy with another serializer."""
        twin = copy.copy(self)
        twin.serde = serde
        return twin

    def of_attempt(self, attempt: AttemptView) -> Self:
        """A copy that reads a thread as the attempt that has it sees it."""
        twin = copy.copy(self)
        twin._attempt = attempt
        return twin

    def as_guest(self) -> Self:
        """A copy for work on threads that other workers drive; see ``Transport.as_guest``."""
        twin = copy.copy(self)
        twin.transport = self.transport.as_guest()
        return twin

    def of_many(self) -> Self:
        """A copy for reading many threads: from histories, sparing the workers, and without
        replicas that would drop those of threads which this process works with."""
        twin = copy.copy(self)
        twin.reader = self.reader.of_histories()
        twin._shares = False
        return twin

    @property
    def options(self) -> Options:
        """The saver's validated options."""
        return self.transport.options

    def replica(self, thread_id: str) -> Replica:
        """What this process knows of a thread."""
        if self._attempt is not None and self._attempt.thread_id == thread_id:
            return self._attempt.replica
        return self.replicas.get(thread_id)

    def recorded(self, thread_id: str) -> Replica:
        """An empty replica outside the shared ones: for reading a thread as the log has it. An
        attempt of this process folds into the shared one what is not recorded yet."""
        return Replica(thread_id, self.blobs)

    # -- reading ------------------------------------------------------------------------------

    async def look(self, thread_id: str) -> tuple[ReadReply, Replica] | None:
        """What a thread tells of itself, its runs included, and the thread as it stood then;
        ``None``: there is none."""
        replica = self.replica(thread_id) if self._shares else self.recorded(thread_id)
        async with self._lock(thread_id, ""):
            reply = await self.reader.refresh(replica, "", runs=True)
        if reply is None:
            replica.forget()
            return None
        return reply, replica

    async def latest(self, replica: Replica) -> CheckpointTuple | None:
        """The latest checkpoint of what was read of a thread."""
        if replica.lacks("", None):
            await self.reader.load_older(replica, "")
        config: RunnableConfig = {"configurable": {"thread_id": replica.thread_id}}
        return await self._ask(replica, "", lambda view: view.get_tuple(config))

    async def checkpoint(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The addressed or latest checkpoint of a thread, as ``BaseCheckpointSaver.aget_tuple``."""
        thread_id, ns = address(config)
        ns = ns or ""
        replica = self.replica(thread_id)
        await self._refresh(replica, ns)
        checkpoint_id = get_checkpoint_id(config)
        if replica.lacks(ns, checkpoint_id):
            await self.reader.load_older(replica, ns)
        normalized = with_text_id(config)
        return await self._ask(replica, ns, lambda view: view.get_tuple(normalized))

    async def checkpoints(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Checkpoints, newest first, as ``BaseCheckpointSaver.alist``."""
        if config is None:
            threads = await thread_ids(self.transport)
            configs = [cast(RunnableConfig, {"configurable": {"thread_id": t}}) for t in threads]
        else:
            configs = [config]
        left = limit
        for one in configs:
            try:
                async for item in self._of_thread(one, filter, before, left):
                    yield item
                    if left is not None:
                        left -= 1
            except WHOLE_DEPLOYMENT:
                raise
            except Exception as exc:
                if config is not None:
                    raise
                # One that cannot be read (``ThreadInfo.error`` says why) hides no others.
                logger.warning("thread %r is left out: %s", address(one)[0], exc)

    async def _of_thread(
        self,
        config: RunnableConfig,
        filter: dict[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> AsyncIterator[CheckpointTuple]:
        thread_id, given = address(config)
        replica = self.replica(thread_id)
        await self._refresh(replica, given or "", whole=True)
        names = [given] if given is not None else ["", *sorted(replica.known_namespaces - {""})]
        left = limit
        for ns in names:
            if ns:
                await self._refresh(replica, ns, whole=True)
            async for item in self._pages(replica, config, ns, filter, before, left):
                yield item
                if left is not None:
                    left -= 1

    async def _pages(
        self,
        replica: Replica,
        config: RunnableConfig,
        ns: str,
        filter: dict[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> AsyncIterator[CheckpointTuple]:
        """One namespace's checkpoints, a few decoded at a time."""
        normalized = with_text_id(config)
        where = cast(
            RunnableConfig,
            {**normalized, "configurable": {**normalized["configurable"], "checkpoint_ns": ns}},
        )
        left = limit
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)

            def question(
                view: BaseCheckpointSaver[str],
                before: RunnableConfig | None = before,
                size: int = size,
            ) -> Sequence[CheckpointTuple]:
                return tuple(view.list(where, filter=filter, before=before, limit=size))

            page = await self._ask(replica, ns, question)
            for item in page:
                yield item
            if len(page) < size:
                return
            before = page[-1].config
            left = None if left is None else left - size

    async def delta_history(
        self, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Writes since the last snapshot of DeltaChannels, from one walk."""
        thread_id, ns = address(config)
        ns = ns or ""
        replica = self.replica(thread_id)
        checkpoint_id = get_checkpoint_id(config)
        # What a stored checkpoint is rebuilt from does not change any more: LangGraph asks once for
        # each state of a history.
        if not checkpoint_id or not replica.has(ns, checkpoint_id):
            await self._refresh(replica, ns)
        if replica.lacks(ns, checkpoint_id) or not replica.is_rebuildable(ns, checkpoint_id):
            await self.reader.load_older(replica, ns)
        normalized = with_text_id(config)
        return await self._ask(
            replica,
            ns,
            lambda view: view.get_delta_channel_history(config=normalized, channels=channels),
            hidden=True,
        )

    async def _ask(
        self,
        replica: Replica,
        ns: str,
        question: Callable[[BaseCheckpointSaver[str]], T],
        *,
        hidden: bool = False,
    ) -> T:
        answer = await self.reader.answer(
            replica, self.serde, question, checkpoint_ns=ns, hidden=hidden
        )
        if self._shares:
            self.replicas.weigh(replica)
        return answer

    def _lock(self, thread_id: str, ns: str) -> asyncio.Lock:
        """One reader at a time per loop: two with the same cursor would fetch the same pages."""
        locks = self._read_locks.setdefault(asyncio.get_running_loop(), {})
        return locks.setdefault((thread_id, ns), asyncio.Lock())

    async def _refresh(self, replica: Replica, ns: str, *, whole: bool = False) -> None:
        """Bring a replica up to date: the latest part, or the whole of a namespace."""
        if self._attempt is not None:
            # The attempt is the only writer, and what it writes is folded as it is written.
            if ns:
                await self._attempt.load(ns)
        else:
            async with self._lock(replica.thread_id, ns):
                exists = await self.reader.refresh(replica, ns) is not None
                if not exists and not ns:
                    replica.forget()
                elif not exists and replica.flush is None:
                    # Deleted since; what an attempt has just begun is not there yet.
                    replica.forget_namespace(ns)
        if whole:
            await self.reader.load_older(replica, ns)

    # -- writing, outside of a run ------------------------------------------------------------

    async def append(
        self,
        config: RunnableConfig,
        encode: Callable[[Writer], Encoded],
        about: AppendRequest | None = None,
    ) -> None:
        """Append one op to the log of a thread.

        Args:
            config: Names thread and namespace.
            encode: Makes the op; called again when what it is a difference to was compacted away.
            about: What else the thread is told.
        """
        thread_id, ns = address(config)
        ns = ns or ""
        check_thread_id(thread_id)
        replica = self.replica(thread_id)
        for _ in range(STALE_TRIES):
            incarnation, _ = replica.position(ns)
            known: Known = replica
            if replica.flush is not None:
                # What the attempt holds back must be in the log before what may refer to it, and
                # what it folds from now on is no base for others.
                await replica.flush(ns)
            folded = Incarnation.parse(incarnation).fold
            if replica.flush is not None or not incarnation or folded:
                # The log cannot say whether what is known here is still in it: it was read from
                # history, where positions are others than a worker knows; or never, as a namespace
                # that an attempt of this process has made, and somebody may have deleted since.
                known, incarnation = Nothing(), ""
            writer = Writer(
                known=known, scope=uuid.uuid4().hex[:16], piece_bytes=self.blobs.piece_bytes
            )
            encoded = encode(writer)
            await self.blobs.upload(thread_id, encoded.uploads)
            request = replace(
                about or AppendRequest(), ops=(encoded.data,), incarnation=incarnation
            )
            try:
                await self.transport.append(thread_id, ns, request)
            except StaleReadError:
                await self.blobs.remove(thread_id, [u.ref for u in encoded.uploads])
                # A worker said so; the history has other positions than it knows.
                self.history.worker_answered()
                replica.forget()
                await self._refresh(replica, ns)
            else:
                return
        raise TemporalExecError(
            f"Thread {thread_id!r} is being pruned again and again while it is written to; call "
            "again when that has ended. Nothing was recorded."
        )

    async def delete(self, thread_id: str) -> None:
        """Remove a thread; see ``TemporalSaver.adelete_thread``."""
        await self.transport.delete(thread_id)
        self.replica(thread_id).forget()


def address(config: RunnableConfig) -> tuple[str, str | None]:
    """Thread and namespace of a config; ``None``: it names no namespace."""
    configurable = config["configurable"]
    return str(configurable["thread_id"]), configurable.get("checkpoint_ns")


def with_text_id(config: RunnableConfig) -> RunnableConfig:
    """The config with a thread id that is text, as it is stored; LangGraph accepts numbers."""
    configurable = config["configurable"]
    if isinstance(configurable.get("thread_id"), str):
        return config
    return {**config, "configurable": {**configurable, "thread_id": str(configurable["thread_id"])}}


def stored_config(config: RunnableConfig, checkpoint_id: str) -> RunnableConfig:
    """What ``aput`` returns: where the checkpoint is."""
    return {
        "configurable": {
            "thread_id": config["configurable"]["thread_id"],
            "checkpoint_ns": config["configurable"].get("checkpoint_ns", ""),
            "checkpoint_id": checkpoint_id,
        }
    }
