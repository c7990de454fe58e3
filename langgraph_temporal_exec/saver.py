"""Public API: ``TemporalSaver``, the checkpointer that makes a graph durable."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import random
import uuid
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeVar, cast
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
from langgraph.checkpoint.serde.base import SerializerProtocol
from temporalio.client import Client
from temporalio.worker import WorkerDeploymentConfig

from . import _native, local, threads
from ._loops import Context
from .caller.admission import Caller
from .caller.mailbox import Mailbox
from .errors import TemporalExecError, UnsupportedLangGraphError, UsageError
from .options import NodeOptions, Options, Retention, Strategy
from .protocol.messages import (
    AppendRequest,
)
from .runs import Run, find_run, runs_of
from .seam import hooks
from .storage import maintenance
from .storage.blobs import BlobStore
from .storage.history import HISTORY_MARK, HistoryReader
from .storage.known import KnownChunks
from .storage.reader import Reader
from .storage.replica import Replica, Replicas
from .storage.thread_client import StaleReadError, Transport, check_thread_id
from .threads import ThreadInfo, ThreadStatus
from .values.ops import Encoded, Known, Nothing, Writer, put_op, writes_op
from .worker.retry_input import PlannedInput
from .worker.service import EmbeddedHost, WorkerHost
from .worker.session import Session

# The type of a parameter below, for whoever passes one on.
__all__ = ["TemporalSaver", "ThreadStatus"]

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


class _BoundDurable:
    """``hooks.Durable`` of a saver bound to a session: its graph is being driven."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def astream(self, *_: Any, result_only: bool = False) -> AsyncGenerator[Any, None]:
        raise AssertionError("a bound saver's graph is driven by LangGraph's own loop")

    def stream(self, *_: Any, result_only: bool = False) -> Generator[Any, None, None]:
        raise AssertionError("a bound saver's graph is driven by LangGraph's own loop")


