"""Graphs whose state grows or is large, or that use a sub-agent often."""

from __future__ import annotations

import base64
import operator
import random
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Send, interrupt

KB = "lorem ipsum dolor sit amet "


def merged(left: dict[str, str], right: dict[str, str]) -> dict[str, str]:
    """A dict channel that grows."""
    return {**left, **right}


def extended(state: list[str], writes: list[list[str]]) -> list[str]:
    """The reducer of a DeltaChannel: all writes since the snapshot at once."""
    return [*state, *(item for write in writes for item in write)]


class Chat(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    facts: Annotated[dict[str, str], merged]
    notes: Annotated[list[str], DeltaChannel(extended, snapshot_frequency=5)]
    turn: int


def chat() -> Any:
    """Each turn adds to a list, a dict and a DeltaChannel."""

    async def answer(state: Chat) -> Any:
        n = state["turn"]
        return {
            "messages": [AIMessage(f"answer {n} {KB * 4}", id=f"a{n}")],
            "facts": {f"fact{n}": f"{n} {KB * 4}"},
            "notes": [f"note {n} {KB}"],
        }

    async def check(state: Chat) -> Any:
        if state["turn"] % 10 == 7:
            return {"notes": [f"checked {interrupt('sure?')}"]}
        return {}

    return (
        StateGraph(Chat)
        .add_node("answer", answer)
        .add_node("check", check)
        .add_edge(START, "answer")
        .add_edge("answer", "check")
        .compile(name="chat")
    )


def turn(n: int) -> Any:
    """Input of one turn."""
    return {"messages": [HumanMessage(f"question {n}", id=f"q{n}")], "turn": n}


def noise(n: int, kilobytes: int) -> str:
    """Text of its own for every number, which cannot be compressed to less than three quarters."""
    return base64.b64encode(random.Random(n).randbytes(kilobytes * 750)).decode()


def noisy(kilobytes: int = 20) -> Any:
    """Each turn adds a message of so many kilobytes that cannot be compressed."""

    async def answer(state: Chat) -> Any:
        n = state["turn"]
        return {"messages": [AIMessage(noise(n, kilobytes), id=f"a{n}")]}

    return (
        StateGraph(Chat).add_node("answer", answer).add_edge(START, "answer").compile(name="noisy")
    )


class Big(TypedDict, total=False):
    kind: str
    megabytes: int
    value: Any
    answer: Any
    log: Annotated[list[str], operator.add]


def value_of(kind: str, megabytes: int) -> Any:
    """A value of about so many megabytes, of one of the kinds users have."""
    size = megabytes * 1_000_000
    if kind == "string":
        return "x" * size
    if kind == "bytes":
        return b"\x00\xff" * (size // 2)
    if kind == "messages":
        return [
            HumanMessage(f"{i:05}" + "m" * (size // 5_000 - 5), id=str(i)) for i in range(5_000)
        ]
    if kind == "image":
        data = base64.b64encode(bytes(range(256)) * (size // 256 * 3 // 4)).decode()
        return [HumanMessage([{"type": "image", "base64": data, "mime_type": "image/png"}], id="i")]
    raise AssertionError(kind)


def big() -> Any:
    """A node makes a large value, a nested graph returns one, another asks with one."""

    async def make(state: Big) -> Any:
        return {"value": value_of(state["kind"], state["megabytes"]), "log": ["made"]}

    async def inner_make(state: Big) -> Any:
        return {"value": value_of(state["kind"], state["megabytes"]), "log": ["inner"]}

    inner = (
        StateGraph(Big).add_node("inner_make", inner_make).add_edge(START, "inner_make").compile()
    )

    async def ask(state: Big) -> Any:
        answer = interrupt({"look at": state["value"]})
        return {"answer": answer, "log": ["asked"]}

    return (
        StateGraph(Big)
        .add_node("make", make)
        .add_node("inner", inner)
        .add_node("ask", ask)
        .add_edge(START, "make")
        .add_edge("make", "inner")
        .add_edge("inner", "ask")
        .compile(name="big")
    )


class Found(TypedDict, total=False):
    start: int
    count: int
    found: Annotated[list[str], operator.add]


class Study(TypedDict, total=False):
    topic: int
    notes: Annotated[list[str], operator.add]
    found: Annotated[list[str], operator.add]


def _sub_agent(look: Any, tell: Any) -> Any:
    """Two nodes, one after the other."""
    builder = StateGraph(Study).add_node("look", look).add_node("tell", tell)
    return builder.add_edge(START, "look").add_edge("look", "tell").compile()


def agents(
    asking: tuple[int, ...] = (), hold: Callable[[int], Awaitable[None]] | None = None
) -> Any:
    """Sends ``count`` topics to a sub-agent each, all at once; some of them ask, or are held up."""

    def look(state: Study) -> Study:
        return {"notes": [f"looked at {state['topic']}"]}

    async def tell(state: Study) -> Study:
        topic = state["topic"]
        said = f" {interrupt(topic)}" if topic in asking else ""
        if hold is not None:
            await hold(topic)
        return {"found": [f"{topic}: {len(state['notes'])}{said}"]}

    study = _sub_agent(look, tell)

    def topics(state: Found) -> list[Send]:
        numbers = range(state["start"], state["start"] + state["count"])
        return [Send("study", {"topic": n, "notes": []}) for n in numbers]

    return (
        StateGraph(Found)
        .add_node("plan", lambda state: {})
        .add_node("study", study)
        .add_edge(START, "plan")
        .add_conditional_edges("plan", topics, ["study"])
        .compile(name="agents")
    )


def caller(before: Callable[[], Awaitable[None]]) -> Any:
    """A node does something, then calls a sub-agent, which asks about even topics."""

    async def look(state: Study) -> Study:
        return {"notes": [noise(state["topic"], 1)]}

    async def tell(state: Study) -> Study:
        said = f" {interrupt(state['topic'])}" if state["topic"] % 2 == 0 else ""
        return {"found": [f"{state['topic']}: {len(state['notes'])}{said}"]}

    sub_agent = _sub_agent(look, tell)

    async def study(state: Found) -> Found:
        await before()
        result = await sub_agent.ainvoke({"topic": state["start"], "notes": [noise(99, 1)]})
        return {"found": result["found"]}

    return (
        StateGraph(Found).add_node("study", study).add_edge(START, "study").compile(name="caller")
    )
