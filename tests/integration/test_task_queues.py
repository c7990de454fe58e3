"""Threads outlive the task queue they were begun on: moved, or refused with both names."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from temporalio.client import Client
from temporalio.worker import Replayer

from langgraph_temporal_exec import NoWorkersError, TaskQueueError, TemporalSaver
from langgraph_temporal_exec.workflow.run import RunWorkflow
from langgraph_temporal_exec.workflow.thread import ThreadWorkflow
from tests.integration.test_multitask import WAIT_S, _exists, _note, _ran, _until
from tests.replay.test_replay import fetch
from tests.support.graphs import State, config, countdown

MakeSaver = Callable[..., TemporalSaver]


@pytest.fixture
def queues(task_queue: str) -> tuple[str, str]:
    """Two task queues with the same threads."""
    return f"{task_queue}-A", f"{task_queue}-B"


@pytest.fixture
def make(client: Client, task_queue: str) -> Any:
    """Savers of processes that have nothing to do with each other."""
    made: list[TemporalSaver] = []

    def make(queue: str, **options: Any) -> TemporalSaver:
        made.append(TemporalSaver(client, task_queue=queue, id_prefix=task_queue, **options))
        return made[-1]

    yield make
    for saver in made:
        saver.close()


def _asking() -> Any:
    """A graph whose nested graph, which remembers, asks."""

    def ask(state: State) -> State:
        return {"x": [interrupt("well?")]}

    def note(state: State) -> State:
        return {"x": ["note"]}

    inner = StateGraph(State).add_sequence([note, ask]).add_edge(START, "note")
    builder = StateGraph(State).add_node("inner", inner.compile(checkpointer=True))
    return builder.add_edge(START, "inner").compile(name="asking")


def _holding(folder: Path) -> Any:
    async def hold(state: State) -> State:
        _note(folder, "hold")
        await _until(lambda: _exists(folder / "go"))
        return {"x": ["held"]}

    builder = StateGraph(State).add_node("hold", hold).add_edge(START, "hold")
    return builder.compile(name="holding")


async def _queues_of(client: Client, prefix: str) -> dict[str, str]:
    """Task queues of the threads and namespaces that are open."""
    query = 'WorkflowType = "LangGraphThread" AND ExecutionStatus = "Running"'
    found = [w async for w in client.list_workflows(query) if w.id.startswith(f"{prefix}/")]
    return {w.id: (await client.get_workflow_handle(w.id).describe()).task_queue for w in found}


async def _eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not await holds():  # noqa: ASYNC110 - the server's event
            await asyncio.sleep(0.1)


async def _replay(client: Client, prefix: str) -> None:
    replayer = Replayer(workflows=[ThreadWorkflow, RunWorkflow])
    ours = (f"{prefix}/thread/", f"{prefix}/run/")
    for history in [h for h in await fetch(client, prefix) if h.workflow_id.startswith(ours)]:
        await replayer.replay_workflow(history)


async def _pause(saver: TemporalSaver) -> None:
    async with saver.worker(_asking()):
        graph = _asking().with_config(checkpointer=saver)
        paused = await graph.ainvoke({"x": ["in"]}, config("t"))
        assert paused["__interrupt__"][0].value == "well?"


@pytest.mark.parametrize("mode", ["embedded", "remote", "sync", "astart"])
async def test_moved_when_nobody_serves_the_old_one(
    client: Client, task_queue: str, queues: tuple[str, str], make: MakeSaver, mode: str
) -> None:
    old, new = queues
    await _pause(make(old))
    host = make(new)
    async with host.worker(_asking()), asyncio.timeout(WAIT_S):
        saver = make(new) if mode == "remote" else host
        graph = _asking().with_config(checkpointer=saver)
        answer = Command(resume="yes")
        if mode == "sync":
            await asyncio.to_thread(graph.invoke, answer, config("t"))
        elif mode == "astart":
            await (await saver.astart(_asking(), answer, config("t"))).aresult()
        else:
            await graph.ainvoke(answer, config("t"))
        assert (await graph.aget_state(config("t"))).values == {"x": ["in", "in", "note", "yes"]}

        async def moved() -> bool:
            found = await _queues_of(client, task_queue)
            return len(found) == 2 and set(found.values()) == {new}

        await _eventually(moved)
        # The nested graph goes on with what it remembers.
        again = await graph.ainvoke({"x": ["more"]}, config("t"))
        assert again["__interrupt__"]
        await (await make(new).aresume("t", "done")).aresult()
    await _replay(client, task_queue)


async def test_a_thread_stays_while_its_queue_is_served(
    client: Client, task_queue: str, queues: tuple[str, str], make: MakeSaver
) -> None:
    old, new = queues
    first, second = make(old), make(new)
    async with first.worker(_asking()), second.worker(_asking()), asyncio.timeout(WAIT_S):
        graph = _asking().with_config(checkpointer=first)
        await graph.ainvoke({"x": ["in"]}, config("t"))
        for saver in (second, make(new)):
            graph = _asking().with_config(checkpointer=saver)
            await graph.ainvoke(Command(resume="yes"), config("t"))
            await graph.ainvoke({"x": ["more"]}, config("t"))
        await (await make(new).aresume("t", "done")).aresult()
        await make(new).aget_tuple(config("t"))
        assert set((await _queues_of(client, task_queue)).values()) == {old}
        await make(new).adelete_thread("t")


async def test_the_old_queue_is_served_again(
    client: Client, task_queue: str, queues: tuple[str, str], make: MakeSaver
) -> None:
    old, new = queues
    await _pause(make(old))
    second = make(new)
    async with second.worker(_asking()), asyncio.timeout(WAIT_S):
        graph = _asking().with_config(checkpointer=second)
        await graph.ainvoke(Command(resume="yes"), config("t"))
        first = make(old)
        async with first.worker(_asking()):
            graph = _asking().with_config(checkpointer=first)
            assert (await graph.ainvoke({"x": ["more"]}, config("t")))["__interrupt__"]
            found = (await _queues_of(client, task_queue)).values()
            assert set(found) == {new}


async def test_what_a_client_alone_asks_for_is_refused(
    queues: tuple[str, str], make: MakeSaver
) -> None:
    old, new = queues
    await _pause(make(old))
    client = make(new, no_worker_timeout=timedelta(seconds=3))
    graph = _asking().with_config(checkpointer=client)
    async with asyncio.timeout(WAIT_S):
        for call in (
            lambda: graph.aupdate_state(config("t"), {"x": ["more"]}),
            lambda: client.aresume("t", "yes"),
            lambda: client.adelete_thread("t"),
        ):
            with pytest.raises(TaskQueueError) as caught:
                await call()
            assert old in str(caught.value)
            assert repr(new) in str(caught.value)
        assert (await graph.aget_state(config("t"))).values == {"x": ["in"]}


async def test_begun_on_a_queue_that_never_had_workers(
    queues: tuple[str, str], make: MakeSaver
) -> None:
    wrong, right = queues
    lost = await make(wrong).astart(_asking(), {"x": ["lost"]}, config("t"))
    host = make(right)
    async with host.worker(_asking()), asyncio.timeout(2 * WAIT_S):
        graph = _asking().with_config(checkpointer=make(right))
        assert (await graph.ainvoke({"x": ["in"]}, config("t")))["__interrupt__"]
        await graph.ainvoke(Command(resume="yes"), config("t"))
        assert lost.run_id in [r.run_id async for r in host.alist_runs("t")]
        assert await lost.astatus() == "no_workers"
        async with make(wrong).worker(_asking()):
            assert (await lost.aresult())["__interrupt__"]


async def test_deleted_without_having_moved(
    client: Client, task_queue: str, queues: tuple[str, str], make: MakeSaver
) -> None:
    old, new = queues
    await _pause(make(old))
    host = make(new)
    async with host.worker(_asking()), asyncio.timeout(WAIT_S):
        await host.adelete_thread("t")

        async def gone() -> bool:
            return not await _queues_of(client, task_queue)

        # The nested graph's part, too.
        await _eventually(gone)
    await _replay(client, task_queue)


async def test_what_a_process_with_a_worker_asks_for_moves_the_thread(
    client: Client, task_queue: str, queues: tuple[str, str], make: MakeSaver
) -> None:
    old, new = queues
    await _pause(make(old))
    host = make(new)
    async with host.worker(_asking()), asyncio.timeout(WAIT_S):
        await (await host.aresume("t", "yes")).aresult()
        await host.adelete_thread("t")

        async def gone() -> bool:
            return not await _queues_of(client, task_queue)

        await _eventually(gone)


@pytest.mark.parametrize("mode", ["embedded", "remote"])
async def test_behind_a_run_that_nobody_drives(
    tmp_path: Path, queues: tuple[str, str], make: MakeSaver, mode: str
) -> None:
    old, new = queues
    first = make(old)
    graph = _holding(tmp_path)
    async with first.worker(graph):
        run = await make(old).astart(graph, {"x": ["in"]}, config("t"))
        await _until(lambda: _ran(tmp_path) == ["hold"])
    host = make(new)
    async with host.worker(graph), asyncio.timeout(WAIT_S):
        saver = make(new) if mode == "remote" else host
        with pytest.raises(TaskQueueError) as caught:
            await graph.with_config(checkpointer=saver).ainvoke({"x": ["2"]}, config("t"))
        for part in (run.run_id, repr(old), repr(new)):
            assert part in str(caught.value)
        # Its own queue is served again: it goes on, on a thread that has moved.
        (tmp_path / "go").touch()
        async with make(old).worker(graph):
            assert await run.aresult() == {"x": ["in", "held"]}
        durable = graph.with_config(checkpointer=saver)
        assert await durable.ainvoke({"x": ["3"]}, config("t")) == {
            "x": ["in", "held", "3", "held"]
        }


async def test_a_typed_error_that_is_a_kind_of_the_old_one() -> None:
    assert issubclass(TaskQueueError, NoWorkersError)


@pytest.mark.parametrize("how", ["ainvoke", "astart"])
async def test_a_caller_of_another_deployment(client: Client, task_queue: str, how: str) -> None:
    """The worker would take its thread for the one of that name in its own deployment."""
    host = TemporalSaver(client, task_queue=task_queue, id_prefix="first")
    other = TemporalSaver(client, task_queue=task_queue, id_prefix="second")
    graph = countdown()
    here, there = (graph.with_config(checkpointer=saver) for saver in (host, other))
    thread = config(task_queue)

    async def call() -> None:
        if how == "ainvoke":
            await there.ainvoke({"n": 1}, thread)
        else:
            await (await other.astart(there, {"n": 1}, thread)).aresult()

    async with host.worker(graph), asyncio.timeout(60):
        assert await here.ainvoke({"n": 2}, thread) == {"n": 0}
        before = [state async for state in here.aget_state_history(thread)]
        with pytest.raises(TaskQueueError, match=r"'first'.*'second/thread/"):
            await call()
        assert [state async for state in here.aget_state_history(thread)] == before
        assert (await there.aget_state(thread)).values == {}
        assert len(host.list_runs(task_queue)) == 1
    other.close()
