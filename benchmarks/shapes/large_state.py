"""Benchmark shape: a loop of supersteps beside a large value that none of them touches."""

from __future__ import annotations

import random
import time
from typing import Any, Literal, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

SUPERSTEPS = 8

SIZES_MB = (0, 2, 5, 20)

Way = Literal["ainvoke", "astream"]


class State(TypedDict, total=False):
    n: int
    blob: str


async def step(state: State) -> State:
    return {"n": state["n"] + 1}


builder = StateGraph(State).add_node("step", step).add_edge(START, "step")
builder.add_conditional_edges("step", lambda s: "step" if s["n"] < SUPERSTEPS else END)
graph: CompiledStateGraph[Any, Any, Any, Any] = builder.compile(name="large_state")


def blob(megabytes: int) -> str:
    """A text of that size in which nothing repeats."""
    return random.Random(megabytes).randbytes(megabytes * 500_000).hex()


async def turn(durable: CompiledStateGraph[Any, Any, Any, Any], thread_id: str, way: Way) -> float:
    """One turn on a thread that holds its blob already. Milliseconds."""
    config: Any = {"configurable": {"thread_id": thread_id}}
    called = time.monotonic()
    if way == "ainvoke":
        result = await durable.ainvoke({"n": 0}, config)
    else:
        result = {}
        async for values in durable.astream({"n": 0}, config, stream_mode="values"):
            result = values
    assert result["n"] == SUPERSTEPS
    return (time.monotonic() - called) * 1e3
