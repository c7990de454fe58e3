"""Plain LangGraph graphs used by several tests, and the two ways to run them durably."""

from __future__ import annotations

import operator
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypedDict

from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send, interrupt
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver


class State(TypedDict):
    x: Annotated[list[Any], operator.add]


class LargeState(TypedDict, total=False):
    start: int
    a: str
    b: str
    c: str


class Counter(TypedDict):
    n: int


class NodeFailed(Exception):
    """An exception whose constructor cannot be called with its ``args``."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code


def config(thread_id: str) -> Any:
    return {"configurable": {"thread_id": thread_id}}


def _append(name: str) -> Any:
    async def node(state: State) -> State:
        return {"x": [name]}

    return node


def countdown() -> Any:
    """As many supersteps as ``n`` says."""

    async def node(state: Counter) -> Counter:
        return {"n": state["n"] - 1}

    return (
        StateGraph(Counter)
        .add_node("node", node)
        .add_edge(START, "node")
        .add_conditional_edges("node", lambda s: "node" if s["n"] > 0 else END, ["node", END])
        .compile(name="countdown")
    )


def parallel() -> Any:
    """Fan out, fan in, then ask."""

    async def ask(state: State) -> State:
        return {"x": [f"answer:{interrupt('question')}"]}

    return (
        StateGraph(State)
        .add_node("a", _append("a"))
        .add_node("b1", _append("b1"))
        .add_node("b2", _append("b2"))
        .add_node("ask", ask)
        .add_edge(START, "a")
        .add_edge("a", "b1")
        .add_edge("a", "b2")
        .add_edge(["b1", "b2"], "ask")
        .compile(name="parallel")
    )


def nested() -> Any:
    """A subgraph which asks in its second step."""

    async def ask(state: State) -> State:
        return {"x": [f"inner:{interrupt('inner question')}"]}

    inner = (
        StateGraph(State)
        .add_node("first", _append("first"))
        .add_node("ask", ask)
        .add_edge(START, "first")
        .add_edge("first", "ask")
        .compile()
    )
    return (
        StateGraph(State)
        .add_node("a", _append("a"))
        .add_node("inner", inner)
        .add_edge(START, "a")
        .add_edge("a", "inner")
        .compile(name="nested")
    )


def wide() -> Any:
    """Fifty tasks in one superstep."""

    async def work(state: dict[str, int]) -> State:
        return {"x": [state["i"]]}

    return (
        StateGraph(State)
        .add_node("a", _append("a"))
        .add_node("work", work)
        .add_edge(START, "a")
        .add_conditional_edges("a", lambda _: [Send("work", {"i": i}) for i in range(50)], ["work"])
        .compile(name="wide")
    )


def failing() -> Any:
    """A node that raises after another one succeeded."""

    async def fail(state: State) -> State:
        raise NodeFailed("boom", code=7)

    return (
        StateGraph(State)
        .add_node("a", _append("a"))
        .add_node("fail", fail)
        .add_edge(START, "a")
        .add_edge("a", "fail")
        .compile(name="failing")
    )


def sync_nodes() -> Any:
    """Plain functions, with an interrupt."""

    def a(state: State) -> State:
        return {"x": ["a"]}

    def ask(state: State) -> State:
        return {"x": [interrupt("sync question")]}

    return (
        StateGraph(State)
        .add_node("a", a)
        .add_node("ask", ask)
        .add_edge(START, "a")
        .add_edge("a", "ask")
        .compile(name="sync_nodes")
    )


def unserializable() -> Any:
    """A node that writes a function into the state."""

    async def bad(state: State) -> State:
        return {"x": [lambda: 1]}

    return (
        StateGraph(State)
        .add_node("a", _append("a"))
        .add_node("bad", bad)
        .add_edge(START, "a")
        .add_edge("a", "bad")
        .compile(name="unserializable")
    )


@task
async def double(i: int) -> int:
    return i * 2


@entrypoint()
async def functional(n: int) -> list[Any]:
    """Functional API: tasks, then a question."""
    futures = [double(i) for i in range(n)]
    return [*[await f for f in futures], interrupt("more?")]


def large() -> Any:
    """Three nodes that each write a megabyte, so that the state outgrows a payload."""

    builder = StateGraph(LargeState)
    for name in "abc":
        # Nodes and channels share no names.
        builder.add_node(f"write_{name}", _one_channel(name))
    builder.add_edge(START, "write_a")
    builder.add_edge("write_a", "write_b").add_edge("write_b", "write_c")
    return builder.compile(name="large")


def _one_channel(name: str) -> Any:
    def write(state: LargeState) -> Any:
        return {name: name * 1_000_000}

    return write


def all_graphs() -> dict[str, Any]:
    """Every graph by the name callers use."""
    made = [
        countdown(),
        parallel(),
        nested(),
        wide(),
        failing(),
        sync_nodes(),
        unserializable(),
        large(),
    ]
    return {**{g.name: g for g in made}, "functional": functional}


@asynccontextmanager
async def durable(mode: str, client: Client, task_queue: str) -> AsyncIterator[TemporalSaver]:
    """A saver whose caller hosts the worker (``embedded``) or does not (``remote``)."""
    host = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with host.worker(all_graphs()):
        if mode == "embedded":
            yield host
            return
        caller = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
        try:
            yield caller
        finally:
            caller.close()
