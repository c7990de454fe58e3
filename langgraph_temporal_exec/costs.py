"""Public API: what a run, or a thread, costs on Temporal: actions by kind, and bytes of history.

Actions are what Temporal Cloud bills, under the names its metrics give them. They are counted from
events, by Temporal's own table of which event stands for which action
(https://docs.temporal.io/cloud/actions). What leaves no event cannot be counted, and is not
guessed: ``Cost.UNSEEN`` names it.

**Whose an event is.** The history of a run's workflow is the run's. That of a thread, or of a
namespace, is shared by runs, one after the other. There an event belongs to::

    attach, step, announce, end of a run   the run that it names
    Activity of a task                     the run in the task's key
    upkeep: archives, closed namespaces    no run: it is the thread's
    Child Workflow                         the run that it is, else the run that has the thread
    what follows from an event             whoever that belongs to
    any other                              the run that has the thread, if one has
    what began the thread                  the run that was first

So the costs of a thread's runs, and what belongs to none of them, add up to those of the thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowExecutionStatus
from temporalio.converter import DataConverter, WorkflowSerializationContext
from temporalio.service import RPCError

from .protocol import names
from .protocol.log import blobs_of, read_ops
from .protocol.messages import (
    Announcement,
    AppendRequest,
    AttachReply,
    AttachRequest,
    AttachStatus,
    BeginRequest,
    CallerStream,
    DriveReply,
    Listener,
    Parcel,
    RunStart,
    Snapshot,
    StepRequest,
    StopRequest,
    TaskInput,
    TaskOutput,
    ThreadStart,
)
from .protocol.stored import BlobRef
from .protocol.wire import WireError, unpack
from .storage.history import readable
from .storage.rpc import is_gone
from .storage.store import Store
from .storage.thread_client import Transport
from .values.record import decode

T = TypeVar("T")

ActionKind = Literal[
    "start_workflow",
    "start_child_workflow",
    "continue_as_new_workflow",
    "reset_workflow",
    "update_workflow_options",
    "upsert_workflow_search_attributes",
    "accept_workflow_update",
    "signal_workflow",
    "signal_external_workflow",
    "signal_workflow_with_start",
    "schedule_activity",
    "retry_activity",
    "record_activity_markers",
    "start_timer",
]
"""Kinds of actions that histories show, named as in Temporal Cloud's metrics.

A Child Workflow is two. A workflow that an Update started is a ``start_workflow`` here; Temporal
Cloud calls it ``start_workflow_multi_operation``, which histories do not tell apart. What
Temporal's SDK writes for its workflow versions is one ``record_activity_markers`` per workflow
task; the search attribute it sets beside is not billed."""

CostPartName = Literal["thread", "namespaces", "runs", "blobs", "mailboxes"]
"""What workflows are for: the thread, its nested graphs, its runs, its archives and large values;
and the streams of a process."""

AT_ONCE = 8
"""Workflows whose histories are read at the same time."""

VERSIONS = "TemporalChangeVersion"
"""The search attribute in which the SDK keeps the versions of a workflow's code."""


