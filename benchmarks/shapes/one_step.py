"""Benchmark shape: a graph of one node that does nothing, from the call to its return."""

from __future__ import annotations

from time import perf_counter
from typing import Any, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from benchmarks.contender import Caller, UnsupportedError
from benchmarks.timing import median


class State(TypedDict):
    n: int


async def step(state: State) -> State:
    return {"n": state["n"] + 1}


builder: StateGraph[State, None, State, State] = StateGraph(State)
builder.add_node("step", step)
builder.add_edge(START, "step")

graph: CompiledStateGraph[Any, Any, Any, Any] = builder.compile(name="one_step")


async def sample(caller: Caller, *, times: int = 4) -> dict[str, float]:
    """Medians of runs on threads of their own (``new_ms``), and of as many on one thread
    (``existing_ms``), where there are threads that stay."""
    new, existing = [], []
    for n in range(times):
        begun = perf_counter()
        assert (await caller.run("one_step", {"n": n}))["n"] == n + 1
        new.append((perf_counter() - begun) * 1e3)
    numbers = {"new_ms": median(new)}
    try:
        turn = caller.thread("one_step")
    except UnsupportedError:
        return numbers
    for n in range(times + 1):
        begun = perf_counter()
        assert (await turn({"n": n}))["n"] == n + 1
        existing.append((perf_counter() - begun) * 1e3)
    return {**numbers, "existing_ms": median(existing[1:])}
