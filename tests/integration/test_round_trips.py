"""What a run sends: one Activity for each task, and little beside it.

A run whose caller hosts a worker is begun there before its workflow is; the workflow is left alone
for a second, in these tests for longer than they take.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from langgraph_temporal_exec import RunCancelledError, TemporalSaver, ThreadBusyError
from langgraph_temporal_exec.caller import admitted
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.protocol.messages import RunStart
from langgraph_temporal_exec.protocol.wire import unpack
from langgraph_temporal_exec.worker import outbox
from tests.support.graphs import State, config

WAIT_S = 30.0
"""Bound of every wait; below the time that the workflows are left alone."""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, results carry steps, and runs end before they are driven."""
    monkeypatch.setattr(outbox, "OPS_ONLY_DELAY_S", 5.0)
    monkeypatch.setattr(outbox, "HOLD_S", 300.0)
    monkeypatch.setattr(outbox, "CARRIED_QUIET_S", 300.0)
    monkeypatch.setattr(admitted, "UNDRIVEN_S", 300.0)


class Gate:
    """Nodes that wait until they are let through."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.open = asyncio.Event()
        self.cancelled = 0

    async def wait(self, state: State) -> State:
        self.begun.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return {"x": ["waited"]}

    def graph(self) -> Any:
        return StateGraph(State).add_node("wait", self.wait).add_edge(START, "wait").compile()


@contextlib.asynccontextmanager
async def hosting(
    client: Client, queue: str, graph: Any
) -> AsyncIterator[tuple[Any, TemporalSaver]]:
    """The graph, called in a process that hosts a worker."""
    saver = TemporalSaver(client, task_queue=queue, id_prefix=queue)
    bound = graph.with_config(checkpointer=saver)
    async with saver.worker(bound):
        yield bound, saver


async def until(holds: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not await holds():  # noqa: ASYNC110 # a server has no event
            await asyncio.sleep(0.05)


async def is_closed(run: WorkflowHandle[Any, Any]) -> bool:
    return (await run.describe()).status != WorkflowExecutionStatus.RUNNING


async def only_run(saver: TemporalSaver, client: Client) -> WorkflowHandle[Any, Any]:
    (run,) = [run async for run in saver.alist_runs("t")]
    prefix = saver.options.id_prefix
    return client.get_workflow_handle(names.run_workflow_id(prefix, run.run_id))


@contextlib.asynccontextmanager
async def under_way(
    client: Client, queue: str, gate: Gate
) -> AsyncIterator[tuple[Any, TemporalSaver, asyncio.Task[Any], WorkflowHandle[Any, Any]]]:
    """The graph, its saver, a call that waits at the gate, and its run; all within ``WAIT_S``."""
    async with hosting(client, queue, gate.graph()) as (bound, saver):
        call = asyncio.create_task(bound.ainvoke({"x": ["in"]}, config("t")))
        async with asyncio.timeout(WAIT_S):
            await gate.begun.wait()
            yield bound, saver, call, await only_run(saver, client)


async def events(handle: WorkflowHandle[Any, Any]) -> Counter[str]:
    counted: Counter[str] = Counter()
    async for event in handle.fetch_history_events():
        counted[EventType.Name(event.event_type).removeprefix("EVENT_TYPE_")] += 1
    return counted


async def test_a_run_is_one_update_beside_its_attach(client: Client, task_queue: str) -> None:
    async def node(state: State) -> State:
        return {"x": ["."]}

    builder = StateGraph(State).add_sequence([(name, node) for name in ("a", "b", "c")])
    graph = builder.add_edge(START, "a").compile()
    async with hosting(client, task_queue, graph) as (bound, saver):
        result = await bound.ainvoke({"x": ["in"]}, config("t"))
        assert result == {"x": ["in", ".", ".", "."]}
        run = await only_run(saver, client)
        async with asyncio.timeout(WAIT_S):
            await run.result()
        of_run = await events(run)
        thread = await events(client.get_workflow_handle(names.thread_workflow_id(task_queue, "t")))
        state = await bound.aget_state(config("t"))
    assert state.next == ()
    assert thread["ACTIVITY_TASK_SCHEDULED"] == 3
    # "attach", and the first step, which is answered at the end.
    assert thread["WORKFLOW_EXECUTION_UPDATE_ACCEPTED"] == 2
    assert thread["WORKFLOW_EXECUTION_UPDATE_COMPLETED"] == 2
    assert thread["WORKFLOW_EXECUTION_SIGNALED"] == thread["TIMER_STARTED"] == 0
    # Nobody drives it; how it has ended is reported.
    assert of_run["ACTIVITY_TASK_SCHEDULED"] == 0
    assert of_run["WORKFLOW_EXECUTION_UPDATE_ACCEPTED"] == 1


async def test_a_run_that_takes_longer_is_driven(
    client: Client, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admitted, "UNDRIVEN_S", 0.1)
    gate = Gate()
    async with under_way(client, task_queue, gate) as (_, _, call, run):

        async def driven() -> bool:
            pending = (await run.describe()).raw_description.pending_activities
            return any(found.last_worker_identity for found in pending)

        await until(driven)
        # It is the Activity that brings the end.
        gate.open.set()
        await call
        await run.result()
        assert (await events(run))["WORKFLOW_EXECUTION_UPDATE_ACCEPTED"] == 0


async def test_a_run_is_cancelled_before_its_workflow_has_begun(
    client: Client, task_queue: str
) -> None:
    gate = Gate()
    async with under_way(client, task_queue, gate) as (bound, saver, call, run):
        await run.cancel()
        with pytest.raises(RunCancelledError):
            await call
        await until(partial(is_closed, run))
        assert gate.cancelled == 1
        assert (await run.describe()).status == WorkflowExecutionStatus.CANCELED
        (told,) = [run async for run in saver.alist_runs("t")]
        assert await told.astatus() == "cancelled"
        gate.open.set()
        assert (await bound.ainvoke({"x": ["again"]}, config("t")))["x"][-1] == "waited"


async def test_its_caller_leaves_it_before_its_workflow_has_begun(
    client: Client, task_queue: str
) -> None:
    gate = Gate()
    async with under_way(client, task_queue, gate) as (_, _, call, run):
        call.cancel()
        await asyncio.wait([call])
        await until(partial(is_closed, run))
        assert gate.cancelled == 1
        assert (await run.describe()).status == WorkflowExecutionStatus.CANCELED


async def test_a_run_waits_for_another_one_and_gets_its_turn(
    client: Client, task_queue: str
) -> None:
    gate = Gate()
    async with under_way(client, task_queue, gate) as (bound, saver, first, _):
        second = asyncio.create_task(bound.ainvoke({"x": ["two"]}, config("t")))

        async def waits() -> bool:
            return len([run async for run in saver.alist_runs("t")]) == 2

        await until(waits)
        gate.open.set()
        assert (await first)["x"] == ["in", "waited"]
        assert (await second)["x"] == ["in", "waited", "two", "waited"]


async def test_a_run_that_is_turned_away_ends(client: Client, task_queue: str) -> None:
    """Also if its process leaves at once."""
    gate = Gate()
    async with under_way(client, task_queue, gate) as (bound, _, first, _):
        refused = config("t")
        refused["configurable"]["multitask_strategy"] = "reject"
        with pytest.raises(ThreadBusyError):
            await bound.ainvoke({"x": ["two"]}, refused)
        gate.open.set()
        await first
    query = f"WorkflowType = '{names.RUN_WORKFLOW}' AND ExecutionStatus = 'Running'"

    async def over() -> bool:
        return not [w async for w in client.list_workflows(query) if task_queue in w.id]

    await until(over)


async def test_a_call_joins_a_run_whose_workflow_has_not_begun(
    client: Client, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admitted, "UNDRIVEN_S", 2.0)
    gate = Gate()
    other = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with under_way(client, task_queue, gate) as (_, _, call, _):
        graph = gate.graph().with_config(checkpointer=other)
        joined = asyncio.create_task(graph.ainvoke(None, config("t")))
        await asyncio.sleep(0.2)
        assert not joined.done()
        gate.open.set()
        assert await joined == await call
    other.close()


async def test_a_large_input_goes_when_its_run_has_been_reported(
    client: Client, task_queue: str
) -> None:
    async def node(state: State) -> State:
        return {"x": [len(state["x"][0])]}

    graph = StateGraph(State).add_node("node", node).add_edge(START, "node").compile()
    text = random.Random(0).randbytes(1_000_000).hex()
    async with hosting(client, task_queue, graph) as (bound, saver):
        assert (await bound.ainvoke({"x": [text]}, config("t")))["x"][-1] == len(text)
        run = await only_run(saver, client)
        start = (
            await anext(run.fetch_history_events())
        ).workflow_execution_started_event_attributes
        ref = unpack(RunStart, start.input.payloads[0].data).record_ref
        assert ref is not None
        blob = names.blob_workflow_id(task_queue, "t", ref.scope, ref.pieces[0])

        async def gone() -> bool:
            try:
                await client.get_workflow_handle(blob).describe()
            except RPCError as exc:
                return exc.status is RPCStatusCode.NOT_FOUND
            return False

        await until(gone)
