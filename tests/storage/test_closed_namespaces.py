"""Sub-agents that have ended: their workflows are closed, and all of them stays readable."""

from __future__ import annotations

import operator
from functools import partial
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt
from temporalio.client import Client, WorkflowExecution
from temporalio.service import RPCError

from langgraph_temporal_exec import Retention, TemporalSaver
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.storage.blobs import delete_execution
from tests.storage.conftest import MakeSaver
from tests.storage.test_large_values import blobs_of
from tests.storage.test_lifetime import until
from tests.support.graphs import config
from tests.support.reading import check_without_worker


class Found(TypedDict, total=False):
    start: int
    count: int
    found: Annotated[list[str], operator.add]


class Study(TypedDict, total=False):
    topic: int
    notes: Annotated[list[str], operator.add]
    found: Annotated[list[str], operator.add]


def agents(asking: tuple[int, ...] = ()) -> Any:
    """Sends ``count`` topics to a sub-agent each, all at once; some of them ask."""

    def look(state: Study) -> Study:
        return {"notes": [f"looked at {state['topic']}"]}

    def tell(state: Study) -> Study:
        topic = state["topic"]
        said = f" {interrupt(topic)}" if topic in asking else ""
        return {"found": [f"{topic}: {len(state['notes'])}{said}"]}

    study = (
        StateGraph(Study)
        .add_node("look", look)
        .add_node("tell", tell)
        .add_edge(START, "look")
        .add_edge("look", "tell")
        .compile()
    )

    def topics(state: Found) -> list[Send]:
        numbers = range(state["start"], state["start"] + state["count"])
        return [Send("study", {"topic": n, "notes": []}) for n in numbers]

    return (
        StateGraph(Found)
        .add_node("plan", lambda state: {})
        .add_node("study", study)
        .add_edge(START, "plan")
        .add_conditional_edges("plan", topics, ["study"])
        .compile(name="agents")
    )


async def executions(
    client: Client, task_queue: str, status: str, thread_id: str = "t"
) -> list[WorkflowExecution]:
    """Workflows of a thread and its namespaces."""
    prefix = names.thread_workflow_id(task_queue, thread_id)
    query = f"WorkflowId STARTS_WITH '{prefix}' AND ExecutionStatus = '{status}'"
    return [e async for e in client.list_workflows(query)]


async def closed(client: Client, task_queue: str, left: int = 1, thread_id: str = "t") -> None:
    """Wait until so many workflows of a thread are open."""

    async def few() -> bool:
        return len(await executions(client, task_queue, "Running", thread_id)) == left

    await until(few)


async def forget_closed(client: Client, task_queue: str, thread_id: str = "t") -> int:
    """What the retention of a Temporal namespace does; how many there were."""
    ended = await executions(client, task_queue, "Completed", thread_id)
    for execution in ended:
        await delete_execution(client, execution.id, execution.run_id)

    async def gone(execution: WorkflowExecution) -> bool:
        try:
            await client.get_workflow_handle(execution.id, run_id=execution.run_id).describe()
        except RPCError:
            return True
        return False

    for execution in ended:
        await until(partial(gone, execution))
    return len(ended)


async def nested(graph: Any, thread_id: str = "t") -> dict[int, str]:
    """The namespace of each topic, by the checkpoints that there are."""
    found: dict[int, str] = {}
    async for item in graph.checkpointer.alist(config(thread_id)):
        namespace = item.config["configurable"]["checkpoint_ns"]
        values = item.checkpoint["channel_values"]
        if namespace and "topic" in values:
            found[values["topic"]] = namespace
    return found


def at(namespace: str, thread_id: str = "t") -> Any:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace}}


async def states(graph: Any, namespace: str, thread_id: str = "t") -> list[Any]:
    """All of a namespace but for ids and times; each state is read twice, by listing and by id."""
    listed = []
    async for state in graph.aget_state_history(at(namespace, thread_id)):
        again = await graph.aget_state(state.config)
        assert (again.values, again.next) == (state.values, state.next)
        told = {k: state.metadata[k] for k in ("source", "step")}
        listed.append((state.values, state.next, told))
    latest = await graph.aget_state(at(namespace, thread_id))
    assert (latest.values, latest.next) == listed[0][:2]
    return listed


async def check_same(graph: Any, model: Any, topics: tuple[int, ...]) -> None:
    """The sub-agents of some topics have the states that they have in memory."""
    ours, theirs = await nested(graph), await nested(model)
    assert ours.keys() == theirs.keys()
    for topic in topics:
        expected = await states(model, theirs[topic])
        assert len(expected) == 4
        assert await states(graph, ours[topic]) == expected


async def ask(graph: Any, start: int, count: int, thread_id: str = "t") -> Any:
    return await graph.ainvoke({"start": start, "count": count}, config(thread_id))


async def check_closed(
    make_saver: MakeSaver, client: Client, task_queue: str, runs: int, count: int
) -> None:
    total = runs * count
    topics = (0, total // 2, total - 1)
    model = agents().copy({"checkpointer": InMemorySaver()})
    saver = make_saver()
    async with saver.worker(agents()):
        graph = agents().copy({"checkpointer": saver})
        for run in range(runs):
            assert await ask(graph, run * count, count) == await ask(model, run * count, count)
        await closed(client, task_queue)
        await check_without_worker(saver, "t")
        for reader in (saver, make_saver()):
            await check_same(agents().copy({"checkpointer": reader}), model, topics)
        assert await forget_closed(client, task_queue) == total
        for reader in (saver, make_saver()):
            await check_same(agents().copy({"checkpointer": reader}), model, topics)
        # From inside of one: it is opened again, with all it had, and closed once more.
        for one in (graph, model):
            namespace = (await nested(one))[topics[1]]
            middle = [s async for s in one.aget_state_history(at(namespace))][1]
            assert middle.next == ("tell",)
            edited = await one.aupdate_state(middle.config, {"notes": ["more"]})
            assert (await one.aget_state(edited)).values["notes"][1:] == ["more"]
        assert len(await executions(client, task_queue, "Running")) == 2
        assert await ask(graph, total, 1) == await ask(model, total, 1)
        await closed(client, task_queue)
        for one in (graph, model):
            assert len(await states(one, (await nested(one))[topics[1]])) == 5
    # No worker from here on.
    cold = agents().copy({"checkpointer": make_saver()})
    ours, theirs = await nested(cold), await nested(model)
    assert ours.keys() == theirs.keys()
    for topic in (topics[1], total):
        assert await states(cold, ours[topic]) == await states(model, theirs[topic])


async def test_sub_agents_that_have_ended_are_closed(
    make_saver: MakeSaver, client: Client, task_queue: str
) -> None:
    await check_closed(make_saver, client, task_queue, 2, 3)


@pytest.mark.long
async def test_a_sub_agent_used_two_hundred_times(
    make_saver: MakeSaver, client: Client, task_queue: str
) -> None:
    await check_closed(make_saver, client, task_queue, 4, 50)
