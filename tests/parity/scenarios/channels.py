"""Scenarios: kinds of channels, reducers, barriers."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Sequence
from typing import Annotated, Any, TypedDict

from langgraph.channels import (
    AnyValue,
    BinaryOperatorAggregate,
    DeltaChannel,
    EphemeralValue,
    Topic,
    UntrackedValue,
)
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Overwrite, interrupt

from tests.parity.scenarios.states import chain
from tests.parity.stage import Stage, effect, scenario


def extend(old: list[Any], writes: Sequence[list[Any]]) -> list[Any]:
    """A reducer of a DeltaChannel."""
    return [*old, *(item for write in writes for item in write)]


def merge(old: dict[str, Any], writes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A reducer of a DeltaChannel; ``None`` removes a key."""
    found = dict(old)
    for write in writes:
        found.update(write)
    return {k: v for k, v in found.items() if v is not None}


class Deltas(TypedDict, total=False):
    often: Annotated[list[Any], DeltaChannel(extend, snapshot_frequency=2)]
    rarely: Annotated[list[Any], DeltaChannel(extend)]
    files: Annotated[dict[str, Any], DeltaChannel(merge, snapshot_frequency=3)]


def _deltas(checkpointer: Any) -> Any:
    async def first(state: Deltas) -> Deltas:
        n = len(state["often"])
        return {"often": [n], "rarely": [{"n": n}], "files": {f"f{n % 3}": "x" * n, "g": None}}

    async def second(state: Deltas) -> Deltas:
        return {"often": [("second", interrupt("q"))], "files": {"g": 1}}

    async def third(state: Deltas) -> Deltas:
        return {"rarely": Overwrite(["anew"])} if len(state["rarely"]) > 4 else {}

    return chain(Deltas, checkpointer, first, second, third)


@scenario(_deltas)
async def delta_channels(s: Stage) -> None:
    for turn in range(4):
        await s.invoke({"often": [turn], "rarely": [turn]})
        await s.state()
        await s.stream(Command(resume=turn), stream_mode=["values", "checkpoints"])


@scenario(_deltas)
async def delta_channels_forked_and_edited(s: Stage) -> None:
    await s.invoke({"often": ["a"], "rarely": ["a"]})
    await s.update({"often": ["edited"], "files": {"h": "by hand"}}, as_node="first")
    await s.invoke(None)
    await s.invoke(Command(resume="r"))
    states = await s.history()
    for old in states[::2]:
        await s.state(old.config)
    await s.update({"rarely": ["forked"]}, states[3].config)
    await s.invoke({"often": ["b"]})


class Kinds(TypedDict, total=False):
    passing: Annotated[str, EphemeralValue]
    untracked: Annotated[Any, UntrackedValue]
    any: Annotated[str, AnyValue]
    topic: Annotated[Sequence[str], Topic(str)]
    kept: Annotated[Sequence[str], Topic(str, accumulate=True)]
    total: Annotated[int, BinaryOperatorAggregate(int, operator.add)]
    seen: Annotated[list[Any], operator.add]


def _kinds(checkpointer: Any) -> Any:
    def looks(name: str, **writes: Any) -> Any:
        async def node(state: Kinds) -> Kinds:
            effect(name)
            held = {k: v for k, v in state.items() if k != "seen"}
            held.update({k: sorted(v) for k, v in held.items() if k in ("topic", "kept")})
            found: Kinds = {**writes, "seen": [(name, sorted(held.items()))]}
            return found

        node.__name__ = name
        return node

    async def asks(state: Kinds) -> Kinds:
        # Untracked values are not in the checkpoint: after an interrupt they are gone.
        return {"seen": [("asks", interrupt("q"), state.get("untracked"), state.get("passing"))]}

    one = looks("one", passing="p1", untracked={"live": 1}, topic="t1", kept=["k1", "k2"], total=2)
    two = looks("two", any="a2", topic=["t2", "t3"], kept="k3", total=5, untracked=[2])
    return chain(Kinds, checkpointer, one, two, asks, looks("last"))


