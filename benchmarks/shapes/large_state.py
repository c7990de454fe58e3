"""Benchmark shape: a loop of supersteps beside a large value that none of them touches."""

from __future__ import annotations

import random
from collections.abc import Sequence
from time import perf_counter
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from benchmarks.contender import Caller

SUPERSTEPS = 8


class State(TypedDict, total=False):
    n: int
    blob: str


async def step(state: State) -> State:
    return {"n": state["n"] + 1}


async def again(state: State) -> str:
    return "step" if state["n"] < SUPERSTEPS else END


builder: StateGraph[State, None, State, State] = StateGraph(State)
builder.add_node("step", step)
builder.add_edge(START, "step")
builder.add_conditional_edges("step", again, ["step", END])
graph: CompiledStateGraph[Any, Any, Any, Any] = builder.compile(name="large_state")


def blob(megabytes: int) -> str:
    """A text of that size in which nothing repeats."""
    return random.Random(megabytes).randbytes(megabytes * 500_000).hex()


async def sample(caller: Caller, *, sizes_mb: Sequence[int]) -> dict[str, float]:
    """A turn on threads that hold that much already; ``turn_<size>_mb_ms`` for each."""
    numbers = {}
    for size in sizes_mb:
        turn = caller.thread("large_state")
        await turn({"n": SUPERSTEPS - 1, "blob": blob(size)})
        begun = perf_counter()
        result = await turn({"n": 0})
        numbers[f"turn_{size}_mb_ms"] = (perf_counter() - begun) * 1e3
        assert result["n"] == SUPERSTEPS
        assert len(result["blob"]) == size * 1_000_000
    return numbers
