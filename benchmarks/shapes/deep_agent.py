"""Benchmark shape: a deep agent whose model takes a second for each answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from deepagents import create_deep_agent
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from langgraph.graph.state import CompiledStateGraph

from benchmarks.contender import Caller

PROMPT = "Look up what there is."


class Scripted(BaseChatModel):
    """Calls a tool in every answer but the last; all it needs to know is in the messages, so that
    any process can go on."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        """It knows their names."""
        return self

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError("only asynchronous")

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        (human,) = [message for message in messages if isinstance(message, HumanMessage)]
        steps, seconds = human.text.split()
        await asyncio.sleep(float(seconds))
        number = sum(isinstance(message, AIMessage) for message in messages)
        message = AIMessage("done")
        if number < int(steps) - 1:
            call = {"name": "look_up", "args": {"number": number}, "id": f"call-{number}"}
            message = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=message)])


@tool
async def look_up(number: int) -> str:
    """Look something up."""
    return f"entry {number}"


graph: CompiledStateGraph[Any, Any, Any, Any] = create_deep_agent(
    name="deep_agent", model=Scripted(), tools=[look_up], system_prompt=PROMPT
)


async def sample(caller: Caller, *, steps: int, model_s: float) -> dict[str, float]:
    """A run of so many answers, from the call to its return."""
    begun = perf_counter()
    result = await caller.run("deep_agent", {"messages": [HumanMessage(f"{steps} {model_s}")]})
    took_ms = (perf_counter() - begun) * 1e3
    # The human's message, and of each answer but the last a tool's.
    assert len(result["messages"]) == 2 * steps, result["messages"][-1]
    return {"run_ms": took_ms, "overhead_percent": (took_ms / (steps * model_s * 1e3) - 1) * 100}
