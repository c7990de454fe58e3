"""Tasks that come with the answer to the workflow task that scheduled them; and do not."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.worker import Worker, WorkerTuner

from langgraph_temporal_exec import TemporalSaver, local
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.worker import eager, service
from langgraph_temporal_exec.worker.eager import LIMIT_OPTION, SDK_LIMIT, EagerTasks
from tests.support.graphs import State, config
from tests.support.reading import check_without_worker

SDK = inspect.signature(Worker.__init__).parameters

WIDE = 130
"""More tasks than one workflow task schedules."""


class Seen:
    """What the workers of a test's process have counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.arrived = 0
        self.missed: list[str] = []
        self.made: list[EagerTasks] = []
        init, arrived, missed = EagerTasks.__init__, EagerTasks.arrived, EagerTasks.missed

        def new_init(tasks: EagerTasks, *, enabled: bool) -> None:
            init(tasks, enabled=enabled)
            self.made.append(tasks)

        def new_arrived(tasks: EagerTasks) -> None:
            self.arrived += 1
            arrived(tasks)

        def new_missed(tasks: EagerTasks, workflow_id: str) -> None:
            self.missed.append(workflow_id)
            missed(tasks, workflow_id)

        monkeypatch.setattr(EagerTasks, "__init__", new_init)
        monkeypatch.setattr(EagerTasks, "arrived", new_arrived)
        monkeypatch.setattr(EagerTasks, "missed", new_missed)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    return Seen(monkeypatch)


class Nodes:
    """Counts how often nodes were executed."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    async def one(self, state: State) -> State:
        self.ran.append("one")
        return {"x": ["one"]}

    async def two(self, state: State) -> State:
        self.ran.append("two")
        return {"x": ["two"]}

    def graph(self) -> Any:
        builder = StateGraph(State).add_sequence([("one", self.one), ("two", self.two)])
        return builder.add_edge(START, "one").compile(name="graph")


async def queues(client: Client, prefix: str) -> list[str]:
    """Task queues of a thread's Activities, in the order in which they were scheduled."""
    handle = client.get_workflow_handle(names.thread_workflow_id(prefix, "t"))
    return [
        event.activity_task_scheduled_event_attributes.task_queue.name
        async for event in handle.fetch_history_events()
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    ]


async def test_tasks_come_with_the_answer(client: Client, task_queue: str, seen: Seen) -> None:
    nodes = Nodes()
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    graph = nodes.graph().with_config(checkpointer=saver)
    async with saver.worker(graph):
        assert (await graph.ainvoke({"x": []}, config("t")))["x"] == ["one", "two"]
    assert await queues(client, task_queue) == [task_queue] * 2
    assert (seen.arrived, seen.missed) == (2, [])


async def test_so_do_those_of_a_wide_superstep(client: Client, task_queue: str, seen: Seen) -> None:
    sends = [Send("work", {"x": [str(i)]}) for i in range(WIDE)]
    builder = StateGraph(State).add_node("work", lambda state: state)
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    graph = builder.add_conditional_edges(START, lambda state: sends, ["work"]).compile()
    bound = graph.with_config(checkpointer=saver)
    async with saver.worker(bound):
        assert len((await bound.ainvoke({"x": []}, config("t")))["x"]) == WIDE
    expected = WIDE if LIMIT_OPTION in SDK else SDK_LIMIT
    assert (seen.arrived, seen.missed) == (expected, [])
    assert (await queues(client, task_queue)).count(task_queue) == expected


async def test_those_of_sub_agents_as_well(client: Client, task_queue: str, seen: Seen) -> None:
    nodes = Nodes()
    outer = StateGraph(State).add_node("inner", nodes.graph()).add_edge(START, "inner").compile()
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    bound = outer.with_config(checkpointer=saver)
    async with saver.worker(bound):
        assert (await bound.ainvoke({"x": []}, config("t")))["x"] == ["one", "two"]
    assert nodes.ran == ["one", "two"]
    # Of the first task of a namespace its workflow has not been seen here yet.
    assert seen.arrived >= 2
    assert seen.missed == []


