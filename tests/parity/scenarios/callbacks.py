"""Scenarios: callback handlers of a call, of every kind, and what they are told."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import operator
import re
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

from langchain_core.callbacks import (
    AsyncCallbackHandler,
    AsyncCallbackManager,
    BaseCallbackHandler,
    StdOutCallbackHandler,
    UsageMetadataCallbackHandler,
    adispatch_custom_event,
    dispatch_custom_event,
    get_usage_metadata_callback,
)
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langchain_core.tracers import ConsoleCallbackHandler
from langchain_core.tracers.context import collect_runs
from langchain_core.tracers.schemas import Run
from langgraph.callbacks import GraphCallbackHandler, GraphInterruptEvent, GraphResumeEvent
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, interrupt

from tests.parity.normal import plain
from tests.parity.scenarios.fakes import Scripted, Turn
from tests.parity.stage import Stage, SyncStage, effect, scenario

EVENTS = [name for name in dir(BaseCallbackHandler) if name.startswith("on_")]


class Told:
    """What a handler was told, as it was then."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []

    def note(self, event: str, *args: Any, **kwargs: Any) -> None:
        self.told.append(plain([event, list(args), kwargs]))


def _telling(event: str) -> Callable[..., None]:
    def tell(self: Told, *args: Any, **kwargs: Any) -> None:
        self.note(event, *args, **kwargs)

    return functools.wraps(getattr(BaseCallbackHandler, event))(tell)


def _telling_later(event: str) -> Callable[..., Any]:
    async def tell(self: Told, *args: Any, **kwargs: Any) -> None:
        await asyncio.sleep(0)
        self.note(event, *args, **kwargs)

    return functools.wraps(getattr(BaseCallbackHandler, event))(tell)


Recorder: type[Any] = type(
    "Recorder", (Told, BaseCallbackHandler), {event: _telling(event) for event in EVENTS}
)
AsyncRecorder: type[Any] = type(
    "AsyncRecorder",
    (Told, AsyncCallbackHandler),
    {event: _telling_later(event) for event in EVENTS},
)


SCRIPTS: dict[str, list[Turn]] = {
    "add": [("let me see", [("add", {"a": 1, "b": 2})]), "it is three"],
    "fail": [[("add", {"a": 1, "b": -1})], "never said"],
    "break": [ConnectionError("the model is away")],
}


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    effect("add")
    if b < 0:
        raise ValueError("no negative numbers", b)
    return a + b


