"""What happens to a run that finds another one on its thread."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from temporalio.client import Client

from langgraph_temporal_exec import (
    RunCancelledError,
    TemporalSaver,
    ThreadBusyError,
    UsageError,
)
from tests.conftest import TemporalServer
from tests.support.graphs import State, config

pytestmark = pytest.mark.compat

ROOT = Path(__file__).parents[2]

WAIT_S = 30.0
"""Bound of every wait."""


def _graph(folder: Path) -> Any:
    """Three steps; the second waits for a file the first time."""

    def step(name: str) -> Any:
        async def node(state: State) -> State:
            run = state["x"][-1].split()[0]
            _note(folder, f"{run} {name}")
            if run == "first" and name == "hold":
                await _until(lambda: _exists(folder / "go"))
            return {"x": [f"{run} {name}"]}

        return node

    names = ["before", "hold", "after"]
    builder = StateGraph(State).add_sequence([(name, step(name)) for name in names])
    return builder.add_edge(START, "before").compile(name="steps")


def _note(folder: Path, line: str) -> None:
    with (folder / "ran").open("a") as file:
        file.write(line + "\n")


def _exists(path: Path) -> bool:
    return path.exists()


def _ran(folder: Path) -> list[str]:
    return (folder / "ran").read_text().splitlines() if (folder / "ran").exists() else []


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not holds():  # noqa: ASYNC110 # a file has no event
            await asyncio.sleep(0.02)


async def _in_line(graph: Any, runs: int) -> None:
    """Wait until so many runs stand behind the active one."""
    async with asyncio.timeout(WAIT_S):
        while (await graph.checkpointer.aget_thread("t")).waiting != runs:  # noqa: ASYNC110 # a server has no event
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def _held(
    client: Client, queue: str, folder: Path, mode: str
) -> AsyncIterator[tuple[Any, asyncio.Task[Any]]]:
    """The graph, and a first run of it that is held in its second step."""
    graph = _graph(folder)
    host = TemporalSaver(client, task_queue=queue, id_prefix=queue)
    async with host.worker(graph):
        caller = TemporalSaver(client, task_queue=queue, id_prefix=queue)
        durable = graph.with_config(checkpointer=host if mode == "embedded" else caller)
        first = asyncio.create_task(durable.ainvoke({"x": ["first"]}, config("t")))
        await _until(lambda: "first hold" in _ran(folder))
        yield durable, first
        caller.close()


def _with(strategy: str) -> Any:
    return {"configurable": {"thread_id": "t", "multitask_strategy": strategy}}


FIRST = ["first", "first before", "first hold", "first after"]
SECOND = ["second", "second before", "second hold", "second after"]


@pytest.fixture(params=["embedded", "remote"])
def mode(request: pytest.FixtureRequest) -> str:
    """Where the worker of the calls is."""
    return str(request.param)


async def test_enqueue(client: Client, task_queue: str, tmp_path: Path, mode: str) -> None:
    async with _held(client, task_queue, tmp_path, mode) as (graph, first):
        second = asyncio.create_task(graph.ainvoke({"x": ["second"]}, config("t")))
        await _in_line(graph, 1)
        (tmp_path / "go").touch()
        assert await first == {"x": FIRST}
        assert await second == {"x": FIRST + SECOND}


async def test_reject(client: Client, task_queue: str, tmp_path: Path, mode: str) -> None:
    async with _held(client, task_queue, tmp_path, mode) as (graph, first):
        with pytest.raises(ThreadBusyError, match="thread 't'"):
            await graph.ainvoke({"x": ["second"]}, _with("reject"))
        (tmp_path / "go").touch()
        assert await first == {"x": FIRST}
        assert await graph.ainvoke({"x": ["second"]}, _with("reject")) == {"x": FIRST + SECOND}
        assert "multitask_strategy" not in str((await graph.aget_state(config("t"))).metadata)


async def test_interrupt(client: Client, task_queue: str, tmp_path: Path, mode: str) -> None:
    """The step under way ends and is kept; the one after it does not begin."""
    async with _held(client, task_queue, tmp_path, mode) as (graph, first):
        waiting = asyncio.create_task(graph.ainvoke({"x": ["third"]}, config("t")))
        await _in_line(graph, 1)
        second = asyncio.create_task(graph.ainvoke({"x": ["second"]}, _with("interrupt")))
        await _in_line(graph, 2)
        assert not first.done()
        (tmp_path / "go").touch()
        with pytest.raises(RunCancelledError):
            await first
        # Before the one that waits in line.
        assert await second == {"x": FIRST[:-1] + SECOND}
        assert (await waiting)["x"][-1] == "third after"
        assert "first after" not in _ran(tmp_path)


async def test_rollback(client: Client, task_queue: str, tmp_path: Path, mode: str) -> None:
    """It is stopped at once, and nothing of it is left."""
    async with _held(client, task_queue, tmp_path, mode) as (graph, first):
        second = asyncio.create_task(graph.ainvoke({"x": ["second"]}, _with("rollback")))
        with pytest.raises(RunCancelledError):
            await first
        assert await second == {"x": SECOND}
        states = [s async for s in graph.aget_state_history(config("t"))]
        assert not [s for s in states if "first" in s.values.get("x", [])]
        assert len(states) == 5
        assert await graph.ainvoke({"x": ["third"]}, config("t"))


async def test_an_unknown_strategy(client: Client, task_queue: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="enqueue, reject, interrupt, rollback"):
        TemporalSaver(client, multitask_strategy="wait")  # type: ignore[arg-type] # wrong on purpose
    saver = TemporalSaver(client, task_queue=task_queue)
    graph = _graph(tmp_path).with_config(checkpointer=saver)
    with pytest.raises(UsageError, match="'wait'"):
        await graph.ainvoke({"x": ["first"]}, _with("wait"))
    saver.close()


RACER = """
import asyncio, operator, os, sys
from typing import Annotated, TypedDict
from langgraph.graph import START, StateGraph
from temporalio.client import Client
from langgraph_temporal_exec import TemporalSaver, ThreadBusyError

