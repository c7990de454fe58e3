"""When tasks ran, from histories that continue as new, and read on from where reading stopped."""

from __future__ import annotations

from datetime import datetime

from langgraph.types import Command
from temporalio.client import Client

from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.storage.timings import Timings
from tests.storage.conftest import MakeSaver, converse
from tests.storage.graphs import chat, turn
from tests.support.graphs import config


async def test_every_task_of_every_execution(
    make_saver: MakeSaver, client: Client, task_queue: str
) -> None:
    saver = make_saver(roll_events=40)
    workflow_id = names.thread_workflow_id(task_queue, "t")
    timings = Timings(client)
    assert await timings.tasks(workflow_id, None) == {}
    async with saver.worker(chat()):
        graph = chat().with_config(checkpointer=saver)
        for n in range(10):
            await converse(graph, range(n, n + 1))
            known = await timings.tasks(workflow_id, None)
        states = [s async for s in graph.aget_state_history(config("t"))]
    ran = {task.id: task.name for s in states for task in s.tasks if task.name != "__start__"}
    assert {task_id: one.node for task_id, one in known.items()} == ran
    for one in known.values():
        assert one.ended_at is not None
        assert one.started_at <= one.ended_at
    assert await Timings(client).tasks(workflow_id, None) == known
    # The latest are there however little is asked for, and more when more is.
    newest = datetime.fromisoformat(str(states[0].created_at))
    few = Timings(client)
    (last,) = states[1].tasks
    assert last.id in await few.tasks(workflow_id, newest)
    assert await few.tasks(workflow_id, None) == known
    assert len({event[0] for event in timings._read[workflow_id].scheduled}) > 1, "continued as new"


async def test_of_a_task_that_was_answered_its_last_execution(
    make_saver: MakeSaver, client: Client, task_queue: str
) -> None:
    """And not the time for which somebody was waited."""
    saver = make_saver()
    workflow_id = names.thread_workflow_id(task_queue, "t")
    async with saver.worker(chat()):
        graph = chat().with_config(checkpointer=saver)
        assert "__interrupt__" in await graph.ainvoke(turn(7), config("t"))
        (asked,) = (await graph.aget_state(config("t"))).tasks
        before = (await Timings(client).tasks(workflow_id, None))[asked.id]
        await graph.ainvoke(Command(resume="yes"), config("t"))
        after = (await Timings(client).tasks(workflow_id, None))[asked.id]
    assert before.ended_at is not None
    assert after.started_at > before.ended_at
