"""Benchmark shape: one superstep of many tasks that do nothing."""

from __future__ import annotations

import operator
from time import perf_counter
from typing import Annotated, Any, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Send

from benchmarks.contender import Caller


class State(TypedDict, total=False):
    width: int
    done: Annotated[list[int], operator.add]


class Part(TypedDict):
    i: int


async def part(state: Part) -> State:
    return {"done": [state["i"]]}


async def spread(state: State) -> list[Send]:
    return [Send("part", {"i": i}) for i in range(state["width"])]


builder: StateGraph[State, None, State, State] = StateGraph(State)
builder.add_node("part", part)
builder.add_conditional_edges(START, spread, ["part"])

graph: CompiledStateGraph[Any, Any, Any, Any] = builder.compile(name="fanout")


async def sample(caller: Caller, *, width: int) -> dict[str, float]:
    """A run, from the call to its return."""
    begun = perf_counter()
    result = await caller.run("fanout", {"width": width, "done": []})
    took_ms = (perf_counter() - begun) * 1e3
    assert sorted(result["done"]) == list(range(width))
    return {"run_ms": took_ms}
