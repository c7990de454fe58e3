"""Shared: the state of a thread from its workflow's history, for when no worker answers.

The pure thread state is driven by the recorded events: what was accepted and completed, which
results arrived. Nothing is started, signalled or asked.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHandle
from temporalio.converter import DataConverter, WorkflowSerializationContext
from temporalio.service import RPCError, RPCStatusCode

from ._threads import settle
from .errors import NoWorkersError
from .protocol import names
from .protocol.messages import (
    Announcement,
    AppendRequest,
    ArchiveReply,
    ArchiveRequest,
    AttachRequest,
    ReadReply,
    ReadRequest,
    StepReply,
    StepRequest,
    TaskInput,
    TaskOutput,
    ThreadStart,
    ThreadSummary,
)
from .protocol.wire import WireError, unpack
from .workflow.thread_state import ThreadState

HEDGE_S = 1.5
"""How long a worker may take to answer before the history is read as well."""

ABSENT_S = 15.0
"""How long no worker is waited for after none answered."""

HISTORY_MARK = "+"
"""In the incarnation of a log that was read from history."""

REMEMBERED = 8
"""Threads whose state is kept, because it is read page by page."""

_SIGNALS = (
    names.ANNOUNCE_SIGNAL,
    names.RUN_CLOSED_SIGNAL,
    names.FENCE_SIGNAL,
    names.ANSWER_SIGNAL,
    names.DELETE_SIGNAL,
)
_ENDED = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: "activity_task_completed_event_attributes",
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: "activity_task_failed_event_attributes",
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: "activity_task_timed_out_event_attributes",
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED: "activity_task_canceled_event_attributes",
}


class HistoryReader:
    """Answers ``read`` from histories. One per saver."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._states: OrderedDict[tuple[str, str, int], ThreadState] = OrderedDict()
        self._absent_until = 0.0

    async def or_worker(
        self,
        workflow_id: str,
        request: ReadRequest,
        query: Coroutine[Any, Any, ReadReply | None],
    ) -> ReadReply | None:
        """The answer of a worker if there is one soon, else that of the history."""
        asked = asyncio.ensure_future(query)
        told: asyncio.Future[ReadReply | None] | None = None
        try:
            if time.monotonic() >= self._absent_until:
                await asyncio.wait([asked], timeout=HEDGE_S)
            if asked.done() and not isinstance(asked.exception(), NoWorkersError):
                return asked.result()
            told = asyncio.ensure_future(self.read(workflow_id, request))
            if not asked.done():
                await asyncio.wait([asked, told], return_when=asyncio.FIRST_COMPLETED)
                if asked.done() and not asked.exception():
                    self._absent_until = 0.0
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

    def worker_answered(self) -> None:
        """There are workers: the next Query gets its head start."""
        self._absent_until = 0.0

    async def read(self, workflow_id: str, request: ReadRequest) -> ReadReply | None:
        """``read`` of a thread workflow, from its history; ``None`` when there is none."""
        state = await self.state(workflow_id)
        if state is None or state.deleted:
            return None
        return state.read(request)

    async def state(self, workflow_id: str) -> ThreadState | None:
        """The state its history leads to; ``None`` when there is no such workflow."""
        handle = self._client.get_workflow_handle(workflow_id)
        try:
            description = await handle.describe()
            key = (workflow_id, description.run_id, description.history_length)
            if key not in self._states:
                handle = self._client.get_workflow_handle(workflow_id, run_id=description.run_id)
                self._states[key] = await self._fold(handle, workflow_id, description.run_id)
        except RPCError as exc:
            if exc.status is RPCStatusCode.NOT_FOUND:
                return None
            raise
        self._states.move_to_end(key)
        while len(self._states) > REMEMBERED:
            self._states.popitem(last=False)
        return self._states[key]

    async def _fold(
        self, handle: WorkflowHandle[Any, Any], workflow_id: str, run_id: str
    ) -> ThreadState:
        converter = self._client.data_converter.with_context(
            WorkflowSerializationContext(namespace=self._client.namespace, workflow_id=workflow_id)
        )
        fold = _Fold(converter, run_id)
        count = 0
        async for event in handle.fetch_history_events():
            await fold.event(event)
            count += 1
        await fold.flush()
        state = fold.state
        assert state is not None
        # Entries may lie in another order than in the workflow's own log, so a cursor into one
        # is none into the other.
        state.incarnation = f"{state.incarnation}{HISTORY_MARK}{run_id[:8]}.{count}"
        return state


