"""A log that moves into archives and continues as new: nothing is lost, and little is carried."""

from __future__ import annotations

import asyncio

import pytest
from langgraph.types import Command
from temporalio.client import Client
from temporalio.worker import Replayer

from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.protocol.messages import ReadRequest, ThreadStart
from langgraph_temporal_exec.protocol.wire import unpack
from langgraph_temporal_exec.workflow.rollover import CARRY_BYTES
from langgraph_temporal_exec.workflow.thread import ThreadWorkflow
from tests.storage.conftest import MakeSaver, comparable, converse, history, model
from tests.storage.graphs import chat
from tests.support.graphs import all_graphs, config

pytestmark = pytest.mark.exhaustive

TINY = 4_000
TURNS = range(25)


async def carried(client: Client, workflow_id: str) -> list[ThreadStart]:
    """The inputs of all runs of a workflow, oldest first."""
    (first, *_) = (await client.get_workflow_handle(workflow_id).fetch_history()).events
    run_id = first.workflow_execution_started_event_attributes.first_execution_run_id
    starts = []
    while run_id:
        handle = client.get_workflow_handle(workflow_id, run_id=run_id)
        events = (await handle.fetch_history()).events
        attributes = events[0].workflow_execution_started_event_attributes
        (data,) = await client.data_converter.decode(attributes.input.payloads, [bytes])
        starts.append(unpack(ThreadStart, data))
        last = events[-1].workflow_execution_continued_as_new_event_attributes
        run_id = last.new_execution_run_id
    return starts


@pytest.mark.parametrize(("archive_bytes", "roll_events"), [(TINY, 0), (TINY, 40), (0, 40)])
async def test_a_conversation_reads_as_in_memory(
    make_saver: MakeSaver, client: Client, task_queue: str, archive_bytes: int, roll_events: int
) -> None:
    expected = await history(await model(TURNS))
    saver = make_saver(archive_bytes=archive_bytes, roll_events=roll_events)
    async with saver.worker(chat()):
        graph = chat().with_config(checkpointer=saver)
        await converse(graph, TURNS)
        assert await history(graph) == expected
        # A cold process reads the head alone, then, when asked, everything.
        cold = make_saver()
        graph = chat().with_config(checkpointer=cold)
        assert comparable(await graph.aget_state(config("t"))) == expected[0]
        assert cold._store.replica("t").is_partial("") == bool(archive_bytes)
        assert await history(graph) == expected
        # Time travel to the very first, and on from there.
        first = [s async for s in graph.aget_state_history(config("t"))][-1]
        assert comparable(await graph.aget_state(first.config)) == expected[-1]
        fork = await chat().with_config(checkpointer=saver).ainvoke(None, first.config)
        assert [m.id for m in fork["messages"]] == ["q0", "a0"]
        reply = await saver._store.reader.read("t", "", ReadRequest())
        assert reply is not None
        assert bool(reply.page.segments) == bool(archive_bytes)
        executions = await carried(client, names.thread_workflow_id(task_queue, "t"))
    assert len(executions) > 5 if roll_events else len(executions) == 1
    cold = make_saver()
    again = await history(chat().with_config(checkpointer=cold))
    assert again[-len(expected) :] == expected


async def test_archives_are_summed_up(make_saver: MakeSaver) -> None:
    """So many archives that they are listed in others; the list stays short."""
    saver = make_saver(archive_bytes=300)
    async with saver.worker(all_graphs()):
        graph = all_graphs()["countdown"].with_config(checkpointer=saver)
        for _ in range(8):
            await graph.ainvoke({"n": 20}, config("t"))
        reply = await saver._store.reader.read("t", "", ReadRequest())
        assert reply is not None
        levels = [s.pack.level for s in reply.page.segments]
        assert levels[0] == 1
        assert len(levels) < 64
        steps = [s.metadata["step"] async for s in graph.aget_state_history(config("t"))]
        assert len(steps) == 8 * 22
        cold = all_graphs()["countdown"].with_config(checkpointer=make_saver())
        assert [s.metadata["step"] async for s in cold.aget_state_history(config("t"))] == steps


@pytest.mark.timeout(400)
async def test_rolls_while_everything_is_pending(
    make_saver: MakeSaver, client: Client, task_queue: str
) -> None:
    """Queued runs, wide fan-outs, interrupts, nested graphs, writes from outside: all at once."""
    saver = make_saver(archive_bytes=TINY, roll_events=30)
    async with saver.worker(all_graphs(), max_cached_workflows=0), asyncio.timeout(350):
        graphs = {k: g.with_config(checkpointer=saver) for k, g in all_graphs().items()}
        wide = [graphs["wide"].ainvoke({"x": []}, config("wide")) for _ in range(4)]
        nested = graphs["nested"].ainvoke({"x": ["in"]}, config("nested"))
        results = await asyncio.gather(*wide, nested)
        assert sorted(len(r["x"]) for r in results[:4]) == [51, 102, 153, 204]
        for n in range(12):
            await graphs["parallel"].aupdate_state(config("nested"), {"x": [n]}, as_node="a")
        await graphs["nested"].aupdate_state(
            results[4]["__interrupt__"]
            and (await graphs["nested"].aget_state(config("nested"))).config,
            {"x": ["outside"]},
            as_node="a",
        )
        last = await graphs["nested"].ainvoke(None, config("nested"))
        assert "__interrupt__" in last
        last = await graphs["nested"].ainvoke(Command(resume="yes"), config("nested"))
        assert last["x"][-1] == "inner:yes"
    for thread_id in ("wide", "nested"):
        workflow_id = names.thread_workflow_id(task_queue, thread_id)
        starts = await carried(client, workflow_id)
        assert len(starts) > 2, f"{thread_id} did not continue as new"
        assert max(len(s.snapshot) for s in starts) < CARRY_BYTES
        history_ = await client.get_workflow_handle(workflow_id).fetch_history()
        await Replayer(workflows=[ThreadWorkflow]).replay_workflow(history_)
