"""Shared: the state of a thread from its workflow's history, for when no worker answers.

The pure thread state is driven by the recorded events: what was accepted and completed, which
results arrived. Nothing is started, signalled or asked: the effects that the state returns are
dropped, because what came of them is in the history as well.

**Why not replay the workflow.** That takes a worker with the sandbox, and more than ten times the
work (see ``Reader.recorded``). A replay would also say nothing of results that are recorded and
not yet processed; here they count.

**The order of events.** A workflow does not act on events in the order of the history. In one
workflow task the SDK runs signals and Updates first and lets results of Activities in after them
(temporalio/sdk-core#639). An Update appears in the history after the task that accepted it; what
had arrived before that task appears earlier. So signals and results wait in ``_inbound`` until it
is known what the task did::

    event                          what the fold does
    workflow started               the state begins, from the input's snapshot
    signal, end of an Activity     waits
    Update accepted                attach, append and delete take effect; a step, also one that
                                   attaches, and an answer wait
    Activity scheduled             of a task: the step that has it was applied, after what waits
    child of a run started         an answer was taken, or a deadline has passed
    Update completed               what waits takes effect; then the step, if it was applied, or the
                                   home, of an attach that came before the marker
    marker of a patch              from now on threads have homes (``HOMES``), namespaces are
                                   closed, runs are in order, or eager tasks are sent on
    workflow task started          what had arrived before the task before it takes effect; what
                                   came later waits on
    end of the history             all that waits takes effect

A step is applied when it is completed, not when it is accepted: only its reply says whether it was
(not ``again``, not ``lost``). Those before it come along, because the workflow applies them in turn
and may answer them later.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType, PendingWorkflowTaskState, TimeoutType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import (
    Client,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowHandle,
)
from temporalio.common import RawValue
from temporalio.converter import DataConverter, WorkflowSerializationContext
from temporalio.service import RPCError

from .._loops import settle
from ..errors import NoWorkersError, StorageError
from ..protocol import names
from ..protocol.messages import (
    AppendRequest,
    ArchiveReply,
    ArchiveRequest,
    AttachReply,
    AttachRequest,
    BeginRequest,
    CloseReply,
    CloseRequest,
    ReadReply,
    ReadRequest,
    RetireReply,
    RetireRequest,
    StepReply,
    StepRequest,
    TaskInput,
    TaskOutput,
    TaskStatus,
    ThreadStart,
)
from ..protocol.wire import WireError, unpack
from ..workflow.core.thread_state import ThreadState
from ..workflow.patches import HOMES, IN_ORDER, NAMESPACES_CLOSED, SENT_ON
from .rpc import is_gone

HEDGE_S = 1.5
"""How long a worker may take to answer before the history is read as well."""

ABSENT_S = 15.0
"""How long no worker is waited for after one was polling and none answered."""

REMEMBERED = 8
"""Threads whose state is kept, because it is read page by page."""

_STARTED = PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_STARTED

# ``MOVE_SIGNAL`` and ``PARK_SIGNAL`` are not among them: they concern the shell, and change nothing
# that is read.
_SIGNALS = (
    names.ANNOUNCE_SIGNAL,
    names.RUN_CLOSED_SIGNAL,
    names.STOP_SIGNAL,
    names.FENCE_SIGNAL,
    names.ANSWER_SIGNAL,
    names.DELETE_SIGNAL,
    names.RETIRE_SIGNAL,
)
_ENDED = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: "activity_task_completed_event_attributes",
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: "activity_task_failed_event_attributes",
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: "activity_task_timed_out_event_attributes",
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED: "activity_task_canceled_event_attributes",
}


class HistoryReader:
    """Answers ``read`` from histories. One per saver.

    Args:
        client: Reads histories; its data converter decodes what is in them.
        is_polled: Whether a worker polls the task queue, as far as the server knows: of one that
            was killed it takes the server a minute to know.

    Attributes:
        _states: What histories led to, by workflow id, run id and length of the history: when that
            has grown, it is another one. The longest unused first.
        _answered: A worker has answered, and none has failed to since.
        _absent_until: Until then (monotonic clock) workers get no head start, because none
            answered a moment ago although one seems to poll.
    """

    def __init__(self, client: Client, is_polled: Callable[[], Awaitable[bool]]) -> None:
        self._client = client
        self._is_polled = is_polled
        self._states: OrderedDict[tuple[str, str, int], ThreadState] = OrderedDict()
        self._answered = False
        self._absent_until = 0.0

    async def or_worker(
        self,
        workflow_id: str,
        request: ReadRequest,
        ask: Callable[[], Coroutine[Any, Any, ReadReply | None]],
    ) -> ReadReply | None:
        """The answer of a worker if there is one soon, else that of the history.

        Args:
            workflow_id: The thread or namespace.
            request: What is asked for.
            ask: Asks a worker.
        """
        if not self._answered and not await self._is_polled():
            # Nobody would answer, and a Query that nobody takes fails only when its time is up.
            try:
                return await self.read(workflow_id, request)
            except (RPCError, RuntimeError):
                # Temporal itself is away, which the Query says in our words.
                return await ask()
        asked = asyncio.ensure_future(ask())
        told: asyncio.Future[ReadReply | None] | None = None
        try:
            if time.monotonic() >= self._absent_until:
                await asyncio.wait([asked], timeout=HEDGE_S)
            if asked.done() and not isinstance(asked.exception(), NoWorkersError):
                self._answered = not asked.exception()
                return asked.result()
            self._answered = False
            told = asyncio.ensure_future(self.read(workflow_id, request))
            if not asked.done():
                await asyncio.wait([asked, told], return_when=asyncio.FIRST_COMPLETED)
                if asked.done() and not asked.exception():
                    self.worker_answered()
                    return asked.result()
            try:
                reply = await told
            except (RPCError, RuntimeError):
                if asked.done() and isinstance(asked.exception(), NoWorkersError):
                    raise
                # Temporal itself is away, which the Query says in our words.
                return await asked
            self._absent_until = time.monotonic() + ABSENT_S
            return reply
        finally:
            unwanted = [t for t in (asked, told) if t is not None and not t.done()]
            for task in unwanted:
                task.cancel()
            if unwanted:
                # Whichever was used has reported what is wrong.
                await asyncio.gather(*unwanted, return_exceptions=True)
                # An interpreter that exits while the SDK lets go of a cancelled call may hang.
                await settle()

    async def before_worker(
        self,
        workflow_id: str,
        request: ReadRequest,
        ask: Callable[[], Coroutine[Any, Any, ReadReply | None]],
    ) -> ReadReply | None:
        """The answer of the history, unless a worker is at the workflow at this moment: then
        Temporal may keep back events that it has acknowledged, until the workflow task has ended,
        and only a worker's answer is sure to contain them.

        Args:
            workflow_id: The thread or namespace.
            request: What is asked for.
            ask: Asks a worker.
        """
        try:
            description = await self._described(workflow_id)
            task = None if description is None else description.raw_description
            if task is None or task.pending_workflow_task.state != _STARTED:
                return _reply(await self._state(workflow_id, description), request)
        except (RPCError, RuntimeError):
            # Temporal itself is away, which the Query says in our words.
            return await ask()
        return await self.or_worker(workflow_id, request, ask)

    def worker_answered(self) -> None:
        """There are workers: the next Query gets its head start."""
        self._answered = True
        self._absent_until = 0.0

    async def read(self, workflow_id: str, request: ReadRequest) -> ReadReply | None:
        """``read`` of a thread workflow, from its history; ``None`` when there is none."""
        return _reply(await self.state(workflow_id), request)

    async def state(self, workflow_id: str) -> ThreadState | None:
        """The state its history leads to; ``None`` when there is no such workflow any more."""
        # Cheap, and tells whether the history has to be read at all.
        description = await self._described(workflow_id)
        return await self._state(workflow_id, description)

    async def _described(self, workflow_id: str) -> WorkflowExecutionDescription | None:
        try:
            return await self._client.get_workflow_handle(workflow_id).describe()
        except RPCError as exc:
            if is_gone(exc):
                return None
            raise

    async def _state(
        self, workflow_id: str, description: WorkflowExecutionDescription | None
    ) -> ThreadState | None:
        # Deleted, or on a shelf of its thread.
        if description is None or description.status is WorkflowExecutionStatus.COMPLETED:
            return None
        key = (workflow_id, description.run_id, description.history_length)
        state = self._states.get(key)
        if state is None:
            handle = self._client.get_workflow_handle(workflow_id, run_id=description.run_id)
            try:
                state = await self._fold(handle, workflow_id, description.run_id)
            except RPCError as exc:
                if is_gone(exc):
                    return None
                raise
        self._states[key] = state
        self._states.move_to_end(key)
        while len(self._states) > REMEMBERED:
            self._states.popitem(last=False)
        return state

    async def _fold(
        self, handle: WorkflowHandle[Any, Any], workflow_id: str, run_id: str
    ) -> ThreadState:
        converter = self._client.data_converter.with_context(
            WorkflowSerializationContext(namespace=self._client.namespace, workflow_id=workflow_id)
        )
        fold = _Fold(converter, run_id)
        count = 0
        async for event in handle.fetch_history_events():
            count += 1
            with readable(workflow_id, f"its event {count}"):
                await fold.event(event)
        with readable(workflow_id, "its end"):
            await fold.flush()
        state = fold.state
        assert state is not None
        # Entries may lie in another order than in the workflow's own log, so a cursor into one
        # is none into the other.
        state.log.fold = f"{run_id[:8]}.{count}"
        return state


def _reply(state: ThreadState | None, request: ReadRequest) -> ReadReply | None:
    return None if state is None or state.deleted else state.read(request)


@contextlib.contextmanager
def readable(workflow_id: str, where: str) -> Iterator[None]:
    """Around decoding, by the user's codec too, which may raise anything."""
    try:
        yield
    except Exception as exc:
        raise StorageError(
            f"The history of {workflow_id!r} cannot be read at {where} "
            f"({type(exc).__name__}: {exc}). It was written with another payload codec, "
            "converter or external storage than this client has, by an incompatible release of "
            "langgraph-temporal-exec, or it is damaged."
        ) from exc