class _Fold:
    """Drives a thread state by events, in the order in which the workflow acts on them."""

    def __init__(self, converter: DataConverter, run_id: str) -> None:
        self._converter = converter
        self._run_id = run_id
        self.state: ThreadState | None = None
        self._accepted: dict[int, tuple[str, bytes]] = {}
        self._scheduled: dict[int, str | ArchiveRequest] = {}
        # What arrived since the last workflow task: the workflow acts on Updates first.
        self._inbound: list[HistoryEvent] = []
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
        incarnation = start.incarnation or self._run_id
        root = not start.namespace
        if start.snapshot:
            self.state = ThreadState.restore(incarnation, root=root, snapshot=start.snapshot)
        else:
            self._fresh = True
            created = _seconds(event)
            self.state = ThreadState(
                incarnation=incarnation,
                root=root,
                summary=ThreadSummary(
                    thread_id=start.thread_id, created_s=created, updated_s=created
                ),
            )

    async def _on_scheduled(self, event: HistoryEvent) -> None:
        assert self.state is not None
        attributes = event.activity_task_scheduled_event_attributes
        kind = attributes.activity_type.name
        data = await self._one(attributes.input.payloads)
        if attributes.task_queue.name.endswith(names.UPKEEP_SUFFIX):
            if kind == names.ARCHIVE_ACTIVITY:
                request = unpack(ArchiveRequest, data)
                self.state.archiving = request
                self._scheduled[event.event_id] = request
            return
        self._scheduled[event.event_id] = unpack(TaskInput, data).key

    async def _on_ended(self, event: HistoryEvent) -> None:
        assert self.state is not None
        attributes: Any = getattr(event, _ENDED[event.event_type])
        about = self._scheduled.pop(attributes.scheduled_event_id, None)
        completed = event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED
        if about is None:
            return
        if isinstance(about, ArchiveRequest):
            if completed:
                reply = unpack(ArchiveReply, await self._one(attributes.result.payloads))
                self.state.archived(about, reply)
            else:
                self.state.not_archived(about)
            return
        # A key is of one attempt; those of superseded ones are not among the running tasks.
        key, epoch = about, self.state.epoch
        try:
            if not completed:
                raise WireError("no result")
            output = unpack(TaskOutput, await self._one(attributes.result.payloads))
        except WireError:
            self.state.task_lost(key, epoch)
        else:
            self.state.task_ended(key, epoch, output)

    async def _on_signal(self, event: HistoryEvent) -> None:
        assert self.state is not None
        attributes = event.workflow_execution_signaled_event_attributes
        if attributes.signal_name not in _SIGNALS:
            return
        args = await self._converter.decode(list(attributes.input.payloads))
        if attributes.signal_name == names.ANNOUNCE_SIGNAL:
            self.state.announce(unpack(Announcement, bytes(args[0])))
        elif attributes.signal_name == names.RUN_CLOSED_SIGNAL:
            self.state.run_closed(*args)
        elif attributes.signal_name == names.FENCE_SIGNAL:
            self.state.fence(*args)
        elif attributes.signal_name == names.ANSWER_SIGNAL:
            self.state.answer_taken(*args)
        else:
            self.state.delete()

    async def _on_accepted(self, event: HistoryEvent) -> None:
        assert self.state is not None
        attributes = event.workflow_execution_update_accepted_event_attributes
        name = attributes.accepted_request.input.name
        payloads = attributes.accepted_request.input.args.payloads
        data = await self._one(payloads) if payloads else b""
        self.state.touch(self._now)
        if name == names.ATTACH_UPDATE:
            self.state.attach(unpack(AttachRequest, data))
        elif name == names.DELETE_UPDATE:
            self.state.delete()
        else:
            self._accepted[event.event_id] = (name, data)

    async def _on_completed(self, event: HistoryEvent) -> None:
        assert self.state is not None
        attributes = event.workflow_execution_update_completed_event_attributes
        name, data = self._accepted.pop(attributes.accepted_event_id, ("", b""))
        if not attributes.outcome.HasField("success"):
            return
        if name == names.APPEND_UPDATE:
            self.state.append(unpack(AppendRequest, data))
        elif name == names.STEP_UPDATE:
            reply = unpack(StepReply, await self._one(attributes.outcome.success.payloads))
            if not reply.again and not reply.lost:
                request = unpack(StepRequest, data)
                self.state.enter_epoch(request.epoch)
                self.state.step(request)


def _seconds(event: HistoryEvent) -> float:
    """The time of an event as ``workflow.now()`` gives it, rounding included."""
    return datetime.fromtimestamp(event.event_time.ToNanoseconds() / 1e9, UTC).timestamp()
