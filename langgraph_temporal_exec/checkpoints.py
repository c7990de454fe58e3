"""Public API: LangGraph's checkpointer interface, but for operations on whole threads."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import (
    AsyncIterator,
    Callable,
    Mapping,
    Sequence,
)
from dataclasses import replace
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    PendingWrite,
    get_checkpoint_id,
)

from . import _langgraph, maintenance
from ._serde import Encoded, Known, Nothing, Writer, put_op, writes_op
from .blobs import BlobStore
from .caller.mailbox import Mailbox
from .errors import TemporalExecError
from .history import HISTORY_MARK, HistoryReader
from .known import KnownChunks
from .protocol.messages import (
    AppendRequest,
)
from .reader import Reader
from .replica import Replica
from .replicas import Replicas
from .sync import SyncMethods
from .transport import StaleReadError, Transport, check_thread_id
from .worker.retry_input import PlannedInput
from .worker.service import WorkerHost
from .worker.session import Session

T = TypeVar("T")

logger = logging.getLogger(__name__)

PAGE = 50
"""Checkpoints that are decoded at a time while a history is listed."""

STALE_TRIES = 5


class Shared:
    """What all copies of one saver have in common (LangGraph copies savers)."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.blobs = BlobStore(
            transport.client, transport.options.id_prefix, transport.options.task_queue
        )
        self.history = HistoryReader(transport.client)
        self.reader = Reader(transport, self.blobs, self.history)
        self.replicas = Replicas(self.blobs)
        # Locks belong to a loop and go with it.
        self.read_locks: WeakKeyDictionary[
            asyncio.AbstractEventLoop, dict[tuple[str, str], asyncio.Lock]
        ] = WeakKeyDictionary()
        self.mailbox = Mailbox(transport)
        self.known = KnownChunks()
        self.host: WorkerHost | None = None


