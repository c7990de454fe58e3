"""Shared: when the tasks of a thread ran, from the events of its workflow.

LangGraph stores when a checkpoint was made, which tells of tasks that run in parallel, or that ask
and are answered days later, nothing. Their Activities tell. What is of the past and was removed
from Temporal (closed executions, after the retention of the namespace) is not known.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryReverseRequest
from temporalio.client import Client
from temporalio.converter import DataConverter, WorkflowSerializationContext
from temporalio.service import RPCError

from ..protocol import names
from ..protocol.messages import TaskInput
from ..protocol.wire import WireError, unpack
from .rpc import is_gone

REMEMBERED = 32
"""Workflows of which what was read is kept: who looks at a busy thread asks again and again."""

PAGE = 250

SLACK = timedelta(seconds=60)
"""By how much the clocks of workers and of Temporal may differ."""

_ENDED = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: "activity_task_completed_event_attributes",
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: "activity_task_failed_event_attributes",
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: "activity_task_timed_out_event_attributes",
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED: "activity_task_canceled_event_attributes",
}


@dataclass(frozen=True, kw_only=True)
class TaskTiming:
    """One execution of a task.

    Args:
        task_id: LangGraph's id of it.
        node: Its node.
        started_at: When it began; of one that runs, when it was scheduled.
        ended_at: When it ended; ``None`` while it runs.
    """

    task_id: str
    node: str
    started_at: datetime
    ended_at: datetime | None


@dataclass
class _Read:
    """What is known of one workflow. Events are named by execution and id."""

    since: datetime
    until: tuple[str, int] = ("", 0)
    scheduled: dict[tuple[str, int], tuple[str, str, datetime]] = field(default_factory=dict)
    started: dict[tuple[str, int], datetime] = field(default_factory=dict)
    ended: dict[tuple[str, int], datetime] = field(default_factory=dict)

    def timings(self) -> Iterator[TaskTiming]:
        for event, (task_id, node, at) in self.scheduled.items():
            yield TaskTiming(
                task_id=task_id,
                node=node,
                started_at=self.started.get(event, at),
                ended_at=self.ended.get(event),
            )


class Timings:
    """Reads histories from their end, and no further than was asked for or is known already.

    Args:
        client: Temporal.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._read: OrderedDict[str, _Read] = OrderedDict()

    async def tasks(self, workflow_id: str, since: datetime | None) -> dict[str, TaskTiming]:
        """The latest execution of each task, by the task's id.

        Args:
            workflow_id: Of a thread or of one of its namespaces.
            since: Tasks that were scheduled before may be left out; ``None``: none is.

        Returns:
            The executions; of a workflow that does not exist, none.
        """
        floor = datetime.min.replace(tzinfo=UTC) if since is None else since - SLACK
        try:
            known = await self._known(workflow_id, floor)
        except RPCError as exc:
            if is_gone(exc):
                return {}
            raise
        latest: dict[str, TaskTiming] = {}
        for timing in known.timings():
            before = latest.get(timing.task_id)
            if before is None or before.started_at <= timing.started_at:
                latest[timing.task_id] = timing
        return latest

    async def _known(self, workflow_id: str, floor: datetime) -> _Read:
        description = await self._client.get_workflow_handle(workflow_id).describe()
        # Taken out while it is extended: what fails half-way is read anew.
        read = self._read.pop(workflow_id, None)
        if read is None or floor < read.since:
            read = _Read(since=floor)
        now = (description.run_id, description.history_length)
        if now != read.until:
            await self._extend(workflow_id, read, description.run_id, floor)
            read.until = now
        self._read[workflow_id] = read
        while len(self._read) > REMEMBERED:
            self._read.popitem(last=False)
        return read

    async def _extend(self, workflow_id: str, read: _Read, run_id: str, floor: datetime) -> None:
        """Read from the end of an execution back to what is known, or to ``floor``."""
        converter = self._client.data_converter.with_context(
            WorkflowSerializationContext(namespace=self._client.namespace, workflow_id=workflow_id)
        )
        latest, token = run_id, b""
        known_run, known_end = read.until
        while run_id:
            request = GetWorkflowExecutionHistoryReverseRequest(
                namespace=self._client.namespace,
                execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
                maximum_page_size=PAGE,
                next_page_token=token,
            )
            service = self._client.workflow_service
            try:
                page = await service.get_workflow_execution_history_reverse(request)
            except RPCError as exc:
                if is_gone(exc) and run_id != latest:
                    # An earlier execution, which Temporal has removed.
                    return
                raise
            token, before = page.next_page_token, ""
            for event in page.history.events:
                at = _time(event)
                if at < floor or (run_id == known_run and event.event_id <= known_end):
                    return
                if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
                    started = event.workflow_execution_started_event_attributes
                    before = started.continued_execution_run_id
                else:
                    await _note(read, run_id, event, at, converter)
            if not token:
                run_id = before


async def _note(
    read: _Read, run_id: str, event: HistoryEvent, at: datetime, converter: DataConverter
) -> None:
    kind = event.event_type
    if kind == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
        scheduled = event.activity_task_scheduled_event_attributes
        if scheduled.task_queue.name.endswith(names.UPKEEP_SUFFIX):
            return
        try:
            (data,) = await converter.decode(list(scheduled.input.payloads), [bytes])
            key = unpack(TaskInput, bytes(data)).key
        except WireError:
            return
        # A key is of one attempt of one run.
        task_id = key.partition(".")[0]
        read.scheduled[run_id, event.event_id] = (task_id, scheduled.activity_type.name, at)
    elif kind == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
        of = event.activity_task_started_event_attributes.scheduled_event_id
        read.started[run_id, of] = at
    elif kind in _ENDED:
        of = getattr(event, _ENDED[kind]).scheduled_event_id
        read.ended[run_id, of] = at


def _time(event: HistoryEvent) -> datetime:
    return event.event_time.ToDatetime(tzinfo=UTC)
