"""Benchmark bytes: what a deployment wrote to Temporal, event by event, and in which turn."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    GetWorkflowExecutionHistoryRequest,
)
from temporalio.client import (
    Client,
    Interceptor,
    OutboundInterceptor,
    StartWorkflowInput,
    WorkflowHandle,
)
from temporalio.service import RPCError, RPCStatusCode

from benchmarks.server import LabError

PAGE = 1_000
QUIET_S = 1.0
"""Nothing new for this long: what trails the last turn has arrived."""

QUIET_WITHIN_S = 60.0

SHARE_TURNS = 100
"""Turns whose share of archives is averaged: one archive costs more than the next, depending on
where between two of its boundaries (pieces of 64 kB, snapshots of a DeltaChannel) it falls."""

UPKEEP_QUEUE = "#upkeep"
"""End of the name of the task queue on which logs are archived."""

ARCHIVE, ROLL = "archive", "continue as new"
"""What is done for many turns at once: moving the log into an archive, and continuing as new."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One history event."""

    turn: int  # from 1
    place: str  # "thread", "run" or "blob", from the workflow's id
    label: str  # type of the event; of a blob, what it holds
    size: int  # bytes, serialized
    cycle: str = ""  # ARCHIVE or ROLL: done for all turns since the last time
    ends_cycle: bool = False


@dataclass(kw_only=True)
class Ledger:
    """All events of one deployment."""

    turns: int
    items: list[Item] = field(default_factory=list)
    removed: int = 0  # bytes of blobs that are gone again
    executions: int = 0
    server_bytes: int = 0  # history sizes as the server counts them, of what is not removed

    def fell(self, *, runs: bool = True) -> list[float]:
        """Bytes by turn, as they were written."""
        return self._by_turn([i for i in self.items if runs or i.place != "run"])

    def shared(self, *, runs: bool = True) -> list[float]:
        """Bytes by turn; archives and the like are shared out over the turns they are for.

        Of archives a turn is charged the mean of the ``SHARE_TURNS`` up to it. What came after
        the last of them is not in one yet: those turns are charged as much as those before, so
        that no window escapes. Continue-as-new is charged alike to all turns: it comes every few
        hundred, and what it costs depends on how full the log happens to be, not on the thread's
        length (``sizes`` shows each).
        """
        own = [i for i in self.items if not i.cycle and (runs or i.place != "run")]
        result = self._by_turn(own)
        for cycle in (ARCHIVE, ROLL):
            for turn, share in enumerate(self._shares(cycle)):
                result[turn] += share
        return result

    def _by_turn(self, items: Sequence[Item]) -> list[float]:
        result = [0.0] * self.turns
        for item in items:
            result[item.turn - 1] += item.size
        return result

    def _shares(self, cycle: str) -> list[float]:
        items = [i for i in self.items if i.cycle == cycle]
        ends = sorted({i.turn for i in items if i.ends_cycle})
        shares = [0.0] * self.turns
        before = 0
        for number, end in enumerate(ends):
            # The first has what belongs to it and came a moment earlier, too.
            last = number + 1 == len(ends)
            until = self.turns + 1 if last else ends[number + 1]
            since = 0 if number == 0 else end
            share = sum(i.size for i in items if since <= i.turn < until) / (end - before)
            for turn in range(before, self.turns if last else end):
                shares[turn] = share
            before = end
        if cycle == ROLL:
            return [sum(shares) / self.turns] * self.turns
        spans = [shares[max(0, t - SHARE_TURNS + 1) : t + 1] for t in range(self.turns)]
        return [sum(span) / len(span) for span in spans]

    def by_label(self, first: int, last: int) -> dict[str, float]:
        """Bytes per turn of a window by place and label; of cycles, the share of its turns."""
        counts: Counter[str] = Counter()
        for item in self.items:
            if not item.cycle and first <= item.turn <= last:
                counts[f"{item.place} {item.label}"] += item.size
        result = {name: size / (last - first + 1) for name, size in counts.most_common()}
        for cycle in (ARCHIVE, ROLL):
            result[cycle] = sum(self._shares(cycle)[first - 1 : last]) / (last - first + 1)
        return result

    def sizes(self, cycle: str) -> dict[str, dict[str, int]]:
        """Every archive or continue-as-new, by the turn in which it was made: its parts."""
        ends = sorted({i.turn for i in self.items if i.cycle == cycle and i.ends_cycle})
        made: dict[str, Counter[str]] = {str(end): Counter() for end in ends}
        for item in self.items:
            if item.cycle == cycle and ends:
                end = ends[max(0, bisect_right(ends, item.turn) - 1)]
                made[str(end)][f"{item.place} {item.label}"] += item.size
        return {end: dict(parts) for end, parts in made.items()}

    def total(self, last: int, *, runs: bool = True) -> int:
        """Bytes written up to a turn."""
        return int(sum(self.fell(runs=runs)[:last]))


