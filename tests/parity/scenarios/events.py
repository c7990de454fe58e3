"""Scenarios: ``astream_events`` of versions 1 and 2, ``astream_log``, and typed event streaming."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any, TypedDict

from langchain_core.callbacks import adispatch_custom_event
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.stream import (
    CheckpointsTransformer,
    CustomTransformer,
    DebugTransformer,
    ProtocolEvent,
    StreamChannel,
    StreamTransformer,
    TasksTransformer,
    UpdatesTransformer,
)
from langgraph.types import Command, interrupt

from tests.parity.normal import plain
from tests.parity.scenarios.fakes import Scripted, Turn
from tests.parity.stage import Stage, SyncStage, effect, scenario

ALL = [
    UpdatesTransformer,
    CustomTransformer,
    TasksTransformer,
    CheckpointsTransformer,
    DebugTransformer,
]

SCRIPTS: dict[str, list[Turn]] = {
    "add": [("let me see", [("add", {"a": 1, "b": 2})]), "it is three"],
    "fail": [[("add", {"a": 1, "b": -1})], "never said"],
}


@tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    effect("add")
    if b < 0:
        raise ValueError("no negative numbers", b)
    return a + b


class State(TypedDict, total=False):
    x: Annotated[list[Any], operator.add]


def _agent(checkpointer: Any) -> Any:
    model = Scripted(scripts=SCRIPTS).with_config(tags=["of the model"], run_name="thinker")

    async def chat(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    def route(state: MessagesState) -> str:
        return tools_condition(state)

    async def check(state: MessagesState) -> Any:
        await adispatch_custom_event("checking", {"messages": len(state["messages"])})
        return {}

    inner = (
        StateGraph(MessagesState)
        .add_node("chat", chat)
        .add_node("tools", ToolNode([add], handle_tool_errors=False))
        .add_edge(START, "chat")
        .add_conditional_edges("chat", route, {"tools": "tools", "__end__": "__end__"})
        .add_edge("tools", "chat")
        .compile(name="inner")
    )
    return (
        StateGraph(MessagesState)
        .add_node("agent", inner)
        .add_node("check", check)
        .add_edge(START, "agent")
        .add_edge("agent", "check")
        .compile(checkpointer=checkpointer)
    )


@scenario(_agent)
async def events_of_an_agent(s: Stage) -> None:
    question = {"messages": [HumanMessage("add", id="q")]}
    config = {**s.config(), "tags": ["of the call"], "metadata": {"user": "u"}, "run_name": "r"}
    await s.events(question, config, version="v2")
    await s.events({"messages": [("human", "add again")]}, version="v2")


@scenario(_agent)
async def filtered_events(s: Stage) -> None:
    question = {"messages": [("human", "add")]}
    for part in (
        {"include_types": ["chat_model", "tool"]},
        {"include_names": ["thinker", "add"]},
        {"include_tags": ["of the model"], "exclude_types": ["chat_model"]},
        {"exclude_names": ["chat", "tools"], "exclude_tags": ["seq:step:1"]},
    ):
        await s.events(question, s.config(", ".join(part)), version="v2", **part)


@scenario(_agent)
async def events_up_to_an_error(s: Stage) -> None:
    await s.events({"messages": [("human", "fail")]}, version="v2")


@scenario(_agent)
async def events_of_version_1_and_log(s: Stage) -> None:
    question = {"messages": [("human", "add")]}
    await s.events(question, s.config("v1"), version="v1")
    patches = []
    async for patch in s.graph.astream_log(question, s.config("log"), include_types=["tool"]):
        patches.append([op for op in plain(patch.ops) if not op["path"].endswith("end_time")])
    s.saw("log", patches)


def _asking(checkpointer: Any) -> Any:
    async def prepare(state: State) -> State:
        return {"x": ["prepared"]}

    async def ask(state: State) -> State:
        get_stream_writer()("asking")
        return {"x": [interrupt("question")]}

    inner = StateGraph(State).add_node(ask).add_edge(START, "ask").compile(name="asking")
    return (
        StateGraph(State)
        .add_node(prepare)
        .add_node("inner", inner)
        .add_edge(START, "prepare")
        .add_edge("prepare", "inner")
        .compile(checkpointer=checkpointer, interrupt_before=["prepare"])
    )


@scenario(_asking)
async def events_around_interrupts(s: Stage) -> None:
    await s.events({"x": ["in"]}, version="v2")
    await s.events(None, version="v2", stream_mode="updates", subgraphs=True)
    await s.events(Command(resume="yes"), version="v2", stream_mode=["values", "custom"])


def _plain_event(event: ProtocolEvent) -> dict[str, Any]:
    """An event without its time."""
    params = {k: v for k, v in event["params"].items() if k != "timestamp"}
    return {**event, "params": params}


async def _said(message: Any) -> Any:
    """All that a stream of one message tells."""
    text = [delta async for delta in message.text]
    whole = await message.output
    return [message.node, message.message_id, text, await message.tool_calls, whole]


@scenario(_agent)
async def typed_events(s: Stage) -> None:
    question = {"messages": [("human", "add")]}
    run = await s.graph.astream_events(question, s.config(), version="v3")
    s.saw("projections", sorted(run.extensions))
    s.saw("events", [_plain_event(event) async for event in run])
    s.saw("output", await run.output())
    s.saw("interrupted", [await run.interrupted(), await run.interrupts()])


@scenario(_agent)
async def projections_of_typed_events(s: Stage) -> None:
    question = {"messages": [("human", "add")]}
    run = await s.graph.astream_events(question, s.config(), version="v3", transformers=ALL)
    told: dict[str, list[Any]] = {}

    async def read(name: str) -> None:
        told[name] = [item async for item in run.extensions[name]]

    async def read_subgraphs() -> None:
        told["subgraphs"] = []
        async for handle in run.subgraphs:
            inner: dict[str, Any] = {"name": handle.graph_name, "path": handle.path}
            told["subgraphs"].append(inner)
            inner["messages"] = [await _said(message) async for message in handle.messages]
            inner["output"] = await handle.output()
            inner["ended"] = [handle.status, handle.error]

    names = ["values", "lifecycle", "updates", "custom", "tasks", "checkpoints", "debug"]
    async with asyncio.timeout(30):
        await asyncio.gather(read_subgraphs(), *map(read, names))
    for name in ("subgraphs", *names):
        s.saw(name, told[name])
    s.saw("output", await run.output())


def _speaking(checkpointer: Any) -> Any:
    model = Scripted(scripts={"hello": ["good day to you"], "add": SCRIPTS["add"]})

    async def speak(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    def echo(state: MessagesState) -> Any:
        return {"messages": [("ai", f"echo of {state['messages'][-1].text}")]}

    builder = StateGraph(MessagesState).add_sequence([speak, echo]).add_edge(START, "speak")
    return builder.compile(checkpointer=checkpointer)


@scenario(_speaking)
async def messages_of_typed_events(s: Stage) -> None:
    for word in ("hello", "add"):
        question = {"messages": [("human", word)]}
        run = await s.graph.astream_events(question, s.config(word), version="v3")
        s.saw("messages", [await _said(message) async for message in run.messages])
        s.saw("output", await run.output())
    # Beside the v3 stream the plain one stays what it is.
    await s.stream({"messages": [("human", "hello")]}, stream_mode="messages")


@scenario(_asking)
async def typed_events_around_interrupts(s: Stage) -> None:
    for given in ({"x": ["in"]}, None, Command(resume="yes")):
        run = await s.graph.astream_events(
            given, s.config(), version="v3", transformers=[UpdatesTransformer, CustomTransformer]
        )
        s.saw("events", [_plain_event(event) async for event in run])
        s.saw("output", await run.output())
        s.saw("interrupts", [await run.interrupted(), await run.interrupts()])


@scenario(_agent)
async def typed_events_up_to_an_error(s: Stage) -> None:
    question = {"messages": [("human", "fail")]}
    run = await s.graph.astream_events(question, s.config(), version="v3")
    lifecycle = []
    try:
        async for payload in run.lifecycle:
            lifecycle.append(payload)
    except ValueError as exc:
        s.saw("raised", exc)
    s.saw("lifecycle", lifecycle)
    try:
        await run.output()
    except ValueError as exc:
        s.saw("raised again", exc)


class Counting(StreamTransformer):
    """A projection of the user's own."""

    required_stream_modes = ("updates",)

    def __init__(self, scope: tuple[str, ...] = ()) -> None:
        super().__init__(scope)
        self._log: StreamChannel[int] = StreamChannel("count")
        self._count = 0

    def init(self) -> dict[str, Any]:
        return {"count": self._log}

    def process(self, event: ProtocolEvent) -> bool:
        if event["method"] == "updates":
            self._count += 1
            self._log.push(self._count)
        return True


