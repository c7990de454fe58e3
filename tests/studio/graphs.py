"""Graphs of the studio tests, served by a real `langgraph dev` and called by plain scripts."""

from __future__ import annotations

import asyncio
import operator
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
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


LOOKUP_S = 1.2
"""How long the sub-agent of ``researcher`` takes at least."""


class Findings(TypedDict, total=False):
    """Channels the agent around it does not have; one is rebuilt from writes."""

    topic: str
    findings: Annotated[list[str], DeltaChannel(_extended, snapshot_frequency=1_000)]


async def _look_up(state: Findings) -> Findings:
    await asyncio.sleep(LOOKUP_S)
    return {"findings": [f"a book on {state['topic']}"]}


async def _read(state: Findings) -> Findings:
    return {"findings": [f"notes from {state['findings'][-1]}"]}


_sub_agent = (
    StateGraph(Findings)
    .add_sequence([("look_up", _look_up), ("read", _read)])
    .add_edge(START, "look_up")
    .compile(name="sub-agent")
)


@tool
async def research(topic: str, config: RunnableConfig) -> str:
    """Ask the sub-agent."""
    found = await _sub_agent.ainvoke({"topic": topic}, config)
    return str(found["findings"][-1])


class _Researcher(BaseChatModel):
    """Calls the tool once, and answers with what it returned."""

    @property
    def _llm_type(self) -> str:
        return "researcher"

    def bind_tools(self, tools: Any, **_: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        last = messages[-1]
        if last.type == "tool":
            message = AIMessage(last.content)
        else:
            calls = [{"name": "research", "args": {"topic": last.content}, "id": "call"}]
            message = AIMessage("", tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=message)])


class Order(TypedDict, total=False):
    boxes: int


async def _count(state: Order) -> Order:
    return {"boxes": 1 + interrupt("how many boxes?")}


flow = _flow().compile(name="flow")
both = _both().compile(name="both")
parent = _parent().compile(name="parent")
gated = _gated().compile(name="gated")
longer = _longer().compile(name="longer")
notes = StateGraph(Notes).add_node("note", _note).add_edge(START, "note").compile(name="notes")
broken = StateGraph(State).add_node("fail", _fail).add_edge(START, "fail").compile(name="broken")
chat = StateGraph(MessagesState).add_node("reply", _reply).add_edge(START, "reply").compile()
researcher = create_agent(_Researcher(), [research], name="researcher")
counted = (
    StateGraph(Order).add_node("count", _count).add_edge(START, "count").compile(name="counted")
)

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
    "researcher": researcher,
    "counted": counted,
    # The only one without a name of its own.
    "chat": chat,
}
