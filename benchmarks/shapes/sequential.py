"""Benchmark shape: one node that does nothing, run in a loop of supersteps.

A superstep of this graph is all overhead, so what is measured is what a checkpointer and an
executor add. The state stays the same size from the first superstep to the last.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from benchmarks.contender import Caller


class State(TypedDict):
    """The clock readings travel in the state: the node may run in another process."""

    left: int  # supersteps still to run
    first_ns: int  # monotonic clock in the first superstep of this run; 0 before it
    last_ns: int  # the same in the latest superstep


async def step(state: State) -> State:
    now = monotonic_ns()
    return {"left": state["left"] - 1, "first_ns": state["first_ns"] or now, "last_ns": now}


async def again(state: State) -> str:
    return "step" if state["left"] else END


builder: StateGraph[State, None, State, State] = StateGraph(State)
builder.add_node("step", step)
builder.add_edge(START, "step")
builder.add_conditional_edges("step", again, ["step", END])

graph: CompiledStateGraph[Any, Any, Any, Any] = builder.compile(name="sequential")


async def sample(caller: Caller, *, supersteps: int) -> dict[str, float]:
    """One run.

    Args:
        caller: What is measured.
        supersteps: Length of the loop; at least 2, so that there is a distance to measure.

    Returns:
        ``start_ms`` from the call to the first node, ``superstep_ms`` from one node to the next,
        ``end_ms`` from the last node to the return.
    """
    called = monotonic_ns()
    result = await caller.run("sequential", {"left": supersteps, "first_ns": 0, "last_ns": 0})
    returned = monotonic_ns()
    return {
        "start_ms": (result["first_ns"] - called) / 1e6,
        "superstep_ms": (result["last_ns"] - result["first_ns"]) / (supersteps - 1) / 1e6,
        "end_ms": (returned - result["last_ns"]) / 1e6,
    }
