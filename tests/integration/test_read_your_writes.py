"""What was started is there: for whoever started it and for others, with a worker and without."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from temporalio.client import Client

from langgraph_temporal_exec import RunFailedError, TemporalSaver
from langgraph_temporal_exec.protocol.messages import ReadRequest
from langgraph_temporal_exec.storage.history import HistoryReader
from tests.integration.test_multitask import WAIT_S, _exists, _note, _ran, _until
from tests.support.graphs import State, config, countdown

pytestmark = pytest.mark.compat

MakeSaver = Callable[[], TemporalSaver]


@pytest.fixture
def make(client: Client, task_queue: str) -> Iterator[MakeSaver]:
    """Savers of processes that have nothing to do with each other."""
    made: list[TemporalSaver] = []

    def make() -> TemporalSaver:
        made.append(TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue))
        return made[-1]

    yield make
    for saver in made:
        saver.close()


def _holding(folder: Path) -> Any:
    async def hold(state: State) -> State:
        _note(folder, "hold")
        await _until(lambda: _exists(folder / "go"))
        return {"x": ["held"]}

    builder = StateGraph(State).add_node("hold", hold).add_edge(START, "hold")
    return builder.compile(name="holding")


async def _runs(saver: TemporalSaver, thread_id: str = "t") -> list[str]:
    return [run.run_id async for run in saver.alist_runs(thread_id)]


@pytest.mark.parametrize("hosts", [True, False])
async def test_a_run_is_there_when_astart_returns(
    tmp_path: Path, make: MakeSaver, hosts: bool
) -> None:
    graph, host = _holding(tmp_path), make()
    async with host.worker(graph), asyncio.timeout(WAIT_S):
        started = []
        for n in range(3):
            saver = host if hosts else make()
            run = await saver.astart(graph, {"x": [n]}, config("t"))
            started.append(run.run_id)
            for reader in (saver, make()):
                found = await _runs(reader)
                assert sorted(found) == sorted(started)
                info = await reader.aget_thread("t")
                assert info is not None
                assert (info.status, info.graph, info.note) == ("busy", "holding", "")
        (tmp_path / "go").touch()
        for run_id in started:
            await (await make().aget_run(run_id)).aresult()
        # Each once, in whichever way the thread has learned of it.
        assert sorted(await _runs(make())) == sorted(started)
        info = await make().aget_thread("t")
        assert info is not None
        assert info.status == "idle"


async def test_a_run_that_no_worker_takes(task_queue: str, make: MakeSaver) -> None:
    graph = countdown()
    async with asyncio.timeout(WAIT_S):
        run = await make().astart(graph, {"n": 1}, config("t"))
        for saver in (make(), make()):
            assert await _runs(saver) == [run.run_id]
            info = await saver.aget_thread("t")
            assert info is not None
            assert (info.status, info.graph) == ("busy", "countdown")
            assert info.note == f"no worker polls task queue {task_queue!r}"
            assert await (await saver.aget_run(run.run_id)).astatus() == "no_workers"
            assert (
                await graph.with_config(checkpointer=saver).aget_state(config("t"))
            ).values == {}
        second = await asyncio.to_thread(make().start, graph, {"n": 1}, config("t"))
        assert await asyncio.to_thread(second.status) == "no_workers"
        assert await asyncio.to_thread(lambda: [r.run_id for r in make().list_runs("t")]) == [
            run.run_id,
            second.run_id,
        ]

        async def listed() -> bool:
            return [t.thread_id async for t in make().alist_threads(status="busy")] == ["t"]

        while not await listed():  # noqa: ASYNC110 - visibility lags behind
            await asyncio.sleep(0.1)
        async with make().worker(graph):
            for each in (run, second):
                assert await each.aresult() == {"n": 0}
            assert sorted(await _runs(make())) == sorted([run.run_id, second.run_id])
            info = await make().aget_thread("t")
            assert info is not None
            assert (info.status, info.note) == ("idle", "")


async def test_a_run_that_never_began_is_in_nobodys_way(
    client: Client, task_queue: str, make: MakeSaver
) -> None:
    graph = countdown()
    saver = make()
    async with asyncio.timeout(WAIT_S):
        run = await saver.astart(graph, {"n": 1}, config("t"))
        await client.get_workflow_handle(f"{task_queue}/run/{run.run_id}").terminate()
        # Its process died between the two requests, or it was forgotten long ago.
        await saver._store.transport.announce("t", "countdown", "never-recorded")
        info = await make().aget_thread("t")
        assert info is not None
        assert (info.status, info.note) == ("idle", "")
        assert await _runs(make()) == [run.run_id, "never-recorded"]
        with pytest.raises(RunFailedError):
            await run.aresult()
        async with saver.worker(graph):
            durable = graph.with_config(checkpointer=saver)
            assert await durable.ainvoke({"n": 2}, config("t")) == {"n": 0}
            await saver.adelete_thread("t")
            assert await saver.aget_thread("t") is None


async def test_history_tells_the_same(client: Client, make: MakeSaver) -> None:
    saver = make()
    workflow_id = saver._store.transport.thread_workflow_id("t")
    history = HistoryReader(client, saver._store.transport.has_workflow_worker)
    request = ReadRequest(runs=True)
    await saver._store.transport.announce("t", "g", "r1")
    before = await history.read(workflow_id, request)
    assert before is not None
    async with saver.worker(countdown()), asyncio.timeout(WAIT_S):
        await saver._store.transport.announce("t", "g", "r2")
        told = await saver._store.transport.read_workflow(workflow_id, request)
        read = await history.read(workflow_id, request)
    assert told is not None
    assert read is not None
    assert (told.runs, told.announced, told.summary) == (read.runs, read.announced, read.summary)
    assert (before.runs, told.runs) == (("r1",), ("r1", "r2"))


async def test_deleting_a_thread_cancels_what_no_worker_has_taken(
    tmp_path: Path, make: MakeSaver
) -> None:
    graph, host = _holding(tmp_path), make()
    # Nobody serves this queue, so the run cannot ask for its thread before that is deleted.
    away = TemporalSaver(
        host.client, task_queue=f"{host.options.task_queue}-away", id_prefix=host.options.id_prefix
    )
    async with host.worker(graph), asyncio.timeout(WAIT_S):
        first = await host.astart(graph, {"x": []}, config("t"))
        await _until(lambda: _ran(tmp_path) == ["hold"])
        run = await away.astart(graph, {"x": []}, config("t"))
        await host.adelete_thread("t")
        handle = host.client.get_workflow_handle(host._store.transport.run_workflow_id(run.run_id))
        history = await handle.fetch_history()
        kinds = [event.WhichOneof("attributes") for event in history.events]
        assert "workflow_execution_cancel_requested_event_attributes" in kinds
        del first
    away.close()
