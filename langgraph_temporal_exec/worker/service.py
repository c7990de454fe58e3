"""Worker side: the Temporal workers of one process, on a thread and event loop of their own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import uuid
from collections.abc import AsyncGenerator, Generator
from dataclasses import replace
from datetime import timedelta
from typing import Any

from temporalio.client import WorkflowFailureError
from temporalio.common import VersioningBehavior
from temporalio.service import RPCError
from temporalio.worker import Worker, WorkerDeploymentConfig

from .._loops import LoopThread, settle
from ..caller.hub import Mailbox
from ..errors import UsageError, WorkerStoppedError
from ..protocol import names
from ..storage.store import Store
from ..workflow.run import RunWorkflow
from ..workflow.thread import ThreadWorkflow
from .drive import Activities
from .embedded import EmbeddedRuns
from .live import LiveTasks
from .moving import Mover
from .placed import PlacedTasks
from .ports import CalledRun
from .registry import GraphRegistry
from .upkeep import Upkeep

logger = logging.getLogger(__name__)

MAX_TASKS = 2_000
"""Tasks of one process at once. A parent task holds its slot while nested ones need theirs, so
this is meant to be out of reach."""

MAX_DRIVES = 200
"""Runs of callers elsewhere that one process drives at once; more wait on the queue."""

MAX_UPKEEP = 1_000
"""Activities of upkeep at once. That of a thread holds its slot while those of its namespaces need
theirs, so this too is meant to be out of reach."""

STICKY_TIMEOUT = timedelta(seconds=3)
"""How long a workflow task waits for the process that had the workflow in its cache. The default
of 10 s would be added to every failover."""

SHUTDOWN_S = 60.0
"""How long Temporal's workers may take to stop, a server that is away included."""

STOP_GRACE = timedelta(seconds=5)