@dataclass(frozen=True, kw_only=True)
class CostPart:
    """Part of ``Cost``: what workflows of one sort have cost.

    Args:
        name: What they are for.
        executions: How many were counted. A workflow that has continued as new is several.
        actions: How many actions of each kind; kinds that did not occur are left out.
        active_bytes: History of those that are open: Temporal Cloud's active storage.
        retained_bytes: History of those that are closed, until the retention of the Temporal
            namespace is over.
    """

    name: CostPartName
    executions: int
    actions: Mapping[ActionKind, int]
    active_bytes: int
    retained_bytes: int


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a run, or a thread, costs on Temporal, as far as histories show it.

    Args:
        thread_id: The thread.
        run_id: The run; "": all of the thread.
        parts: Thread, namespaces, runs and blobs, in this order. Of a run the first two are its
            share: what of these histories belongs to it.
        mailboxes: Workflows that carry the run's stream to a caller in another process. They are
            those of that process and serve all its runs, so no total contains them. Empty for a
            thread.
        incomplete: Temporal does not keep all executions any more: what closed ones have cost that
            are older than the retention of the Temporal namespace is not counted.
    """

    UNSEEN: ClassVar[tuple[str, ...]] = (
        "query_workflow",
        "record_activity_heartbeat",
        "reject_workflow_update",
        "record_workflow_heartbeat",
    )
    """Kinds of actions that leave nothing in histories, so that no ``Cost`` counts them."""

    thread_id: str
    run_id: str
    parts: tuple[CostPart, ...]
    mailboxes: CostPart
    incomplete: bool = False

    @property
    def actions(self) -> Mapping[ActionKind, int]:
        """Actions of all parts by kind."""
        total: Counter[ActionKind] = Counter()
        for part in self.parts:
            total.update(part.actions)
        return dict(total)

    @property
    def total_actions(self) -> int:
        """Actions of all parts and kinds."""
        return sum(self.actions.values())

    @property
    def active_bytes(self) -> int:
        """Active storage of all parts."""
        return sum(part.active_bytes for part in self.parts)

    @property
    def retained_bytes(self) -> int:
        """Retained storage of all parts."""
        return sum(part.retained_bytes for part in self.parts)


async def cost_of_thread(store: Store, thread_id: str) -> Cost | None:
    """See ``TemporalSaver.aget_cost``."""
    counted = await _Thread.read(store, thread_id)
    if not counted.root:
        return None
    runs = await _each(sorted(counted.runs), lambda run: _run_executions(store.transport, run))
    refs = counted.blobs | {
        ref for found in runs for run in found for ref in await _record_of(store, run)
    }
    blobs = {w async for w in _listed(store.transport, _blob_prefix(store, thread_id))}
    blobs |= _blob_ids(store, thread_id, refs)
    return Cost(
        thread_id=thread_id,
        run_id="",
        parts=(
            _whole("thread", counted.root),
            _whole("namespaces", counted.nested),
            _whole("runs", [run for found in runs for run in found]),
            await _blobs(store.transport, blobs),
        ),
        mailboxes=_whole("mailboxes", ()),
        incomplete=counted.incomplete,
    )


async def cost_of_run(store: Store, run_id: str, thread_id: str) -> Cost | None:
    """See ``Run.acost``; ``None``: Temporal does not know the run (any more)."""
    found = await _run_executions(store.transport, run_id)
    if not found:
        return None
    counted = await _Thread.read(store, thread_id)
    refs = counted.blobs_of_run.get(run_id, set())
    mailboxes: set[str] = set()
    for run in found:
        refs |= await _record_of(store, run)
        mailboxes |= await _mailboxes_of(store, run)
    boxes = await _each(sorted(mailboxes), lambda box: _executions(store.transport, box))
    return Cost(
        thread_id=thread_id,
        run_id=run_id,
        parts=(
            _share("thread", counted.root, run_id),
            _share("namespaces", counted.nested, run_id),
            _whole("runs", found),
            await _blobs(store.transport, _blob_ids(store, thread_id, refs)),
        ),
        mailboxes=_whole("mailboxes", [box for chain, _ in boxes for box in chain]),
        incomplete=counted.incomplete,
    )


# -- reading ----------------------------------------------------------------------------------


@dataclass(kw_only=True)
class _Execution:
    """One execution of a workflow.

    Attributes:
        size: Bytes of its history, as the server counts them.
        retries: Of Activities that have not ended, tries after the first.
        owners: By event the run it belongs to; "": to none. Empty where nobody asked.
    """

    workflow_id: str
    run_id: str
    is_open: bool
    size: int
    retries: int
    events: list[HistoryEvent]
    owners: list[str] = field(default_factory=list)

    @property
    def continued(self) -> str:
        """The execution that it continues; "": it is the first."""
        attributes = self.events[0].workflow_execution_started_event_attributes
        return str(attributes.continued_execution_run_id)


async def _execution(
    transport: Transport, workflow_id: str, run_id: str = "", *, events: bool = True
) -> _Execution | None:
    """One execution, the latest by default; ``None``: Temporal does not know it (any more)."""
    handle = transport.client.get_workflow_handle(workflow_id, run_id=run_id or None)
    try:
        description = await handle.describe()
        handle = transport.client.get_workflow_handle(workflow_id, run_id=description.run_id)
        read = [event async for event in handle.fetch_history_events()] if events else []
    except RPCError as exc:
        if is_gone(exc):
            return None
        raise transport.translate(exc) from exc
    raw = description.raw_description
    return _Execution(
        workflow_id=workflow_id,
        run_id=description.run_id,
        is_open=description.status is WorkflowExecutionStatus.RUNNING,
        size=raw.workflow_execution_info.history_size_bytes,
        retries=sum(max(0, activity.attempt - 1) for activity in raw.pending_activities),
        events=read,
    )


async def _executions(transport: Transport, workflow_id: str) -> tuple[list[_Execution], bool]:
    """All executions of a workflow, the latest first, and whether earlier ones are not kept."""
    found: list[_Execution] = []
    run_id = ""
    while True:
        execution = await _execution(transport, workflow_id, run_id)
        if execution is None:
            return found, bool(found)
        found.append(execution)
        run_id = execution.continued
        if not run_id:
            return found, False


async def _run_executions(transport: Transport, run_id: str) -> list[_Execution]:
    found, _ = await _executions(transport, transport.run_workflow_id(run_id))
    return found


async def _listed(transport: Transport, prefix: str) -> AsyncIterator[str]:
    """Workflow ids with a prefix, from Temporal's visibility store."""
    async for execution in transport.client.list_workflows(f"WorkflowId STARTS_WITH '{prefix}'"):
        yield execution.id


