"""The largest histories threads make, with the thresholds users have, stay far below the limits.

A workflow task that replays must end within 2 s (the SDK's deadlock detection), so what bounds a
history bounds the replay. A thread continues as new

- in the first gap between supersteps after 1,000 Updates or where the server suggests it (4,096
  events or 4 MB by default);
- without waiting for a gap after 1,500 Updates, 20,000 events or 20 MB; each run of the workflow
  may exceed that by what its last workflow task brings: the tasks of one superstep, and the 10
  Updates that the server lets be under way.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from statistics import median
from typing import Any, TypedDict

import pytest
from langgraph.graph import END, START, StateGraph
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHistory
from temporalio.worker import Replayer

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.protocol.messages import AppendRequest, ThreadStart
from langgraph_temporal_exec.protocol.wire import unpack
from langgraph_temporal_exec.workflow.rollover import (
    BYTES_BEFORE_FORCED_ROLL,
    CARRY_BYTES,
    EVENTS_BEFORE_FORCED_ROLL,
    UPDATES_BEFORE_FORCED_ROLL,
    UPDATES_BEFORE_ROLL,
)
from langgraph_temporal_exec.workflow.thread import ThreadWorkflow
from tests.support.graphs import config, wide
from tests.support.thread_ops import put

pytestmark = pytest.mark.exhaustive

SUGGESTED_EVENTS = 4_096
SUGGESTED_BYTES = 4_000_000 * 1.05
"""Where the server suggests to continue as new; it counts in MiB."""

IN_FLIGHT = 10
"""Updates of one workflow that the server lets be under way."""

UPDATE_BYTES = 2_000_000
MAX_EVENTS = EVENTS_BEFORE_FORCED_ROLL + 2_000 + 5 * IN_FLIGHT
MAX_BYTES = BYTES_BEFORE_FORCED_ROLL + IN_FLIGHT * UPDATE_BYTES
MAX_UPDATES = UPDATES_BEFORE_FORCED_ROLL + IN_FLIGHT

GAP_EVENTS = 300
GAP_BYTES = 2_000_000
"""What a thread with a narrow graph adds until it gets to a gap: an archive may be in the way."""


class Growing(TypedDict):
    left: int
    size: int
    text: str


@dataclass
class Execution:
    """One run of a thread's workflow."""

    carried: ThreadStart
    history: WorkflowHistory

    @property
    def events(self) -> int:
        return len(self.history.events)

    @property
    def size(self) -> int:
        """Nearly as the server counts."""
        return sum(e.ByteSize() for e in self.history.events)

    @property
    def updates(self) -> int:
        accepted = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED
        return sum(e.event_type == accepted for e in self.history.events)


def growing() -> Any:
    """Each superstep replaces a text by one that has nothing in common with it."""

    async def step(state: Growing) -> Growing:
        seeds = (f"{state['left']}.{i}".encode() for i in range(state["size"] // 128))
        text = "".join(hashlib.sha512(seed).hexdigest() for seed in seeds)
        return {"left": state["left"] - 1, "size": state["size"], "text": text}

    return (
        StateGraph(Growing)
        .add_node("step", step)
        .add_edge(START, "step")
        .add_conditional_edges("step", lambda s: "step" if s["left"] else END, ["step", END])
        .compile(name="growing")
    )


async def executions(client: Client, workflow_id: str) -> list[Execution]:
    """All runs of a workflow, oldest first."""
    (first, *_) = (await client.get_workflow_handle(workflow_id).fetch_history()).events
    run_id = first.workflow_execution_started_event_attributes.first_execution_run_id
    found = []
    while run_id:
        history = await client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()
        attributes = history.events[0].workflow_execution_started_event_attributes
        (data,) = await client.data_converter.decode(attributes.input.payloads, [bytes])
        found.append(Execution(carried=unpack(ThreadStart, data), history=history))
        last = history.events[-1].workflow_execution_continued_as_new_event_attributes
        run_id = last.new_execution_run_id
    return found


async def check(client: Client, saver: TemporalSaver, *, at_least: int) -> list[Execution]:
    """Every run of the thread ``t`` is within the hard bounds and replays."""
    found = await executions(client, names.thread_workflow_id(saver.options.id_prefix, "t"))
    assert len(found) > at_least
    for execution in found:
        assert execution.events <= MAX_EVENTS
        assert execution.size <= MAX_BYTES
        assert execution.updates <= MAX_UPDATES
        assert len(execution.carried.snapshot) <= CARRY_BYTES
        await Replayer(workflows=[ThreadWorkflow]).replay_workflow(execution.history)
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("supersteps", "size", "rolls"), [(150, 90_000, 2)], ids=["90kB"])
async def test_many_supersteps(
    client: Client, task_queue: str, supersteps: int, size: int, rolls: int
) -> None:
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    limit = {**config("t"), "recursion_limit": supersteps + 10}
    async with saver.worker(growing()):
        graph = growing().with_config(checkpointer=saver)
        await graph.ainvoke({"left": supersteps, "size": size, "text": ""}, limit)
        found = await check(client, saver, at_least=rolls)
        # How soon a gap comes depends on the machine: one late run is within the hard bounds.
        assert median(e.events for e in found) <= SUGGESTED_EVENTS + GAP_EVENTS
        assert median(e.size for e in found) <= SUGGESTED_BYTES + GAP_BYTES


@pytest.mark.timeout(300)
@pytest.mark.long
async def test_wide_supersteps(client: Client, task_queue: str) -> None:
    """Runs in the run queue, fifty tasks at a time: the gaps are far apart."""
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with saver.worker(wide()):
        graph = wide().with_config(checkpointer=saver)
        for _ in range(3):
            await asyncio.gather(*(graph.ainvoke({"x": []}, config("t")) for _ in range(8)))
        await check(client, saver, at_least=1)


@pytest.mark.timeout(300)
async def test_many_updates(client: Client, task_queue: str) -> None:
    """Written to from outside by many at once: the number of Updates is what is reached first."""
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with saver.worker():

        async def sender(which: int) -> None:
            for n in range(150):
                op = put(f"{n:06}.{which}", size=900)
                await saver._store.transport.append("t", "", AppendRequest(ops=(op,)))

        await asyncio.gather(*(sender(i) for i in range(IN_FLIGHT - 1)))
        for execution in await check(client, saver, at_least=1):
            assert execution.updates <= UPDATES_BEFORE_ROLL + IN_FLIGHT
