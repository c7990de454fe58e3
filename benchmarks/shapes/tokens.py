"""Benchmark shape: a chat model whose tokens carry the moment at which they were produced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic_ns
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph

from benchmarks.contender import Caller
from benchmarks.timing import median, p95

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
            yield ChatGenerationChunk(message=AIMessageChunk(f"{monotonic_ns()} "))


async def speak(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await Clock().ainvoke(state["messages"])]}


builder = StateGraph(MessagesState).add_node("speak", speak).add_edge(START, "speak")
graph: CompiledStateGraph[Any, Any, Any, Any] = builder.compile(name="tokens")


async def sample(caller: Caller) -> dict[str, float]:
    """A run on a new thread, whose tokens are read.

    Returns:
        ``first_ms`` from the call to the first token, ``later_p50_ms`` and ``later_p95_ms`` from
        the moment at which each of the others was produced, ``arrived_percent`` of all.
    """
    called = monotonic_ns()
    first_ms, later = 0.0, []
    async for token in caller.stream("tokens", {"messages": "time?"}):
        arrived = monotonic_ns()
        if first_ms:
            later.append((arrived - int(token)) / 1e6)
        else:
            first_ms = (arrived - called) / 1e6
    return {
        "first_ms": first_ms,
        "later_p50_ms": median(later),
        "later_p95_ms": p95(later),
        "arrived_percent": (len(later) + 1) / TOKENS * 100,
    }
