"""Worker side: the Temporal workers of one process, on a thread and event loop of their own.

There are six, because each kind of work has a limit, and an end, of its own::

    task queue     what                     limit                  when the process stops
    shared         workflow tasks, eager    cache; of tasks see    to the end
                   tasks                    ``slots``
    shared         ``drive`` of callers     max_concurrent_runs    takes nothing new from the first
                   elsewhere                                       moment; what is driven has the
                                                                   grace to end
    of the home    ``drive`` of threads     max_concurrent_runs,   as the one before
                   whose home this is, and  waited for here
                   tasks of sub-agents
    of tasks       tasks of runs that       max_concurrent_tasks   as the two before
                   others drive
    the process's  tasks, and ``drive`` of  out of reach; of       to the end: runs under way need
                   callers in this process  tasks see ``slots``    it
    upkeep         archives, removals       out of reach           to the end

Workflows are served during the grace because runs under way need them too, and there may be no
other worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import replace
from datetime import timedelta
from typing import Any

from temporalio.client import WorkflowFailureError
from temporalio.common import VersioningBehavior
from temporalio.service import RPCError
from temporalio.worker import Worker, WorkerDeploymentConfig

from .._loops import LoopThread, settle
from .._sandbox import sandboxed
from ..caller.hub import Mailbox
from ..errors import UsageError, WorkerStoppedError
from ..protocol import names
from ..storage.store import Store
from ..workflow.presence import WorkerWorkflow
from ..workflow.run import RunWorkflow
from ..workflow.thread import ThreadWorkflow
from .claim import Claim
from .drive import Activities
from .eager import EagerTasks
from .embedded import EmbeddedRuns
from .health import Health
from .hosting import WorkerOptions
from .last_runs import LastRuns
from .live import LiveTasks
from .moving import Mover
from .placed import PlacedTasks
from .ports import CalledRun
from .registry import GraphRegistry
from .shelving import Shelving
from .slots import Slots
from .upkeep import Upkeep

logger = logging.getLogger(__name__)

MAX_TASKS = 2_000
"""Tasks of one process at once. A parent task holds its slot while nested ones need theirs, so
this is meant to be out of reach."""

MAX_DRIVES = 200
"""Runs of callers elsewhere that one process drives at once unless told otherwise; more wait on the
queue."""

MAX_UPKEEP = 1_000
"""Activities of upkeep at once. That of a thread holds its slot while those of its namespaces need
theirs, so this too is meant to be out of reach."""

STICKY_TIMEOUT = timedelta(seconds=1.5)
"""How long a workflow task waits for the process that had the workflow in its cache. The default
of 10 s would be added to every failover."""

SHUTDOWN_S = 60.0
"""How long Temporal's workers may take to stop, a server that is away included."""

STOP_GRACE = timedelta(seconds=5)
"""How long what is over may take to be reported."""

LOOK_S = 0.05

FOLLOW_S = 5.0
"""How soon new credentials of the client are those of its twins. An old key is valid longer."""


