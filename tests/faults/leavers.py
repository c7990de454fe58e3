"""Graphs whose code raises what ends programs, each in another place of a graph."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.prebuilt import ToolNode


class Own(BaseException):
    """An exception of the user's."""


KINDS = ("SystemExit", "KeyboardInterrupt", "GeneratorExit", "StopIteration", "Own")


def leave(kind: str) -> None:
    """Raise what is asked for; nothing for ""."""
    if kind == "SystemExit":
        sys.exit("usage: ...")
    if kind == "KeyboardInterrupt":
        raise KeyboardInterrupt
    if kind == "GeneratorExit":
        raise GeneratorExit("closed")
    if kind == "StopIteration":
        next(iter(()))
    if kind == "Own":
        raise Own("out")


def _reduced(left: list[str], right: list[str]) -> list[str]:
    for word in right:
        leave(word)
    return [*left, *right]


class State(TypedDict, total=False):
    kind: str
    seen: Annotated[list[str], _reduced]
    messages: list[Any]


def _sync(state: State) -> State:
    leave(state["kind"])
    return {"seen": ["fine"]}


async def _async(state: State) -> State:
    await asyncio.sleep(0)
    leave(state["kind"])
    return {"seen": ["fine"]}


async def _started(state: State) -> State:
    """In a task that the node has started."""

    async def beside() -> None:
        await asyncio.sleep(0)
        leave(state["kind"])

    await asyncio.gather(beside(), asyncio.sleep(0))
    return {"seen": ["fine"]}


async def _threaded(state: State) -> State:
    await asyncio.to_thread(leave, state["kind"])
    return {"seen": ["fine"]}


@tool
def sync_tool(kind: str) -> str:
    """Leaves."""
    leave(kind)
    return "fine"


@tool
async def async_tool(kind: str) -> str:
    """Leaves."""
    await asyncio.sleep(0)
    leave(kind)
    return "fine"


def _call(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "args": {"kind": kind}, "id": name, "type": "tool_call"}


def _asks(*names: str) -> Any:
    def ask(state: State) -> State:
        calls = [_call(name, state["kind"]) for name in names]
        return {"messages": [AIMessage("", tool_calls=calls)]}

    return ask


def _told(state: State) -> State:
    assert isinstance(state["messages"][-1], ToolMessage)
    return {"seen": [str(state["messages"][-1].content)]}


def _writes(state: State) -> State:
    return {"seen": [state["kind"] or "fine"]}


def _routes(state: State) -> str:
    leave(state["kind"])
    return END


def _one(node: Any) -> StateGraph[State]:
    return StateGraph(State).add_node("node", node).add_edge(START, "node")


def _tools(*tools: Any) -> StateGraph[State]:
    builder = StateGraph(State).add_node("ask", _asks(*(t.name for t in tools)))
    builder.add_node("tools", ToolNode(list(tools))).add_node("told", _told)
    return builder.add_edge(START, "ask").add_edge("ask", "tools").add_edge("tools", "told")


def _parallel() -> StateGraph[State]:
    builder = StateGraph(State).add_node("one", _async).add_node("other", _writes_fine)
    return builder.add_edge(START, "one").add_edge(START, "other")


def _writes_fine(state: State) -> State:
    return {"seen": ["fine"]}


PLACES = {
    "sync_node": _one(_sync),
    "async_node": _one(_async),
    "one_of_two": _parallel(),
    "started_task": _one(_started),
    "thread": _one(_threaded),
    "sync_tool": _tools(sync_tool),
    "async_tools": _tools(async_tool, sync_tool),
    "sub_graph": _one(_one(_async).compile()),
    "reducer": _one(_writes),
    "routing": _one(_writes_fine).add_conditional_edges("node", _routes),
}


def touch(path: str) -> None:
    """Make a file."""
    Path(path).touch()


async def appears(path: str) -> None:
    """Wait for a file."""
    exists = Path(path).exists
    while True:
        if exists():
            return
        await asyncio.sleep(0.05)


async def _waits(state: State) -> State:
    # Another run on the same worker: it begins before the others leave, and ends after them.
    touch(state["kind"] + ".begun")
    await appears(state["kind"])
    return {"seen": ["fine"]}


graphs = {name: builder.compile(name=name) for name, builder in PLACES.items()}
innocent = _one(_waits).compile(name="innocent")
graphs["innocent"] = innocent
