"""Scenarios: what nodes raise, where they raise it, and what can be done after it."""

from __future__ import annotations

import asyncio
import errno
import functools
import operator
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.tools import ToolException, tool
from langgraph.errors import GraphBubbleUp, InvalidUpdateError
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, Send
from pydantic import BaseModel, Field, ValidationError, field_validator

from tests.parity.scenarios.fakes import Scripted
from tests.parity.stage import Stage, SyncStage, effect, scenario


class State(TypedDict, total=False):
    kind: str
    x: Annotated[list[Any], operator.add]


class KeywordOnlyError(Exception):
    def __init__(self, *, code: int, reason: str) -> None:
        super().__init__(f"{reason} ({code})")
        self.code = code
        self.reason = reason


class PositionalError(RuntimeError):
    """Its arguments are not those of its base class."""

    def __init__(self, name: str, limits: tuple[int, int], extra: dict[str, Any]) -> None:
        super().__init__(f"{name} is not within {limits}")
        self.name = name
        self.limits = limits
        self.extra = extra


class WithTextError(ValueError):
    def __str__(self) -> str:
        return f"text of its own: {self.args[0]}"


class SlottedError(Exception):
    __slots__ = ("where",)

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where


class Wrapped(BaseModel):
    amount: int = Field(gt=0)
    even: int = 0

    @field_validator("even")
    @classmethod
    def is_even(cls, even: int) -> int:
        if even % 2:
            raise ValueError("odd")
        return even


def _raise_attributes() -> None:
    exc = ValueError("with attributes", {"a": (1, 2)}, ("x", b"y"), None)
    exc.status = 404
    exc.headers = {"retry": [1, 2.5]}
    raise exc


def _raise_noted() -> None:
    try:
        raise LookupError("the cause", 1)
    except LookupError as cause:
        exc = RuntimeError("the effect")
        exc.add_note("a note")
        exc.add_note("another\nnote")
        raise exc from cause


def _raise_group() -> None:
    members = [ValueError("one", 1), ExceptionGroup("inner", [KeyError("two"), OSError(5, "io")])]
    raise ExceptionGroup("a group", members)


def _raise(exc: Exception) -> None:
    raise exc


RAISES: dict[str, Any] = {
    "key": lambda: {}["missing"],
    "index": lambda: [][0],
    "division": lambda: 1 / 0,
    "type": lambda: len(None),
    "attribute": lambda: Path().nothing,
    "import": lambda: __import__("no_such_module"),
    "assertion": lambda: _raise(AssertionError()),
    "not implemented": lambda: _raise(NotImplementedError),
    "stop": lambda: _raise(StopAsyncIteration("stop")),
    "timeout": lambda: _raise(TimeoutError("too late")),
    "unicode": lambda: b"\xff".decode(),
    "file": lambda: Path("/no/such/file").read_text(),
    "os": lambda: _raise(OSError(errno.EACCES, "not allowed", "a.txt", None, "b.txt")),
    "many arguments": lambda: _raise(ValueError(1, "two", [3], {"four": 4}, (5,), None, b"7")),
    "object as argument": lambda: _raise(ValueError(Path("a/b"), {1, 2})),
    "attributes": _raise_attributes,
    "keyword only": lambda: _raise(KeywordOnlyError(code=7, reason="because")),
    "positional": lambda: _raise(PositionalError("n", (1, 2), {"k": [1]})),
    "text": lambda: _raise(WithTextError("t")),
    "slots": lambda: _raise(SlottedError("there")),
    "noted": _raise_noted,
    "group": _raise_group,
    "validation": lambda: Wrapped(amount=-1),
    "conversion": lambda: Wrapped.model_validate({"amount": "x", "even": 3}),
    "bubble": lambda: _raise(GraphBubbleUp("not an interrupt")),
}


def _raising(checkpointer: Any, *, sync: bool = False) -> Any:
    def raises_sync(state: State) -> State:
        effect(state["kind"])
        RAISES[state["kind"]]()
        return {}

    async def raises_async(state: State) -> State:
        return raises_sync(state)

    raises = raises_sync if sync else raises_async
    builder = StateGraph(State).add_node("raises", raises).add_edge(START, "raises")
    return builder.compile(checkpointer=checkpointer)


@scenario(_raising)
async def builtin_errors(s: Stage) -> None:
    kinds = ["key", "index", "division", "type", "assertion", "not implemented", "stop", "timeout"]
    for kind in (*kinds, "many arguments"):
        await s.invoke({"kind": kind}, s.config(kind))


@scenario(_raising)
async def builtin_errors_with_members(s: Stage) -> None:
    for kind in ("attribute", "import", "unicode"):
        await s.invoke({"kind": kind}, s.config(kind))


