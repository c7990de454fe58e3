"""Public API: ``TemporalSaver``, the checkpointer that makes a graph durable."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from temporalio.client import Client
from temporalio.worker import (
    PollerBehaviorAutoscaling,
    PollerBehaviorSimpleMaximum,
    WorkerDeploymentConfig,
    WorkerTuner,
)

from . import _native, costs, local, threads, workers
from ._loops import Context
from .caller.admission import Caller
from .caller.hub import Mailbox
from .errors import UnsupportedLangGraphError, UsageError
from .options import (
    Affinity,
    NodeOptions,
    Options,
    Retention,
    Strategy,
    SubagentOptions,
    with_inline,
)
from .protocol.messages import AppendRequest
from .runs import Run, find_run, runs_of
from .seam import hooks
from .storage import maintenance
from .storage.store import Store, address, stored_config, with_text_id
from .storage.thread_client import Transport
from .threads import ThreadInfo, ThreadStatus
from .values.ops import next_version, put_op, writes_op
from .worker.claim import kept_name
from .worker.hosting import SHUTDOWN_GRACE, WorkerOptions
from .worker.service import WorkerHost
from .workers import WorkerInfo

# The type of a parameter below, for whoever passes one on.
__all__ = ["TemporalSaver", "ThreadStatus"]

T = TypeVar("T")

logger = logging.getLogger(__name__)


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
        nodes: Options of nodes by their names, in whatever graph, or as "graph:node" in one; "*":
            of all that are not named. It is the saver of the worker that decides.
        tools: Options of tools by their names, wherever they are called: of the task that calls
            one. ``task_queue`` has other workers run it. It is the saver of the worker that
            decides, of this and of the next two.
        subagents: Options of deepagents' sub-agents by their names, or one for all of them.
        spread: Let the tasks of a superstep run on all workers of the task queue, rather than in
            the process that drives the run. Per call: the same key in ``configurable``.
        heartbeat_timeout: A worker silent for this long counts as dead.
        no_worker_timeout: How long a call waits for a sign of life of any worker.
        id_prefix: First part of all workflow ids, the same for callers and workers. Deployments
            with different ones need task queues of their own.
        retention: Which checkpoints are kept when a run ends; default: all. It is the saver of
            the worker that decides.
        multitask_strategy: What a call does when another run has its thread: "enqueue" waits in
            the thread's run queue, "reject" raises ``ThreadBusyError``, "interrupt" stops the other
            run after its superstep, "rollback" stops it at once and undoes it. Per call: the same
            key in ``configurable``.
        max_lost_attempts: After so many attempts in a row whose worker was lost, the run ends with
            ``RunFailedError`` and its thread waits for somebody to continue it; 1: nothing is
            executed again by itself. Per call: the same key in ``configurable``.
        give_up_after: A run is not driven again any more when the first of such losses in a row is
            this long ago; default: no bound but ``max_lost_attempts``. Per call: the same key in
            ``configurable``.
        affinity: Where runs of a thread are driven. Its home is the worker that ran it first: what
            nodes keep in files is there. "prefer": there, or if it does not take a run within
            ``home_timeout``, on another worker, which becomes the home; the files stay behind.
            "require": there alone, however long that takes. "none": on whichever worker comes
            first. Per call: the same key in ``configurable``.
        home_timeout: See ``affinity``. Per call: the same key in ``configurable``.
        run_timeout: A run that has not ended so long after its start, time in the run queue
            included, is cancelled and fails with ``RunTimeoutError``; default: no bound. Per call:
            the same key in ``configurable``.
        park_after: A thread that nobody has used for so long, or that has waited for an answer for
            so long, leaves only what finds it again: its log goes into archives, the history of its
            workflow is left behind. Whatever comes next finds it as it was. Default: never. It is
            the saver of the worker that decides.
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
        tools: Mapping[str, NodeOptions] | None = None,
        subagents: Mapping[str, SubagentOptions] | SubagentOptions | None = None,
        spread: bool = False,
        heartbeat_timeout: timedelta = timedelta(seconds=10),
        no_worker_timeout: timedelta = timedelta(seconds=10),
        id_prefix: str = "langgraph",
        retention: Retention | None = None,
        multitask_strategy: Strategy = "enqueue",
        max_lost_attempts: int = 50,
        give_up_after: timedelta | None = None,
        affinity: Affinity = "prefer",
        home_timeout: timedelta = timedelta(seconds=10),
        run_timeout: timedelta | None = None,
        park_after: timedelta | None = None,
        serde: SerializerProtocol | None = None,
    ) -> None:
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
            nodes=with_inline(nodes if nodes is not None else {}, inline),
            tools=tools if tools is not None else {},
            subagents=subagents if subagents is not None else {},
            spread=spread,
            heartbeat_timeout=heartbeat_timeout,
            no_worker_timeout=no_worker_timeout,
            id_prefix=id_prefix,
            retention=retention,
            multitask_strategy=multitask_strategy,
            max_lost_attempts=max_lost_attempts,
            give_up_after=give_up_after,
            affinity=affinity,
            home_timeout=home_timeout,
            run_timeout=run_timeout,
            park_after=park_after,
        )
        transport = Transport(client, options)
        # LangGraph's constructor sets `serde`, and falls back on the default of its class.
        self._caller = Caller(Store(transport, BaseCheckpointSaver.serde), Mailbox(transport))
        super().__init__(serde=serde)

    # -- parts --------------------------------------------------------------------------------

    @property
    def client(self) -> Client:
        """The Temporal client."""
        return self._store.transport.client

    @property
    def options(self) -> Options:
        """The validated options."""
        return self._store.options

    @property
    def serde(self) -> SerializerProtocol:
        """The serializer of the state; see the argument of this name.

        LangGraph sets another one on the copies it makes. A worker that was begun before keeps the
        one it was begun with.
        """
        return self._store.serde

    @serde.setter
    def serde(self, serde: SerializerProtocol) -> None:
        self._caller = self._caller.with_serde(serde)

    @property
    def __langgraph_temporal__(self) -> hooks.Durable:
        return self._caller

    @property
    def _store(self) -> Store:
        return self._caller.store

    def _wait(self, coro: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on a loop that is not the caller's."""
        return self._caller.mailbox.loop_thread.wait(coro)

    # -- reading ------------------------------------------------------------------------------

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The addressed or latest checkpoint of a thread."""
        found = await self._store.checkpoint(config)
        edit = hooks.current_edit()
        if edit is not None and found is not None and not address(config)[1] and not edit.base:
            edit.base = found.checkpoint["id"]
        return found

    def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Checkpoints, newest first; without a config those of all threads."""
        return self._store.checkpoints(config, filter=filter, before=before, limit=limit)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Writes since the last snapshot of DeltaChannels, from one walk."""
        return await self._store.delta_history(config, channels)

    # -- writing ------------------------------------------------------------------------------

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint that no run has made."""
        hooks.check_installed()
        config = with_text_id(config)
        await self._store.append(
            config,
            lambda writer: put_op(self.serde, config, checkpoint, metadata, new_versions, writer),
            self._edited(config, checkpoint, metadata),
        )
        return stored_config(config, checkpoint["id"])

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store writes pending on a checkpoint, outside of a run."""
        hooks.check_installed()
        config = with_text_id(config)
        await self._store.append(
            config,
            lambda writer: writes_op(self.serde, config, writes, task_id, task_path, writer),
        )

    def _edited(
        self, config: RunnableConfig, checkpoint: Checkpoint, metadata: CheckpointMetadata
    ) -> AppendRequest:
        """What the thread cannot tell from a checkpoint that no run has made."""
        graph = self.options.graph or str(metadata.get("graph_id") or "")
        edit = hooks.current_edit()
        if edit is None or address(config)[1]:
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

    # -- workers ------------------------------------------------------------------------------

    def worker(
        self,
        *graphs: Any,
        name: str | None = None,
        worker_queue_file: str | Path | None = None,
        max_concurrent_runs: int | None = None,
        max_concurrent_tasks: int | None = None,
        max_cached_workflows: int | None = None,
        workflow_cache_bytes: int | None = None,
        shutdown_grace: timedelta = SHUTDOWN_GRACE,
        health_port: int | None = None,
        tuner: WorkerTuner | None = None,
        pollers: PollerBehaviorAutoscaling | PollerBehaviorSimpleMaximum | None = None,
        deployment: WorkerDeploymentConfig | None = None,
    ) -> Context[TemporalSaver]:
        """Host a worker in this process for as long as the context is open.

        For ``async with``, and for ``with`` in code that has no event loop.

        Args:
            graphs: Compiled graphs, or mappings ``{name: graph}``. With none, every graph that
                is called in this process is served.
            name: Name of the worker, which stands for its disk: started again under this name, it
                is the home that threads have (``affinity``). Default: one that is never used again.
            worker_queue_file: Instead of ``name``: a file on that disk, in which the name of the
                worker's task queue is kept; made if need be.
            max_concurrent_runs: How many runs this process drives at once; default: 200 of callers
                elsewhere, any number of its own. More wait on the task queue, where other workers
                take them. A run that waits for its thread, or for an answer, does not count.
            max_concurrent_tasks: How many nodes this process executes at once; default: no bound. A
                node that waits for a graph it has called does not count; nor do inline nodes.
            max_cached_workflows: Temporal's worker option: how many workflows (threads and runs)
                stay in memory; 0 forces a replay on every workflow task. Default: 1,000.
            workflow_cache_bytes: The same as a bound of memory: so many bytes, at 0.5 MB for each
                workflow, which is what those with the largest logs take (docs/reference/limits.md).
            shutdown_grace: How long runs under way may go on when the context ends. New ones go to
                other workers from the first moment.
            health_port: Port on which ``/live`` and ``/ready`` answer over HTTP; default: none.
            tuner: Temporal's ``WorkerTuner`` instead of ``max_concurrent_runs``: its slots for
                Activities are runs of callers elsewhere, those for workflow tasks what they say.
            pollers: Temporal's behavior of pollers, ``PollerBehaviorAutoscaling()`` for example.
            deployment: Temporal's Worker Deployment Versioning (docs/how-to/deploys.md).

        Returns:
            A context that gives this saver. When it ends, runs under way have ``shutdown_grace``
            to end; with the others another worker goes on.

        Raises:
            DuplicateGraphError: Two graphs share a name.
            DuplicateWorkerError: Another live process has the worker's name.
            UsageError: This saver already hosts a worker, another one with the same client serves
                the task queue, an argument is no graph, an option is out of range, the port is
                taken, or ``affinity="require"`` is wanted of a worker that cannot come back under
                its name.
            ServerUnavailableError: Temporal does not answer.
        """
        settings = WorkerOptions(
            name=name,
            worker_queue_file=worker_queue_file,
            max_concurrent_runs=max_concurrent_runs,
            max_concurrent_tasks=max_concurrent_tasks,
            max_cached_workflows=max_cached_workflows,
            workflow_cache_bytes=workflow_cache_bytes,
            shutdown_grace=shutdown_grace,
            health_port=health_port,
            tuner=tuner,
            pollers=pollers,
            deployment=deployment,
        )
        return Context(lambda: self._worker(graphs, settings))

    @asynccontextmanager
    async def _worker(
        self,
        graphs: Sequence[Any],
        settings: WorkerOptions,
    ) -> AsyncIterator[TemporalSaver]:
        if self._caller.host is not None:
            raise UsageError("This saver already hosts a worker in this process.")
        if settings.worker_queue_file is not None:
            file, queue = settings.worker_queue_file, self.options.task_queue
            name = await asyncio.to_thread(kept_name, file, queue)
            settings = replace(settings, name=name, worker_queue_file=None)
        if settings.name is None and self.options.affinity == "require" and not settings.alone:
            raise UsageError(
                "affinity='require' needs a worker that comes back under its name: give it one, "
                "saver.worker(..., name='disk-1') or worker_queue_file='/var/lib/agent/queue'. "
                "For one without, threads would wait for ever once its process has ended."
            )
        host = WorkerHost(self._store, asyncio.get_running_loop(), settings)
        try:
            for graph in graphs:
                host.add(graph)
            await host.start()
            self._caller.host = host
            yield self
        finally:
            self._caller.host = None
            await host.stop()

    def serve(self, name: str, graph: Any) -> None:
        """Have the worker of this process serve a graph, as if it had been called here; for
        programs that learn of their graphs after the worker has started."""
        if self._caller.host is not None:
            self._caller.host.serve(name, graph)

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
        the process, whose end they do not delay: call this only if you need to know that
        they are gone. Copies of a saver are closed together. No run is cancelled, and a worker of
        ``saver.worker()`` goes on until its context ends.
        """
        self._caller.mailbox.close()

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
        run_id, thread_id = await self._caller.start(graph, input, config, options)
        store = self._store.with_serde(hooks.reviving(graph, self.serde))
        return Run(store, self._caller.mailbox, run_id, thread_id)

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
        run_id = await self._store.transport.resume(str(thread_id), value)
        return Run(self._store, self._caller.mailbox, run_id, str(thread_id))

    async def aget_run(self, run_id: str) -> Run:
        """A run by its id, whoever started it.

        Args:
            run_id: The run.

        Raises:
            RunNotFoundError: Temporal does not know it (any more).
        """
        return await find_run(self._store, self._caller.mailbox, run_id)

    def alist_runs(self, thread_id: str) -> AsyncIterator[Run]:
        """Runs of a thread: the last hundred that have ended, the active one, those in its run
        queue, then those that no worker has taken yet.

        Args:
            thread_id: The thread; of one that does not exist there are none.
        """
        return runs_of(self._store, self._caller.mailbox, str(thread_id))

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
        await self._store.delete(str(thread_id))

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
        await maintenance.purge(self._store, str(thread_id))

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

        Raises:
            UsageError: There is no such status.
        """
        return threads.threads(self._store, status=status, graph=graph, limit=limit)

    async def aget_thread(self, thread_id: str) -> ThreadInfo | None:
        """One thread with its status; ``None`` when there is no such thread.

        Args:
            thread_id: The thread. One that cannot be read has the status "unreadable".

        Raises:
            ServerUnavailableError: Temporal does not answer.
        """
        return await threads.thread(self._store, str(thread_id))

    async def aget_cost(self, thread_id: str) -> costs.Cost | None:
        """What a thread has cost on Temporal, with its runs, nested graphs and large values.

        Counted from histories, so it needs no worker, and shows nothing of what leaves no event:
        see ``Cost.UNSEEN``. ``Run.acost`` is the same for one run.

        Args:
            thread_id: The thread; one that was deleted, while Temporal keeps something of it.

        Returns:
            Actions by kind, and bytes of history; ``None`` when there is no such thread.

        Raises:
            StorageError: A history cannot be read.
            ServerUnavailableError: Temporal does not answer.
        """
        return await costs.cost_of_thread(self._store, str(thread_id))

    def alist_workers(self) -> AsyncIterator[WorkerInfo]:
        """Worker processes of the deployment, and what each does; on whatever task queue.

        One that does not answer within 3 s is listed all the same, as such.

        Raises:
            temporalio.service.RPCError: Temporal cannot list them.
        """
        return workers.workers(self._store)

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
        return threads.export(self._store, str(thread_id))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Remove the checkpoints whose metadata carries one of the run ids, in all threads.

        Args:
            run_ids: The runs.

        Raises:
            StorageError: Threads cannot be read, so that checkpoints may be left there; the others
                are done.
            NoWorkersError, ServerUnavailableError: Nobody answers; call again.
        """
        await maintenance.delete_for_runs(self._store, set(run_ids))

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
        await maintenance.copy_thread(self._store, str(source_thread_id), str(target_thread_id))

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
        await maintenance.prune(self._store, [str(t) for t in thread_ids], strategy)

    def get_next_version(self, current: str | None, channel: None) -> str:
        """See ``values.ops.next_version``."""
        return next_version(current)

    # -- the same, for callers that wait -------------------------------------------------------

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Sync ``aget_tuple``."""
        return self._wait(self.aget_tuple(config))

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
        yield from self._wait(_collect(found))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Sync ``aget_delta_channel_history``."""
        return self._wait(self.aget_delta_channel_history(config=config, channels=channels))

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Sync ``aput``."""
        return self._wait(self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Sync ``aput_writes``."""
        self._wait(self.aput_writes(config, writes, task_id, task_path))

    def delete_thread(self, thread_id: str) -> None:
        """Sync ``adelete_thread``."""
        self._wait(self.adelete_thread(thread_id))

    def purge_thread(self, thread_id: str) -> None:
        """Sync ``apurge_thread``."""
        self._wait(self.apurge_thread(thread_id))

    def start(self, graph: Any, input: Any, config: RunnableConfig, **options: Any) -> Run:
        """Sync ``astart``."""
        return self._wait(self.astart(graph, input, config, **options))

    def resume(self, thread_id: str, value: Any) -> Run:
        """Sync ``aresume``."""
        return self._wait(self.aresume(thread_id, value))

    def get_run(self, run_id: str) -> Run:
        """Sync ``aget_run``."""
        return self._wait(self.aget_run(run_id))

    def list_runs(self, thread_id: str) -> Sequence[Run]:
        """Sync ``alist_runs``."""
        return self._wait(_collect(self.alist_runs(thread_id)))

    def list_threads(
        self,
        *,
        status: ThreadStatus | None = None,
        graph: str | None = None,
        limit: int | None = None,
    ) -> Sequence[ThreadInfo]:
        """Sync ``alist_threads``."""
        found = self._wait(_collect(self.alist_threads(status=status, graph=graph, limit=limit)))
        return found

    def get_thread(self, thread_id: str) -> ThreadInfo | None:
        """Sync ``aget_thread``."""
        return self._wait(self.aget_thread(thread_id))

    def get_cost(self, thread_id: str) -> costs.Cost | None:
        """Sync ``aget_cost``."""
        return self._wait(self.aget_cost(thread_id))

    def list_workers(self) -> Sequence[WorkerInfo]:
        """Sync ``alist_workers``."""
        return self._wait(_collect(self.alist_workers()))

    def export_thread(self, thread_id: str) -> Sequence[dict[str, Any]]:
        """Sync ``aexport_thread``."""
        return self._wait(_collect(self.aexport_thread(thread_id)))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Sync ``adelete_for_runs``."""
        self._wait(self.adelete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Sync ``acopy_thread``."""
        self._wait(self.acopy_thread(source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Sync ``aprune``."""
        self._wait(self.aprune(thread_ids, strategy=strategy))


async def _collect(items: AsyncIterator[T]) -> Sequence[T]:
    return [item async for item in items]


def store_of(saver: TemporalSaver) -> Store:
    """The threads of a saver, for the rest of this package."""
    return saver._store


def caller_of(saver: TemporalSaver) -> Caller:
    """Who runs a saver's calls, for the rest of this package."""
    return saver._caller


# Before the program makes its first client.
_native.forward_core_logs()

# `graph.with_config(checkpointer=TemporalSaver(...))` looks `with_config` up before the saver is
# made, so the hooks must be there when this module is imported. They do nothing for other savers.
# What makes them impossible is raised by the constructor.
with contextlib.suppress(UnsupportedLangGraphError):
    hooks.install()