class WorkerHost:
    """Everything one process needs to serve graphs; implements ``ports.Host``, and for calls in
    this process ``caller.admission.WorkerHere``.

    Args:
        store: Threads, and the options and serializer of the saver whose runs are served.
        loop: The user's event loop, where graphs of callers elsewhere run.
        max_cached_workflows: Temporal's option; 0 forces a replay on every workflow task.
        deployment: Temporal's option for Worker Deployment Versioning.

    Attributes:
        queue: Task queue that only this process polls.
        loop_thread: The OS thread that runs the worker's loop.
        tasks: Live tasks of the process.
        mailbox: Where tasks that other workers run send what they do.
        registry: Graphs that are served.
        embedded: Runs whose callers are in this process.
        stopped: It polls no more.
        _transport, _options: Those of the store.
        _workers: Temporal's workers, one for each kind of task queue.
        _running: The asyncio tasks in which these run.
        _mover: Takes over threads of task queues nobody serves; ``None`` before the start.
    """

    def __init__(
        self,
        store: Store,
        loop: asyncio.AbstractEventLoop | None,
        *,
        max_cached_workflows: int = 1000,
        deployment: WorkerDeploymentConfig | None = None,
    ) -> None:
        process = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.store = store
        self.queue = names.process_queue(store.options.task_queue, process)
        self.tasks = LiveTasks()
        self.mailbox = Mailbox(store.transport)
        self.loop_thread = LoopThread("langgraph-temporal-worker")
        self.registry = GraphRegistry(store.options.graph, loop)
        self.embedded = EmbeddedRuns(self)
        self._transport = store.transport
        self._options = store.options
        self._max_cached_workflows = max_cached_workflows
        self._deployment = _with_behavior(deployment)
        self._workers: list[Worker] = []
        self._running: list[asyncio.Task[None]] = []
        self._mover: Mover | None = None
        self.stopped = False

    def add(self, graph: Any) -> None:
        """Serve a graph, or a mapping of graphs by name."""
        self.registry.add(graph)

    async def start(self) -> None:
        """Start polling; raises what makes the workers unable to."""
        await self.loop_thread.call(self._start())

    async def _start(self) -> None:
        activities = Activities(self, self.registry, self.embedded)
        placed = PlacedTasks(self, self.registry)
        upkeep = Upkeep(self._transport, self.store.reader)
        heartbeat = self._options.heartbeat_timeout / 4
        common: dict[str, Any] = {
            "graceful_shutdown_timeout": STOP_GRACE,
            # Cancellation and loss are learned from heartbeats; the SDK's default would hold
            # them back for 30 s and more.
            "max_heartbeat_throttle_interval": heartbeat,
            "default_heartbeat_throttle_interval": heartbeat,
        }
        client = await self._transport.worker_client()
        try:
            self._workers = [
                Worker(
                    client,
                    task_queue=self._options.task_queue,
                    workflows=[ThreadWorkflow, RunWorkflow],
                    activities=[activities.drive],
                    max_concurrent_activities=MAX_DRIVES,
                    max_cached_workflows=self._max_cached_workflows,
                    sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
                    # Else whoever has a run's workflow gets each of its attempts, also the next one
                    # of a run that it has just refused (no such graph, another key), and one who
                    # could drive it never sees it.
                    disable_eager_activity_execution=True,
                    # Only here: the other queues carry no workflows, and what is on them belongs
                    # to one process or to no version of a graph.
                    deployment_config=self._deployment,
                    **common,
                ),
                Worker(
                    client,
                    task_queue=self.queue,
                    activities=[
                        activities.drive,
                        activities.task,
                        activities.listen,
                        activities.stop,
                    ],
                    max_concurrent_activities=MAX_TASKS,
                    **common,
                ),
                Worker(
                    client,
                    task_queue=names.upkeep_queue(self._options.task_queue),
                    activities=[upkeep.archive, upkeep.discard, upkeep.erase],
                    max_concurrent_activities=MAX_UPKEEP,
                    **common,
                ),
                Worker(
                    client,
                    task_queue=names.tasks_queue(self._options.task_queue),
                    activities=[placed.run],
                    max_concurrent_activities=MAX_TASKS,
                    **common,
                ),
            ]
        except RuntimeError as exc:
            raise UsageError(
                f"This process cannot host a worker on task queue {self._options.task_queue!r}: "
                "most likely another saver with the same client already does. One client serves a "
                "task queue once: share the saver, or connect another client."
            ) from exc
        self._running = [asyncio.create_task(w.run()) for w in self._workers]
        done, _ = await asyncio.wait(
            self._running, timeout=0.05, return_when=asyncio.FIRST_EXCEPTION
        )
        for task in done:
            task.result()
        for task in self._running:
            task.add_done_callback(self._on_worker_done)
        self._mover = self._transport.mover = Mover(
            self._transport, self.loop_thread, self._deployment
        )
        logger.info(
            "worker %s serves task queue %r: %s",
            self.queue,
            self._options.task_queue,
            ", ".join(self.registry.names()) or "the graphs that are called in this process",
        )

    def _on_worker_done(self, task: asyncio.Task[None]) -> None:
        if self.stopped or task.cancelled():
            return
        exc = task.exception()
        logger.error("the Temporal worker of this process stopped by itself", exc_info=exc)
        self.stopped = True
        self.embedded.stop()

    async def stop(self) -> None:
        """Let what is about to end report, stop polling, stop the loop."""
        logger.info("worker %s stops", self.queue)
        await self.loop_thread.call(self._stop())
        await asyncio.to_thread(self._stop_threads)
        await asyncio.to_thread(self.mailbox.close)
        await settle()
        logger.info("worker %s has stopped", self.queue)

    async def _stop(self) -> None:
        # A run that has ended is reported by its drive Activity, which may not have arrived yet.
        for _ in range(int(STOP_GRACE.total_seconds() * 20)):
            if not len(self.embedded) or self.stopped:
                break
            await asyncio.sleep(0.05)
        if not self.stopped:
            with contextlib.suppress(TimeoutError, RPCError):
                async with asyncio.timeout(STOP_GRACE.total_seconds()):
                    await asyncio.gather(*(map(self._closed, self.embedded.closing)))
        self.stopped = True
        self.embedded.stop()
        self._transport.mover = None
        if self._mover is not None:
            await self._mover.stop()
        await self._shut_down()

    async def _shut_down(self) -> None:
        """Stop Temporal's workers; what does not end, as a codec that never answers, is left."""
        stopping = [asyncio.create_task(w.shutdown()) for w in self._workers]
        ending = [*stopping, *self._running]
        if not ending:
            # Refused before it had any.
            return
        done, left = await asyncio.wait(ending, timeout=SHUTDOWN_S)
        for task in done:
            # A worker that has failed was logged when it did.
            if not task.cancelled():
                task.exception()
        if left:
            logger.error(
                "worker %s: Temporal's worker has not stopped within %g s and is left behind; "
                "another worker goes on with what it does not report",
                self.queue,
                SHUTDOWN_S,
            )

    async def _closed(self, run_workflow_id: str) -> None:
        """Wait until a run that has ended is closed, which takes a last task of its workflow: no
        other process may come to do it for long."""
        handle = self._transport.client.get_workflow_handle(run_workflow_id)
        with contextlib.suppress(WorkflowFailureError):
            await handle.result(follow_runs=False)

    def _stop_threads(self) -> None:
        self.registry.stop()
        self.loop_thread.stop()

    def check(self) -> None:
        """Raise when this worker does not poll any more."""
        if self.stopped:
            raise WorkerStoppedError(
                "The worker of this process has stopped; open a new `saver.worker(...)`."
            )

    def serve(self, name: str, graph: Any) -> None:
        """A graph was called here: serve it to others as well."""
        self.registry.seen(name, graph)

    def astream(self, run: CalledRun) -> AsyncGenerator[Any, None]:
        """Run a call in this process."""
        return self.embedded.astream(run)

    def stream(self, run: CalledRun) -> Generator[Any, None, None]:
        """Run a sync call in this process."""
        return self.embedded.stream(run)


def _with_behavior(deployment: WorkerDeploymentConfig | None) -> WorkerDeploymentConfig | None:
    """The deployment with a behavior for workflows that name none, as ours do.

    Auto-upgrade unless the user chose: a thread stays open for ever, and pinned to a version
    whose workers are gone it could not even be read.
    """
    if (
        deployment is None
        or not deployment.use_worker_versioning
        or deployment.default_versioning_behavior is not VersioningBehavior.UNSPECIFIED
    ):
        return deployment
    return replace(deployment, default_versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