class Recorder(Interceptor):
    """Measures blobs when they are written: some are removed before the turns are over.

    Args:
        prefix: ``id_prefix`` of the deployment.
        client: A client without this interceptor.
    """

    def __init__(self, prefix: str, client: Client) -> None:
        self.prefix = prefix
        self.client = client
        self.turns: list[float] = []  # when each turn began, seconds since the epoch
        # By workflow id and run id.
        self.blobs: dict[tuple[str, str], list[HistoryEvent]] = {}

    def turn_begins(self) -> None:
        """What is written from now on belongs to the next turn."""
        self.turns.append(time.time())

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Outbound(self, next)


class _Outbound(OutboundInterceptor):
    def __init__(self, recorder: Recorder, next: OutboundInterceptor) -> None:
        super().__init__(next)
        self._recorder = recorder

    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        handle = await super().start_workflow(input)
        recorder = self._recorder
        key = input.id, handle.first_execution_run_id or ""
        if _place(recorder.prefix, input.id) == "blob" and key not in recorder.blobs:
            recorder.blobs[key] = await _events(recorder.client, *key)
        return handle


def _place(prefix: str, workflow_id: str) -> str:
    return workflow_id.removeprefix(f"{prefix}/").partition("/")[0]


def _label(workflow_id: str) -> str:
    """What a blob holds: the scope in its id; those of values have a random one."""
    scope = workflow_id.split("/")[-2]
    return scope if scope.isalpha() and len(scope) < 16 else "value"


async def _events(client: Client, workflow_id: str, run_id: str = "") -> list[HistoryEvent]:
    """A whole history, payloads as they are; empty when it is gone."""
    request = GetWorkflowExecutionHistoryRequest(
        namespace=client.namespace,
        execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
        maximum_page_size=PAGE,
    )
    events: list[HistoryEvent] = []
    while True:
        try:
            reply = await client.workflow_service.get_workflow_execution_history(request)
        except RPCError as exc:
            if exc.status is RPCStatusCode.NOT_FOUND:
                return []
            raise
        events += reply.history.events
        if not reply.next_page_token:
            return events
        request.next_page_token = reply.next_page_token


async def _size(client: Client, workflow_id: str, run_id: str) -> int:
    """Bytes of a history as the server counts them."""
    reply = await client.workflow_service.describe_workflow_execution(
        DescribeWorkflowExecutionRequest(
            namespace=client.namespace,
            execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
        )
    )
    return reply.workflow_execution_info.history_size_bytes