def _own(checkpointer: Any) -> Any:
    async def one(state: State) -> State:
        return {"x": [effect("one")]}

    async def waits(state: State) -> State:
        count = effect("waits")
        get_stream_writer()("waiting")
        if count == 1:
            await asyncio.sleep(60)
        return {"x": ["waited"]}

    builder = StateGraph(State).add_sequence([one, waits]).add_edge(START, "one")
    return builder.compile(checkpointer=checkpointer, transformers=[Counting])


@scenario(_own)
async def typed_events_aborted_then_continued(s: Stage) -> None:
    async with (
        asyncio.timeout(30),
        await s.graph.astream_events(
            {"x": ["in"]}, s.config(), version="v3", transformers=[CustomTransformer]
        ) as run,
    ):
        async for event in run:
            s.saw("event", _plain_event(event))
            if event["params"]["data"] == "waiting":
                break
    await s.state()
    run = await s.graph.astream_events(None, s.config(), version="v3")
    s.saw("events", [_plain_event(event) async for event in run])


def _from_sync_code(checkpointer: Any) -> Any:
    model = Scripted(scripts={"hello": ["good day to you"]})

    def speak(state: MessagesState) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    def ask(state: MessagesState) -> Any:
        return {"messages": [("ai", interrupt("what?"))]}

    inner = StateGraph(MessagesState).add_node(ask).add_edge(START, "ask").compile()
    return (
        StateGraph(MessagesState)
        .add_node(speak)
        .add_node("inner", inner)
        .add_edge(START, "speak")
        .add_edge("speak", "inner")
        .compile(checkpointer=checkpointer)
    )


@scenario(_from_sync_code)
def typed_events_from_sync_code(s: SyncStage) -> None:
    run = s.graph.stream_events({"messages": [("human", "hello")]}, s.config(), version="v3")
    for name, item in run.interleave("values", "messages", "lifecycle"):
        if name == "messages":
            item = [item.node, list(item.text), item.output]
        s.saw(name, item)
    s.saw("output", [run.output, run.interrupted, run.interrupts])
    run = s.graph.stream_events(Command(resume="this"), s.config(), version="v3")
    s.saw("events", [_plain_event(event) for event in run])
