"""Caller side: one call of a graph that was checked: what runs, how it is recorded, how it ends.

Whoever drives or streams a run is given an ``AdmittedRun`` and nothing else: the caller that waits
for a worker elsewhere, and the worker of this process (``worker.embedded``). Its life:

1. Made, it is checked: a bad argument or a missing ``thread_id`` raises before anything is sent.
2. ``encode`` serializes it, on the caller's own thread: what cannot travel raises here.
3. ``record`` starts the run's workflow. Once the server has accepted that, the run will finish,
   whatever becomes of this process.
4. ``outcome`` waits for the end, wherever the run is driven, and ``finish`` turns that into chunks
   or raises what a node raised.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from dataclasses import replace
from datetime import timedelta
from typing import Any, Protocol, Self

from temporalio.common import Priority, WorkflowIDReusePolicy
from temporalio.service import RPCError

from ..errors import MissingThreadIdError, UsageError
from ..options import (
    check_affinity,
    check_fairness,
    check_give_up,
    check_home_timeout,
    check_lost_attempts,
    check_priority,
    check_run_timeout,
    check_spread,
    check_strategy,
)
from ..protocol import names
from ..protocol.blob import Upload, plan
from ..protocol.messages import CallerStream, RunPriority, RunStart
from ..protocol.stored import BlobRef
from ..protocol.wire import pack
from ..seam import hooks
from ..storage.store import Store
from ..storage.thread_client import check_thread_id
from ..values.ops import MAX_OP_BYTES
from ..values.record import Call, RunIdentity, encode
from .outcome import await_outcome, finish

UNDRIVEN_S = 1.0
"""How long the server waits with the workflow of a run whose caller's process hosts a worker. That
process has begun by then, and most runs have ended: they need neither an Activity ``drive`` nor a
heartbeat. If the process dies meanwhile, so much later another one takes the run."""

DRIVEN_BELOW_S = 10.0
"""A run with less time than this is not left alone: its workflow has to watch the time."""

AFFINITY_KEY = "affinity"
HOME_TIMEOUT_KEY = "home_timeout"
STRATEGY_KEY = "multitask_strategy"
ATTEMPTS_KEY = "max_lost_attempts"
GIVE_UP_KEY = "give_up_after"
TIMEOUT_KEY = "run_timeout"
"""Keys of ``configurable`` with which one call overrides the saver's options."""


PRIORITY_KEY = "priority"
FAIRNESS_KEY = "fairness_key"
WEIGHT_KEY = "fairness_weight"
"""Keys of ``configurable`` that say before which other runs a call comes."""

OWN_KEYS = frozenset(
    {
        *(STRATEGY_KEY, ATTEMPTS_KEY, GIVE_UP_KEY, TIMEOUT_KEY),
        *(AFFINITY_KEY, HOME_TIMEOUT_KEY),
        *(PRIORITY_KEY, FAIRNESS_KEY, WEIGHT_KEY),
    }
)
"""Keys of ``configurable`` that are for us, not for nodes and metadata."""


Go = Callable[[CallerStream], Awaitable[None]]
"""Lets another process drive a run that was to be driven in this one, and says where it streams."""


class Followers(Protocol):
    """``admission.Caller``, for a run that leaves this process."""

    def follow(self, run: AdmittedRun, go: Go) -> AsyncGenerator[Any, None]:
        """See ``AdmittedRun.follow``."""
        ...

    def follow_sync(self, run: AdmittedRun, go: Go) -> Generator[Any, None, None]:
        """Sync ``follow``."""
        ...