async def settled(recorder: Recorder) -> dict[tuple[str, str], int]:
    """Executions of the deployment with their history lengths, once nothing moves any more.

    Raises:
        LabError: It goes on and on, or a blob is neither listed nor gone.
    """
    client = recorder.client
    query = f"WorkflowId STARTS_WITH '{recorder.prefix}/'"
    deadline = time.monotonic() + QUIET_WITHIN_S
    before: dict[tuple[str, str], int] = {}
    while time.monotonic() < deadline:
        found: dict[tuple[str, str], int] = {}
        async for execution in client.list_workflows(query):
            place = _place(recorder.prefix, execution.id)
            length = 1
            if place != "blob":
                handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
                length = (await handle.describe()).history_length
            found[execution.id, execution.run_id] = length
        runs = sum(_place(recorder.prefix, workflow_id) == "run" for workflow_id, _ in found)
        if found == before and runs >= len(recorder.turns):
            return found
        before = found
        await asyncio.sleep(QUIET_S)
    raise LabError(f"What {recorder.prefix} wrote did not settle within {QUIET_WITHIN_S:.0f} s.")


async def ledger(recorder: Recorder) -> Ledger:
    """Read all histories of the deployment back, and tell turns apart by the time of events."""
    client = recorder.client
    result = Ledger(turns=len(recorder.turns))
    listed = await settled(recorder)
    for workflow_id, run_id in listed:
        place = _place(recorder.prefix, workflow_id)
        if place == "blob":
            continue
        events = await _events(client, workflow_id, run_id)
        result.executions += 1
        result.server_bytes += await _size(client, workflow_id, run_id)
        if place == "run":
            # One run is one turn, also what of it trails into the next.
            turn = _turn(recorder, events[0])
            result.items += [
                Item(turn=turn, place=place, label=_type(e), size=e.ByteSize()) for e in events
            ]
        else:
            result.items += _thread(recorder, place, events)
    for (workflow_id, run_id), events in recorder.blobs.items():
        result.executions += 1
        size = sum(e.ByteSize() for e in events)
        label = _label(workflow_id)
        result.items.append(
            Item(
                turn=_turn(recorder, events[0]),
                place="blob",
                label=label,
                size=size,
                cycle="" if label == "value" else ARCHIVE,
            )
        )
        if not await _events(client, workflow_id, run_id):
            result.removed += size
        else:
            result.server_bytes += size
    unknown = {key for key in listed if _place(recorder.prefix, key[0]) == "blob"}
    unknown -= recorder.blobs.keys()
    if unknown:
        raise LabError(f"{len(unknown)} blobs were written unseen, {min(unknown)[0]} among them.")
    return result


def _turn(recorder: Recorder, event: HistoryEvent) -> int:
    at = event.event_time.ToMicroseconds() / 1e6
    return max(1, bisect_right(recorder.turns, at))


def _type(event: HistoryEvent) -> str:
    return EventType.Name(event.event_type).removeprefix("EVENT_TYPE_").lower()


def _thread(recorder: Recorder, place: str, events: Sequence[HistoryEvent]) -> list[Item]:
    """Events of one run of a thread's workflow."""
    items = []
    upkeep: set[int] = set()
    names: dict[int, str] = {}
    for event in events:
        label = _type(event)
        cycle, ends = "", False
        kind = event.WhichOneof("attributes") or ""
        attributes: Any = getattr(event, kind)
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            if attributes.task_queue.name.endswith(UPKEEP_QUEUE):
                upkeep.add(event.event_id)
                cycle = ARCHIVE
                ends = attributes.activity_type.name.endswith("archive")
        elif getattr(attributes, "scheduled_event_id", 0) in upkeep:
            cycle = ARCHIVE
        elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
            cycle, ends = ROLL, True
        elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
            cycle = ROLL if attributes.continued_execution_run_id else ""
        elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
            name = attributes.accepted_request.input.name
            names[event.event_id] = name
            label = f"{label} ({name})"
        elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED:
            label = f"{label} ({names.get(attributes.accepted_event_id, '')})"
        items.append(
            Item(
                turn=_turn(recorder, event),
                place=place,
                label=label,
                size=event.ByteSize(),
                cycle=cycle,
                ends_cycle=ends,
            )
        )
    return items