async def _each(items: Sequence[str], call: Callable[[str], Awaitable[T]]) -> list[T]:
    """One call for each item, some at a time."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(item: str) -> T:
        async with limit:
            return await call(item)

    return list(await asyncio.gather(*map(one, items)))


def _decoder(store: Store, execution: _Execution) -> DataConverter:
    client = store.transport.client
    return client.data_converter.with_context(
        WorkflowSerializationContext(namespace=client.namespace, workflow_id=execution.workflow_id)
    )


@dataclass(kw_only=True)
class _Thread:
    """A thread and its namespaces, and what their histories name.

    Attributes:
        root, nested: Executions of the thread, and of its namespaces.
        blobs_of_run: Large values by the run that wrote them; of no run under "".
        runs: The runs that histories name.
        incomplete: See ``Cost``.
    """

    root: list[_Execution]
    nested: list[_Execution]
    blobs_of_run: dict[str, set[BlobRef]] = field(default_factory=dict)
    runs: set[str] = field(default_factory=set)
    incomplete: bool = False

    @property
    def blobs(self) -> set[BlobRef]:
        """Large values of all of them."""
        return set().union(*self.blobs_of_run.values())

    @classmethod
    async def read(cls, store: Store, thread_id: str) -> _Thread:
        """Read the histories that Temporal keeps."""
        transport = store.transport
        workflow_id = transport.thread_workflow_id(thread_id)
        root, incomplete = await _executions(transport, workflow_id)
        # Those that were opened in executions of the thread which are not kept any more are known
        # to visibility alone, but it lags behind.
        children = {w async for w in _listed(transport, f"{workflow_id}/")}
        children |= {child for execution in root for child in _children(execution)}
        chains = await _each(sorted(children), lambda child: _executions(transport, child))
        nested = [execution for chain, _ in chains for execution in chain]
        incomplete = incomplete or any(gone for _, gone in chains)
        read = cls(root=root, nested=nested, incomplete=incomplete)
        for execution in (*root, *nested):
            owners = _Owners(_decoder(store, execution), execution)
            execution.owners = await owners.of_all()
            read.runs |= owners.runs
            for run, refs in owners.blobs.items():
                read.blobs_of_run.setdefault(run, set()).update(refs)
        return read


def _children(execution: _Execution) -> set[str]:
    """Workflow ids of the namespaces that an execution of a thread has opened."""
    found = set()
    for event in execution.events:
        attributes = event.start_child_workflow_execution_initiated_event_attributes
        if attributes.workflow_type.name == names.THREAD_WORKFLOW:
            found.add(attributes.workflow_id)
    return found


async def _record_of(store: Store, run: _Execution) -> set[BlobRef]:
    """The record of a run, if it was large."""
    start = await _run_start(store, run)
    return set() if start.record_ref is None else {start.record_ref}


async def _run_start(store: Store, run: _Execution) -> RunStart:
    attributes = run.events[0].workflow_execution_started_event_attributes
    with readable(run.workflow_id, "its event 1"):
        (data,) = await _decoder(store, run).decode(list(attributes.input.payloads), [bytes])
        return unpack(RunStart, data)


async def _mailboxes_of(store: Store, run: _Execution) -> set[str]:
    """Workflow ids of the mailboxes to which a run's stream was sent."""
    found: set[str] = set()
    start = await _run_start(store, run)
    converter = _decoder(store, run)
    # A record that was large is gone when the run has ended; and the input is the user's, of
    # classes that this process may lack. Then the mailbox is not known.
    with contextlib.suppress(Exception):
        found.add(decode(store.serde, start.record).mailbox)
    for event in run.events:
        if event.HasField("workflow_execution_update_accepted_event_attributes"):
            request = event.workflow_execution_update_accepted_event_attributes.accepted_request
            if request.input.name != names.LISTEN_UPDATE:
                continue
            with readable(run.workflow_id, f"its event {event.event_id}"):
                (data,) = await converter.decode(list(request.input.args.payloads), [bytes])
                found.add(unpack(Listener, data).mailbox)
        elif event.HasField("activity_task_completed_event_attributes"):
            result = event.activity_task_completed_event_attributes.result.payloads
            with readable(run.workflow_id, f"its event {event.event_id}"):
                found |= {s.mailbox for s in await _streams(converter, result)}
    return found - {""}


