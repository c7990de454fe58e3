"""Scenarios: every stream mode, alone and with others, from nested graphs, left early."""

from __future__ import annotations

import asyncio
import contextlib
import io
import operator
import time
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.message import push_message
from langgraph.graph.ui import AnyUIMessage, push_ui_message, ui_message_reducer
from langgraph.prebuilt import ToolNode, ToolRuntime, tools_condition
from langgraph.runtime import Runtime
from langgraph.types import Command, StreamWriter, interrupt
from pydantic import BaseModel

from tests.parity.scenarios.fakes import Scripted, Turn
from tests.parity.stage import Stage, effect, scenario

MODES = ["values", "updates", "messages", "custom", "tasks", "checkpoints", "debug", "tools"]


class State(TypedDict, total=False):
    x: Annotated[list[Any], operator.add]
    y: str


SCRIPTS: dict[str, list[Turn]] = {
    "add": [("let me see", [("add", {"a": 1, "b": 2})]), "it is three"],
    "fail": [[("add", {"a": 1, "b": -1})], "it did not work"],
}


@tool
async def add(a: int, b: int, runtime: ToolRuntime) -> ToolMessage:
    """Add two numbers."""
    effect("add")
    get_stream_writer()({"adding": [a, b]})
    runtime.emit_output_delta("so far: ")
    runtime.emit_output_delta({"a": a})
    if b < 0:
        raise ValueError("no negative numbers")
    # With an id: LangGraph would put one into the object that was streamed already.
    call_id = runtime.tool_call_id
    return ToolMessage(str(a + b), tool_call_id=call_id, id=f"of {call_id}", artifact=a + b)