class WorkerHost:
    """Everything one process needs to serve graphs; implements ``ports.Host``, and for calls in
    this process ``caller.admission.WorkerHere``.

    Args:
        store: Threads, and the options and serializer of the saver whose runs are served.
        loop: The user's event loop, where graphs of callers elsewhere run.
        settings: How it is to work.

    Attributes:
        name: Its name.
        named: Whether that was given.
        is_home: Whether threads stay here.
        last_runs: How it has left threads.
        queue: Task queue that only this process polls.
        home_queue: Task queue of the runs whose home it is.
        loop_thread: The OS thread that runs the worker's loop.
        tasks: Live tasks of the process.
        eager: Which of them are eager.
        mailbox: Where tasks that other workers run send what they do.
        registry: Graphs that are served.
        embedded: Runs whose callers are in this process.
        run_slots: How many runs it drives at once.
        task_slots: How many tasks it executes at once.
        stopping: It takes no new runs.
        stopped: It polls no more.
        _settings: As given.
        _deployment: That of the settings, completed.
        _health: Tells whether it lives, and takes work.
        _failed: A Temporal worker of it stopped by itself.
        _transport, _options: Those of the store.
        _driving: Temporal's workers that take runs of callers elsewhere: anybody's, and those
            whose home this one is; none before the start.
        _workers: Temporal's workers, these included; see the module.
        _running: The asyncio tasks in which these run.
        _mover: Takes over threads of task queues nobody serves; ``None`` before the start.
        _claim: Holds the name.
        _activities: What Temporal's workers call; ``None`` before the start.
        _ending: Stops them, if the name was lost; ``None``: it was not.
        _following: Keeps the credentials of other connections those of the client.
    """

    def __init__(
        self,
        store: Store,
        loop: asyncio.AbstractEventLoop | None,
        settings: WorkerOptions,
    ) -> None:
        self.store = store
        self._claim = Claim(
            store.transport,
            settings.name or "",
            alone=settings.alone,
            tell=self._told,
            lost=self._lose_name,
        )
        self.name = self._claim.card.worker
        self.named = self._claim.card.named
        # Which worker runs a thread is for the versions to say, unless somebody named the disk.
        deployment = settings.deployment
        versioned = deployment is not None and deployment.use_worker_versioning
        self.is_home = self.named or not versioned
        self.queue = self._claim.process_queue
        self.home_queue = self._claim.card.queue
        self.tasks = LiveTasks()
        self.last_runs = LastRuns()
        # With a tuner the slots of Activities are for the user to give.
        self.eager = EagerTasks(enabled=settings.tuner is None)
        self.mailbox = Mailbox(store.transport)
        self.loop_thread = LoopThread("langgraph-temporal-worker")
        self.registry = GraphRegistry(store.options.graph, loop)
        self.embedded = EmbeddedRuns(self)
        self.run_slots = Slots(settings.max_concurrent_runs)
        self.task_slots = Slots(settings.max_concurrent_tasks)
        self._transport = store.transport
        self._options = store.options
        self._settings = settings
        self._deployment = _with_behavior(settings.deployment)
        self._health = Health({"/live": self._dead_because, "/ready": self._unready_because})
        self._failed = False
        self._driving: list[Worker] = []
        self._workers: list[Worker] = []
        self._running: list[asyncio.Task[None]] = []
        self._mover: Mover | None = None
        self._activities: Activities | None = None
        self._ending: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None
        self.stopping = False
        self.stopped = False

    def add(self, graph: Any) -> None:
        """Serve a graph, or a mapping of graphs by name."""
        self.registry.add(graph)

    async def start(self) -> None:
        """Start polling; raises what makes the workers unable to."""
        await self.loop_thread.call(self._start())

    async def _start(self) -> None:
        activities = self._activities = Activities(self, self.registry, self.embedded)
        placed = PlacedTasks(self, self.registry)
        upkeep = Upkeep(self._transport, self.store.reader)
        shelving = Shelving(self._transport, self.store.reader)
        heartbeat = self._options.heartbeat_timeout / 4
        settings = self._settings
        if settings.health_port is not None:
            await self._health.start(settings.health_port)
        common: dict[str, Any] = {
            "graceful_shutdown_timeout": STOP_GRACE,
            # Cancellation and loss are learned from heartbeats; the SDK's default would hold
            # them back for 30 s and more.
            "max_heartbeat_throttle_interval": heartbeat,
            "default_heartbeat_throttle_interval": heartbeat,
        }
        if settings.pollers is not None:
            common["activity_task_poller_behavior"] = settings.pollers
            common["workflow_task_poller_behavior"] = settings.pollers
        slots: dict[str, Any] = {"max_concurrent_activities": settings.max_concurrent_runs}
        if settings.max_concurrent_runs is None:
            slots = {"max_concurrent_activities": MAX_DRIVES}
        if settings.tuner is not None:
            slots = {"tuner": settings.tuner}
        client = await self._transport.worker_client()
        # Two workers take Activities of the shared queue, if one of them only eager ones: of one
        # client only one may.
        driving = await self._transport.twin() if self.eager.enabled else client
        await self._claim.take()
        try:
            taking = {**common, "graceful_shutdown_timeout": settings.shutdown_grace}
            self._driving = [
                Worker(
                    driving,
                    task_queue=self._options.task_queue,
                    # Eager tasks of any process that have come to the queue after all.
                    activities=[activities.drive, activities.task],
                    # The other queues carry no workflows, and what is on them belongs to one
                    # process or to no version of a graph.
                    deployment_config=self._deployment,
                    **{**taking, **slots},
                ),
                Worker(
                    client,
                    task_queue=self.home_queue,
                    activities=[activities.drive, placed.run],
                    # No other worker is to have them: they wait here, for one of `run_slots`.
                    max_concurrent_activities=MAX_TASKS,
                    **taking,
                ),
                Worker(
                    client,
                    task_queue=names.tasks_queue(self._options.task_queue),
                    activities=[placed.run],
                    # What it cannot execute yet is for the others.
                    max_concurrent_activities=settings.max_concurrent_tasks or MAX_TASKS,
                    **taking,
                ),
            ]
            self._workers = [
                *self._driving,
                Worker(
                    client,
                    task_queue=self._options.task_queue,
                    workflows=[ThreadWorkflow, RunWorkflow],
                    activities=[activities.eager_task] if self.eager.enabled else [],
                    # Not of runs. Else whoever has a run's workflow gets each of its attempts, also
                    # the next one of a run that it has just refused (no such graph, another key),
                    # and one who could drive it never sees it.
                    **sandboxed(client, cache=self.eager, eager=frozenset([names.THREAD_WORKFLOW])),
                    max_cached_workflows=settings.cached_workflows,
                    sticky_queue_schedule_to_start_timeout=STICKY_TIMEOUT,
                    deployment_config=self._deployment,
                    **{**common, "tuner": settings.tuner, **self.eager.settings()},
                ),
                Worker(
                    client,
                    task_queue=self.queue,
                    workflows=[WorkerWorkflow],
                    **sandboxed(client),
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
                    activities=[
                        *(upkeep.archive, upkeep.discard, upkeep.erase),
                        *(shelving.close, shelving.retire, shelving.reopen),
                    ],
                    max_concurrent_activities=MAX_UPKEEP,
                    **common,
                ),
            ]
        except RuntimeError as exc:
            raise UsageError(
                f"This process cannot host a worker on task queue {self._options.task_queue!r}: "
                "most likely another saver with the same client already does. One client serves a "
                "task queue once: share the saver, or connect another client."
            ) from exc
        self.check()
        self._running = [asyncio.create_task(w.run()) for w in self._workers]
        done, _ = await asyncio.wait(
            self._running, timeout=0.05, return_when=asyncio.FIRST_EXCEPTION
        )
        for task in done:
            task.result()
        for task in self._running:
            task.add_done_callback(self._on_worker_done)
        self._following = asyncio.create_task(self._follow())
        self._mover = self._transport.mover = Mover(
            self._transport, self.loop_thread, self._deployment
        )
        logger.info(
            "worker %s serves task queue %r: %s",
            self.queue,
            self._options.task_queue,
            ", ".join(self.registry.names()) or "the graphs that are called in this process",
        )

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(FOLLOW_S)
            self._transport.renew_twins()

    def _told(self) -> tuple[list[str], list[str]]:
        """What the worker tells of itself: its graphs and runs."""
        driven = self._activities.driven if self._activities is not None else []
        return self.registry.names(), [*self.embedded.ids(), *driven]

    def _lose_name(self, exc: Exception) -> None:
        if self.stopped:
            return
        logger.error("this worker stops: %s", exc)
        self._failed = self.stopped = True
        self.embedded.stop()
        begun = [asyncio.create_task(w.shutdown()) for w in self._driving]
        self._ending = asyncio.create_task(self._shut_down(begun))

    def _on_worker_done(self, task: asyncio.Task[None]) -> None:
        if self.stopping or self.stopped or task.cancelled():
            return
        exc = task.exception()
        logger.error("the Temporal worker of this process stopped by itself", exc_info=exc)
        self._failed = self.stopped = True
        self.embedded.stop()

    async def stop(self) -> None:
        """Take no new runs, let those under way end, stop polling, stop the loop."""
        logger.info("worker %s stops", self.queue)
        await self.loop_thread.call(self._stop())
        await asyncio.to_thread(self._stop_threads)
        await asyncio.to_thread(self.mailbox.close)
        await settle()
        logger.info("worker %s has stopped", self.queue)

    async def _stop(self) -> None:
        self.stopping = True
        # From now on each of them counts.
        self.embedded.closing = deque(self.embedded.closing)
        grace_s = self._settings.shutdown_grace.total_seconds()
        if not self.named:
            # Nobody is to wait for it.
            await self._claim.leave(polls=False)
        ending = [asyncio.create_task(w.shutdown()) for w in self._driving if self._running]
        # Runs of callers here. What has ended is reported by its drive Activity, which may not have
        # arrived yet.
        now_s = asyncio.get_running_loop().time
        until_s = now_s() + grace_s
        await self._while_embedded(lambda runs: runs.under_way, grace_s)
        await self._while_embedded(lambda runs: runs.unreported, STOP_GRACE.total_seconds())
        if ending and not self.stopped:
            await asyncio.wait(ending, timeout=max(0.0, until_s - now_s()))
        if not self.stopped:
            with contextlib.suppress(TimeoutError, RPCError):
                async with asyncio.timeout(STOP_GRACE.total_seconds()):
                    await asyncio.gather(*(map(self._closed, self.embedded.closing)))
        if self.named:
            await self._claim.leave(polls=bool(self._running) and not self.stopped)
        self.stopped = True
        self.embedded.stop()
        self._transport.mover = None
        if self._following is not None:
            self._following.cancel()
        if self._mover is not None:
            await self._mover.stop()
        await self._shut_down(ending)
        await self._health.stop()

    async def _while_embedded(
        self, are_left: Callable[[EmbeddedRuns], bool], within_s: float
    ) -> None:
        """Wait, for so long at most, while there are such runs of callers in this process."""
        until_s = asyncio.get_running_loop().time() + within_s
        while are_left(self.embedded) and not self.stopped:
            if asyncio.get_running_loop().time() >= until_s:
                return
            await asyncio.sleep(LOOK_S)

    def _dead_because(self) -> str:
        return "a Temporal worker of this process stopped by itself" if self._failed else ""

    def _unready_because(self) -> str:
        if self.stopping or self.stopped:
            return self._dead_because() or "stopping"
        return "" if self._running else "starting"

    async def _shut_down(self, stopping: list[asyncio.Task[None]]) -> None:
        """Stop Temporal's workers; what does not end, as a codec that never answers, is left.

        Args:
            stopping: Those of which that has begun.
        """
        if not self._running:
            # Refused before they polled; one that never did would not end.
            return
        others = (w for w in self._workers if w not in self._driving)
        stopping = [*stopping, *(asyncio.create_task(w.shutdown()) for w in others)]
        ending = [*stopping, *self._running]
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
        self._claim.forget()
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