@scenario(_raising)
async def errors_of_files(s: Stage) -> None:
    for kind in ("file", "os"):
        config = s.config(kind)
        await s.invoke({"kind": kind}, config)
        try:
            await s.graph.ainvoke({"kind": kind}, config)
        except OSError as exc:
            s.saw("members", [exc.errno, exc.strerror, exc.filename, exc.filename2])


@scenario(_raising, differs={"remote": "invoke"})
async def object_as_argument_of_an_error(s: Stage) -> None:
    await s.invoke({"kind": "object as argument"})


@scenario(_raising)
async def errors_of_own_classes(s: Stage) -> None:
    for kind in ("keyword only", "positional", "text", "attributes"):
        await s.invoke({"kind": kind}, s.config(kind))


@scenario(_raising)
async def error_with_slots(s: Stage) -> None:
    try:
        await s.graph.ainvoke({"kind": "slots"}, s.config())
    except SlottedError as exc:
        s.saw("where", getattr(exc, "where", None))


@scenario(_raising)
async def error_with_a_cause(s: Stage) -> None:
    try:
        await s.graph.ainvoke({"kind": "noted"}, s.config())
    except RuntimeError as exc:
        s.saw("error", exc)
        s.saw("cause", exc.__cause__)
        s.saw("suppressed", exc.__suppress_context__)


@scenario(_raising)
async def group_of_errors(s: Stage) -> None:
    try:
        await s.graph.ainvoke({"kind": "group"}, s.config())
    except* ValueError as group:
        s.saw("values", [group, group.exceptions])
    except* (KeyError, OSError) as group:
        inner = group.exceptions[0]
        assert isinstance(inner, ExceptionGroup)
        s.saw("others", [group.message, inner.message, inner.exceptions])


@scenario(_raising)
async def error_of_a_validation(s: Stage) -> None:
    for kind in ("validation", "conversion"):
        config = s.config(kind)
        await s.invoke({"kind": kind}, config)
        try:
            await s.graph.ainvoke({"kind": kind}, config)
        except ValidationError as exc:
            s.saw("errors", [exc.title, exc.errors()])


@scenario(_raising)
async def error_that_bubbles(s: Stage) -> None:
    await s.invoke({"kind": "bubble"})


@scenario(_raising)
async def error_in_a_stream(s: Stage) -> None:
    modes = ["values", "updates", "tasks", "checkpoints", "debug"]
    await s.stream({"kind": "keyword only"}, stream_mode=modes)
    await s.stream(None, stream_mode=modes, version="v2")
    await s.stream({"kind": "division"}, stream_mode=modes, subgraphs=True)


def _parallel(checkpointer: Any) -> Any:
    async def soon(state: State) -> State:
        effect("soon")
        return {"x": ["soon"]}

    async def fails(state: State) -> State:
        await asyncio.sleep(0.5)
        count = effect("fails")
        if count == 1:
            raise ValueError("first")
        return {"x": [f"fails {count}"]}

    async def late(state: State) -> State:
        await asyncio.sleep(1.5)
        count = effect("late")
        return {"x": [f"late {count}"]}

    builder = StateGraph(State)
    for node in (soon, fails, late):
        builder.add_node(node).add_edge(START, node.__name__)
    return builder.compile(checkpointer=checkpointer)


@scenario(_parallel, placeable=False)
async def error_beside_running_nodes(s: Stage) -> None:
    # `late` is cancelled by the error, before its effect.
    await s.invoke({"x": ["in"]})
    await s.state()
    await s.stream(None, stream_mode=["updates", "values", "tasks"])


def _both(checkpointer: Any) -> Any:
    async def one(state: State) -> State:
        await asyncio.sleep(0.5)
        raise ValueError("one")

    async def two(state: State) -> State:
        try:
            await asyncio.sleep(60)
        finally:
            effect("two is cancelled")
        return {}

    builder = StateGraph(State).add_node(one).add_node(two)
    builder.add_edge(START, "one").add_edge(START, "two")
    return builder.compile(checkpointer=checkpointer)


@scenario(_both, placeable=False)
async def error_cancels_a_sibling(s: Stage) -> None:
    await s.invoke({"x": ["in"]})


def _edges(checkpointer: Any) -> Any:
    async def work(state: State) -> State:
        effect("work")
        return {"x": ["work"]}

    async def route(state: State) -> str:
        if effect("route") == 1:
            raise LookupError("no way", state["x"])
        return END

    builder = StateGraph(State).add_node(work).add_edge(START, "work")
    return builder.add_conditional_edges("work", route).compile(checkpointer=checkpointer)


