"""Benchmark shape: a deep agent with tools, a sub-agent and files, which says what it executes.

Served by ``langgraph-temporal worker benchmarks.shapes.load:agent`` with the worker's name in the
environment variable ``LOAD_WORKER``, its disk in ``LOAD_DISK``, and in ``LOAD_LEDGER`` a file that
all workers share. A SIGKILL takes nothing from either.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepagents import create_deep_agent
from deepagents.backends import FilesystemBackend
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.pregel import Pregel

WORK_S = 0.05
"""What a tool takes: long enough for kills to hit some of them inside."""

LEVELS = {
    "model-0": 0,
    "gather": 1,
    "weigh": 1,
    "model-1": 2,
    # Between them the agent writes a file, which is no step of the ledger, but of the disk.
    "model-2": 4,
    # These are of the sub-agent.
    "research-0": 5,
    "look_up": 6,
    "research-1": 7,
    "study": 8,
    "research-2": 9,
    "model-3": 10,
    # Here it reads a file.
    "model-4": 12,
    "publish": 13,
    "model-5": 14,
}
"""All steps of a turn. A step builds on every step of a lower level, and on none of its own."""

MODEL_STEPS = frozenset(s for s in LEVELS if s.startswith(("model-", "research-")))

Note = Callable[[str, str], None]
"""Takes a step, as "thread/turn/step", and "started" or "finished"."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the ledger."""

    step: str  # "thread/turn/step"
    event: str  # "started" or "finished"
    worker: str  # its name
    pid: int  # of its process
    at: float  # Unix time

    @classmethod
    def parse(cls, line: str) -> Entry:
        """From a line as ``noting`` writes it."""
        step, event, worker, pid, at = line.split()
        return cls(step=step, event=event, worker=worker, pid=int(pid), at=float(at))


def noting(path: Path, worker: str) -> Note:
    """Append to the ledger."""

    def note(step: str, event: str) -> None:
        # One short O_APPEND write is atomic: the order of lines is the order of events, of all
        # processes.
        with path.open("a") as file:
            file.write(f"{step} {event} {worker} {os.getpid()} {time.time():.3f}\n")

    return note


def said(thread: str, turn: int) -> str:
    """What the human says in a turn, counted from 1."""
    return f"turn {turn} of {thread}"


def notes(thread: str, turn: int) -> tuple[str, str]:
    """Path and content of the file a turn leaves behind."""
    return f"/{thread}/turn-{turn}.txt", f"notes of {thread}, taken in turn {turn}\n" * 20


class ScriptedModel(BaseChatModel):
    """Plays a turn of the agent, or of the sub-agent: its next message follows from the messages
    alone, so that any process can go on where another one was killed."""

    role: str
    note: Note

    @property
    def _llm_type(self) -> str:
        return "load"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        """It knows their names."""
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        human = [i for i, message in enumerate(messages) if isinstance(message, HumanMessage)]
        position = sum(isinstance(message, AIMessage) for message in messages[human[-1] :])
        _, number, _, thread = messages[human[-1]].text.split()
        turn = int(number)
        step = f"{thread}/{turn}/{self.role}-{position}"
        self.note(step, "started")
        play = _main if self.role == "model" else _research
        calls = play(thread, turn)[position : position + 1]
        if calls:
            asked = [
                {"name": name, "args": args, "id": f"{self.role}-{turn}-{position}-{i}"}
                for i, (name, args) in enumerate(calls[0])
            ]
            message = AIMessage("", tool_calls=asked)
        else:
            # Everything the thread has heard, and the tools have said in this turn.
            heard = [messages[i].text for i in human]
            found = [m.text for m in messages[human[-1] :] if isinstance(m, ToolMessage)]
            message = AIMessage("\n".join([*heard, *found]))
        self.note(step, "finished")
        return ChatResult(generations=[ChatGeneration(message=message)])


Calls = list[list[tuple[str, dict[str, Any]]]]
"""Of each message of a model the tools it calls."""


def _main(thread: str, turn: int) -> Calls:
    path, content = notes(thread, turn)
    # Left by an earlier run, which may have been driven by a process that is gone.
    earlier, _ = notes(thread, max(1, turn - 1))
    key = {"thread": thread, "turn": turn}
    return [
        [("gather", key), ("weigh", key)],
        [("write_file", {"file_path": path, "content": content})],
        [("task", {"description": said(thread, turn), "subagent_type": "researcher"})],
        [("read_file", {"file_path": earlier})],
        [("publish", key)],
    ]


def _research(thread: str, turn: int) -> Calls:
    key = {"thread": thread, "turn": turn}
    return [[("look_up", key)], [("study", key)]]


def _tool(name: str, note: Note) -> BaseTool:
    async def work(thread: str, turn: int) -> str:
        note(f"{thread}/{turn}/{name}", "started")
        await asyncio.sleep(WORK_S)
        note(f"{thread}/{turn}/{name}", "finished")
        return f"{name} of {thread}, turn {turn}"

    return StructuredTool.from_function(coroutine=work, name=name, description=f"{name}.")


def build_agent(disk: Path, note: Note) -> Pregel[Any, Any, Any, Any]:
    """The agent on a disk."""
    return create_deep_agent(
        name="load",
        model=ScriptedModel(role="model", note=note),
        tools=[_tool(name, note) for name in ("gather", "weigh", "publish")],
        subagents=[
            {
                "name": "researcher",
                "description": "Researches in two steps.",
                "system_prompt": "Research.",
                "model": ScriptedModel(role="research", note=note),
                "tools": [_tool(name, note) for name in ("look_up", "study")],
            }
        ],
        backend=FilesystemBackend(root_dir=disk, virtual_mode=True),
    )


def __getattr__(name: str) -> Any:
    # Not a plain global: who measures imports this module too, and has no disk.
    if name == "agent":
        note = noting(Path(os.environ["LOAD_LEDGER"]), os.environ["LOAD_WORKER"])
        return build_agent(Path(os.environ["LOAD_DISK"]), note)
    raise AttributeError(name)