@scenario(_kinds, placeable=False)
async def kinds_of_channels(s: Stage) -> None:
    await s.stream({"passing": "in", "total": 1}, stream_mode=["values", "updates"])
    await s.state()
    await s.stream(Command(resume="r"), stream_mode=["values", "updates"])
    await s.invoke({"any": "again", "untracked": "u"})


class Guarded(TypedDict, total=False):
    free: Annotated[str, UntrackedValue(str, guard=False)]
    last: str


def _concurrent(checkpointer: Any) -> Any:
    async def a(state: Guarded) -> Guarded:
        effect("a")
        return {"last": "a", "free": "a"}

    async def b(state: Guarded) -> Guarded:
        effect("b")
        await asyncio.sleep(0.2)
        return {"free": "b"} if state["last"] == "ok" else {"last": "b"}

    builder = StateGraph(Guarded).add_node("a", a).add_node("b", b)
    builder.add_edge(START, "a").add_edge(START, "b")
    return builder.compile(checkpointer=checkpointer)


@scenario(_concurrent, placeable=False)
async def two_writes_to_one_value(s: Stage) -> None:
    await s.invoke({"last": "ok"})
    await s.invoke({"last": "in"})
    await s.state()
    await s.invoke(None)


def larger(a: int, b: int) -> int:
    """A reducer."""
    return max(a, b)


class Reduced(TypedDict, total=False):
    tags: Annotated[set[str], operator.or_]
    best: Annotated[int, larger]
    table: Annotated[dict[str, Any], operator.or_]
    text: Annotated[str, operator.add]
    log: Annotated[list[Any], operator.add]


def _reducers(checkpointer: Any) -> Any:
    async def one(state: Reduced) -> Reduced:
        return {"tags": {"b"}, "best": 3, "table": {"k": [1], 2: (3,)}, "text": "b", "log": [1]}

    async def two(state: Reduced) -> Reduced:
        return {"tags": {"c"}, "best": 1, "table": {"k": (4,)}, "log": Overwrite(["new"])}

    async def three(state: Reduced) -> Reduced:
        return {"log": [len(state["log"])], "table": Overwrite({"only": None})}

    return chain(Reduced, checkpointer, one, two, three)


@scenario(_reducers)
async def reducers_and_overwrite(s: Stage) -> None:
    await s.stream({"tags": {"a"}, "text": "a", "log": [0]}, stream_mode=["values", "updates"])
    await s.invoke({"tags": set(), "log": Overwrite(["input"])})
    await s.update({"log": Overwrite(["by hand"])})


def _two_overwrites(checkpointer: Any) -> Any:
    async def a(state: Reduced) -> Reduced:
        return {"log": Overwrite(["a"])}

    async def b(state: Reduced) -> Reduced:
        return {"log": Overwrite(["b"])}

    builder = StateGraph(Reduced).add_node("a", a).add_node("b", b)
    builder.add_edge(START, "a").add_edge(START, "b")
    return builder.compile(checkpointer=checkpointer)


@scenario(_two_overwrites)
async def two_overwrites_at_once(s: Stage) -> None:
    await s.invoke({"log": ["in"]})


class Log(TypedDict, total=False):
    x: Annotated[list[Any], operator.add]


def _barrier(checkpointer: Any) -> Any:
    def says(name: str, delay: float = 0.0) -> Any:
        async def node(state: Log) -> Log:
            effect(name)
            await asyncio.sleep(delay)
            return {"x": [name]}

        return node

    async def asks(state: Log) -> Log:
        return {"x": [interrupt("q")]}

    return (
        StateGraph(Log)
        .add_node("quick", says("quick"))
        .add_node("slow1", says("slow1", 0.1))
        .add_node("asks", asks)
        .add_node("join", says("join"))
        .add_node("late", says("late"), defer=True)
        .add_edge(START, "quick")
        .add_edge(START, "slow1")
        .add_edge("slow1", "asks")
        .add_edge(["quick", "asks"], "join")
        .add_edge(["quick", "slow1"], "late")
        .compile(checkpointer=checkpointer)
    )


@scenario(_barrier)
async def barriers_and_deferred_nodes(s: Stage) -> None:
    for turn in range(2):
        await s.stream({"x": [turn]}, stream_mode="updates")
        await s.state()
        await s.stream(Command(resume="yes"), stream_mode=["updates", "checkpoints"])