class TemporalSaver(BaseCheckpointSaver[str]):
    """Keeps threads in Temporal and runs graphs durably.

    Use it wherever LangGraph takes a checkpointer: ``agent.with_config(checkpointer=saver)``,
    ``builder.compile(checkpointer=saver)``, ``create_deep_agent(..., checkpointer=saver)``.
    Every ``invoke``/``ainvoke``/``stream``/``astream`` is then recorded in Temporal before it
    starts, its checkpoints live in the history of one workflow per thread, and each node runs
    as an Activity. Importing this class hooks LangGraph (see ``seam.hooks``).

    Args:
        client: Connected Temporal client; also available as ``saver.client``.
        task_queue: Task queue of the workers.
        graph: Name of the graph on the workers; default: the graph's own ``name``.
        inline: Names of nodes that run inside the loop instead of as Activities: short for
            ``nodes={name: NodeOptions(inline=True)}``.
        nodes: Options of nodes by their names, in whatever graph; it is the saver of the worker
            that decides.
        heartbeat_timeout: A worker silent for this long counts as dead.
        no_worker_timeout: How long a call waits for a sign of life of any worker.
        id_prefix: First part of all workflow ids.
        retention: Which checkpoints are kept when a run ends; default: all. It is the saver of
            the worker that decides.
        multitask_strategy: What a call does when another run has its thread: "enqueue" waits in
            line, "reject" raises ``ThreadBusyError``, "interrupt" stops the other run after its
            superstep, "rollback" stops it at once and undoes it. Per call: the same key in
            ``configurable``.
        max_lost_attempts: After so many attempts in a row whose worker was lost, the run ends with
            ``RunFailedError`` and its thread waits for somebody to continue it; 1: nothing is
            executed again by itself. Per call: the same key in ``configurable``.
        give_up_after: A run is not driven again any more when the first of such losses in a row is
            this long ago; default: no bound but ``max_lost_attempts``. Per call: the same key in
            ``configurable``.
        serde: Serializer for state, the same for callers and workers; default: LangGraph's
            ``JsonPlusSerializer``.

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
        nodes: Mapping[str, NodeOptions] | None = None,
        heartbeat_timeout: timedelta = timedelta(seconds=10),
        no_worker_timeout: timedelta = timedelta(seconds=10),
        id_prefix: str = "langgraph",
        retention: Retention | None = None,
        multitask_strategy: Strategy = "enqueue",
        max_lost_attempts: int = 50,
        give_up_after: timedelta | None = None,
        serde: SerializerProtocol | None = None,
    ) -> None:
        super().__init__(serde=serde)
        if not isinstance(client, Client):
            raise UsageError(
                f"TemporalSaver needs a temporalio.client.Client, not {type(client).__name__}: "
                "client = await Client.connect('localhost:7233')."
            )
        hooks.install()
        _native.outlives_python(client)
        with contextlib.suppress(RuntimeError):
            # Without a loop the calls are on one of our own.
            _native.keep_out(asyncio.get_running_loop())
        options = Options(
            task_queue=task_queue,
            graph=graph,
            nodes={**dict.fromkeys(inline, NodeOptions(inline=True)), **(nodes or {})},
            heartbeat_timeout=heartbeat_timeout,
            no_worker_timeout=no_worker_timeout,
            id_prefix=id_prefix,
            retention=retention,
            multitask_strategy=multitask_strategy,
            max_lost_attempts=max_lost_attempts,
            give_up_after=give_up_after,
        )
        self._shared = Shared(Transport(client, options))
        self._session: Session | None = None
        self._plan: PlannedInput | None = None

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
    def __langgraph_temporal__(self) -> hooks.Durable:
        if self._session is not None:
            return _BoundDurable(self._session)
        shared = self._shared
        return Caller(
            shared.transport,
            self.serde,
            lambda: EmbeddedHost(shared.host) if shared.host else None,
            shared.mailbox,
            shared.blobs,
            shared.reader,
            shared.known,
        )

    @property
    def mailbox(self) -> Mailbox:
        """Where streams of runs that are driven elsewhere arrive in this process."""
        return self._shared.mailbox

    @property
    def transport(self) -> Transport:
        """RPCs; for the worker side and maintenance."""
        return self._shared.transport

    def known_threads(self) -> Iterable[str]:
        """Threads this process has in memory."""
        return self._shared.replicas

    async def run_ended(self, thread_id: str) -> None:
        """Apply the retention to a thread; called on the worker when a run of it has ended."""
        if self.options.retention is not None:
            await maintenance.retain(self, thread_id, self.options.retention)

    async def undo_runs(self, thread_id: str, run_ids: frozenset[str]) -> None:
        """Drop all checkpoints that runs have made; called on the worker, before the next run."""
        await maintenance.undo_runs(self, thread_id, run_ids)

    def _sync(self, coro: Any) -> Any:
        """Run a coroutine on a loop that is not the caller's."""
        thread = self._session.thread if self._session else self._shared.mailbox.thread
        if thread.is_current:
            coro.close()
            raise UsageError("The sync API cannot be called on the loop that has to serve it.")
        return thread.submit(coro).result()

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
        edit = hooks.current_edit()
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
            if channel == hooks.RESUME and task_id == hooks.NULL_TASK_ID:
                if drop_given:
                    continue
            elif channel == hooks.RESUME:
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
        edit = hooks.current_edit()
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
        hooks.check_installed()
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

    # -- workers ------------------------------------------------------------------------------

    def worker(
        self,
        *graphs: Any,
        max_cached_workflows: int = 1000,
        deployment: WorkerDeploymentConfig | None = None,
    ) -> Context[TemporalSaver]:
        """Host a worker in this process for as long as the context is open.

        For ``async with``, and for ``with`` in code that has no event loop.

        Args:
            graphs: Compiled graphs, or mappings ``{name: graph}``. With none, every graph that
                is called in this process is served.
            max_cached_workflows: Temporal's worker option: how many workflows (threads and runs)
                stay in memory; 0 forces a replay on every workflow task.
            deployment: Temporal's Worker Deployment Versioning (docs/how-to/deploys.md).

        Returns:
            A context that gives this saver. When it ends, runs under way have 5 s to end; with
            the others another worker goes on.

        Raises:
            DuplicateGraphError: Two graphs share a name.
            UsageError: This saver already hosts a worker, another one with the same client serves
                the task queue, or an argument is no graph.
            ServerUnavailableError: The client is lazy, and Temporal does not answer.
        """
        return Context(lambda: self._worker(graphs, max_cached_workflows, deployment))

    @asynccontextmanager
    async def _worker(
        self,
        graphs: Sequence[Any],
        max_cached_workflows: int,
        deployment: WorkerDeploymentConfig | None,
    ) -> AsyncIterator[TemporalSaver]:
        if self._shared.host is not None:
            raise UsageError("This saver already hosts a worker in this process.")
        host = WorkerHost(
            self,
            self._shared.transport,
            self.options,
            asyncio.get_running_loop(),
            max_cached_workflows=max_cached_workflows,
            deployment=deployment,
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

    def serve(self, name: str, graph: Any) -> None:
        """Have the worker of this process serve a graph, as if it had been called here; for
        programs that learn of their graphs after the worker has started."""
        if self._shared.host is not None:
            self._shared.host.registry.seen(name, graph)

    @classmethod
    def local(cls, path: str | Path | None = None, **options: Any) -> Context[TemporalSaver]:
        """An embedded Temporal server plus a worker in this process.

        For ``async with``, and for ``with`` in code that has no event loop.

        Args:
            path: File the server persists to, made if need be; ``None`` keeps everything in memory.
            options: As of the constructor, but for ``client``.

        Returns:
            A context in which both run. It gives the saver, whose worker serves every graph that
            is called in this process.

        Raises:
            ServerUnavailableError: There is no ``temporal`` executable, or the server does not
                start, for example because another one has the file. Raised on entering.
            UnsupportedLangGraphError, UsageError: As of the constructor. Raised on entering.
        """
        return Context(lambda: local.embedded(cls, path, options))

    # -- life ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Release what callers without a worker hold; the saver can be used again.

        That is a thread and a worker which receives streams, shared by all savers of one client.
        They go with the last of these savers that is closed, or not referred to any more, or with
        the process, whose end they do not delay: only who wants to know that they are gone calls
        this. Copies of a saver are closed together. No run is cancelled, and a worker of
        ``saver.worker()`` goes on until its context ends.
        """
        self._shared.mailbox.close()

    async def aclose(self) -> None:
        """``close``, for callers on an event loop."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # -- binding ------------------------------------------------------------------------------

    def bound(self, session: hooks.Session, plan: PlannedInput) -> TemporalSaver:
        """A copy that writes through a session; for the worker side."""
        clone = copy.copy(self)
        clone._session = cast(Session, session)
        clone._plan = plan
        return clone

    # -- runs ---------------------------------------------------------------------------------

    async def astart(self, graph: Any, input: Any, config: RunnableConfig, **options: Any) -> Run:
        """Start a run and do not wait for it: recorded when this returns, it finishes by itself.

        Any process finds it then, also while no worker takes it.

        Args:
            graph: The compiled graph; workers serve it under its name.
            input: As of ``ainvoke``.
            config: As of ``ainvoke``.
            options: As of ``astream``, but for ``version``. ``stream_mode`` is a list, to which
                "values" and "updates" are added, because the result is made of them.

        Returns:
            The run, to wait for, stream, cancel or ask.

        Raises:
            As ``ainvoke``, up to the moment at which the run is recorded.
        """
        modes = options.pop("stream_mode", None) or []
        modes = [modes] if isinstance(modes, str) else list(modes)
        options["stream_mode"] = list(dict.fromkeys(["values", "updates", *modes]))
        if options.pop("version", "v1") != "v1":
            raise UsageError("A run that nobody waits for streams in version 'v1'.")
        durable = cast(Caller, getattr(self, hooks.DURABLE))
        run_id, thread_id = await durable.start(graph, input, config, options)
        return Run(hooks.reviving(graph, self), run_id, thread_id)

    async def aresume(self, thread_id: str, value: Any) -> Run:
        """Answer what a thread waits for, without its graph; the run goes on by itself.

        The same as the Update ``resume`` of the thread's workflow, which any Temporal client can
        send. A thread waits while a node is to run that has asked, or that is due at a breakpoint:
        until it was answered, or ``update_state`` or a deletion led elsewhere.

        Args:
            thread_id: The thread.
            value: The answer, or a map from interrupt ids to answers; plain JSON but ``None``.

        Returns:
            The run that goes on.

        Raises:
            NotWaitingError: The thread waits for nothing, or a run has it already.
            UsageError: The answer is no plain JSON, or it is not known which graph is to take it:
                the thread was imported by ``aput`` alone, by a saver without ``graph=``.
            NoWorkersError: No worker answers, and the answer was not sent. Or the last one left in
                that very moment: then the message says that the next one may still take it.
            ServerUnavailableError: Temporal does not answer; the message says whether the answer
                was sent.
            ThreadFullError: The thread takes no more runs.
        """
        run_id = await self._shared.transport.resume(str(thread_id), value)
        return Run(self, run_id, str(thread_id))

    async def aget_run(self, run_id: str) -> Run:
        """A run by its id, whoever started it.

        Args:
            run_id: The run.

        Raises:
            RunNotFoundError: Temporal does not know it (any more).
        """
        return await find_run(self, run_id)

    def alist_runs(self, thread_id: str) -> AsyncIterator[Run]:
        """Runs of a thread: the last hundred that have ended, the active one, those in line, then
        those that no worker has taken yet.

        Args:
            thread_id: The thread; of one that does not exist there are none.
        """
        return runs_of(self, str(thread_id))

    # -- threads ------------------------------------------------------------------------------

    async def adelete_thread(self, thread_id: str) -> None:
        """Remove a thread: open runs, nested namespaces, archives and large values.

        Returns when they are removed. A thread that does not exist is no error. Temporal keeps its
        closed executions for the namespace's retention; see ``apurge_thread``.

        Args:
            thread_id: The thread.

        Raises:
            NoWorkersError: No worker answers. The thread can still be read, but a worker that is
                started later may carry the request out: call again then.
            ServerUnavailableError: Temporal does not answer.
            TemporalExecError: The thread is deleted, but removing what it kept takes more than
                300 s; that goes on without this call.
        """
        await self._shared.transport.delete(str(thread_id))
        self.replica(str(thread_id)).forget()

    async def apurge_thread(self, thread_id: str) -> None:
        """Remove a thread, and the closed executions in which Temporal still shows its content.

        Call it instead of ``adelete_thread``, not after: a deleted thread does not tell all of
        them any more. Temporal removes them in the background.

        Args:
            thread_id: The thread.

        Raises:
            NoWorkersError, ServerUnavailableError, TemporalExecError: As ``adelete_thread``; no
                closed execution was removed.
            StorageError: What tells which executions there are cannot be read; nothing was deleted.
            temporalio.service.RPCError: Temporal refuses to list or remove a closed execution; the
                thread itself is deleted.
        """
        await maintenance.purge(self, str(thread_id))

    def alist_threads(
        self,
        *,
        status: ThreadStatus | None = None,
        graph: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[ThreadInfo]:
        """Threads with their status, in the order of Temporal's visibility store.

        Temporal's visibility store finds them, and lags behind by a moment; what is told of each
        comes from the thread itself.

        Args:
            status: Only threads of this status; those that cannot be read are "unreadable".
            graph: Only threads whose last run was one of this graph.
            limit: At most so many.
        """
        return threads.threads(self, status=status, graph=graph, limit=limit)

    async def aget_thread(self, thread_id: str) -> ThreadInfo | None:
        """One thread with its status; ``None`` when there is no such thread.

        Args:
            thread_id: The thread. One that cannot be read has the status "unreadable".

        Raises:
            ServerUnavailableError: Temporal does not answer.
        """
        return await threads.thread(self, str(thread_id))

    def aexport_thread(self, thread_id: str) -> AsyncIterator[dict[str, Any]]:
        """A thread's checkpoints in all namespaces, oldest first, as JSON-compatible dicts.

        All of them are in memory before the first is given. Needs no worker.

        Args:
            thread_id: The thread.

        Returns:
            For each checkpoint ``thread_id``, ``checkpoint_ns``, ``checkpoint_id``,
            ``parent_checkpoint_id`` (``None``: it has no parent), ``ts`` (ISO 8601), ``metadata``,
            ``values`` by channel and ``pending_writes``. LangChain's objects are in LangChain's
            form, interrupts, dataclasses and pydantic models by their fields, sets as lists; what
            else JSON does not know is text. Nothing when there is no such thread.

        Raises:
            ServerUnavailableError: Temporal does not answer.
            StorageError: Part of the thread cannot be read.
        """
        return threads.export(self, str(thread_id))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints whose metadata carries one of the run ids, in all threads.

        Args:
            run_ids: The runs.

        Raises:
            StorageError: Threads cannot be read, so that checkpoints may be left there; the others
                are done.
            NoWorkersError, ServerUnavailableError: Nobody answers; call again.
        """
        await maintenance.delete_for_runs(self, set(run_ids))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints, writes and namespaces of a thread, large values included.

        The copy has the source's graph and takes the same answers; by themselves they come to the
        source alone (``interrupt_with_default``). Nothing happens when there is no such thread.
        What the target holds already stays.

        Args:
            source_thread_id: The thread to copy.
            target_thread_id: The thread that gets the copies; made if there is none.

        Raises:
            NoWorkersError: No worker answers.
            ServerUnavailableError: Temporal does not answer.
            StorageError: Part of the source cannot be read, or a large value cannot be stored.
            ThreadFullError: The target cannot take more.
            UsageError: The id of the target is above 10,000 bytes.

        After an error the target may hold part of the copy: delete it and call again.
        """
        await maintenance.copy_thread(self, str(source_thread_id), str(target_thread_id))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Keep only the latest checkpoint per namespace, or (``"delete"``) nothing.

        What DeltaChannels of the latest are rebuilt from is kept, but not shown. Threads that do
        not exist are passed over.

        Args:
            thread_ids: The threads, one after the other.
            strategy: ``"keep_latest"``, or ``"delete"`` for ``adelete_thread``.

        Raises:
            UsageError: The strategy is unknown; nothing was dropped.
            NoWorkersError: No worker answers. Threads before it in the list are done.
            ServerUnavailableError: Temporal does not answer.
            StorageError: Part of a thread cannot be read.
            TemporalExecError: With ``"delete"``, as ``adelete_thread``.
        """
        await maintenance.prune(self, [str(t) for t in thread_ids], strategy)

    def get_next_version(self, current: str | None, channel: None) -> str:
        """Versions as LangGraph's own savers make them; LangGraph's API server relies on it."""
        number = 0 if current is None else int(str(current).split(".")[0])
        return f"{number + 1:032}.{random.random():016}"

    # -- the same, for callers that wait -------------------------------------------------------

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
        found = self.alist(config, filter=filter, before=before, limit=limit)
        yield from self._sync(_collect(found))

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

    def purge_thread(self, thread_id: str) -> None:
        """Sync ``apurge_thread``."""
        self._sync(self.apurge_thread(thread_id))

    def start(self, graph: Any, input: Any, config: RunnableConfig, **options: Any) -> Run:
        """Sync ``astart``."""
        run: Run = self._sync(self.astart(graph, input, config, **options))
        return run

    def resume(self, thread_id: str, value: Any) -> Run:
        """Sync ``aresume``."""
        run: Run = self._sync(self.aresume(thread_id, value))
        return run

    def get_run(self, run_id: str) -> Run:
        """Sync ``aget_run``."""
        run: Run = self._sync(self.aget_run(run_id))
        return run

    def list_runs(self, thread_id: str) -> Iterator[Run]:
        """Sync ``alist_runs``."""
        yield from self._sync(_collect(self.alist_runs(thread_id)))

    def list_threads(
        self,
        *,
        status: ThreadStatus | None = None,
        graph: str | None = None,
        limit: int | None = None,
    ) -> Sequence[ThreadInfo]:
        """Sync ``alist_threads``."""
        found: Sequence[ThreadInfo] = self._sync(
            _collect(self.alist_threads(status=status, graph=graph, limit=limit))
        )
        return found

    def get_thread(self, thread_id: str) -> ThreadInfo | None:
        """Sync ``aget_thread``."""
        found: ThreadInfo | None = self._sync(self.aget_thread(thread_id))
        return found

    def export_thread(self, thread_id: str) -> Sequence[dict[str, Any]]:
        """Sync ``aexport_thread``."""
        found: Sequence[dict[str, Any]] = self._sync(_collect(self.aexport_thread(thread_id)))
        return found

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


async def _collect(items: AsyncIterator[T]) -> tuple[T, ...]:
    return tuple([item async for item in items])


# Before the program makes its first client.
_native.forward_core_logs()

# `graph.with_config(checkpointer=TemporalSaver(...))` looks `with_config` up before the saver is
# made, so the hooks must be there when this module is imported. They do nothing for other savers.
# What makes them impossible is raised by the constructor.
with contextlib.suppress(UnsupportedLangGraphError):
    hooks.install()