async def _streams(converter: DataConverter, result: Sequence[Any]) -> list[CallerStream]:
    """Where a run's stream goes that has left the process of its caller."""
    (value,) = await converter.decode(list(result))
    if not isinstance(value, bytes):
        return []
    reply = unpack(DriveReply, value)
    return [] if reply.stream is None else [reply.stream]


def _blob_prefix(store: Store, thread_id: str) -> str:
    return names.blob_workflow_prefix(store.options.id_prefix, thread_id)


def _blob_ids(store: Store, thread_id: str, refs: Iterable[BlobRef]) -> set[str]:
    prefix = store.options.id_prefix
    return {
        names.blob_workflow_id(prefix, thread_id, ref.scope, piece)
        for ref in refs
        for piece in ref.pieces
    }


# -- whose an event is ------------------------------------------------------------------------


class _Owners:
    """Which run each event of a thread's, or namespace's, history belongs to; see the module.

    Attributes:
        runs: Runs that it names.
        blobs: Large values by the run that wrote them.
        _current: The run that has the thread; "": none has; ``None``: none has had it yet.
        _by_event: Owners of what others follow from: Updates, Activities, Child Workflows.
        _attached: Updates by which a run asked for the thread.
        _ending: Updates with which a run ends.
        _answers: Updates that begin a run.
        _continues: The execution continues another one.
    """

    def __init__(self, converter: DataConverter, execution: _Execution) -> None:
        self._converter = converter
        self._execution = execution
        self.runs: set[str] = set()
        self.blobs: dict[str, set[BlobRef]] = {}
        self._current: str | None = None
        self._by_event: dict[int, str | None] = {}
        self._attached: dict[int, str] = {}
        self._ending: set[int] = set()
        self._continues = False
        self._answers: set[int] = set()

    async def of_all(self) -> list[str]:
        """The run of each event; "": of none."""
        execution = self._execution
        owners: list[str | None] = []
        for event in execution.events:
            with readable(execution.workflow_id, f"its event {event.event_id}"):
                owners.append(await self._of(event))
        for event_id in self._answers:
            owners[event_id - 1] = self._by_event[event_id]
        first = next((owner for owner in owners if owner is not None), "")
        return [first if owner is None else owner for owner in owners]

    async def _one(self, payloads: Any) -> bytes:
        (data,) = await self._converter.decode(list(payloads.payloads), [bytes])
        return bytes(data)

    async def _of(self, event: HistoryEvent) -> str | None:
        kind = event.WhichOneof("attributes") or ""
        attributes: Any = getattr(event, kind)
        if kind == "workflow_execution_started_event_attributes":
            return await self._started(attributes)
        if kind == "workflow_execution_update_accepted_event_attributes":
            owner = await self._accepted(event.event_id, attributes.accepted_request.input)
        elif kind == "workflow_execution_update_completed_event_attributes":
            return await self._completed(attributes)
        elif kind == "activity_task_scheduled_event_attributes":
            owner = await self._scheduled(attributes)
        elif kind == "workflow_execution_signaled_event_attributes":
            return await self._signaled(attributes)
        elif kind == "start_child_workflow_execution_initiated_event_attributes":
            owner = self._current
            if attributes.workflow_type.name == names.RUN_WORKFLOW:
                owner = self._named(names.run_id_of(attributes.workflow_id))
        else:
            return await self._following(event, attributes)
        self._by_event[event.event_id] = owner
        return owner

    def _named(self, run_id: str) -> str:
        self.runs.add(run_id)
        return run_id

    async def _started(self, attributes: Any) -> str | None:
        start = unpack(ThreadStart, await self._one(attributes.input))
        if not attributes.continued_execution_run_id:
            return None
        self._continues = True
        active = unpack(Snapshot, start.snapshot).active if start.snapshot else None
        self._current = self._named(active.run_id) if active is not None else ""
        # Continuing as new is done for all runs there were.
        return ""

    async def _accepted(self, event_id: int, request: Any) -> str | None:
        if request.name == names.ATTACH_UPDATE:
            attach = unpack(AttachRequest, await self._one(request.args))
            self._attached[event_id] = attach.run_id
            return self._named(attach.run_id)
        if request.name in (names.STEP_UPDATE, names.BEGIN_UPDATE):
            data = await self._one(request.args)
            begins = request.name == names.BEGIN_UPDATE
            step = unpack(BeginRequest, data).step if begins else unpack(StepRequest, data)
            self._step(step)
            if step.outcome:
                self._ending.add(event_id)
            self._current = step.run_id
            return step.run_id
        if request.name == names.APPEND_UPDATE:
            append = unpack(AppendRequest, await self._one(request.args))
            # Of an attempt that has the thread; or from outside of all runs.
            owner = (self._current or "") if append.epoch else ""
            self._wrote(owner, append.ops)
            return owner
        if request.name == names.RESUME_UPDATE:
            self._answers.add(event_id)
        return ""

    def _step(self, step: StepRequest) -> None:
        self._named(step.run_id)
        self._wrote(step.run_id, step.ops)
        parcels = [unpack(Parcel, task.parcel) for task in step.tasks if task.parcel]
        large = {parcel.body_ref for parcel in parcels if parcel.body_ref is not None}
        self.blobs.setdefault(step.run_id, set()).update(large)

    def _wrote(self, run_id: str, ops: Sequence[bytes]) -> None:
        refs = self.blobs.setdefault(run_id, set())
        for op in read_ops(ops):
            refs.update(blobs_of(op))

    async def _completed(self, attributes: Any) -> str | None:
        accepted = attributes.accepted_event_id
        if (run_id := self._attached.pop(accepted, None)) is not None:
            if attributes.outcome.HasField("success"):
                reply = unpack(AttachReply, await self._one(attributes.outcome.success))
                if reply.status == AttachStatus.GRANTED:
                    self._current = run_id
            return run_id
        if accepted in self._answers and attributes.outcome.HasField("success"):
            # It begins a run, whose id is the reply.
            (begun,) = await self._converter.decode(list(attributes.outcome.success.payloads))
            self._by_event[accepted] = self._named(str(begun))
        if accepted in self._ending:
            self._current = ""
        return self._by_event.get(accepted, self._current)

    async def _scheduled(self, attributes: Any) -> str | None:
        if attributes.task_queue.name.endswith(names.UPKEEP_SUFFIX):
            return ""
        data = await self._one(attributes.input)
        if attributes.activity_type.name == names.STOP_ACTIVITY:
            return self._named(unpack(StopRequest, data).run_id)
        # Of a task: the key begins with the task's id, then comes the beginning of the run's.
        key = unpack(TaskInput, data).key
        begins = key.partition(".")[2].partition(".")[0]
        return next((run for run in self.runs if begins and run.startswith(begins)), self._current)

    async def _signaled(self, attributes: Any) -> str | None:
        try:
            if attributes.signal_name == names.ANNOUNCE_SIGNAL:
                found = unpack(Announcement, await self._one(attributes.input))
                return self._named(found.run_id)
            if attributes.signal_name in (names.RUN_CLOSED_SIGNAL, names.STOP_SIGNAL):
                decoded = await self._converter.decode(list(attributes.input.payloads))
                return self._named(str(decoded[0]))
        except (IndexError, WireError):
            # Any client may send one, with anything in it.
            return ""
        return "" if attributes.signal_name == names.RETIRE_SIGNAL else self._current

    async def _following(self, event: HistoryEvent, attributes: Any) -> str | None:
        if self._continues and event.event_type == EventType.EVENT_TYPE_MARKER_RECORDED:
            # Versions of the workflow's code, noted anew.
            return ""
        for cause in ("scheduled_event_id", "initiated_event_id"):
            owner = self._by_event.get(getattr(attributes, cause, 0), "none")
            if owner != "none":
                break
        else:
            return self._current
        if owner and event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            output = unpack(TaskOutput, await self._one(attributes.result))
            if output.op:
                self._wrote(owner, [output.op])
            if output.step:
                self._step(unpack(StepRequest, output.step))
        return owner


