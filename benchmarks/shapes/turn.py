"""Benchmark shape: a turn of an agent, three calls of a model and two of tools, one after another.

Both are nodes that do nothing but wait, so that what is counted is what surrounds them.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph

from benchmarks.contender import Caller

MESSAGES = 6
"""Of a turn: the human's, three of the model, two of tools."""


class State(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    tool_s: float  # what a tool takes


async def model(state: State) -> dict[str, Any]:
    number = len(state["messages"])
    key = f"ai-{number}"
    if number % MESSAGES == MESSAGES - 1:
        return {"messages": [AIMessage("done", id=key)]}
    call = {"name": "work", "args": {"n": number}, "id": f"call-{number}"}
    return {"messages": [AIMessage("", id=key, tool_calls=[call])]}


async def tools(state: State) -> dict[str, Any]:
    await asyncio.sleep(state["tool_s"])
    number = len(state["messages"])
    call = f"call-{number - 1}"
    return {"messages": [ToolMessage("found", id=f"tool-{number}", tool_call_id=call)]}


async def after_model(state: State) -> str:
    return "tools" if len(state["messages"]) % MESSAGES else END


builder: StateGraph[State, None, State, State] = StateGraph(State)
builder.add_node("model", model)
builder.add_node("tools", tools)
builder.add_edge(START, "model")
builder.add_conditional_edges("model", after_model, ["tools", END])
builder.add_edge("tools", "model")

graph: CompiledStateGraph[Any, Any, Any, Any] = builder.compile(name="turn")


async def sample(caller: Caller, *, turns: int, tool_s: float) -> dict[str, float]:
    """Some turns, one after the other: a single one is a run; more are on one new thread."""
    turn = caller.thread("turn") if turns > 1 else lambda given: caller.run("turn", given)
    begun = perf_counter()
    for number in range(turns):
        said = HumanMessage("go on", id=f"human-{number}")
        result = await turn({"messages": [said], "tool_s": tool_s})
        assert len(result["messages"]) == MESSAGES * (number + 1)
    return {"turn_ms": (perf_counter() - begun) * 1e3 / turns}