def _agent(checkpointer: Any, *, sync: bool = False) -> Any:
    model = Scripted(scripts=SCRIPTS).with_config(tags=["of the model"], run_name="thinker")

    async def chat(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    def chat_sync(state: MessagesState) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    async def check(state: MessagesState) -> Any:
        await adispatch_custom_event("checking", {"messages": len(state["messages"])})
        return {}

    def check_sync(state: MessagesState, config: RunnableConfig) -> Any:
        dispatch_custom_event("checking", ("sync", 1), config=config)
        return {}

    inner = (
        StateGraph(MessagesState)
        .add_node("chat", chat_sync if sync else chat)
        .add_node("tools", ToolNode([add], handle_tool_errors=False))
        .add_edge(START, "chat")
        .add_conditional_edges("chat", tools_condition)
        .add_edge("tools", "chat")
        .compile(name="inner")
    )
    return (
        StateGraph(MessagesState)
        .add_node("agent", inner)
        .add_node("check", check_sync if sync else check)
        .add_edge(START, "agent")
        .add_edge("agent", "check")
        .compile(checkpointer=checkpointer)
    )


ADD = {"messages": [("human", "add")]}


@scenario(_agent)
async def handlers_of_a_call(s: Stage) -> None:
    recorder, later = Recorder(), AsyncRecorder()
    config = {**s.config(), "callbacks": [recorder, later], "tags": ["of the call"]}
    await s.invoke(ADD, {**config, "metadata": {"user": "u"}, "run_name": "named"})
    s.saw("told", recorder.told)
    s.saw("told later", later.told)
    await s.stream(ADD, {**s.config("stream"), "callbacks": [recorder]}, stream_mode="messages")
    s.saw("told of a stream", recorder.told)


@scenario(functools.partial(_agent, sync=True))
def handlers_of_a_sync_call(s: SyncStage) -> None:
    recorder = Recorder()
    s.invoke(ADD, {**s.config(), "callbacks": [recorder]})
    s.stream(ADD, {**s.config("stream"), "callbacks": [recorder]}, stream_mode="messages")
    s.invoke({"messages": [("human", "fail")]}, {**s.config("fail"), "callbacks": [recorder]})
    s.saw("told", recorder.told)


@scenario(_agent)
async def handlers_of_failing_calls(s: Stage) -> None:
    for word in ("fail", "break"):
        recorder = Recorder()
        config = {**s.config(word), "callbacks": [recorder]}
        await s.invoke({"messages": [("human", word)]}, config)
        s.saw("told", recorder.told)


@scenario(_agent)
async def handlers_bound_and_around(s: Stage) -> None:
    bound, given, around = Recorder(), Recorder(), Recorder()
    graph = s.graph.with_config(callbacks=[bound], tags=["bound"])
    await graph.ainvoke(ADD, s.config("bound"))
    s.saw("told the bound one", bound.told)

    config = s.config("around")

    async def calls(given_input: Any) -> Any:
        return await graph.ainvoke(given_input, {**config, "callbacks": [given]})

    # Context variables carry the surrounding run; explicit callbacks take its place.
    await RunnableLambda(calls).ainvoke(ADD, {"callbacks": [around], "run_name": "outer"})
    s.saw("told all three", [bound.told[0], given.told, around.told])

    config = s.config("inherited")

    async def inherits(given_input: Any) -> Any:
        return await s.graph.ainvoke(given_input, config)

    around = Recorder()
    outer = {"callbacks": [around], "run_name": "outer", "metadata": {"of": "outer"}}
    await RunnableLambda(inherits).ainvoke(ADD, outer)
    s.saw("told the one around", around.told)


@scenario(_agent)
async def handlers_in_a_manager(s: Stage) -> None:
    inherited, local = Recorder(), Recorder()
    manager = AsyncCallbackManager(
        handlers=[local, inherited],
        inheritable_handlers=[inherited],
        # One tag: LangChain merges those of managers as a set, in no order.
        tags=["local"],
        inheritable_metadata={"by": "manager"},
    )
    await s.invoke(ADD, {**s.config(), "callbacks": manager})
    s.saw("told the inherited one", inherited.told)
    s.saw("told the local one", local.told)


class Picky(Recorder):
    """Declines most."""

    ignore_chain = True
    ignore_llm = True


class Raising(BaseCallbackHandler):
    """Without ``raise_error``: LangChain logs it."""

    def on_tool_start(self, serialized: Any, input_str: str, **kwargs: Any) -> None:
        raise LookupError("by the handler")


@scenario(_agent)
async def handlers_that_decline_or_raise(s: Stage) -> None:
    picky, after = Picky(), Recorder()
    await s.invoke(ADD, {**s.config(), "callbacks": [picky, Raising(), after]})
    s.saw("told the picky one", picky.told)
    s.saw("told the one after", after.told)


@scenario(_agent)
async def usage_of_models(s: Stage) -> None:
    handler = UsageMetadataCallbackHandler()
    await s.invoke(ADD, {**s.config(), "callbacks": [handler]})
    await s.invoke(ADD, {**s.config("another"), "callbacks": [handler]})
    s.saw("usage", handler.usage_metadata)
    with get_usage_metadata_callback() as around:
        await s.invoke(ADD, s.config("around"))
    s.saw("usage around", around.usage_metadata)


@scenario(_agent)
async def console_output(s: Stage) -> None:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        await s.invoke(ADD, {**s.config(), "callbacks": [ConsoleCallbackHandler()]})
        await s.invoke(ADD, {**s.config("plain"), "callbacks": [StdOutCallbackHandler()]})
    s.saw("printed", re.sub(r"\[(\d+ms|[.\d]+s)\]", "[<time>]", printed.getvalue()))


def _tree(run: Run) -> Any:
    return {
        "name": run.name,
        "type": run.run_type,
        "ids": [run.id, run.parent_run_id, run.trace_id],
        "told": [run.inputs, run.outputs, run.error and run.error.splitlines()[0]],
        "tags": run.tags,
        "metadata": (run.extra or {}).get("metadata"),
        "events": [event["name"] for event in run.events],
        "runs": [_tree(child) for child in run.child_runs],
    }


@scenario(_agent, differs={"remote": "runs"})
async def collected_runs(s: Stage) -> None:
    with collect_runs() as collected:
        await s.invoke(ADD)
        await s.invoke({"messages": [("human", "fail")]}, s.config("fail"))
    # First, so that ids get their numbers outside of what is known to differ.
    for thread in ("t", "fail"):
        await s.state(s.config(thread))
        await s.history(s.config(thread))
    s.saw("runs", [_tree(run) for run in collected.traced_runs])


class State(TypedDict, total=False):
    x: Annotated[list[Any], operator.add]


class OfGraphs(Told, GraphCallbackHandler):
    def on_interrupt(self, event: GraphInterruptEvent) -> None:
        self.note("on_interrupt", event)

    def on_resume(self, event: GraphResumeEvent) -> None:
        self.note("on_resume", event)

    def on_chain_end(self, outputs: Any, **kwargs: Any) -> None:
        self.note("on_chain_end", outputs, **kwargs)


class OfGraphsLater(Told, GraphCallbackHandler):
    async def on_interrupt(self, event: GraphInterruptEvent) -> None:
        await asyncio.sleep(0)
        self.note("on_interrupt", event)

    async def on_resume(self, event: GraphResumeEvent) -> None:
        await asyncio.sleep(0)
        self.note("on_resume", event)


def _asking(checkpointer: Any) -> Any:
    def before(state: State) -> State:
        return {"x": ["before"]}

    def ask(state: State) -> State:
        return {"x": [interrupt({"what": "?"})]}

    inner = StateGraph(State).add_node(ask).add_edge(START, "ask").compile()
    return (
        StateGraph(State)
        .add_node(before)
        .add_node("inner", inner)
        .add_edge(START, "before")
        .add_edge("before", "inner")
        .compile(checkpointer=checkpointer, interrupt_before=["before"])
    )


@scenario(_asking)
async def handlers_of_interrupts(s: Stage) -> None:
    handler, later = OfGraphs(), OfGraphsLater()
    config = {**s.config(), "callbacks": [handler, later]}
    await s.invoke({"x": ["in"]}, config)
    await s.invoke(None, config)
    await s.invoke(Command(resume="yes"), config)
    s.saw("told", handler.told)
    s.saw("told later", later.told)


@scenario(_asking)
def handlers_of_interrupts_in_sync_code(s: SyncStage) -> None:
    handler = OfGraphs()
    config = {**s.config(), "callbacks": [handler]}
    s.invoke({"x": ["in"]}, config)
    s.invoke(None, config)
    s.invoke(Command(resume="yes"), config)
    s.saw("told", handler.told)


class Counting(BaseCallbackHandler):
    """Of a part of the graph: works where the node works."""

    def __repr__(self) -> str:
        return "Counting()"

    def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
        effect("model started")

    def on_llm_end(self, response: Any, **kwargs: Any) -> None:
        effect("model ended")


def _own_handlers(checkpointer: Any) -> Any:
    model = Scripted(scripts={"hello": ["good day"]}, callbacks=[Counting()])

    async def speaks(state: MessagesState, config: RunnableConfig) -> Any:
        one = await model.ainvoke(state["messages"], {"run_name": "by context"})
        two = await model.ainvoke(state["messages"], {**config, "run_name": "by config"})
        await model.ainvoke(state["messages"], {"callbacks": [Counting()]})
        return {"messages": [one, two]}

    builder = StateGraph(MessagesState).add_node(speaks).add_edge(START, "speaks")
    return builder.compile(checkpointer=checkpointer)


@scenario(_own_handlers)
async def handlers_inside_and_outside(s: Stage) -> None:
    recorder = Recorder()
    await s.invoke({"messages": [("human", "hello")]}, {**s.config(), "callbacks": [recorder]})
    s.saw("told", recorder.told)