@scenario(_edges)
async def error_in_a_conditional_edge(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode=["updates", "tasks"])
    await s.state()
    await s.stream(None, stream_mode=["updates", "tasks"])


def merge(left: list[int], right: list[int]) -> list[int]:
    """A reducer that refuses a value."""
    if 13 in right:
        raise ArithmeticError("not thirteen", left)
    return left + right


class Reduced(TypedDict, total=False):
    n: Annotated[list[int], merge]


def _reducers(checkpointer: Any) -> Any:
    async def unlucky(state: Reduced) -> Reduced:
        effect("unlucky")
        return {"n": [13]}

    builder = StateGraph(Reduced).add_node(unlucky).add_edge(START, "unlucky")
    return builder.compile(checkpointer=checkpointer)


@scenario(_reducers)
async def error_in_a_reducer(s: Stage) -> None:
    await s.invoke({"n": [1]})
    await s.state()
    await s.invoke(None)
    await s.update({"n": [13]})
    await s.update({"n": [2]}, as_node="unlucky")
    # In the input.
    await s.invoke({"n": [13]}, s.config("input"))


def _nested(checkpointer: Any) -> Any:
    async def deep(state: State) -> State:
        count = effect("deep")
        if count < 3:
            raise KeywordOnlyError(code=count, reason="in the deep")
        return {"x": [f"deep {count}"]}

    async def first(state: State) -> State:
        effect("first")
        return {"x": ["first"]}

    inner = StateGraph(State).add_sequence([first, deep]).add_edge(START, "first").compile()
    return (
        StateGraph(State)
        .add_node("inner", inner)
        .add_edge(START, "inner")
        .compile(checkpointer=checkpointer)
    )


@scenario(_nested)
async def error_in_a_subgraph_then_resumed(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode=["updates", "tasks"], subgraphs=True)
    await s.state()
    await s.invoke(None)
    await s.invoke(None)


@tool
async def divide(a: int, b: int) -> float:
    """Divide."""
    effect("divide")
    if b == 13:
        raise ToolException("unlucky")
    return a / b


def _tools(checkpointer: Any) -> Any:
    model = Scripted(
        scripts={
            "divide": [
                [("divide", {"a": 1, "b": 0}), ("divide", {"a": 4, "b": 2})],
                [("divide", {"a": "x", "b": 1}), ("unknown", {})],
                "enough",
            ],
            "unlucky": [[("divide", {"a": 1, "b": 13})], "never said"],
        }
    )

    async def chat(state: MessagesState) -> Any:
        return {"messages": [await model.ainvoke(state["messages"])]}

    def graph(name: str, handle: Any) -> Any:
        return (
            StateGraph(MessagesState)
            .add_node("chat", chat)
            .add_node("tools", ToolNode([divide], handle_tool_errors=handle))
            .add_edge(START, "chat")
            .add_conditional_edges("chat", tools_condition)
            .add_edge("tools", "chat")
            .compile(name=name)
        )

    return (
        StateGraph(MessagesState)
        .add_node("handled", graph("handled", True))
        .add_node("raised", graph("raised", False))
        .add_conditional_edges(
            START, lambda state: "handled" if len(state["messages"]) == 1 else "raised"
        )
        .compile(checkpointer=checkpointer)
    )


@scenario(_tools, differs={"placed": "stream state history"})
async def errors_of_tools(s: Stage) -> None:
    await s.stream({"messages": [("human", "divide")]}, stream_mode="updates", subgraphs=True)
    twice = {"messages": [("human", "divide"), ("human", "unlucky")]}
    await s.invoke(twice, s.config("raised"))


def _jumps(checkpointer: Any) -> Any:
    async def jumps(state: State) -> Command[Any]:
        if effect("jumps") == 1:
            raise InvalidUpdateError("the node's own", 1)
        return Command(goto=Send("fails", {"kind": "sent"}))

    async def fails(state: State) -> State:
        if effect("fails") == 1:
            raise EOFError(state["kind"])
        return {"x": ["went well"]}

    return (
        StateGraph(State)
        .add_node(jumps, destinations=("fails",))
        .add_node(fails)
        .add_edge(START, "jumps")
        .compile(checkpointer=checkpointer)
    )


@scenario(_jumps)
async def errors_around_a_send(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.invoke(None)
    await s.state()
    await s.invoke(None)


@scenario(_jumps)
async def state_changed_after_an_error(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.update({"x": ["by hand"]})
    await s.invoke(None)
    await s.update({"x": ["instead"]}, as_node="fails")
    await s.invoke(None)


@scenario(functools.partial(_raising, sync=True))
def errors_from_sync_code(s: SyncStage) -> None:
    for kind in ("key", "keyword only", "noted", "group", "file"):
        s.invoke({"kind": kind}, s.config(kind))
