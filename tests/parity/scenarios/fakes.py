"""A chat model for scenarios: it plays a script, whole or in tokens, in whatever process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import ToolCallChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langgraph.config import get_config

from tests.parity.stage import effect

Call = tuple[str, dict[str, Any]]
Turn = str | list[Call] | tuple[str, list[Call]] | Exception
"""An answer, tool calls as (tool, arguments), both, or an error."""

THREAD = "{thread}"
"""In arguments of tool calls: replaced by the thread id."""


class Scripted(BaseChatModel):
    """Replies to a human message with the script its first word names, turn by turn.

    Has no state: what it says follows from the messages, and from the thread's id.
    """

    scripts: Mapping[str, Sequence[Turn]]
    label: str = "model"

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"label": self.label}

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[Any, AIMessage]:
        """Scripts name their tools themselves."""
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        text, calls = self._turn(messages)
        message = AIMessage(
            text,
            tool_calls=[{"name": n, "args": a, "id": i} for n, a, i in calls],
            usage_metadata=_usage(messages, text),
            response_metadata={"model_name": f"scripted-{self.label}"},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in self._chunks(messages):
            if run_manager:
                run_manager.on_llm_new_token(str(chunk.message.content), chunk=chunk)
            yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._chunks(messages):
            if run_manager:
                await run_manager.on_llm_new_token(str(chunk.message.content), chunk=chunk)
            yield chunk

    def _chunks(self, messages: list[BaseMessage]) -> Iterator[ChatGenerationChunk]:
        text, calls = self._turn(messages)
        words = text.split(" ") if text else []
        tokens = [AIMessageChunk(w if not i else f" {w}") for i, w in enumerate(words)]
        for i, (name, args, call_id) in enumerate(calls):
            arguments = json.dumps(args)
            first = ToolCallChunk(name=name, args=arguments[:4], id=call_id, index=i)
            rest = ToolCallChunk(name=None, args=arguments[4:], id=None, index=i)
            tokens += [AIMessageChunk("", tool_call_chunks=[c]) for c in (first, rest)]
        last = AIMessageChunk(
            "",
            usage_metadata=_usage(messages, text),
            response_metadata={"model_name": f"scripted-{self.label}"},
        )
        for token in (*tokens, last):
            yield ChatGenerationChunk(message=token)

    def _turn(self, messages: list[BaseMessage]) -> tuple[str, list[tuple[str, Any, str]]]:
        human = [i for i, m in enumerate(messages) if isinstance(m, HumanMessage)]
        position = sum(isinstance(m, AIMessage) for m in messages[human[-1] :])
        topic = messages[human[-1]].text.split()[0]
        effect(f"{self.label}: {topic} {position}")
        turn = self.scripts[topic][position]
        if isinstance(turn, Exception):
            raise type(turn)(*turn.args)
        if isinstance(turn, tuple):
            text, calls = turn
        else:
            text, calls = (turn, []) if isinstance(turn, str) else ("", turn)
        thread_id = get_config()["configurable"]["thread_id"]
        calls = json.loads(json.dumps(calls).replace(THREAD, thread_id))
        ids = [f"{topic}-{len(human)}-{position}-{i}" for i in range(len(calls))]
        return text, [(n, a, call_id) for (n, a), call_id in zip(calls, ids, strict=True)]


def _usage(messages: list[BaseMessage], text: str) -> UsageMetadata:
    given, made = len(messages), len(text.split())
    return {"input_tokens": given, "output_tokens": made, "total_tokens": given + made}