def _agent(checkpointer: Any) -> Any:
    model = Scripted(scripts=SCRIPTS)

    async def chat(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    return (
        StateGraph(MessagesState)
        .add_node("chat", chat)
        .add_node("tools", ToolNode([add], handle_tool_errors=True))
        .add_edge(START, "chat")
        .add_conditional_edges("chat", tools_condition)
        .add_edge("tools", "chat")
        .compile(checkpointer=checkpointer)
    )


@scenario(_agent)
async def every_stream_mode_of_an_agent(s: Stage) -> None:
    for mode in MODES:
        await s.stream({"messages": [("human", "add")]}, s.config(mode), stream_mode=mode)
    await s.stream({"messages": [("human", "fail")]}, stream_mode=["tools", "custom", "messages"])
    await s.stream({"messages": [("human", "add again")]}, s.config("default"))


@scenario(_agent)
async def all_stream_modes_at_once(s: Stage) -> None:
    question = {"messages": [("human", "add")]}
    await s.stream(question, s.config("v1"), stream_mode=MODES)
    await s.stream(question, s.config("v2"), stream_mode=MODES, version="v2")
    await s.stream(question, s.config("nested"), stream_mode=MODES, subgraphs=True)
    await s.stream(question, s.config("none"), stream_mode=[])
    await s.stream(question, s.config("unnamed"), stream_mode=("values", "updates"))


def _nested(checkpointer: Any) -> Any:
    model = Scripted(scripts={"hello": ["good day to you", "and again"]}, label="inner")
    tagged = model.with_config(tags=["loud"], run_name="speaker")
    silent = model.with_config(tags=["nostream"])

    async def speak(state: MessagesState) -> Any:
        get_stream_writer()("inner speaks")
        return {"messages": [await tagged.ainvoke(state["messages"])]}

    async def think(state: MessagesState) -> Any:
        # Neither its tokens nor the message: it is not in the state.
        answer = await silent.ainvoke(state["messages"][:1])
        return {"messages": [HumanMessage(f"thought: {answer.text}", id="thought")]}

    inner = StateGraph(MessagesState).add_sequence([speak, think]).add_edge(START, "speak")

    async def greet(state: MessagesState) -> Any:
        get_stream_writer()("outer greets")
        return {"messages": [AIMessage("a greeting of the outer graph", id="greeting")]}

    return (
        StateGraph(MessagesState)
        .add_node("inner", inner.compile())
        .add_node("greet", greet)
        .add_edge(START, "inner")
        .add_edge("inner", "greet")
        .compile(checkpointer=checkpointer)
    )


@scenario(_nested)
async def stream_of_a_subgraph(s: Stage) -> None:
    hello = {"messages": [("human", "hello")]}
    for mode in ("messages", "custom", "updates"):
        await s.stream(hello, s.config(mode), stream_mode=mode)
        await s.stream(hello, s.config(f"{mode} nested"), stream_mode=mode, subgraphs=True)
    options = {"stream_mode": MODES, "subgraphs": True, "version": "v2"}
    await s.stream(hello, s.config("all"), **options)


def _writers(checkpointer: Any) -> Any:
    async def by_function(state: State) -> State:
        write = get_stream_writer()
        write("by_function 1")
        await asyncio.sleep(0.1)
        write({"by_function": 2, "bytes": b"\x00"})
        return {"x": ["by_function"]}

    async def by_runtime(state: State, runtime: Runtime[None]) -> State:
        await asyncio.sleep(0.4)
        runtime.stream_writer(("by", "runtime"))
        return {"x": ["by_runtime"]}

    def by_argument(state: State, writer: StreamWriter) -> State:
        time.sleep(0.8)
        for i in range(3):
            writer([i, None])
        return {"x": ["by_argument"]}

    def last(state: State) -> State:
        get_stream_writer()(AIMessage("an object", id="m"))
        return {}

    builder = StateGraph(State).add_node(last)
    for node in (by_function, by_runtime, by_argument):
        builder.add_node(node).add_edge(START, node.__name__).add_edge(node.__name__, "last")
    return builder.compile(checkpointer=checkpointer)


@scenario(_writers)
async def custom_chunks_of_parallel_nodes(s: Stage) -> None:
    await s.stream({"x": []}, stream_mode="custom")
    await s.stream({"x": []}, stream_mode=["custom", "updates"], version="v2")
    # Writers do nothing when nobody listens.
    await s.stream({"x": []}, stream_mode="updates")


def _keys(checkpointer: Any) -> Any:
    async def first(state: State) -> State:
        return {"x": ["first"], "y": "one"}

    async def second(state: State) -> State:
        return {"x": [interrupt("q")]}

    builder = StateGraph(State).add_sequence([first, second]).add_edge(START, "first")
    return builder.compile(checkpointer=checkpointer)


@scenario(_keys)
async def output_keys(s: Stage) -> None:
    modes = ["values", "updates", "debug"]
    await s.stream({"x": ["in"]}, s.config("one"), stream_mode=modes, output_keys="y")
    await s.invoke(Command(resume=1), s.config("one"), output_keys="x")
    await s.stream({"x": ["in"]}, s.config("list"), stream_mode=modes, output_keys=["y"])
    await s.invoke(Command(resume=1), s.config("list"), output_keys=["x"])
    await s.invoke({"x": ["in"]}, s.config("none"), output_keys=[])
    await s.invoke({"x": ["in"]}, s.config("wrong"), output_keys="nothing")


@scenario(_keys)
async def invoke_with_stream_modes(s: Stage) -> None:
    for mode in ("updates", ["values", "updates"], "checkpoints"):
        await s.invoke({"x": ["in"]}, s.config(str(mode)), stream_mode=mode)
        await s.invoke(Command(resume=1), s.config(str(mode)), stream_mode=mode, version="v2")
    await s.invoke({"x": ["in"]}, s.config("v2"), version="v2")
    await s.invoke(Command(resume=1), s.config("v2"), version="v2")


class Model(BaseModel):
    count: int = 0
    label: str = ""


def _models(checkpointer: Any) -> Any:
    async def one(state: Model) -> Any:
        return {"count": state.count + 1}

    async def two(state: Model) -> Any:
        return {"label": f"{interrupt('label?')} {state.count}"}

    builder = StateGraph(Model).add_sequence([one, two]).add_edge(START, "one")
    return builder.compile(checkpointer=checkpointer)


@scenario(_models)
async def version_2_coerces_to_the_state_class(s: Stage) -> None:
    modes = ["values", "updates", "tasks", "checkpoints", "debug"]
    await s.stream(Model(count=1), stream_mode=modes, version="v2")
    await s.stream(Command(resume="label"), stream_mode=modes, version="v2")
    await s.invoke({"count": "2"}, s.config("another"), version="v2")
    await s.invoke(Command(resume="label"), s.config("another"), version="v2")
    await s.invoke({"count": "x"}, s.config("wrong"), version="v2")


def _printing(checkpointer: Any) -> Any:
    async def one(state: State) -> State:
        return {"x": [1]}

    builder = StateGraph(State).add_node(one).add_edge(START, "one")
    return builder.compile(checkpointer=checkpointer)


@scenario(_printing, differs={"remote": "printed"})
async def print_mode(s: Stage) -> None:
    for options in ({"print_mode": "updates"}, {"print_mode": ["values"]}, {"debug": True}):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            await s.stream({"x": ["in"]}, stream_mode="values", **options)
        s.saw("printed", printed.getvalue())


def _pushing(checkpointer: Any) -> Any:
    class WithUI(MessagesState, total=False):
        ui: Annotated[list[AnyUIMessage], ui_message_reducer]

    async def pushes(state: WithUI) -> Any:
        push_message(AIMessage("pushed", id="pushed"))
        push_message(AIMessage("not in the state", id="aside"), state_key=None)
        shown = push_ui_message("chart", {"points": [1, 2]}, id="ui")
        push_ui_message("chart", {"title": "t"}, id="ui", merge=True)
        return {"messages": [AIMessage(f"showed {shown['name']}", id="returned")]}

    builder = StateGraph(WithUI).add_node(pushes).add_edge(START, "pushes")
    return builder.compile(checkpointer=checkpointer)


@scenario(_pushing)
async def pushed_messages(s: Stage) -> None:
    modes = ["messages", "custom", "updates", "values"]
    await s.stream({"messages": [("human", "in")]}, stream_mode=modes)


def _inside(checkpointer: Any) -> Any:
    model = Scripted(scripts={"hello": ["good day"]}, label="inside")

    async def leaf(state: MessagesState) -> Any:
        get_stream_writer()("leaf")
        return {"messages": [await model.ainvoke(state["messages"])]}

    inner = StateGraph(MessagesState).add_node(leaf).add_edge(START, "leaf").compile()

    async def forwards(state: MessagesState) -> Any:
        write = get_stream_writer()
        async for mode, chunk in inner.astream(state, stream_mode=["custom", "updates"]):
            write([mode, list(chunk) if mode == "updates" else chunk])
        async for token in model.astream(state["messages"][:1]):
            write(str(token.text))
        return {"messages": [AIMessage("done", id="done")]}

    builder = StateGraph(MessagesState).add_node(forwards).add_edge(START, "forwards")
    return builder.compile(checkpointer=checkpointer)


@scenario(_inside)
async def node_streams_another_graph(s: Stage) -> None:
    hello = {"messages": [("human", "hello")]}
    await s.stream(hello, s.config("custom"), stream_mode=["custom", "messages"])
    await s.stream(hello, s.config("nested"), stream_mode=MODES, subgraphs=True)


def _stops(checkpointer: Any) -> Any:
    async def before(state: State) -> State:
        effect("before")
        return {"x": ["before"]}

    async def waits(state: State) -> State:
        count = effect("waits")
        get_stream_writer()("waiting")
        if count == 1:
            await asyncio.sleep(60)
        return {"x": [f"waits {count}"]}

    async def after(state: State) -> State:
        effect("after")
        return {"x": ["after"]}

    nodes = [before, waits, after]
    builder = StateGraph(State).add_sequence(nodes).add_edge(START, "before")
    return builder.compile(checkpointer=checkpointer)


@scenario(_stops)
async def stream_left_early_then_continued(s: Stage) -> None:
    stream = s.graph.astream({"x": ["in"]}, s.config(), stream_mode=["updates", "custom"])
    async with contextlib.aclosing(stream), asyncio.timeout(30):
        async for chunk in stream:
            s.saw("chunk", chunk)
            if chunk == ("custom", "waiting"):
                break
    await s.state()
    await s.stream(None, stream_mode=["values", "updates", "custom"])


@scenario(_stops)
async def stream_left_early_then_new_input(s: Stage) -> None:
    stream = s.graph.astream({"x": ["in"]}, s.config(), stream_mode="custom")
    async with contextlib.aclosing(stream), asyncio.timeout(30):
        s.saw("first", await anext(stream))
    await s.invoke({"x": ["more"]})


@scenario(_stops)
async def cancelled_call_then_continued(s: Stage) -> None:
    waiting = asyncio.Event()

    async def consume() -> None:
        async for _ in s.graph.astream({"x": ["in"]}, s.config(), stream_mode="custom"):
            waiting.set()

    call = asyncio.create_task(consume())
    async with asyncio.timeout(30):
        await waiting.wait()
    call.cancel()
    try:
        await call
    except asyncio.CancelledError as exc:
        s.saw("cancelled", exc.args)
    await s.state()
    await s.invoke(None)


class Named(str):
    """A string of a class of its own."""


def _naming(checkpointer: Any) -> Any:
    async def node(state: MessagesState) -> dict[str, Any]:
        get_stream_writer()([Named("a name"), {Named("key"): 1}])
        return {}

    builder = StateGraph(MessagesState).add_node("node", node).add_edge(START, "node")
    return builder.compile(checkpointer=checkpointer)


@scenario(_naming)
async def subclasses_of_plain_types(s: Stage) -> None:
    await s.stream({"messages": []}, stream_mode="custom")
