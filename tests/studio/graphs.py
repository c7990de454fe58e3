"""Graphs of the studio tests, served by a real `langgraph dev` and called by plain scripts."""

from __future__ import annotations

import asyncio
import operator
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels.delta import DeltaChannel
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import interrupt

GATES = "STUDIO_TEST_GATES"
"""Environment variable: folder in which a slow node says that it runs and waits to be let on."""


def _extended(notes: list[str], added: list[list[str]]) -> list[str]:
    return [*notes, *(note for some in added for note in some)]


class Notes(TypedDict, total=False):
    notes: Annotated[list[str], DeltaChannel(_extended, snapshot_frequency=1_000)]


class State(TypedDict, total=False):
    steps: Annotated[list[str], operator.add]
    gate: str


async def _note(state: Notes) -> Notes:
    return {"notes": [f"note {len(state['notes'])}"]}


def _step(name: str) -> Any:
    async def node(state: State) -> State:
        return {"steps": [name]}

    return node


def _ask(name: str) -> Any:
    async def node(state: State) -> State:
        return {"steps": [f"{name}={interrupt(f'{name}?')}"]}

    return node


async def _stream(state: State) -> State:
    get_stream_writer()({"progress": "half"})
    return {"steps": ["streamed"]}


async def _fail(state: State) -> State:
    raise ValueError("no such order")


async def slow(state: State) -> State:
    """Says that it runs, and waits until it may end. Cancelled, it says that too."""
    folder = Path(os.environ[GATES])
    gate = state["gate"]
    runs = folder / f"{gate}.runs"
    with runs.open("a") as file:
        file.write(f"{os.getpid()}\n")
    try:
        while not (folder / f"{gate}.open").exists():  # noqa: ASYNC110  # opened by a process
            await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        (folder / f"{gate}.cancelled").touch()
        raise
    return {"steps": [f"slow {gate}"]}


def _replies() -> Iterator[AIMessage]:
    while True:
        yield AIMessage("the order is on its way")


MODEL = GenericFakeChatModel(messages=_replies())


async def _reply(state: MessagesState, config: RunnableConfig) -> MessagesState:
    return {"messages": [await MODEL.ainvoke(state["messages"], config)]}


def _flow() -> Any:
    builder = StateGraph(State)
    builder.add_node("first", _stream)
    builder.add_node("ask", _ask("approve"))
    builder.add_node("last", _step("last"))
    builder.add_edge(START, "first")
    builder.add_edge("first", "ask")
    builder.add_edge("ask", "last")
    builder.add_edge("last", END)
    return builder


def _both() -> Any:
    builder = StateGraph(State)
    for name in ("left", "right"):
        builder.add_node(name, _ask(name))
        builder.add_edge(START, name)
    return builder


def _parent() -> Any:
    child = StateGraph(State)
    child.add_node("prepare", _step("prepared"))
    child.add_node("ask", _ask("inner"))
    child.add_edge(START, "prepare")
    child.add_edge("prepare", "ask")
    builder = StateGraph(State)
    builder.add_node("child", child.compile())
    builder.add_node("after", _step("after"))
    builder.add_edge(START, "child")
    builder.add_edge("child", "after")
    return builder


def _gated() -> Any:
    builder = StateGraph(State)
    builder.add_node("before", _step("before"))
    builder.add_node("slow", slow)
    builder.add_edge(START, "before")
    builder.add_edge("before", "slow")
    return builder


def _longer() -> Any:
    builder = _gated()
    builder.add_node("after", _step("after"))
    builder.add_edge("slow", "after")
    return builder


flow = _flow().compile(name="flow")
both = _both().compile(name="both")
parent = _parent().compile(name="parent")
gated = _gated().compile(name="gated")
longer = _longer().compile(name="longer")
notes = StateGraph(Notes).add_node("note", _note).add_edge(START, "note").compile(name="notes")
broken = StateGraph(State).add_node("fail", _fail).add_edge(START, "fail").compile(name="broken")
chat = StateGraph(MessagesState).add_node("reply", _reply).add_edge(START, "reply").compile()

BROKEN = "factory.broken"


def made(config: RunnableConfig) -> Any:
    """A factory, which the server calls for every access; fails while there is a file."""
    if (Path(os.environ[GATES]) / BROKEN).exists():
        raise RuntimeError("the factory is broken")
    return _flow().compile(name="made by a factory")


GRAPHS: dict[str, Any] = {
    "flow": flow,
    "both": both,
    "parent": parent,
    "gated": gated,
    "longer": longer,
    "broken": broken,
    "notes": notes,
    "made": made,
    # The only one without a name of its own.
    "chat": chat,
}
