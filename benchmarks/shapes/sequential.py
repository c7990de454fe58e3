"""Benchmark shape: one node that does nothing, run in a loop of supersteps.

A superstep of this graph is all overhead, so what is measured is what the checkpointer and
the executor add. The state stays the same size from the first superstep to the last.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Durability

from benchmarks.timing import RunTimes


class State(TypedDict):
    """The clock readings travel in the state: the node may run in another process."""

    left: int  # supersteps still to run
    first_ns: int  # monotonic clock in the first superstep of this run; 0 before it
    last_ns: int  # the same in the latest superstep


Graph = CompiledStateGraph[State, None, State, State]


async def step(state: State) -> State:
    now = monotonic_ns()
    return {"left": state["left"] - 1, "first_ns": state["first_ns"] or now, "last_ns": now}


def again(state: State) -> str:
    return "step" if state["left"] else END


builder: StateGraph[State, None, State, State] = StateGraph(State)
builder.add_node("step", step)
builder.add_edge(START, "step")
builder.add_conditional_edges("step", again, ["step", END])

graph: Graph = builder.compile(name="sequential")


async def run(
    graph: Graph, thread_id: str, supersteps: int, durability: Durability | None = None
) -> RunTimes:
    """One timed ``ainvoke`` on a thread.

    Args:
        graph: This shape's graph, with a checkpointer.
        thread_id: Thread of the run; it may have had runs before.
        supersteps: Length of the loop; at least 2, so that there is a distance to measure.
        durability: LangGraph's own option; ``None`` is its default.
    """
    config: RunnableConfig = {
        "configurable": {"thread_id": thread_id},
        "recursion_limit": supersteps + 5,  # input and end need supersteps of their own
    }
    called = monotonic_ns()
    result = await graph.ainvoke(
        {"left": supersteps, "first_ns": 0, "last_ns": 0}, config, durability=durability
    )
    returned = monotonic_ns()
    return RunTimes(
        start_ms=(result["first_ns"] - called) / 1e6,
        superstep_ms=(result["last_ns"] - result["first_ns"]) / (supersteps - 1) / 1e6,
        end_ms=(returned - result["last_ns"]) / 1e6,
    )