async def test_the_workflow_is_in_another_process(
    client: Client, task_queue: str, seen: Seen
) -> None:
    """Its worker is given the first task, says that it does not have it, and the next one comes by
    the queue of the process that has it."""
    nodes, others = Nodes(), Nodes()
    settings: dict[str, Any] = {"task_queue": task_queue, "id_prefix": task_queue}
    settings["affinity"] = "none"
    saver = TemporalSaver(client, **settings)
    graph = nodes.graph().with_config(checkpointer=saver)
    other_client = await Client.connect(client.service_client.config.target_host)
    other = TemporalSaver(other_client, **settings)
    theirs = others.graph().with_config(checkpointer=other)
    async with other.worker(theirs):
        await theirs.ainvoke({"x": []}, config("t"))
        async with saver.worker(graph):
            _, here = seen.made
            here.activated(names.thread_workflow_id(task_queue, "t"))
            assert (await graph.ainvoke({"x": []}, config("t")))["x"][2:] == ["one", "two"]
            await check_without_worker(saver, "t")
    assert nodes.ran == others.ran == ["one", "two"]
    *_, first, again, second = await queues(client, task_queue)
    assert first == task_queue
    assert again == second != task_queue
    assert len(seen.missed) == 1


@contextlib.asynccontextmanager
async def without(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """A server that makes no task eager."""
    setting = "system.enableActivityEagerExecution=false"
    monkeypatch.setattr(local, "TUNING", (*local.TUNING, "--dynamic-config-value", setting))
    server = await local.start_server()
    try:
        yield server.client
    finally:
        await server.shutdown()


async def test_a_server_that_does_not_do_it(
    task_queue: str, seen: Seen, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Tasks are taken from the shared queue, and soon are not sent there any more."""
    caplog.set_level(logging.INFO)
    nodes = Nodes()
    async with without(monkeypatch) as client:
        saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
        graph = nodes.graph().with_config(checkpointer=saver)
        async with saver.worker(graph):
            for _ in range(eager.MAX_MISSES + 2):
                await graph.ainvoke({"x": []}, config("t"))
        sent = await queues(client, task_queue)
    assert nodes.ran == ["one", "two"] * (eager.MAX_MISSES + 2)
    assert seen.arrived == 0
    assert len(seen.missed) == sent.count(task_queue) == eager.MAX_MISSES
    assert task_queue not in sent[-4:]
    assert "the server makes none eager" in caplog.text


async def test_nor_takes_anybody_its_tasks(
    task_queue: str, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only slot of the shared queue is that of the run itself."""
    nodes = Nodes()
    async with without(monkeypatch) as client:
        settings = {"task_queue": task_queue, "id_prefix": task_queue}
        saver = TemporalSaver(client, **settings)
        graph = nodes.graph().with_config(checkpointer=saver)
        called = nodes.graph().with_config(checkpointer=TemporalSaver(client, **settings))
        async with saver.worker(graph, max_concurrent_runs=1):
            async with asyncio.timeout(60):
                assert (await called.ainvoke({"x": []}, config("t")))["x"] == ["one", "two"]
            await check_without_worker(saver, "t")
        sent = await queues(client, task_queue)
    assert nodes.ran == ["one", "two"]
    assert sent.count(task_queue) == len(seen.missed) == len(sent) - 2


async def test_with_a_tuner_none_is(client: Client, task_queue: str, seen: Seen) -> None:
    nodes = Nodes()
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    graph = nodes.graph().with_config(checkpointer=saver)
    tuner = WorkerTuner.create_fixed(workflow_slots=10, activity_slots=10)
    async with saver.worker(graph, tuner=tuner):
        assert (await graph.ainvoke({"x": []}, config("t")))["x"] == ["one", "two"]
    assert task_queue not in await queues(client, task_queue)
    assert (seen.arrived, seen.missed) == (0, [])


async def test_new_credentials_are_those_of_its_second_connection_too(
    client: Client, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "FOLLOW_S", 0.05)
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    made: list[Client] = []
    twin = saver._store.transport.twin

    async def recorded() -> Client:
        made.append(await twin())
        return made[-1]

    monkeypatch.setattr(saver._store.transport, "twin", recorded)
    async with saver.worker(Nodes().graph()), asyncio.timeout(30):
        client.api_key = "new"
        client.rpc_metadata = {"tenant": "one"}
        while (made[0].api_key, made[0].rpc_metadata) != ("new", {"tenant": "one"}):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
