"""Scenarios: what is not the same, and cannot be; explained in docs/reference/differences.md."""

from __future__ import annotations

import contextvars
import importlib
import threading
from collections import defaultdict
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.channels import UntrackedValue
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.runtime import RunControl, Runtime
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, interrupt
from pydantic import BaseModel, Field, PrivateAttr

from langgraph_temporal_exec import StreamLostError
from tests.parity.scenarios.control import State
from tests.parity.stage import Stage, scenario

_user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


class Careful(BaseModel):
    """Parts of it are not for others: one is kept out of dumps, one is at home in one process."""

    name: str
    token: str = Field(default="", exclude=True)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)


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


def _keeping(checkpointer: Any) -> Any:
    async def node(state: State) -> State:
        write = get_stream_writer()
        write(Careful(name="n", token="secret"))
        write(defaultdict(lambda: 1, {"a": 2}))
        return {"x": ["written"]}

    return _one(checkpointer, node)


@scenario(_keeping, differs={"remote": "stream"})
async def parts_that_stay_behind(s: Stage) -> None:
    await s.stream({"x": []}, stream_mode="custom")


def _local(checkpointer: Any) -> Any:
    @dataclass
    class Local:
        n: int

    async def node(state: State) -> State:
        get_stream_writer()(Local(1))
        return {"x": ["written"]}

    return _one(checkpointer, node)


@scenario(_local, differs={"remote": "stream"})
async def classes_of_functions(s: Stage) -> None:
    await s.stream({"x": []}, stream_mode="custom")


class WithAny(TypedDict, total=False):
    value: Any


def _pointing(checkpointer: Any) -> Any:
    async def node(state: WithAny) -> WithAny:
        numpy = importlib.import_module("numpy")
        return {"value": numpy.array([1, "a"], dtype=object)}

    async def reader(state: WithAny) -> WithAny:
        return {}

    builder = StateGraph(WithAny).add_sequence([("node", node), ("reader", reader)])
    return builder.add_edge(START, "node").compile(checkpointer=checkpointer)


@scenario(_pointing, differs={"embedded": "read", "remote": "read"}, compat=False)
async def array_of_objects(s: Stage) -> None:
    config: Any = {"configurable": {"thread_id": "pointing"}}
    try:
        await s.graph.ainvoke({"value": 0}, config)
        s.saw("read", (await s.graph.aget_state(config)).values)
    except TypeError as exc:
        s.saw("read", type(exc).__name__)


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


@scenario(_giving, differs={"remote": "result"}, placeable=False)
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


class Leaves(BaseException):
    """What no ``except Exception`` catches."""


def _leaving(checkpointer: Any) -> Any:
    async def node(state: State) -> State:
        raise Leaves("out")

    return _one(checkpointer, node)


@scenario(_leaving, differs={"embedded": "raised", "remote": "raised"})
async def node_that_exits(s: Stage) -> None:
    try:
        await s.graph.ainvoke({"x": []}, s.config())
    except BaseException as exc:
        s.saw("raised", type(exc))
    state = await s.graph.aget_state(s.config())
    s.saw("next", state.next)
    # Its state has an error here, and none in memory: as much as what was raised.
    await s.graph.checkpointer.adelete_thread(s.config()["configurable"]["thread_id"])


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
    s.saw("asked", await s.graph.ainvoke(Command(resume={}), s.config()))
    # Where the threads are now is not the same either.
    await s.graph.checkpointer.adelete_thread(s.config()["configurable"]["thread_id"])
