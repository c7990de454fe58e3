"""Benchmark shape: a chat of many turns, 1 kB each way, one call per turn.

The texts are random: no compression flatters the numbers.
"""

from __future__ import annotations

import random
import string
from time import perf_counter
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph

from benchmarks.contender import Caller
from benchmarks.timing import median

TEXT_BYTES = 1_000
WINDOW = 10
"""So many turns at the beginning are early, and so many at the end late."""

ALPHABET = string.ascii_letters + string.digits + string.punctuation


def text(seed: str) -> str:
    """The text of a message; other seeds give others."""
    return "".join(random.Random(seed).choices(ALPHABET, k=TEXT_BYTES))


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


async def reply(state: State) -> dict[str, Any]:
    number = len(state["messages"])
    # Ids are given: where graphs run inside a workflow, a random one is not replayed.
    return {"messages": [AIMessage(text(f"ai {number}"), id=f"ai-{number}")]}


builder: StateGraph[State, None, State, State] = StateGraph(State)
builder.add_node("reply", reply)
builder.add_edge(START, "reply")

graph: CompiledStateGraph[Any, Any, Any, Any] = builder.compile(name="chat")


async def sample(caller: Caller, *, turns: int) -> dict[str, float]:
    """One chat: medians of early and of late turns, from the call to its return."""
    turn = caller.thread("chat")
    took = []
    for number in range(turns):
        said = HumanMessage(text(f"human {number}"), id=f"human-{number}")
        begun = perf_counter()
        result = await turn({"messages": [said]})
        took.append((perf_counter() - begun) * 1e3)
        assert len(result["messages"]) == 2 * number + 2
    return {"early_ms": median(took[:WINDOW]), "late_ms": median(took[-WINDOW:])}