class AdmittedRun:
    """See the module.

    Args:
        store: Of the saver the graph was called with.
        graph: The graph, with that saver.
        call: The call.
        run_id: An id its caller has given; "": a new one.

    Attributes:
        identity: Which run it is.
        graph: The graph.
        call: The call, without the keys of ``configurable`` that are ours.
        full: Its config merged with the graph's.
        store: As given.
        follows: Streams the run from another process, if it comes to that; of one that is to be
            driven in this process.
        _max_lost_attempts: So many lost attempts in a row end it.
        _give_up_s: The same by time, in seconds; 0: no bound.
        _start: What ``encode`` made; ``None`` before.
        _uploads: A large input, to be stored before the start.

    Raises:
        MissingThreadIdError, UsageError: The call is wrong; nothing was recorded.
        Exception: What LangGraph raises for its arguments.
    """

    def __init__(self, store: Store, graph: Any, call: Call, run_id: str = "") -> None:
        self.store = store
        options = store.options
        full = hooks.full_config(graph, call.config)
        thread_id = full["configurable"].get("thread_id")
        if thread_id is None or str(thread_id) == "":
            raise MissingThreadIdError(
                "This graph has a TemporalSaver, so each call needs a thread_id: "
                'graph.ainvoke(input, {"configurable": {"thread_id": "..."}}). Nothing was run.'
            )
        conf = full["configurable"]
        strategy = check_strategy(conf.pop(STRATEGY_KEY, options.multitask_strategy))
        self._max_lost_attempts = check_lost_attempts(
            conf.pop(ATTEMPTS_KEY, options.max_lost_attempts)
        )
        give_up_after = check_give_up(conf.pop(GIVE_UP_KEY, options.give_up_after))
        run_timeout = check_run_timeout(conf.pop(TIMEOUT_KEY, options.run_timeout))
        self._give_up_s = give_up_after.total_seconds() if give_up_after else 0.0
        affinity = check_affinity(conf.pop(AFFINITY_KEY, options.affinity))
        home_timeout = check_home_timeout(conf.pop(HOME_TIMEOUT_KEY, options.home_timeout))
        check_spread(conf.get(hooks.SPREAD, options.spread))
        priority = _priority(conf)
        given = call.config.get("configurable", {})
        if not OWN_KEYS.isdisjoint(given):
            rest = {k: v for k, v in given.items() if k not in OWN_KEYS}
            call = replace(call, config={**call.config, "configurable": rest})
        hooks.check_call(graph, full, call.options)
        check_thread_id(str(thread_id))
        run_id = run_id or uuid.uuid4().hex
        self.identity = RunIdentity(
            run_id=run_id,
            thread_id=str(thread_id),
            thread_workflow_id=store.transport.thread_workflow_id(str(thread_id)),
            run_workflow_id=store.transport.run_workflow_id(run_id),
            graph=options.graph or str(graph.name),
            strategy="" if strategy == "enqueue" else strategy,
            affinity="" if affinity == "none" else affinity,
            home_timeout_s=home_timeout.total_seconds(),
            priority=priority,
            run_timeout_s=run_timeout.total_seconds() if run_timeout else 0.0,
        )
        self.graph = graph
        self.call = call
        self.full = full
        self.follows: Followers | None = None
        self._start: RunStart | None = None
        self._uploads: list[Upload] = []

    def streaming_to(self, mailbox: str, **more: Any) -> Self:
        """A copy whose worker, in another process, sends chunks and events to a mailbox.

        Args:
            mailbox: Workflow id of the mailbox.
            more: Fields of the ``Call`` that say what of the stream is wanted.

        Raises:
            UsageError: The call holds what cannot leave this process.
        """
        if self.call.options.get("control") is not None:
            raise UsageError(
                f"`control=` of the call on thread {self.identity.thread_id!r} is an object of "
                "this process, but the graph runs on a worker in another one. Nothing was run. "
                "Cancel the call instead, or host the worker in this process: saver.worker(graph)."
            )
        twin = copy.copy(self)
        twin.call = replace(self.call, mailbox=mailbox, deltas=True, ends=True, **more)
        return twin

    def encode(self, *, caller_queue: str = "", home_queue: str = "") -> None:
        """Serialize what is to be recorded.

        Args:
            caller_queue: Task queue of the worker in this process, which drives the run; "": any
                worker may.
            home_queue: Task queue of the thread's home, if it is known and elsewhere.

        Raises:
            UnserializableError, ValueTooLargeError: Naming the part of the call.
        """
        options, run, blobs = self.store.options, self.identity, self.store.blobs
        record = encode(self.store.serde, self.call, self.full, run.thread_id)
        self._uploads = []
        if len(record) > MAX_OP_BYTES:
            what = f"the input of the call on thread {run.thread_id!r}"
            upload = plan(record, scope=run.run_id, what=what, piece_bytes=blobs.piece_bytes)
            self._uploads.append(upload)
        self._start = RunStart(
            run_id=run.run_id,
            thread_id=run.thread_id,
            thread_workflow_id=run.thread_workflow_id,
            graph=run.graph,
            task_queue=options.task_queue,
            record=b"" if self._uploads else record,
            record_ref=self._uploads[0].ref if self._uploads else None,
            caller_queue=caller_queue,
            heartbeat_s=options.heartbeat_timeout.total_seconds(),
            strategy=run.strategy,
            max_lost_attempts=self._max_lost_attempts,
            give_up_s=self._give_up_s,
            affinity=run.affinity,
            home_timeout_s=run.home_timeout_s,
            home_queue=home_queue if run.affinity else "",
            run_timeout_s=run.run_timeout_s,
            priority=run.priority,
        )

    @property
    def stored_input(self) -> tuple[BlobRef, ...]:
        """A large input, stored outside the record; empty: it is in there."""
        return tuple(upload.ref for upload in self._uploads)

    async def record(self) -> None:
        """Start the run's workflow with what was encoded.

        Raises:
            WorkflowAlreadyStartedError: There is, or was, a run of this id.
            StorageError: A large input cannot be stored.
            ServerUnavailableError: Temporal does not answer.
        """
        assert self._start is not None, "encode comes before record"
        run, transport = self.identity, self.store.transport
        here, limit_s = bool(self._start.caller_queue), run.run_timeout_s
        delay_s = UNDRIVEN_S if here and not 0 < limit_s < DRIVEN_BELOW_S else 0.0
        try:
            await self.store.blobs.upload(run.thread_id, self._uploads)
            await transport.client.start_workflow(
                names.RUN_WORKFLOW,
                pack(self._start),
                id=run.run_workflow_id,
                task_queue=transport.options.task_queue,
                # Also when it has ended: a call that is repeated is no second run.
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                task_timeout=timedelta(seconds=names.WORKFLOW_TASK_TIMEOUT_S),
                # `drive` and what else the workflow schedules inherit it.
                priority=_for_temporal(run.priority),
                memo={"thread_id": run.thread_id, "graph": run.graph},
                static_summary=f"{run.graph} · thread {run.thread_id}"[:200],
                # Or else the worker of this process may take the first workflow task from the
                # reply, which saves a round trip.
                start_delay=timedelta(seconds=delay_s) if delay_s else None,
                request_eager_start=here and not delay_s,
            )
        except (RPCError, RuntimeError) as exc:
            raise transport.translate(exc) from exc

    def follow(self, go: Go) -> AsyncGenerator[Any, None]:
        """Chunks of the run, which another process is to drive.

        Args:
            go: Lets it be driven; called when this process listens to the stream it is given.
        """
        assert self.follows is not None, "the run is driven in this process"
        return self.follows.follow(self, go)

    def follow_sync(self, go: Go) -> Generator[Any, None, None]:
        """Sync ``follow``."""
        assert self.follows is not None, "the run is driven in this process"
        return self.follows.follow_sync(self, go)

    async def outcome(self) -> bytes:
        """Wait for the run to end, wherever it is driven; see ``outcome.await_outcome``."""
        run = self.identity
        return await await_outcome(self.store.transport, run.run_id, run.thread_id)

    def finish(
        self, data: bytes, *, received: int = 0, last: bytes = b"", streamed: bool = False
    ) -> list[Any]:
        """Raise the run's error, or return the chunks its caller still needs; see
        ``outcome.finish``."""
        return finish(
            self.store.serde,
            data,
            received=received,
            last=last,
            streamed=streamed,
            run_id=self.identity.run_id,
            thread_id=self.identity.thread_id,
        )


def _priority(configurable: dict[str, Any]) -> RunPriority | None:
    """What a call says of its priority, taken out of its config.

    Raises:
        UsageError: It makes no sense.
    """
    key = check_priority(configurable.pop(PRIORITY_KEY, None))
    fairness = check_fairness(
        configurable.pop(FAIRNESS_KEY, None), configurable.pop(WEIGHT_KEY, None)
    )
    if not key and fairness == ("", 0.0):
        return None
    return RunPriority(key=key, fairness_key=fairness[0], fairness_weight=fairness[1])


def _for_temporal(priority: RunPriority | None) -> Priority:
    if priority is None:
        return Priority.default
    return Priority(
        priority_key=priority.key or None,
        fairness_key=priority.fairness_key or None,
        fairness_weight=priority.fairness_weight or None,
    )
