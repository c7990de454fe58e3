"""Leaving a call stops its run: the node sees it, Temporal shows it, the thread goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from temporalio.client import Client, WorkflowExecutionStatus

from langgraph_temporal_exec import RunCancelledError, TemporalSaver
from tests.support.graphs import State, config

pytestmark = pytest.mark.compat

WAIT_S = 30.0
"""Bound of every wait."""


def _graph(folder: Path, *, nested: bool) -> Any:
    """A node that waits for ever the first time, perhaps inside a sub-graph."""

    def note(word: str) -> int:
        with (folder / "seen").open("a") as file:
            file.write(word + "\n")
        return _seen(folder).count("started")

    async def wait(state: State) -> State:
        if note("started") == 1:
            get_stream_writer()("started")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                note("cancelled")
                raise
        return {"x": ["waited"]}

    inner = StateGraph(State).add_node("wait", wait).add_edge(START, "wait")
    if not nested:
        return inner.compile(name="waits")
    outer = StateGraph(State).add_node("inner", inner.compile()).add_edge(START, "inner")
    return outer.compile(name="waits")


def _seen(folder: Path) -> list[str]:
    return (folder / "seen").read_text().splitlines() if (folder / "seen").exists() else []


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not await holds():  # noqa: ASYNC110 # a file and a server have no event
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def _saver(client: Client, queue: str, graph: Any, mode: str) -> AsyncIterator[TemporalSaver]:
    # No heartbeat brings the news within the bounds of these tests.
    options: dict[str, Any] = {"task_queue": queue, "id_prefix": queue}
    options["heartbeat_timeout"] = timedelta(hours=1)
    host = TemporalSaver(client, **options)
    async with host.worker(graph):
        if mode == "embedded":
            yield host
            return
        caller = TemporalSaver(client, **options)
        yield caller
        caller.close()


async def _cancel_ainvoke(graph: Any, started: Coroutine[Any, Any, None]) -> None:
    call = asyncio.create_task(graph.ainvoke({"x": ["in"]}, config("t")))
    await started
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def _cancel_astream(graph: Any, started: Coroutine[Any, Any, None]) -> None:
    async def read() -> None:
        async for _ in graph.astream({"x": ["in"]}, config("t")):
            pass

    call = asyncio.create_task(read())
    await started
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def _break(graph: Any, started: Coroutine[Any, Any, None]) -> None:
    stream = graph.astream({"x": ["in"]}, config("t"), stream_mode="custom", subgraphs=True)
    async for _ in stream:
        break
    await started
    await stream.aclose()


async def _time_out(graph: Any, started: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(None) as bound:
            begun = asyncio.ensure_future(started)
            begun.add_done_callback(lambda _: bound.reschedule(0))
            await graph.ainvoke({"x": ["in"]}, config("t"))

    with pytest.raises(TimeoutError):
        await bounded()


async def _cancel_run(graph: Any, started: Coroutine[Any, Any, None]) -> None:
    call = asyncio.create_task(graph.ainvoke({"x": ["in"]}, config("t")))
    await started
    (run,) = [run async for run in graph.checkpointer.alist_runs("t")]
    await run.acancel()
    with pytest.raises(RunCancelledError):
        await call


async def _cancel_in_temporal(graph: Any, started: Coroutine[Any, Any, None]) -> None:
    call = asyncio.create_task(graph.ainvoke({"x": ["in"]}, config("t")))
    await started
    saver = graph.checkpointer
    (run,) = [run async for run in saver.alist_runs("t")]
    workflow_id = f"{saver.options.id_prefix}/run/{run.run_id}"
    await saver.client.get_workflow_handle(workflow_id).cancel()
    with pytest.raises(RunCancelledError):
        await call


LEAVES = [_cancel_ainvoke, _cancel_astream, _break, _time_out, _cancel_run, _cancel_in_temporal]


@pytest.mark.parametrize("mode", ["embedded", "remote"])
@pytest.mark.parametrize("nested", [False, True], ids=["node", "sub_graph"])
@pytest.mark.parametrize("leave", LEAVES)
async def test_the_node_sees_it(
    client: Client, task_queue: str, tmp_path: Path, leave: Any, nested: bool, mode: str
) -> None:
    graph = _graph(tmp_path, nested=nested)
    async with _saver(client, task_queue, graph, mode) as saver:
        durable = graph.with_config(checkpointer=saver)

        async def seen(*words: str) -> bool:
            return _seen(tmp_path) == list(words)

        async def shown_as_cancelled() -> bool:
            runs = f"WorkflowType = 'LangGraphRun' AND TaskQueue = '{task_queue}'"
            states = [run.status async for run in client.list_workflows(runs)]
            return states == [WorkflowExecutionStatus.CANCELED]

        await leave(durable, _until(partial(seen, "started")))
        await _until(partial(seen, "started", "cancelled"))
        await _until(shown_as_cancelled)
        assert (await durable.aget_state(config("t"))).values == {"x": ["in"]}
        result = await durable.ainvoke(None, config("t"))
        assert result == {"x": ["in", "in", "waited"] if nested else ["in", "waited"]}
        assert _seen(tmp_path) == ["started", "cancelled", "started"]
