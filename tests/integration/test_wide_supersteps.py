"""Supersteps with more tasks than one workflow task schedules Activities for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.protocol.messages import AttachRequest, StepRequest, TaskSpec
from langgraph_temporal_exec.worker import outbox
from langgraph_temporal_exec.workflow.thread import STARTS_AT_ONCE
from tests.support.graphs import State, config

TASKS = 1_500
"""Temporal takes 2,000 pending Activities of a workflow."""


def fan_out(n: int) -> Any:
    """``n`` tasks in one superstep."""
    sends = [Send("work", {"x": [str(i)]}) for i in range(n)]
    return (
        StateGraph(State)
        .add_node("work", lambda state: state)
        .add_conditional_edges(START, lambda state: sends, ["work"])
        .compile(name="fan_out")
    )


async def test_a_takeover_ends_the_scheduling(client: Client, task_queue: str) -> None:
    """What an attempt has not begun when the next one has the thread never begins."""
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    workflow_id = names.thread_workflow_id(task_queue, "t")
    handle = client.get_workflow_handle(workflow_id)
    transport = saver._store.transport

    async def attach(attempt: int) -> int:
        request = AttachRequest(run_id="r", attempt=attempt, run_workflow_id=f"{task_queue}/r")
        return (await transport.attach("t", request)).epoch

    async with saver.worker(fan_out(1)):
        epoch = await attach(1)
        tasks = tuple(TaskSpec(key=str(i), node="n", queue="nobody") for i in range(TASKS))
        request = StepRequest(epoch=epoch, seq=0, run_id="r", tasks=tasks)
        stepping = asyncio.create_task(transport.step(workflow_id, request))
        while not (await handle.describe()).raw_description.pending_activities:
            pass
        assert await attach(2) == epoch + 1
        await stepping
        assert not (await handle.describe()).raw_description.pending_activities
        events = (await handle.fetch_history()).events
        scheduled = [
            e.activity_task_scheduled_event_attributes.workflow_task_completed_event_id
            for e in events
            if e.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
        ]
        assert STARTS_AT_ONCE <= len(scheduled) < TASKS
        assert max(map(scheduled.count, scheduled)) == STARTS_AT_ONCE
        # The next attempt is not in the way of what is left of it, nor the other way round.
        again = StepRequest(epoch=epoch + 1, seq=0, run_id="r", tasks=tasks[:1])
        await transport.step(workflow_id, again)
        (pending,) = (await handle.describe()).raw_description.pending_activities
        assert pending.activity_type.name == "n"


async def test_continues_as_new_within_it(client: Client, task_queue: str) -> None:
    """The next run of the workflow schedules what is left, as many at once, also in replays."""
    n = 2 * STARTS_AT_ONCE + 1
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    saver._store.transport.roll_events = 100
    async with saver.worker(fan_out(n), max_cached_workflows=0):
        graph = fan_out(n).with_config(checkpointer=saver)
        result = await graph.ainvoke({"x": []}, config("t"))
        assert sorted(result["x"], key=int) == [str(i) for i in range(n)]
    workflow_id = names.thread_workflow_id(task_queue, "t")
    runs = [e async for e in client.list_workflows(f"WorkflowId = '{workflow_id}'")]
    assert len(runs) > 1


async def test_more_nested_graphs_than_tasks_at_once(
    client: Client, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks that have an Activity open namespaces while others wait for one."""
    monkeypatch.setattr(outbox, "MAX_RUNNING", 2)
    inner = (
        StateGraph(State)
        .add_node("leaf", lambda state: {"x": [f"leaf {state['x'][0]}"]})
        .add_edge(START, "leaf")
        .compile()
    )
    sends = [Send("work", {"x": [str(i)]}) for i in range(6)]
    graph = (
        StateGraph(State)
        .add_node("work", inner)
        .add_conditional_edges(START, lambda state: sends, ["work"])
        .compile(name="fan_out")
    )
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with saver.worker(), asyncio.timeout(120):
        result = await graph.with_config(checkpointer=saver).ainvoke({"x": []}, config("t"))
    assert {f"leaf {i}" for i in range(6)} <= set(result["x"])
