"""Benchmark shape: a chat of many turns, in three kinds of state that grow with each turn.

What is counted is bytes, not time: what a turn adds to Temporal, early and late, and what a
process that knows nothing reads to go on. The texts are random, so no compression flatters the
numbers: printable characters carry 6.55 of their 8 bits.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from deepagents import DeepAgentState
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph

TEXT_BYTES = 1_000
"""A message, and the answer to it, without what LangGraph's serializer puts around them."""

ALPHABET = (string.ascii_letters + string.digits + string.punctuation)[:94]

_random = random.Random(1)


def text(size: int = TEXT_BYTES) -> str:
    """Printable text without repetitions."""
    return "".join(_random.choices(ALPHABET, k=size))


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of state: its graph, and what the caller says in a turn."""

    name: str
    builder: StateGraph[Any, Any, Any, Any]
    graph: CompiledStateGraph[Any, Any, Any, Any]  # has no checkpointer
    say: Callable[[int], dict[str, Any]]  # number of the turn -> input


class Messages(TypedDict):
    """A list that ``add_messages`` appends to; each checkpoint has all of it."""

    messages: Annotated[list[AnyMessage], add_messages]


def merged(old: dict[str, str], new: dict[str, str]) -> dict[str, str]:
    return {**old, **new}


class Notes(TypedDict):
    """A dict that a reducer merges into; each checkpoint has all of it."""

    notes: Annotated[dict[str, str], merged]


async def reply(_: Any) -> dict[str, Any]:
    return {"messages": [AIMessage(text())]}


async def note(state: Notes) -> Notes:
    return {"notes": {f"answer-{len(state['notes'])}": text()}}


def _chat(name: str, schema: type[Any]) -> Kind:
    builder: Any = StateGraph(schema)
    builder.add_node("reply", reply)
    builder.add_edge(START, "reply")
    return Kind(
        name=name,
        builder=builder,
        graph=builder.compile(name=name),
        say=lambda _: {"messages": [HumanMessage(text())]},
    )


def _notebook() -> Kind:
    builder: StateGraph[Any, None, Any, Any] = StateGraph(Notes)
    builder.add_node("note", note)
    builder.add_edge(START, "note")
    return Kind(
        name="dict",
        builder=builder,
        graph=builder.compile(name="dict"),
        say=lambda turn: {"notes": {f"question-{turn}": text()}},
    )


KINDS = (
    _chat("add_messages", Messages),
    _notebook(),
    # The state of deepagents: `messages` is a DeltaChannel with a snapshot every 50 updates.
    _chat("delta", DeepAgentState),
)