# -- counting ---------------------------------------------------------------------------------

_BILLED: dict[int, tuple[ActionKind, int]] = {
    # One for the intent, one for the attempt.
    EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED: ("start_child_workflow", 2),
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED: ("accept_workflow_update", 1),
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED: ("update_workflow_options", 1),
    EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED: ("schedule_activity", 1),
    EventType.EVENT_TYPE_TIMER_STARTED: ("start_timer", 1),
}


def _billed(events: Sequence[HistoryEvent]) -> list[tuple[ActionKind, int]]:
    """Of each event the action that it stands for; 0 of them where it stands for none."""
    marked: set[int] = set()
    # A Signal that starts a workflow is one action, and comes before its first workflow task.
    signaled = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED
    by_signal = len(events) > 1 and events[1].event_type == signaled
    return [_action(event, marked, by_signal=by_signal) for event in events]


def _action(event: HistoryEvent, marked: set[int], *, by_signal: bool) -> tuple[ActionKind, int]:
    kind = event.event_type
    if kind == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
        started = event.workflow_execution_started_event_attributes
        if started.continued_execution_run_id:
            return "continue_as_new_workflow", 1
        # A child's start is counted where it was asked for.
        with_others = by_signal or started.HasField("parent_workflow_execution")
        return "start_workflow", 0 if with_others else 1
    if kind == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
        signal = event.workflow_execution_signaled_event_attributes
        if event.event_id == 2:
            return "signal_workflow_with_start", 1
        from_workflow = signal.HasField("external_workflow_execution")
        return "signal_external_workflow" if from_workflow else "signal_workflow", 1
    if kind == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
        return "retry_activity", event.activity_task_started_event_attributes.attempt - 1
    if kind == EventType.EVENT_TYPE_MARKER_RECORDED:
        # All markers of one workflow task are one action.
        task = event.marker_recorded_event_attributes.workflow_task_completed_event_id
        new = task not in marked
        marked.add(task)
        return "record_activity_markers", int(new)
    if kind == EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES:
        upserted = event.upsert_workflow_search_attributes_event_attributes
        own = set(upserted.search_attributes.indexed_fields) - {VERSIONS}
        return "upsert_workflow_search_attributes", int(bool(own))
    if kind == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
        cause = event.workflow_task_failed_event_attributes.cause
        reset = WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW
        return "reset_workflow", int(cause == reset)
    return _BILLED.get(kind, ("start_workflow", 0))


