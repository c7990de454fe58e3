"""Histories made by this code replay to the same commands, from scratch, at any point."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from langgraph.types import Command
from temporalio import workflow
from temporalio.client import Client, WorkflowHistory
from temporalio.worker import Replayer

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.workflow.run import RunWorkflow
from langgraph_temporal_exec.workflow.thread import ThreadWorkflow
from tests.support.graphs import all_graphs, config, durable, nested, parallel

ROLL_EVENTS = 30


@workflow.defn(name=names.RUN_WORKFLOW, sandboxed=False)
class OtherRun:
    """What a later release must not do to open runs: other commands for the same history."""

    @workflow.run
    async def run(self, start: bytes) -> bytes:
        await workflow.sleep(1)
        return b""


async def test_every_history_replays(client: Client, task_queue: str) -> None:
    async with durable("embedded", client, task_queue) as saver:
        for graph in (parallel(), nested()):
            bound = graph.with_config(checkpointer=saver)
            await bound.ainvoke({"x": ["in"]}, config(graph.name))
            await bound.ainvoke(Command(resume="yes"), config(graph.name))
    # The namespace that has ended may be on a shelf already, which is no history of workflow code.
    found = await fetch(client, task_queue)
    others = (f"{task_queue}/blob/", f"{task_queue}/worker/")
    histories = [h for h in found if not h.workflow_id.startswith(others)]
    # Two threads, one of them with a namespace, and four runs.
    assert len(histories) == 7
    replayer = Replayer(workflows=[ThreadWorkflow, RunWorkflow])
    for history in histories:
        await replayer.replay_workflow(history)


async def test_a_history_of_other_code_is_refused(client: Client, task_queue: str) -> None:
    async with durable("embedded", client, task_queue) as saver:
        bound = parallel().with_config(checkpointer=saver)
        await bound.ainvoke({"x": ["in"]}, config("t"))
    (history,) = [h for h in await fetch(client, task_queue) if "/run/" in h.workflow_id]
    with pytest.raises(workflow.NondeterminismError):
        await Replayer(workflows=[OtherRun]).replay_workflow(history)


@pytest.mark.parametrize("cached", [0, 1000])
@pytest.mark.long
async def test_threads_continue_as_new_in_the_middle_of_runs(
    client: Client, task_queue: str, cached: int
) -> None:
    async with durable_rolling(client, task_queue, cached) as saver:
        graphs = {k: g.with_config(checkpointer=saver) for k, g in all_graphs().items()}
        assert await graphs["countdown"].ainvoke({"n": 25}, config("long")) == {"n": 0}
        history = [s async for s in graphs["countdown"].aget_state_history(config("long"))]
        assert [s.metadata["step"] for s in history] == list(range(25, -2, -1))
        wide = [graphs["wide"].ainvoke({"x": []}, config("wide")) for _ in range(4)]
        lengths = sorted(len(r["x"]) for r in await asyncio.gather(*wide))
        assert lengths == [51, 102, 153, 204]
        first = await graphs["nested"].ainvoke({"x": ["in"]}, config("nested"))
        assert "__interrupt__" in first
        last = await graphs["nested"].ainvoke(Command(resume="yes"), config("nested"))
        assert last["x"][-1] == "inner:yes"
    for thread_id, n in (("long", 5), ("wide", 5)):
        workflow_id = names.thread_workflow_id(task_queue, thread_id)
        executions = [e async for e in client.list_workflows(f"WorkflowId = '{workflow_id}'")]
        assert len(executions) >= n, f"{thread_id} did not continue as new often enough"


@asynccontextmanager
async def durable_rolling(
    client: Client, task_queue: str, cached: int
) -> AsyncIterator[TemporalSaver]:
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    saver._store.transport.roll_events = ROLL_EVENTS
    async with saver.worker(max_cached_workflows=cached):
        yield saver


async def fetch(client: Client, prefix: str) -> list[WorkflowHistory]:
    """All histories of a test; visibility lags, so wait until the number is stable."""
    query = f"WorkflowId STARTS_WITH '{prefix}/'"
    seen = -1
    async with asyncio.timeout(30):
        while True:
            found = [e.id async for e in client.list_workflows(query)]
            if found and len(found) == seen:
                break
            seen = len(found)
            await asyncio.sleep(1)
    return [await client.get_workflow_handle(i).fetch_history() for i in found]
