"""Histories of every release replay with this code; they are kept for ever (see ``record``)."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.protocol.messages import Snapshot, StepRequest, TaskOutput, ThreadStart
from langgraph_temporal_exec.protocol.wire import WireError, unpack
from langgraph_temporal_exec.workflow.patches import (
    CANCELLED_IS_CANCELLED,
    GO_HOME,
    HOMES,
    IN_ORDER,
    NAMESPACES_CLOSED,
    PARKS,
    RESULTS_FIRST,
    SENT_ON,
    STARTS_PACED,
    STOP_AT_ONCE,
    STOPPED_AT_START,
)
from langgraph_temporal_exec.workflow.run import RunWorkflow
from langgraph_temporal_exec.workflow.thread import STARTS_AT_ONCE, ThreadWorkflow
from tests.replay.record import HISTORIES, MUST_FAIL, load

GOLDEN = sorted(HISTORIES.glob("v*/*.json.gz"))
MAX_BYTES = 300_000
"""Of a folder."""


def activities(history: WorkflowHistory) -> set[str]:
    scheduled = [e.activity_task_scheduled_event_attributes for e in history.events]
    return {a.activity_type.name for a in scheduled if a.activity_type.name}


def has(history: WorkflowHistory, *kinds: EventType.ValueType) -> bool:
    return set(kinds) <= {e.event_type for e in history.events}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: f"{p.parent.name}/{p.name[:-8]}")
async def test_replays(path: Path) -> None:
    replayer = Replayer(workflows=[ThreadWorkflow, RunWorkflow])
    await replayer.replay_workflow(await asyncio.to_thread(load, path))


async def test_a_history_of_other_commands_is_refused() -> None:
    """Otherwise the tests above would prove nothing."""
    replayer = Replayer(workflows=[ThreadWorkflow, RunWorkflow])
    with pytest.raises(workflow.NondeterminismError):
        await replayer.replay_workflow(await asyncio.to_thread(load, MUST_FAIL))


def test_what_is_recorded() -> None:
    """Every way a history can look is among the golden ones of the first release."""
    v1 = {p.name: load(p) for p in GOLDEN if p.parent.name == "v1"}
    used = set().union(*map(activities, v1.values()))
    upkeep = {names.ARCHIVE_ACTIVITY, names.DISCARD_ACTIVITY, names.ERASE_ACTIVITY}
    assert {names.DRIVE_ACTIVITY, *upkeep} <= used
    for kind in (
        EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT,
        EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED,
        EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED,
        EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED,
        EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
    ):
        assert any(has(h, kind) for h in v1.values()), EventType.Name(kind)
    # Continued as new with tasks under way: the next run starts their Activities before any Update.
    middle = v1["rolled.thread-t.1.json.gz"]
    assert has(middle, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW)
    assert "work" in activities(middle)


def updates(history: WorkflowHistory) -> set[str]:
    accepted = [e.workflow_execution_update_accepted_event_attributes for e in history.events]
    return {a.accepted_request.input.name for a in accepted} - {""}


def signals(history: WorkflowHistory) -> set[str]:
    return {e.workflow_execution_signaled_event_attributes.signal_name for e in history.events}


def patches(history: WorkflowHistory) -> set[str]:
    markers = [e.marker_recorded_event_attributes for e in history.events]
    found = [m.details["patch-data"].payloads[0].data for m in markers if m.marker_name]
    return {json.loads(data)["id"] for data in found}


def test_what_is_recorded_since() -> None:
    """What workflow code does since v1 is among the golden histories of v2, each patch included."""
    v2 = {p.name: load(p) for p in GOLDEN if p.parent.name == "v2"}
    histories = v2.values()
    assert {names.STOP_ACTIVITY, names.LISTEN_ACTIVITY} <= set().union(*map(activities, histories))
    assert {names.RESUME_UPDATE, names.LISTEN_UPDATE} <= set().union(*map(updates, histories))
    sent = set().union(*map(signals, histories))
    assert {
        names.STOP_SIGNAL,
        names.ANNOUNCE_SIGNAL,
        names.MOVE_SIGNAL,
        names.RUN_CLOSED_SIGNAL,
    } <= sent
    assert set().union(*map(patches, histories)) == {
        RESULTS_FIRST,
        STOP_AT_ONCE,
        CANCELLED_IS_CANCELLED,
    }
    for kind in (
        EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED,
        EventType.EVENT_TYPE_TIMER_FIRED,
    ):
        assert any(has(h, kind) for h in histories), EventType.Name(kind)
    # Moved: the thread, and the namespace after it, begin anew on another task queue.
    for label in ("t", "t-inner"):
        left = v2[f"relocated.thread-{label}.0.json.gz"].events[-1]
        queue = left.workflow_execution_continued_as_new_event_attributes.task_queue.name
        assert queue == "relocated-new"


def test_a_thread_that_was_parked() -> None:
    """Since v8: a timer, an archive, a word to its namespaces, and another run of its workflow."""
    thread = load(HISTORIES / "v8" / "parked.thread-t.0.json.gz")
    assert PARKS in patches(thread)
    assert names.ARCHIVE_ACTIVITY in activities(thread)
    for kind in (
        EventType.EVENT_TYPE_TIMER_FIRED,
        EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
    ):
        assert has(thread, kind), EventType.Name(kind)
    inner = load(HISTORIES / "v8" / "parked.thread-t-inner.0.json.gz")
    assert names.PARK_SIGNAL in signals(inner)
    assert has(inner, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW)


def test_a_wide_superstep_is_scheduled_by_several_workflow_tasks() -> None:
    """Before v3 all of it was scheduled by one; what is narrower still is, without a patch."""
    history = load(HISTORIES / "v3" / "very_wide.thread-t.0.json.gz")
    scheduled = [e.activity_task_scheduled_event_attributes for e in history.events]
    by = Counter(a.workflow_task_completed_event_id for a in scheduled if a.activity_type.name)
    assert max(by.values()) == STARTS_AT_ONCE
    assert sum(by.values()) == STARTS_AT_ONCE + 1
    assert patches(history) == {STARTS_PACED}


def test_small_and_neutral() -> None:
    """They are kept for ever, and name nobody's machine."""
    for folder in HISTORIES.glob("v*"):
        assert sum(p.stat().st_size for p in folder.iterdir()) < MAX_BYTES
    for path in GOLDEN:
        data = gzip.decompress(path.read_bytes())
        assert b"stackTrace" not in data
        identities = {
            e.workflow_task_started_event_attributes.identity for e in load(path).events
        } - {""}
        assert identities == {"recorder"}, path


