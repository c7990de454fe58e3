"""Benchmark shape: a chat model whose tokens carry the moment at which they were produced."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph

TOKENS = 100
INTERVAL_S = 0.01
"""A hundred tokens a second, about what a fast model produces."""


class Clock(BaseChatModel):
    """Says what time it is, again and again."""

    @property
    def _llm_type(self) -> str:
        return "clock"

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError("only streams")

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        for _ in range(TOKENS):
            await asyncio.sleep(INTERVAL_S)
            # The monotonic clock is one clock for all processes of a machine.
            yield ChatGenerationChunk(message=AIMessageChunk(f"{time.monotonic_ns()} "))


async def speak(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await Clock().ainvoke(state["messages"])]}


builder = StateGraph(MessagesState).add_node("speak", speak).add_edge(START, "speak")
graph: CompiledStateGraph[Any, Any, Any, Any] = builder.compile(name="tokens")


async def delays(durable: CompiledStateGraph[Any, Any, Any, Any], thread_id: str) -> list[float]:
    """How long after its production each token reached the caller. Milliseconds."""
    found = []
    config: Any = {"configurable": {"thread_id": thread_id}}
    stream = durable.astream({"messages": "time?"}, config, stream_mode="messages")
    async for message, _ in stream:
        if isinstance(message, AIMessageChunk) and message.content:
            found.append((time.monotonic_ns() - int(str(message.content))) / 1e6)
    return found
