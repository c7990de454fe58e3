"""An answer that an interrupt has taken is not given to another one, whatever the next call is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from tests.support.graphs import State, config

pytestmark = pytest.mark.compat

Build = Callable[[Path], Any]


def _asked(result: Any) -> list[str]:
    return [i.value for i in result.get("__interrupt__", ())]


def _one_node(folder: Path) -> Any:
    """Two questions in one node."""

    async def node(state: State) -> State:
        return {"x": [interrupt("first?"), interrupt("second?")]}

    return StateGraph(State).add_node("node", node).add_edge(START, "node").compile(name="asks")


def _nested(folder: Path) -> Any:
    """Two questions in two nodes of a sub-graph, which are in one superstep of the outer one."""

    async def first(state: State) -> State:
        return {"x": [interrupt("first?")]}

    async def second(state: State) -> State:
        return {"x": [interrupt("second?")]}

    inner = StateGraph(State).add_sequence([first, second]).add_edge(START, "first").compile()

    async def call(state: State) -> State:
        return {"x": (await inner.ainvoke({"x": []}))["x"]}

    return StateGraph(State).add_node("call", call).add_edge(START, "call").compile(name="asks")


def _failing_between(folder: Path) -> Any:
    """The node fails once after its first answer."""

    async def node(state: State) -> State:
        first = interrupt("first?")
        if not (folder / "failed").exists():
            (folder / "failed").touch()
            raise ConnectionError("once")
        return {"x": [first, interrupt("second?")]}

    return StateGraph(State).add_node("node", node).add_edge(START, "node").compile(name="asks")


@asynccontextmanager
async def _served(client: Client, task_queue: str, graph: Any, mode: str) -> AsyncIterator[Any]:
    host = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with host.worker(graph), asyncio.timeout(100):
        caller = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
        yield graph.with_config(checkpointer=host if mode == "embedded" else caller)


@pytest.mark.parametrize("mode", ["embedded", "remote"])
@pytest.mark.parametrize("build", [_one_node, _nested, _failing_between])
async def test_next_question_is_asked(
    client: Client, task_queue: str, tmp_path: Path, mode: str, build: Build
) -> None:
    async with _served(client, task_queue, build(tmp_path), mode) as graph:
        assert _asked(await graph.ainvoke({"x": []}, config("t"))) == ["first?"]
        if build is _failing_between:
            with pytest.raises(ConnectionError):
                await graph.ainvoke(Command(resume="yes"), config("t"))
        else:
            await graph.ainvoke(Command(resume="yes"), config("t"))
        for _ in range(2):
            assert _asked(await graph.ainvoke(None, config("t"))) == ["second?"]
        await graph.checkpointer.acopy_thread("t", "copy")
        assert _asked(await graph.ainvoke(None, config("copy"))) == ["second?"]
        for thread in ("t", "copy"):
            result = await graph.ainvoke(Command(resume="certainly"), config(thread))
            assert result["x"] == ["yes", "certainly"]


@pytest.mark.parametrize("build", [_one_node, _nested])
async def test_langgraph_in_memory_gives_it_twice(tmp_path: Path, build: Build) -> None:
    graph = build(tmp_path).copy({"checkpointer": InMemorySaver()})
    await graph.ainvoke({"x": []}, config("t"))
    await graph.ainvoke(Command(resume="yes"), config("t"))
    assert (await graph.ainvoke(None, config("t")))["x"] == ["yes", "yes"]


async def test_answer_that_nobody_took_is_still_given(
    client: Client, task_queue: str, tmp_path: Path
) -> None:
    """The node fails before it comes to its question: as in memory, its answer waits for it."""

    async def node(state: State) -> State:
        (tmp_path / "ran").open("a").write("x")
        if (tmp_path / "ran").read_text() == "xxx":
            raise ConnectionError("the third time")
        return {"x": [interrupt("first?"), interrupt("second?")]}

    builder = StateGraph(State).add_node("node", node).add_edge(START, "node")
    async with _served(client, task_queue, builder.compile(name="asks"), "remote") as graph:
        await graph.ainvoke({"x": []}, config("t"))
        assert _asked(await graph.ainvoke(Command(resume="one"), config("t"))) == ["second?"]
        with pytest.raises(ConnectionError):
            await graph.ainvoke(Command(resume="two"), config("t"))
        assert (await graph.ainvoke(None, config("t")))["x"] == ["one", "two"]


async def test_answer_beside_an_older_one(client: Client, task_queue: str, tmp_path: Path) -> None:
    """By id, too: the older answer is not left over for the third question."""

    async def node(state: State) -> State:
        return {"x": [interrupt("first?"), interrupt("second?"), interrupt("third?")]}

    builder = StateGraph(State).add_node("node", node).add_edge(START, "node")
    async with _served(client, task_queue, builder.compile(name="asks"), "embedded") as graph:
        await graph.ainvoke({"x": []}, config("t"))
        second = (await graph.ainvoke(Command(resume="one"), config("t")))["__interrupt__"][0]
        result = await graph.ainvoke(Command(resume={second.id: "two"}), config("t"))
        assert _asked(result) == ["third?"]
        result = await graph.ainvoke(Command(resume="three"), config("t"))
        assert result["x"] == ["one", "two", "three"]
