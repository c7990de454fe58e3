"""A thread that is deleted while it runs: who waits for the run is told that it was cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from temporalio.client import Client

from langgraph_temporal_exec import RunCancelledError, TemporalSaver
from tests.support.graphs import State, config

pytestmark = pytest.mark.compat

WAIT_S = 60.0
"""Bound of every wait."""


def _graph(started: Path, *, nested: bool) -> Any:
    async def node(state: State) -> State:
        started.touch()  # noqa: ASYNC240 # an empty file
        await asyncio.Event().wait()
        return {"x": ["never"]}

    inner = StateGraph(State).add_node("node", node).add_edge(START, "node")
    if not nested:
        return inner.compile(name="endless")
    outer = StateGraph(State).add_node("inner", inner.compile()).add_edge(START, "inner")
    return outer.compile(name="endless")


async def _ainvoke(graph: Any) -> Any:
    return await graph.ainvoke({"x": []}, config("t"))


async def _astream(graph: Any) -> Any:
    return [chunk async for chunk in graph.astream({"x": []}, config("t"))]


async def _aresult(graph: Any) -> Any:
    run = await graph.checkpointer.astart(graph, {"x": []}, config("t"))
    return await run.aresult()


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("mode", ["embedded", "remote"])
@pytest.mark.parametrize("call", [_ainvoke, _astream, _aresult])
async def test_caller_of_a_deleted_thread(
    client: Client,
    task_queue: str,
    tmp_path: Path,
    mode: str,
    call: Callable[[Any], Awaitable[Any]],
    nested: bool,
) -> None:
    started = tmp_path / "started"
    graph = _graph(started, nested=nested)
    host = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    other = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with host.worker(graph), asyncio.timeout(WAIT_S):
        ours = graph.with_config(checkpointer=host if mode == "embedded" else other)
        running = asyncio.ensure_future(call(ours))
        while not started.exists():  # noqa: ASYNC110 # a file has no event
            await asyncio.sleep(0.05)
        await other.adelete_thread("t")
        with pytest.raises(RunCancelledError):
            await running
        assert await other.aget_tuple(config("t")) is None


def _busy(started: Path) -> Any:
    """One superstep after the other."""

    def node(state: State) -> State:
        if len(state["x"]) == 3:
            started.touch()
        return {"x": ["again"]}

    builder = StateGraph(State).add_node("node", node).add_edge(START, "node")
    return builder.add_edge("node", "node").compile(name="busy")


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize("mode", ["embedded", "remote"])
async def test_deleted_between_two_supersteps(
    client: Client, task_queue: str, tmp_path: Path, mode: str, sync: bool
) -> None:
    """Whether it is a step, a task or the run itself that first learns of it."""
    host = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    other = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    graph = _busy(tmp_path / "started")
    async with host.worker(graph), asyncio.timeout(WAIT_S):
        ours = graph.with_config(checkpointer=host if mode == "embedded" else other)
        for number in range(5):
            (tmp_path / "started").unlink(missing_ok=True)
            where: Any = {**config(f"t{number}"), "recursion_limit": 100_000}
            if sync:
                call = asyncio.to_thread(ours.invoke, {"x": []}, where)
            else:
                call = ours.ainvoke({"x": []}, where)
            running = asyncio.ensure_future(call)
            while not (tmp_path / "started").exists():  # noqa: ASYNC110 # a file has no event
                await asyncio.sleep(0.01)
            await other.adelete_thread(f"t{number}")
            with pytest.raises(RunCancelledError):
                await running