def test_homes_closed_namespaces_and_placed_tasks() -> None:
    """What v4 adds: its patches, the Activities that close and reopen, and a run's own timer."""
    v4 = {p.name: load(p) for p in GOLDEN if p.parent.name == "v4"}
    assert {HOMES, GO_HOME, NAMESPACES_CLOSED} <= set().union(*map(patches, v4.values()))
    used = set().union(*map(activities, v4.values()))
    closing = {names.CLOSE_ACTIVITY, names.RETIRE_ACTIVITY, names.REOPEN_ACTIVITY}
    assert {*closing, "inner", names.DRIVE_ACTIVITY} <= used
    expired = [h for name, h in v4.items() if name.startswith("expired.run")]
    assert any(has(h, EventType.EVENT_TYPE_TIMER_FIRED) for h in expired)
    moved = [h for name, h in v4.items() if name.startswith("at_home.run")]
    assert any(has(h, EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT) for h in moved)


def test_results_that_carry_steps() -> None:
    """What v5 adds: steps without an Update of their own; runs that keep their order."""
    threads = [load(p) for p in GOLDEN if p.parent.name == "v5" and ".thread-" in p.name]
    assert sum(len(list(carried_steps(history))) for history in threads) > 10
    assert IN_ORDER in set().union(*map(patches, threads))
    # One is in the snapshot of a continue-as-new, because that was due in just this gap.
    starts = (h.events[0].workflow_execution_started_event_attributes for h in threads)
    inputs = (unpack(ThreadStart, s.input.payloads[0].data) for s in starts)
    assert any(unpack(Snapshot, start.snapshot).carried for start in inputs if start.snapshot)


def test_outcomes_in_results_and_runs_that_are_not_driven() -> None:
    """What v6 adds: a step that stays, the outcome in a result, reported and stopped runs."""
    v6 = {p.name: load(p) for p in GOLDEN if p.parent.name == "v6"}
    threads = [h for name, h in v6.items() if ".thread-" in name]
    carried = [unpack(StepRequest, step) for h in threads for step in carried_steps(h)]
    assert sum(bool(step.outcome) for step in carried) > 5
    runs = [h for name, h in v6.items() if ".run-" in name]
    assert STOPPED_AT_START in set().union(*map(patches, runs))
    reported = [h for h in runs if has(h, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED)]
    assert [h for h in reported if not activities(h)]


def test_eager_tasks_and_runs_that_do_not_ask() -> None:
    """What v7 adds: tasks on the thread's queue, one of them sent on; attaches with a step."""
    v7 = {p.name: load(p) for p in GOLDEN if p.parent.name == "v7"}
    begun = [
        event.workflow_execution_update_accepted_event_attributes.accepted_request.input.name
        for event in v7["later_runs.thread-t.0.json.gz"].events
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED
    ]
    assert begun.count(names.BEGIN_UPDATE) == 2
    # Before the workflow has been seen, a task is not eager.
    assert set(task_queues(v7["later_runs.thread-t.0.json.gz"])) == {"later_runs"}
    assert SENT_ON in patches(v7["eager_missed.thread-t.0.json.gz"])
    sent = task_queues(v7["eager_missed.thread-t.0.json.gz"])
    # Two tasks of each run; those of the second went to the wrong process first.
    assert [queue == "eager_missed" for queue in sent] == [True, True, True, False, True, False]


def task_queues(history: WorkflowHistory) -> list[str]:
    """Where the tasks of a thread were sent."""
    scheduled = [e.activity_task_scheduled_event_attributes for e in history.events]
    return [a.task_queue.name for a in scheduled if a.activity_type.name]


def carried_steps(history: WorkflowHistory) -> Iterator[bytes]:
    """Steps that came with the results of tasks."""
    for event in history.events:
        for payload in event.activity_task_completed_event_attributes.result.payloads:
            try:
                step = unpack(TaskOutput, payload.data).step
            except WireError:
                # Of another Activity.
                continue
            if step:
                yield step
