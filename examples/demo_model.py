"""Demo: the chat model, scripted unless an API key is set.

The scripted model computes its answer from the messages alone: a worker that takes a run over
has a new model object, and it must say what the old one would have said.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import Mapping, Sequence
from typing import Any

from langchain.chat_models import init_chat_model
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable

PROVIDERS = {
    "ANTHROPIC_API_KEY": ("langchain_anthropic", "anthropic:claude-sonnet-5-5"),
    "OPENAI_API_KEY": ("langchain_openai", "openai:gpt-6-sol"),
}
"""Environment variable -> package it needs, default model. DEMO_MODEL overrides the model."""

THINKING_S = 0.25

Call = tuple[str, Mapping[str, Any]]

PLAN = ["Find the cause", "Write /report.md"]
REPORT = (
    "# checkout is slow\n\np99 went from 90 to 2,300 ms at 09:12.\n"
    "Cause: requests wait for the connection pool of `pricing`.\n"
)

SCRIPTS: dict[str, list[list[Call | str]]] = {
    # agent -> turns of the conversation -> answers, each a tool call or a final text
    "main": [
        [
            ("write_todos", {"todos": [{"content": c, "status": "pending"} for c in PLAN]}),
            ("task", {"subagent_type": "investigator", "description": "Why is checkout slow?"}),
            ("write_file", {"file_path": "/report.md", "content": REPORT}),
            ("write_todos", {"todos": [{"content": c, "status": "completed"} for c in PLAN]}),
            "checkout waits for the connection pool of `pricing`; see /report.md.",
        ],
        [
            ("read_file", {"file_path": "/report.md"}),
            ("load_test", {"service": "checkout"}),
            ("write_file", {"file_path": "/verified.md", "content": "p99 85 ms: fixed.\n"}),
            "Verified: p99 of checkout is 85 ms with the larger pool.",
        ],
    ],
    "investigator": [
        [
            ("fetch_metrics", {"service": "checkout"}),
            ("trace_requests", {"service": "checkout"}),
            "94% of slow checkout requests wait for the connection pool of `pricing`.",
        ]
    ],
}


def real_model() -> str | None:
    """Name of the real model to use; ``None``: the scripted one."""
    for key, (package, default) in PROVIDERS.items():
        if os.environ.get(key) and importlib.util.find_spec(package) is not None:
            return os.environ.get("DEMO_MODEL") or default
    return None


def model_name() -> str:
    """What is used and why, for people."""
    name = real_model()
    if name is not None:
        return name
    keys = [key for key in PROVIDERS if os.environ.get(key)]
    missing = " and ".join(PROVIDERS[key][0] for key in keys)
    return f"scripted, {missing} is not installed" if keys else "scripted, no API key is set"


def make_model(script: str) -> BaseChatModel:
    """The model of one agent."""
    name = real_model()
    if name is not None:
        model: BaseChatModel = init_chat_model(name)
        return model
    return ScriptedModel(script=script)


class ScriptedModel(BaseChatModel):
    """Answers as ``SCRIPTS`` says; which answer is due follows from the messages."""

    script: str

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, Any]:
        """The script knows its tools already."""
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._answer(messages))])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        await asyncio.sleep(THINKING_S)
        return self._generate(messages)

    def _answer(self, messages: list[BaseMessage]) -> AIMessage:
        asked = [i for i, m in enumerate(messages) if isinstance(m, HumanMessage)]
        turn = len(asked) - 1
        step = sum(isinstance(m, AIMessage) for m in messages[asked[-1] :])
        answer = SCRIPTS[self.script][turn][step]
        if isinstance(answer, str):
            return AIMessage(answer)
        name, args = answer
        call_id = f"{self.script}-{turn + 1}-{step + 1}"
        return AIMessage("", tool_calls=[{"name": name, "args": dict(args), "id": call_id}])
