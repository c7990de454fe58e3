"""A graph in which everything that can hold state holds a secret, and a host that loses runs."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send, interrupt

from tests.storage.aes import secret

LARGE = 3_000_000


class Vault(TypedDict, total=False):
    kind: str
    text: Annotated[list[str], operator.add]
    big: str


class VaultError(Exception):
    """Has a secret in all its parts."""


def large(size: int = LARGE) -> str:
    """A large secret."""
    word = secret("large")
    return word * (size // len(word))


def vault(started: asyncio.Event | None = None) -> Any:
    """Fails, waits for ever (after it set ``started``) or asks, as the input says."""

    async def write(state: Vault) -> Any:
        get_stream_writer()(secret("chunk"))
        if state["kind"] == "fail":
            error = VaultError(secret("message"), {"given": secret("argument")})
            error.add_note(secret("note"))
            error.why = secret("attribute")  # type: ignore[attr-defined] # as users do
            raise error
        if state["kind"] == "wait":
            assert started is not None
            started.set()
            await asyncio.Event().wait()
        return {"text": [secret("output")], "big": large(150_000)}

    async def tools(call: Any) -> Any:
        return {"text": [call["tool_call"]["name"]]}

    async def first(state: Vault) -> Any:
        return {"text": [secret("nested")]}

    async def ask(state: Vault) -> Any:
        return {"text": [interrupt({"really": secret("interrupt")})]}

    inner = (
        StateGraph(Vault)
        .add_node("first", first)
        .add_node("ask", ask)
        .add_edge(START, "first")
        .add_edge("first", "ask")
        .compile()
    )
    return (
        StateGraph(Vault)
        .add_node("write", write)
        .add_node("tools", tools)
        .add_node("inner", inner)
        .add_edge(START, "write")
        .add_conditional_edges(
            "write", lambda _: [Send("tools", {"tool_call": {"name": secret("tool")}})], ["tools"]
        )
        .add_conditional_edges(
            "tools", lambda s: "inner" if s["kind"] == "ask" else END, ["inner", END]
        )
        .compile(name="vault")
    )


class Losing(SerializerProtocol):
    """The serializer of a host. It fails as often as it is told, and tells what it was given."""

    def __init__(self) -> None:
        self.failures = 0
        self._serde = JsonPlusSerializer()

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return self._serde.dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        if self.failures:
            self.failures -= 1
            try:
                raise LookupError(secret("cause"))
            except LookupError as exc:
                raise ValueError(f"{secret('lost')} is no value") from exc
        return self._serde.loads_typed(data)
