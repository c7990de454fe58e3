"""Public API: ``TemporalSaver``, the checkpointer that makes a graph durable."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import random
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
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
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from temporalio.client import Client

from . import _langgraph, local, maintenance
from ._serde import put_op, writes_op
from .caller.mailbox import Mailbox
from .caller.run import Caller
from .errors import UnsupportedLangGraphError, UsageError
from .options import Options
from .protocol.messages import AppendRequest
from .replica import Replica
from .transport import Transport
from .worker.host_port import EmbeddedHost
from .worker.service import WorkerHost
from .worker.session import Session, read_all


class _Shared:
    """What all copies of one saver have in common (LangGraph copies savers)."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.replicas: dict[str, Replica] = {}
        # Locks belong to a loop and go with it.
        self.read_locks: WeakKeyDictionary[
            asyncio.AbstractEventLoop, dict[tuple[str, str], asyncio.Lock]
        ] = WeakKeyDictionary()
        self.mailbox = Mailbox(transport)
        self.host: WorkerHost | None = None


class _BoundDurable:
    """``_langgraph.Durable`` of a saver bound to a session: its graph is being driven."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def astream(self, *_: Any) -> AsyncGenerator[Any, None]:
        raise AssertionError("a bound saver's graph is driven by LangGraph's own loop")

    def stream(self, *_: Any) -> Generator[Any, None, None]:
        raise AssertionError("a bound saver's graph is driven by LangGraph's own loop")


class TemporalSaver(BaseCheckpointSaver[str]):
    """Keeps threads in Temporal and runs graphs durably.

    Use it wherever LangGraph takes a checkpointer: ``agent.with_config(checkpointer=saver)``,
    ``builder.compile(checkpointer=saver)``, ``create_deep_agent(..., checkpointer=saver)``.
    Every ``invoke``/``ainvoke``/``stream``/``astream`` is then recorded in Temporal before it
    starts, its checkpoints live in the history of one workflow per thread, and each node runs
    as an Activity. Importing this class hooks LangGraph (see ``_langgraph``).

    Args:
        client: Connected Temporal client; also available as ``saver.client``.
        task_queue: Task queue of the workers.
        graph: Name of the graph on the workers; default: the graph's own ``name``.
        inline: Names of nodes that run inside the loop instead of as Activities.
        heartbeat_timeout: A worker silent for this long counts as dead.
        no_worker_timeout: How long a call waits for a sign of life of any worker.
        id_prefix: First part of all workflow ids.
        serde: Serializer for state; default: LangGraph's ``JsonPlusSerializer``.

    Raises:
        UnsupportedLangGraphError: The installed LangGraph is outside the supported range.
        UsageError: An option is out of range.
    """

    def __init__(
        self,
        client: Client,
        *,
        task_queue: str = "langgraph",
        graph: str | None = None,
        inline: Iterable[str] = (),
        heartbeat_timeout: timedelta = timedelta(seconds=10),
        no_worker_timeout: timedelta = timedelta(seconds=10),
        id_prefix: str = "langgraph",
        serde: SerializerProtocol | None = None,
    ) -> None:
        super().__init__(serde=serde)
        if not isinstance(client, Client):
            raise UsageError(
                f"TemporalSaver needs a temporalio.client.Client, not {type(client).__name__}: "
                "client = await Client.connect('localhost:7233')."
            )
        _langgraph.install()
        options = Options(
            task_queue=task_queue,
            graph=graph,
            inline=frozenset(inline),
            heartbeat_timeout=heartbeat_timeout,
            no_worker_timeout=no_worker_timeout,
            id_prefix=id_prefix,
        )
        self._shared = _Shared(Transport(client, options))
        self._session: Session | None = None
        self._drop_resume = False
        self._unanswer: frozenset[str] = frozenset()

    # -- properties ---------------------------------------------------------------------------

    @property
    def client(self) -> Client:
        """The Temporal client."""
        return self._shared.transport.client

    @property
    def options(self) -> Options:
        """The validated options."""
        return self._shared.transport.options

    @property
    def __langgraph_temporal__(self) -> _langgraph.Durable:
        if self._session is not None:
            return _BoundDurable(self._session)
        shared = self._shared
        return Caller(
            shared.transport,
            self.serde,
            lambda: EmbeddedHost(shared.host) if shared.host else None,
            shared.mailbox,
        )

    # -- workers ------------------------------------------------------------------------------

    @asynccontextmanager
    async def worker(
        self, *graphs: Any, max_cached_workflows: int = 1000
    ) -> AsyncIterator[TemporalSaver]:
        """Host a worker in this process for as long as the context is open.

        Args:
            graphs: Compiled graphs, or mappings ``{name: graph}``. With none, every graph that
                is called in this process is served.
            max_cached_workflows: Temporal's worker option.

        Raises:
            DuplicateGraphError: Two graphs share a name.
            UsageError: This saver already hosts a worker, or an argument is no graph.
        """
        if self._shared.host is not None:
            raise UsageError("This saver already hosts a worker in this process.")
        host = WorkerHost(
            self,
            self._shared.transport,
            self.options,
            asyncio.get_running_loop(),
            max_cached_workflows=max_cached_workflows,
        )
        try:
            for graph in graphs:
                host.add(graph)
            await host.start()
            self._shared.host = host
            yield self
        finally:
            self._shared.host = None
            await host.stop()

    @classmethod
    def local(
        cls, path: str | Path | None = None, **options: Any
    ) -> AbstractAsyncContextManager[TemporalSaver]:
        """An embedded Temporal server plus a worker in this process.

        Args:
            path: File the server persists to; ``None`` keeps everything in memory.
            options: As of the constructor.
        """
        return cast(AbstractAsyncContextManager[TemporalSaver], local.embedded(cls, path, options))

    def close(self) -> None:
        """Release what callers without a worker hold (a thread and a mailbox workflow)."""
        self._shared.mailbox.close()

    # -- binding ------------------------------------------------------------------------------

    def bound(
        self, session: _langgraph.Session, *, drop_resume: bool, unanswer: frozenset[str]
    ) -> TemporalSaver:
        """A copy that writes through a session; for the worker side (see ``PlannedInput``)."""
        clone = copy.copy(self)
        clone._unanswer = unanswer
        clone._session = cast(Session, session)
        clone._drop_resume = drop_resume
        return clone

    def replica(self, thread_id: str) -> Replica:
        """What this process knows of a thread."""
        return self._shared.replicas.setdefault(thread_id, Replica(thread_id))

    # -- reading ------------------------------------------------------------------------------

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The addressed or latest checkpoint of a thread."""
        thread_id, ns = _address(config)
        await self._refresh(thread_id, ns or "")
        return self._local_tuple(config)

    def _local_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        replica = self.replica(_address(config)[0])
        with replica.lock:
            found = replica.view(self.serde).get_tuple(_normalized(config))
        if found is not None and (self._drop_resume or self._unanswer):
            writes = [w for w in map(self._as_planned, found.pending_writes or ()) if w]
            found = found._replace(pending_writes=writes)
        return found

    def _as_planned(self, write: PendingWrite) -> PendingWrite | None:
        """A pending write as a retried attempt is to see it; ``None``: not at all."""
        task_id, channel, value = write
        if channel != _langgraph.RESUME:
            return write
        if task_id == _langgraph.NULL_TASK_ID:
            return None if self._drop_resume else write
        if task_id in self._unanswer:
            earlier = value[:-1] if isinstance(value, list) else []
            return (task_id, channel, earlier) if earlier else None
        return write

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
            thread_id, ns = _address(one)
            await self._refresh(thread_id, ns)
            replica = self.replica(thread_id)
            with replica.lock:
                found = list(
                    replica.view(self.serde).list(
                        _normalized(one), filter=filter, before=before, limit=left
                    )
                )
            for item in found:
                yield item
            if left is not None:
                left -= len(found)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Writes since the last snapshot of DeltaChannels, from one walk."""
        thread_id, ns = _address(config)
        await self._refresh(thread_id, ns or "")
        replica = self.replica(thread_id)
        with replica.lock:
            return replica.view(self.serde).get_delta_channel_history(
                config=_normalized(config), channels=channels
            )

    async def _refresh(self, thread_id: str, ns: str | None) -> None:
        """Bring the replica up to date; ``ns`` ``None`` means all namespaces."""
        if self._session is not None:
            # The attempt is the only writer, and what it writes is folded as it is written.
            if ns:
                await self._session.load(ns)
            return
        await self._read(thread_id, "" if ns is None else ns)
        if ns is None:
            for known in sorted(self.replica(thread_id).known_namespaces - {""}):
                await self._read(thread_id, known)

    async def _read(self, thread_id: str, ns: str) -> None:
        # One reader at a time per loop: two with the same cursor would fetch the same pages.
        locks = self._shared.read_locks.setdefault(asyncio.get_running_loop(), {})
        lock = locks.setdefault((thread_id, ns), asyncio.Lock())
        async with lock:
            replica = self.replica(thread_id)
            exists = await read_all(self._shared.transport, replica, ns)
            if not exists and not ns:
                replica.forget()

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
            op = put_op(self.serde, config, checkpoint, metadata, new_versions)
            await self._append(config, op)
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
            op = writes_op(self.serde, config, writes, task_id, task_path)
            await self._append(config, op)

    async def _append(self, config: RunnableConfig, op: bytes) -> None:
        thread_id, ns = _address(config)
        await self._shared.transport.append(thread_id, ns or "", AppendRequest(ops=(op,)))

    async def adelete_thread(self, thread_id: str) -> None:
        """Remove a thread: its workflows end, its checkpoints cannot be read any more."""
        await self._shared.transport.delete(str(thread_id))
        self.replica(str(thread_id)).forget()

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints whose metadata carries one of the run ids, in all threads."""
        await maintenance.delete_for_runs(self, set(run_ids))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints, writes and namespaces of a thread."""
        await maintenance.copy_thread(self, str(source_thread_id), str(target_thread_id))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keep only the latest checkpoint per namespace, or (``"delete"``) nothing.

        Ancestors a DeltaChannel is rebuilt from are kept.
        """
        await maintenance.prune(self, [str(t) for t in thread_ids], strategy)

    def get_next_version(self, current: str | None, channel: None) -> str:
        """Versions as LangGraph's own savers make them; LangGraph's API server relies on it."""
        number = 0 if current is None else int(str(current).split(".")[0])
        return f"{number + 1:032}.{random.random():016}"

    # -- sync ---------------------------------------------------------------------------------

    def _sync(self, coro: Any) -> Any:
        """Run a coroutine on a loop that is not the caller's."""
        thread = self._session.thread if self._session else self._shared.mailbox.thread
        if thread.is_current:
            coro.close()
            raise UsageError("The sync API cannot be called on the loop that has to serve it.")
        return thread.submit(coro).result()

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Sync ``aget_tuple``."""
        found: CheckpointTuple | None = self._sync(self.aget_tuple(config))
        return found

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Sync ``alist``."""

        async def collect() -> Any:
            chunks = self.alist(config, filter=filter, before=before, limit=limit)
            return [item async for item in chunks]

        yield from self._sync(collect())

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Sync ``aget_delta_channel_history``."""
        history: Mapping[str, DeltaChannelHistory] = self._sync(
            self.aget_delta_channel_history(config=config, channels=channels)
        )
        return history

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Sync ``aput``."""
        stored: RunnableConfig = self._sync(self.aput(config, checkpoint, metadata, new_versions))
        return stored

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Sync ``aput_writes``."""
        self._sync(self.aput_writes(config, writes, task_id, task_path))

    def delete_thread(self, thread_id: str) -> None:
        """Sync ``adelete_thread``."""
        self._sync(self.adelete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Sync ``adelete_for_runs``."""
        self._sync(self.adelete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Sync ``acopy_thread``."""
        self._sync(self.acopy_thread(source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Sync ``aprune``."""
        self._sync(self.aprune(thread_ids, strategy=strategy))


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


# `graph.with_config(checkpointer=TemporalSaver(...))` looks `with_config` up before the saver is
# made, so the hooks must be there when this module is imported. They do nothing for other savers.
# What makes them impossible is raised by the constructor.
with contextlib.suppress(UnsupportedLangGraphError):
    _langgraph.install()