class CheckpointMethods(SyncMethods):
    """The part of ``TemporalSaver`` that reads and writes checkpoints."""

    _shared: Shared
    _session: Session | None
    _plan: PlannedInput | None

    @property
    def reader(self) -> Reader:
        """Reads threads; for the worker side."""
        return self._shared.reader

    def replica(self, thread_id: str) -> Replica:
        """What this process knows of a thread."""
        if self._session is not None and self._session.run.thread_id == thread_id:
            return self._session.replica
        return self._shared.replicas.get(thread_id)

    # -- reading ------------------------------------------------------------------------------

    def fresh_replica(self, thread_id: str) -> Replica:
        """An empty one, when another attempt of this process still has the known one."""
        return self._shared.replicas.fresh(thread_id)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The addressed or latest checkpoint of a thread."""
        thread_id, ns = _address(config)
        ns = ns or ""
        replica = self.replica(thread_id)
        await self._refresh(replica, ns)
        checkpoint_id = get_checkpoint_id(config)
        if replica.lacks(ns, checkpoint_id):
            await self.reader.load_older(replica, ns)
        normalized = _normalized(config)
        found = await self._ask(replica, ns, lambda view: view.get_tuple(normalized))
        edit = _langgraph.current_edit()
        if edit is not None and found is not None and not ns and not edit.base:
            edit.base = found.checkpoint["id"]
        if found is not None and self._session is not None and self._plan is not None:
            found = self._as_planned(found, ns, self._plan, self._session)
        return found

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
        self._shared.replicas.settle(replica)
        return answer

    @staticmethod
    def _as_planned(
        found: CheckpointTuple, ns: str, plan: PlannedInput, session: Session
    ) -> CheckpointTuple:
        """A checkpoint with the pending answers that an attempt is to see."""
        checkpoint_id = found.checkpoint["id"]
        drop_given = plan.drop_resume or (not ns and plan.spent == checkpoint_id)
        writes: list[PendingWrite] = []
        for task_id, channel, value in found.pending_writes or ():
            seen = value
            if channel == _langgraph.RESUME and task_id == _langgraph.NULL_TASK_ID:
                if drop_given:
                    continue
            elif channel == _langgraph.RESUME:
                if task_id in plan.unanswer:
                    seen = value[:-1] if isinstance(value, list) else []
                session.note_answers(ns, checkpoint_id, task_id, seen)
                if not seen:
                    continue
            writes.append((task_id, channel, seen))
        return found._replace(pending_writes=writes)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Checkpoints, newest first; without a config those of all threads."""
        if config is None:
            threads = await maintenance.thread_ids(self._shared.transport)
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
            except maintenance.WHOLE_DEPLOYMENT:
                raise
            except Exception as exc:
                if config is not None:
                    raise
                # One that cannot be read (``ThreadInfo.error`` says why) hides no others.
                logger.warning("thread %r is left out: %s", _address(one)[0], exc)

    async def _of_thread(
        self,
        config: RunnableConfig,
        filter: dict[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> AsyncIterator[CheckpointTuple]:
        thread_id, given = _address(config)
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
        normalized = _normalized(config)
        address = cast(
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
                return tuple(view.list(address, filter=filter, before=before, limit=size))

            page = await self._ask(replica, ns, question)
            for item in page:
                yield item
            if len(page) < size:
                return
            before = page[-1].config
            left = None if left is None else left - size

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Writes since the last snapshot of DeltaChannels, from one walk."""
        thread_id, ns = _address(config)
        ns = ns or ""
        replica = self.replica(thread_id)
        checkpoint_id = get_checkpoint_id(config)
        # What a stored checkpoint is rebuilt from does not change any more: LangGraph asks once for
        # each state of a history.
        if not checkpoint_id or not replica.has(ns, checkpoint_id):
            await self._refresh(replica, ns)
        if replica.lacks(ns, checkpoint_id) or not replica.is_rebuildable(ns, checkpoint_id):
            await self.reader.load_older(replica, ns)
        normalized = _normalized(config)
        return await self._ask(
            replica,
            ns,
            lambda view: view.get_delta_channel_history(config=normalized, channels=channels),
            hidden=True,
        )

    async def _refresh(self, replica: Replica, ns: str, *, whole: bool = False) -> None:
        """Bring a replica up to date: the latest part, or the whole of a namespace."""
        if self._session is not None:
            # The attempt is the only writer, and what it writes is folded as it is written.
            if ns:
                await self._session.load(ns)
        else:
            # One reader at a time per loop: two with the same cursor would fetch the same pages.
            locks = self._shared.read_locks.setdefault(asyncio.get_running_loop(), {})
            lock = locks.setdefault((replica.thread_id, ns), asyncio.Lock())
            async with lock:
                exists = await self.reader.refresh(replica, ns)
                if not exists and not ns:
                    replica.forget()
                elif not exists and replica.flush is None:
                    # Deleted since; what an attempt has just begun is not there yet.
                    replica.forget_namespace(ns)
        if whole:
            await self.reader.load_older(replica, ns)

    # -- writing ------------------------------------------------------------------------------

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint. Within a run it is sent with the next superstep."""
        config = _normalized(config)
        if self._session is not None:
            self._session.put(self.serde, config, checkpoint, metadata, new_versions)
        else:
            await self._append(
                config,
                lambda writer: put_op(
                    self.serde, config, checkpoint, metadata, new_versions, writer
                ),
                self._edited(config, checkpoint, metadata),
            )
        return _stored_config(config, checkpoint["id"])

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store writes pending on a checkpoint."""
        config = _normalized(config)
        if self._session is not None:
            self._session.put_writes(self.serde, config, writes, task_id, task_path)
        else:
            await self._append(
                config,
                lambda writer: writes_op(self.serde, config, writes, task_id, task_path, writer),
            )

    def _edited(
        self, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata
    ) -> AppendRequest:
        """What the thread cannot tell from a checkpoint that no run has made."""
        graph = self._shared.transport.options.graph or str(metadata.get("graph_id") or "")
        edit = _langgraph.current_edit()
        if edit is None or _address(config)[1]:
            return AppendRequest(graph=graph)
        base, edit.base = edit.base, ""
        due: tuple[str, ...] = ()
        try:
            due = edit.due(checkpoint, metadata)
        except Exception as exc:
            # The graph cannot run from what the edit has made, which is for its next run to say.
            logger.warning(
                "after an edit of thread %r nobody knows what is due: %s",
                config["configurable"]["thread_id"],
                type(exc).__name__,
            )
        return AppendRequest(base=base, due=due, graph=graph or edit.graph_name)

    async def _append(
        self,
        config: RunnableConfig,
        encode: Callable[[Writer], Encoded],
        about: AppendRequest | None = None,
    ) -> None:
        _langgraph.check_installed()
        thread_id, ns = _address(config)
        ns = ns or ""
        check_thread_id(thread_id)
        replica = self.replica(thread_id)
        blobs = self._shared.blobs
        for _ in range(STALE_TRIES):
            incarnation, _ = replica.position(ns)
            known: Known = replica
            if replica.flush is not None:
                # What the attempt holds back must be in the log before what may refer to it, and
                # what it folds from now on is no base for others.
                await replica.flush(ns)
            if replica.flush is not None or HISTORY_MARK in incarnation:
                # Read from history, where positions are others than a worker knows.
                known, incarnation = Nothing(), ""
            writer = Writer(known=known, scope=uuid.uuid4().hex[:16], piece_bytes=blobs.piece_bytes)
            encoded = encode(writer)
            await blobs.upload(thread_id, encoded.uploads)
            request = replace(
                about or AppendRequest(), ops=(encoded.data,), incarnation=incarnation
            )
            try:
                await self._shared.transport.append(thread_id, ns, request)
            except StaleReadError:
                await blobs.remove(thread_id, [u.ref for u in encoded.uploads])
                # A worker said so; the history has other positions than it knows.
                self._shared.history.worker_answered()
                replica.forget()
                await self._refresh(replica, ns)
            else:
                return
        raise TemporalExecError(
            f"Thread {thread_id!r} is being pruned again and again while it is written to; call "
            "again when that has ended. Nothing was recorded."
        )


def _address(config: RunnableConfig) -> tuple[str, str | None]:
    configurable = config["configurable"]
    return str(configurable["thread_id"]), configurable.get("checkpoint_ns")


def _normalized(config: RunnableConfig) -> RunnableConfig:
    """Thread ids are strings; LangGraph accepts numbers."""
    configurable = config["configurable"]
    if isinstance(configurable.get("thread_id"), str):
        return config
    return {**config, "configurable": {**configurable, "thread_id": str(configurable["thread_id"])}}


def _stored_config(config: RunnableConfig, checkpoint_id: str) -> RunnableConfig:
    return {
        "configurable": {
            "thread_id": config["configurable"]["thread_id"],
            "checkpoint_ns": config["configurable"].get("checkpoint_ns", ""),
            "checkpoint_id": checkpoint_id,
        }
    }
