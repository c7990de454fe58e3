"""Scenarios: what is not the same, and cannot be; explained in docs/differences.md."""

from __future__ import annotations

import contextvars
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.channels import UntrackedValue
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.runtime import RunControl, Runtime
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, interrupt

from langgraph_temporal_exec import StreamLostError
from tests.parity.scenarios.control import State
from tests.parity.stage import Stage, scenario

_user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


class Named(str):
    """A string of a class of its own."""


class Live:
    """An object that is at home in one process."""

    def __repr__(self) -> str:
        return "Live()"


def _one(checkpointer: Any, node: Any, schema: Any = State, **options: Any) -> Any:
    builder = StateGraph(schema).add_node("node", node).add_edge(START, "node")
    return builder.compile(checkpointer=checkpointer, **options)


def _raising(checkpointer: Any) -> Any:
    async def node(state: State) -> State:
        raise ValueError("no")

    return _one(checkpointer, node)


@scenario(_raising, differs={"remote": "note"})
async def traceback_in_a_note(s: Stage) -> None:
    try:
        await s.graph.ainvoke({"x": []}, s.config())
    except ValueError as exc:
        s.saw("type", type(exc))
        s.saw("note", [note.splitlines()[0] for note in exc.__notes__])


def _writing(checkpointer: Any) -> Any:
    async def node(state: State) -> State:
        get_stream_writer()(Named("a name"))
        return {"x": ["written"]}

    return _one(checkpointer, node)


@scenario(_writing, differs={"remote": "stream"})
async def subclasses_of_plain_types(s: Stage) -> None:
    await s.stream({"x": []}, stream_mode="custom")


def _storing(checkpointer: Any) -> Any:
    async def node(state: State, runtime: Runtime[Any]) -> State:
        assert runtime.store is not None
        await runtime.store.aput(("notes",), "key", {"kept": True})
        return {"x": ["stored"]}

    return _one(checkpointer, node, store=InMemoryStore())


@scenario(_storing, differs={"remote": "store"})
async def store_in_memory(s: Stage) -> None:
    await s.invoke({"x": []})
    found = await s.graph.store.aget(("notes",), "key")
    s.saw("store", found and found.value)


def _reading(checkpointer: Any) -> Any:
    async def node(state: State) -> State:
        return {"x": [_user.get() != "nobody"]}

    return _one(checkpointer, node)


@scenario(_reading, differs={"remote": "user"})
async def context_variables(s: Stage) -> None:
    _user.set("ann")
    result = await s.graph.ainvoke({"x": []}, {"configurable": {"thread_id": "differing"}})
    s.saw("user", result)


class WithLive(TypedDict, total=False):
    live: Annotated[Any, UntrackedValue]
    x: str


def _given(checkpointer: Any) -> Any:
    async def node(state: WithLive) -> WithLive:
        return {"x": repr(state.get("live"))}

    return _one(checkpointer, node, WithLive)


@scenario(_given, differs={"embedded": "given", "remote": "given"})
async def live_object_as_input(s: Stage) -> None:
    try:
        result = await s.graph.ainvoke({"live": Live()}, {"configurable": {"thread_id": "live"}})
        s.saw("given", result["x"])
    except TypeError as exc:
        s.saw("given", exc)


def _giving(checkpointer: Any) -> Any:
    async def node(state: WithLive) -> WithLive:
        return {"live": Live(), "x": "made"}

    return _one(checkpointer, node, WithLive)


@scenario(_giving, differs={"remote": "result"})
async def live_object_as_output(s: Stage) -> None:
    try:
        result = await s.graph.ainvoke({"x": "in"}, s.config())
        s.saw("result", type(result["live"]).__name__)
    except StreamLostError as exc:
        s.saw("result", type(exc).__name__)


def _plain(checkpointer: Any) -> Any:
    async def node(state: State, config: RunnableConfig) -> State:
        return {"x": ["done"]}

    return _one(checkpointer, node)


@scenario(_plain, differs={"embedded": "refused", "remote": "refused"})
async def call_without_a_thread(s: Stage) -> None:
    try:
        await s.graph.ainvoke({"x": []}, {"configurable": {}})
    except ValueError as exc:
        s.saw("refused", exc)


@scenario(_plain, differs={"remote": "controlled"}, compat=False)
async def call_with_a_control(s: Stage) -> None:
    try:
        config = {"configurable": {"thread_id": "controlled"}}
        s.saw("controlled", await s.graph.ainvoke({"x": []}, config, control=RunControl()))
    except Exception as exc:
        s.saw("controlled", exc)


def _asking_twice(checkpointer: Any) -> Any:
    async def node(state: State) -> State:
        return {"x": [interrupt("first?"), interrupt("second?")]}

    return _one(checkpointer, node)


@scenario(_asking_twice, differs={"embedded": "asked", "remote": "asked"})
async def consumed_answer(s: Stage) -> None:
    await s.graph.ainvoke({"x": []}, s.config())
    await s.graph.ainvoke(Command(resume="yes"), s.config())
    # In memory the node gets "yes" once more, as the answer to its second question.
    s.saw("asked", await s.graph.ainvoke(None, s.config()))
    # Where the threads are now is not the same either.
    await s.graph.checkpointer.adelete_thread(s.config()["configurable"]["thread_id"])