def _whole(name: CostPartName, executions: Sequence[_Execution]) -> CostPart:
    """All of some executions."""
    actions: Counter[ActionKind] = Counter()
    for execution in executions:
        for kind, number in _billed(execution.events):
            actions[kind] += number
        actions["retry_activity"] += execution.retries
    return _part(name, actions, [(e.is_open, e.size) for e in executions])


def _share(name: CostPartName, executions: Sequence[_Execution], run_id: str) -> CostPart:
    """What of some executions belongs to a run."""
    actions: Counter[ActionKind] = Counter()
    sizes = []
    for execution in executions:
        own = [owner == run_id for owner in execution.owners]
        for (kind, number), is_own in zip(_billed(execution.events), own, strict=True):
            actions[kind] += number * is_own
        if any(own):
            size = sum(
                event.ByteSize()
                for event, is_own in zip(execution.events, own, strict=True)
                if is_own
            )
            sizes.append((execution.is_open, size))
    return _part(name, actions, sizes)


async def _blobs(transport: Transport, workflow_ids: Iterable[str]) -> CostPart:
    """Archives and large values. Those that were removed have cost their start."""
    ids = sorted(workflow_ids)
    found = await _each(ids, lambda blob: _execution(transport, blob, events=False))
    kept = [(blob.is_open, blob.size) for blob in found if blob is not None]
    return _part("blobs", {"start_workflow": len(ids)}, kept)


def _part(
    name: CostPartName, actions: Mapping[ActionKind, int], sizes: Sequence[tuple[bool, int]]
) -> CostPart:
    return CostPart(
        name=name,
        executions=len(sizes),
        actions={kind: number for kind, number in actions.items() if number},
        active_bytes=sum(size for is_open, size in sizes if is_open),
        retained_bytes=sum(size for is_open, size in sizes if not is_open),
    )
