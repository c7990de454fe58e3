"""Demo: the ledger, an append-only file in which every process notes what it starts and finishes.

It is the witness of the demo: written by the steps themselves, at the moment they run, and not
through LangGraph or Temporal.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from langchain.agents.middleware import AgentMiddleware
from langchain.agents.middleware.types import ModelRequest, ModelResponse, ToolCallRequest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.types import Command

Event = Literal["started", "finished", "failed"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the ledger.

    ``key`` is the same whenever the same step runs: the tool call's id, or for a model call
    what the model was asked. ``label`` is for people.
    """

    at: float
    pid: int
    agent: str
    kind: Literal["tool", "model"]
    key: str
    label: str
    event: Event


@dataclass
class Step:
    """All entries of one step, by process."""

    agent: str
    kind: str
    label: str
    started: list[int] = field(default_factory=list)
    finished: list[int] = field(default_factory=list)
    repeated: bool = False  # started once more although it had finished


def read_entries(path: Path) -> list[Entry]:
    """The ledger so far; a line that is still being written is left for next time."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [Entry(**json.loads(line)) for line in lines[:-1]]


def steps_of(entries: list[Entry]) -> list[Step]:
    """The entries by step, in the order in which the steps first started."""
    steps: dict[tuple[str, str], Step] = {}
    for e in entries:
        fresh = Step(agent=e.agent, kind=e.kind, label=e.label)
        step = steps.setdefault((e.agent, e.key), fresh)
        if e.event == "started":
            step.repeated = step.repeated or bool(step.finished)
            step.started.append(e.pid)
        elif e.event == "finished":
            step.finished.append(e.pid)
    return list(steps.values())


class Ledger(AgentMiddleware[Any, Any, Any]):
    """Notes each model call and tool call of one agent.

    Args:
        agent: Name of the agent in the ledger.
        path: The file.
    """

    def __init__(self, agent: str, path: Path) -> None:
        super().__init__()
        self._agent = agent
        self._path = path

    def _note(self, kind: Literal["tool", "model"], key: str, label: str, event: Event) -> None:
        entry = Entry(
            at=time.time(),
            pid=os.getpid(),
            agent=self._agent,
            kind=kind,
            key=key,
            label=label,
            event=event,
        )
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(entry)) + "\n")

    async def awrap_tool_call(
        self,
        request: ToolCallRequest,
        handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]],
    ) -> ToolMessage | Command[Any]:
        """Note a tool call; a process that is killed inside leaves "started" without an end."""
        call = request.tool_call
        key, label = str(call["id"]), _tool_label(call["name"], call["args"])
        self._note("tool", key, label, "started")
        try:
            result = await handler(request)
        except BaseException:
            self._note("tool", key, label, "failed")
            raise
        self._note("tool", key, label, "finished")
        return result

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """Note a model call."""
        key, label = _model_key(request), _model_label(request)
        self._note("model", key, label, "started")
        response = await handler(request)
        self._note("model", key, label, "finished")
        return response


def _tool_label(name: str, args: dict[str, Any]) -> str:
    if name == "task":
        return f"task({args.get('subagent_type', '')})"
    shown = args.get("file_path") or args.get("service") or ""
    return f"{name}({shown})"


def _model_key(request: ModelRequest[Any]) -> str:
    """What the model is asked is told apart by the last message."""
    last = request.messages[-1]
    if isinstance(last, ToolMessage):
        return f"after {last.tool_call_id}"
    return "after " + hashlib.sha256(str(last.content).encode()).hexdigest()[:12]


def _model_label(request: ModelRequest[Any]) -> str:
    asked = [i for i, m in enumerate(request.messages) if isinstance(m, HumanMessage)]
    since = request.messages[asked[-1] if asked else 0 :]
    return f"model call {1 + sum(isinstance(m, AIMessage) for m in since)}"