class State(TypedDict):
    x: Annotated[list, operator.add]
    run: str

def step(name):
    async def node(state: State) -> dict:
        await asyncio.sleep(0.01)
        return {"x": [f"{state['run']} {name}"]}
    return node

builder = StateGraph(State).add_sequence([(name, step(name)) for name in "abc"])
graph = builder.add_edge(START, "a").compile(name="race")

async def main(me, address, queue):
    client = await Client.connect(address)
    saver = TemporalSaver(client, task_queue=queue, id_prefix=queue)
    async with saver.worker(graph):
        durable = graph.with_config(checkpointer=saver)
        for i in range(6):
            strategy = "reject" if i % 3 == 2 else "enqueue"
            config = {"configurable": {"thread_id": "t", "multitask_strategy": strategy}}
            try:
                await durable.ainvoke({"x": [], "run": f"{me}{i}"}, config)
            except ThreadBusyError:
                continue
            print(f"{me}{i}", flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_two_processes_never_interleave(
    client: Client, temporal_server: TemporalServer, task_queue: str
) -> None:
    racers = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", RACER, me, temporal_server.address, task_queue),
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        for me in "AB"
    ]
    async with asyncio.timeout(90):
        outputs = [(await racer.communicate())[0].decode().split() for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0]
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    found = await saver.aget_tuple(config("t"))
    assert found is not None
    steps = found.checkpoint["channel_values"]["x"]
    runs = [steps[i].split()[0] for i in range(0, len(steps), 3)]
    assert steps == [f"{run} {name}" for run in runs for name in "abc"]
    assert sorted(runs) == sorted(outputs[0] + outputs[1])
    # Each in its own order, and both took part.
    assert [[r for r in runs if r[0] == me] for me in "AB"] == outputs
    assert len(outputs[0]) >= 4 <= len(outputs[1])