class _Fold:
    """Drives a thread state by events, in the order in which the workflow acts on them.

    Args:
        converter: Decodes payloads, with the context of the workflow.
        run_id: Of the workflow's run; the thread's incarnation, if its input names none.

    Attributes:
        state: The thread so far; ``None`` before the first event.
        _steps: Steps that were accepted and are not applied yet, by the event of their acceptance.
        _begins: Those of them that are to attach first, by the same.
        _answers: Events of the acceptance of answers whose runs have not begun yet.
        _attached: Events of the acceptance of attaches that are not completed yet.
        _appends: Appends that were accepted and wait for a shelf, by the same.
        _sent_to: By the event that scheduled an Activity of a task: its task queue.
        _scheduled: What each Activity is about, by the event that scheduled it: a task's key, an
            archive, or namespaces that are closed. Others change nothing.
        _inbound: Signals, and ends of Activities, that have not taken effect.
        _sends_on: Eager tasks that did not come to their process are sent there.
        _missed: Such tasks of which it is not known yet whether they are.
        _task_started: Event at which the latest workflow task was started; 0: none was.
        _now: The workflow's clock, which stands still within a task.
        _fresh: The thread begins with this history. Then its times are those of its first workflow
            task, because that is when the workflow's code first sees a clock.
    """

    def __init__(self, converter: DataConverter, run_id: str) -> None:
        self._converter = converter
        self._run_id = run_id
        self.state: ThreadState | None = None
        self._steps: dict[int, StepRequest] = {}
        self._begins: dict[int, BeginRequest] = {}
        self._answers: list[int] = []
        self._attached: set[int] = set()
        self._appends: dict[int, AppendRequest] = {}
        self._sent_to: dict[int, str] = {}
        self._scheduled: dict[int, str | ArchiveRequest | CloseRequest | RetireRequest] = {}
        self._inbound: list[HistoryEvent] = []
        self._sends_on = False
        self._missed: set[str] = set()
        self._task_started = 0
        self._now = 0.0
        self._fresh = False

    async def event(self, event: HistoryEvent) -> None:
        """One event of the history."""
        kind = event.event_type
        if kind == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
            await self._started(event)
        elif kind in _ENDED or kind == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
            self._inbound.append(event)
        elif kind == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            await self._on_scheduled(event)
        elif kind == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
            await self._on_accepted(event)
        elif kind == EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
            await self._on_run_started(event)
        elif kind == EventType.EVENT_TYPE_MARKER_RECORDED:
            details = event.marker_recorded_event_attributes.details.values()
            names_of = b"".join(p.data for found in details for p in found.payloads)
            assert self.state is not None
            if HOMES.encode() in names_of:
                self.state.has_home = True
            if NAMESPACES_CLOSED.encode() in names_of:
                self.state.closing.enabled = True
            if IN_ORDER.encode() in names_of:
                self.state.in_order = True
            if SENT_ON.encode() in names_of:
                self._sends_on = True
                self._missed.clear()
        elif kind == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED:
            await self.flush()
            await self._on_completed(event)
        elif kind == EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED:
            # The task before this one was completed, and with it what had arrived by then.
            before, self._inbound = self._inbound, []
            late = [e for e in before if e.event_id > self._task_started]
            self._inbound = [e for e in before if e not in late]
            await self.flush()
            self._inbound = late
            assert self.state is not None
            for key in sorted(self._missed):
                self.state.task_lost(key, self.state.epoch)
            self._missed.clear()
            if not self._task_started and self._fresh and self.state is not None:
                made = _seconds(event)
                self.state.summary = replace(self.state.summary, created_s=made, updated_s=made)
            self._task_started = event.event_id
            # The workflow's clock stands still within a task.
            self._now = _seconds(event)

    async def flush(self) -> None:
        """Act on what has arrived: signals, then results."""
        inbound, self._inbound = self._inbound, []
        for event in sorted(inbound, key=lambda e: e.event_type in _ENDED):
            if event.event_type in _ENDED:
                await self._on_ended(event)
            else:
                await self._on_signal(event)

    async def _one(self, payloads: Sequence[Payload]) -> bytes:
        (data,) = await self._converter.decode(list(payloads), [bytes])
        return bytes(data)

    async def _started(self, event: HistoryEvent) -> None:
        attributes = event.workflow_execution_started_event_attributes
        start = unpack(ThreadStart, await self._one(attributes.input.payloads))
        self._fresh = not start.snapshot
        self.state = ThreadState.begun(start, run_id=self._run_id, now_s=_seconds(event))
        # The workflow begins with what results have carried into its snapshot.
        self.state.advance()

    async def _on_scheduled(self, event: HistoryEvent) -> None:
        assert self.state is not None
        attributes = event.activity_task_scheduled_event_attributes
        kind = attributes.activity_type.name
        # On the queue of a process, as tasks are; and a task's type is whatever its node is called.
        if kind == names.STOP_ACTIVITY:
            return
        data = await self._one(attributes.input.payloads)
        if attributes.task_queue.name.endswith(names.UPKEEP_SUFFIX):
            if kind == names.ARCHIVE_ACTIVITY:
                request = unpack(ArchiveRequest, data)
                self.state.log.archiving = request
                self._scheduled[event.event_id] = request
            elif kind in (names.CLOSE_ACTIVITY, names.RETIRE_ACTIVITY):
                is_close = kind == names.CLOSE_ACTIVITY
                closing: CloseRequest | RetireRequest
                closing = unpack(CloseRequest, data) if is_close else unpack(RetireRequest, data)
                self.state.closing.asked = closing
                self._scheduled[event.event_id] = closing
            return
        key = unpack(TaskInput, data).key
        self._scheduled[event.event_id] = key
        self._sent_to[event.event_id] = attributes.task_queue.name
        if key not in self.state.running:
            # The step is answered when its namespaces are open, which may be later than this. What
            # it required has arrived.
            await self.flush()
            for step in list(self._steps.values()):
                if any(spec.key == key for spec in step.tasks):
                    self._apply(step)

    async def _on_ended(self, event: HistoryEvent) -> None:
        assert self.state is not None
        attributes: Any = getattr(event, _ENDED[event.event_type])
        # It ends once: tries before the last one leave no events.
        about = self._scheduled.pop(attributes.scheduled_event_id, None)
        sent_to = self._sent_to.pop(attributes.scheduled_event_id, "")
        completed = event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED
        if about is None:
            return
        if isinstance(about, ArchiveRequest):
            if completed:
                reply = unpack(ArchiveReply, await self._one(attributes.result.payloads))
                self.state.archived(about, reply)
            else:
                self.state.log.not_archived(about)
            return
        if isinstance(about, (CloseRequest, RetireRequest)):
            # The next one may be scheduled already: this one has waited here.
            self.state.closing.asked = about
            if not completed:
                self.state.closing.given_up(about)
            elif isinstance(about, CloseRequest):
                closed = unpack(CloseReply, await self._one(attributes.result.payloads))
                self.state.closed(about, closed)
            else:
                ended = unpack(RetireReply, await self._one(attributes.result.payloads))
                self.state.close_ended(about, ended)
            return
        output = None
        if completed:
            with contextlib.suppress(WireError):
                output = unpack(TaskOutput, await self._one(attributes.result.payloads))
        untaken = event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT and (
            attributes.failure.timeout_failure_info.timeout_type
            == TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START
        )
        # By a worker that does not know it, or does not have it.
        refused = event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED and (
            attributes.failure.HasField("application_failure_info")
        )
        unknown = output is not None and output.status == TaskStatus.UNKNOWN
        not_begun = untaken or refused or unknown
        if not_begun and self.state.eager_missed(about, self.state.epoch) is not None:
            # It is scheduled anew, but for releases that do not know of it: see the marker, which
            # may come after this.
            if not self._sends_on:
                self._missed.add(about)
            return
        if untaken and self.state.task_home_left(about, self.state.epoch, sent_to):
            # It is scheduled anew.
            return
        # A key is of one attempt; those of superseded ones are not among the running tasks.
        key, epoch = about, self.state.epoch
        if output is None:
            self.state.task_lost(key, epoch)
            return
        if output.step:
            self.state.touch(self._now)
        self.state.task_ended(key, epoch, output)
        self.state.advance()

    async def _on_signal(self, event: HistoryEvent) -> None:
        assert self.state is not None
        attributes = event.workflow_execution_signaled_event_attributes
        if attributes.signal_name not in _SIGNALS:
            return
        payloads = list(attributes.input.payloads)
        raw = await self._converter.decode(payloads, [RawValue] * len(payloads))
        try:
            args = self._converter.payload_converter.from_payloads([r.payload for r in raw])
        except Exception:
            # As the SDK of a worker does with what no converter knows.
            return
        self.state.signalled(attributes.signal_name, args)

    async def _on_accepted(self, event: HistoryEvent) -> None:
        assert self.state is not None
        attributes = event.workflow_execution_update_accepted_event_attributes
        name = attributes.accepted_request.input.name
        payloads = attributes.accepted_request.input.args.payloads
        self.state.touch(self._now)
        if name == names.ATTACH_UPDATE:
            self._attached.add(event.event_id)
            self.state.attach(unpack(AttachRequest, await self._one(payloads)))
        elif name == names.APPEND_UPDATE:
            request = unpack(AppendRequest, await self._one(payloads))
            if self.state.recalled(request.open):
                # It waits for a shelf, and may be refused then.
                self._appends[event.event_id] = request
            elif not self.state.is_stale(request):
                self.state.append(request)
        elif name == names.STEP_UPDATE:
            self._steps[event.event_id] = unpack(StepRequest, await self._one(payloads))
        elif name == names.BEGIN_UPDATE:
            begin = unpack(BeginRequest, await self._one(payloads))
            self._steps[event.event_id] = begin.step
            self._begins[event.event_id] = begin
            # Granted at once, also if a newer attempt takes over before its step is applied.
            if self.state.begins(begin) and not self.state.has_begun(begin):
                self.state.begin(begin)
        elif name == names.RESUME_UPDATE:
            # The answer is anything that any client can encode. What counts is the run it begins.
            self._answers.append(event.event_id)
        elif name == names.DELETE_UPDATE:
            self.state.delete()

    async def _on_run_started(self, event: HistoryEvent) -> None:
        """The thread starts a run itself: for an answer, or because nobody gave one in time."""
        assert self.state is not None
        attributes = event.start_child_workflow_execution_initiated_event_attributes
        if attributes.workflow_type.name != names.RUN_WORKFLOW:
            return
        # The runs of answers begin in the order in which these were accepted.
        if self._answers:
            del self._answers[0]
        else:
            await self.flush()
            self.state.overdue(self._now)
        run_id = names.run_id_of(attributes.workflow_id)
        self.state.reserve(run_id, attributes.workflow_id)

    async def _on_completed(self, event: HistoryEvent) -> None:
        assert self.state is not None
        attributes = event.workflow_execution_update_completed_event_attributes
        if attributes.accepted_event_id in self._attached:
            self._attached.remove(attributes.accepted_event_id)
            if attributes.outcome.HasField("success"):
                payloads = attributes.outcome.success.payloads
                self.state.adopt_home(unpack(AttachReply, await self._one(payloads)).home)
            return
        waited = self._appends.pop(attributes.accepted_event_id, None)
        if waited is not None and attributes.outcome.HasField("success"):
            self.state.append(waited)
        request = self._steps.get(attributes.accepted_event_id)
        if attributes.accepted_event_id in self._answers:
            # Refused after all.
            self._answers.remove(attributes.accepted_event_id)
        if request is None:
            return
        applied = False
        if attributes.outcome.HasField("success"):
            reply = unpack(StepReply, await self._one(attributes.outcome.success.payloads))
            applied = not reply.again and not reply.lost
        if applied:
            self._apply(request)
        self._steps.pop(attributes.accepted_event_id, None)
        self._begins.pop(attributes.accepted_event_id, None)

    def _apply(self, request: StepRequest) -> None:
        """A step, after those before it: they are applied in turn, whichever is answered first."""
        assert self.state is not None
        due = {
            event_id: step
            for event_id, step in self._steps.items()
            if (step.epoch, step.round) == (request.epoch, request.round)
            and (step.seq < request.seq or step is request)
        }
        for event_id, step in sorted(due.items(), key=lambda item: item[1].seq):
            del self._steps[event_id]
            begin = self._begins.pop(event_id, None)
            if begin is not None and not self.state.has_begun(begin):
                self.state.begin(begin)
            self.state.enter_epoch(step.epoch, step.round)
            # One that brings an outcome once more is answered, and not applied.
            if not self.state.refuses(step.epoch, step.round):
                self.state.step(step)
        self.state.advance()


def _seconds(event: HistoryEvent) -> float:
    """The time of an event as ``workflow.now()`` gives it, rounding included."""
    return datetime.fromtimestamp(event.event_time.ToNanoseconds() / 1e9, UTC).timestamp()
