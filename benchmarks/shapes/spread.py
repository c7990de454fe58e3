"""Benchmark shape: many tasks of one superstep, each of which computes for as long."""

from __future__ import annotations

import operator
import time
from typing import Annotated, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Send

TASKS = 60
CPU_S = 0.2
"""Of one task: what no other task of the same process can use."""

PROCESSES = (1, 2, 3)


class State(TypedDict):
    done: Annotated[list[int], operator.add]


class Part(TypedDict):
    i: int


def compute(state: Part) -> State:
    until = time.thread_time() + CPU_S
    while time.thread_time() < until:
        pass
    return {"done": [state["i"]]}


builder = (
    StateGraph(State)
    .add_node("begin", lambda state: {"done": []})
    .add_node("compute", compute)
    .add_edge(START, "begin")
    .add_conditional_edges(
        "begin", lambda _: [Send("compute", {"i": i}) for i in range(TASKS)], ["compute"]
    )
)
graph: CompiledStateGraph[State, None, State, State] = builder.compile(name="spread")
