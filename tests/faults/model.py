"""A chat model that plays a script: its next message follows from the messages alone, so any
process can go on where another one was killed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool

from tests.faults.ledger import Ledger

Turn = str | list[tuple[str, dict[str, Any]]]
"""A final answer, or tool calls as (tool, arguments)."""

HEARD = "{heard}"
"""In a final answer: replaced by what the human said in the whole thread."""


class ScriptedModel(BaseChatModel):
    """Replies to a human message with the script its first word names, turn by turn.

    Each call is a step ``<word>-<n>`` of the ledger, counted from the human message.
    """

    root: Path
    scripts: Mapping[str, list[Turn]]

    @property
    def _llm_type(self) -> str:
        return "scripted"

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
        heard, position = self._place(messages)
        Ledger(self.root).execute_blocking(f"{_topic(heard)}-{position}")
        return self._reply(heard, position)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        heard, position = self._place(messages)
        await Ledger(self.root).execute(f"{_topic(heard)}-{position}")
        return self._reply(heard, position)

    @staticmethod
    def _place(messages: list[BaseMessage]) -> tuple[list[str], int]:
        """What the human said, and how many replies the last of it has had."""
        human = [i for i, m in enumerate(messages) if isinstance(m, HumanMessage)]
        replies = sum(isinstance(m, AIMessage) for m in messages[human[-1] :])
        return [messages[i].text for i in human], replies

    def _reply(self, heard: list[str], position: int) -> ChatResult:
        topic = _topic(heard)
        turn = self.scripts[topic][position]
        if isinstance(turn, str):
            message = AIMessage(turn.replace(HEARD, "; ".join(heard)))
        else:
            calls = [
                {"name": tool, "args": args, "id": f"{topic}-{len(heard)}-{position}-{i}"}
                for i, (tool, args) in enumerate(turn)
            ]
            message = AIMessage("", tool_calls=calls)
        return ChatResult(generations=[ChatGeneration(message=message)])


def _topic(heard: list[str]) -> str:
    return heard[-1].split()[0]
