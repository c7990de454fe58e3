"""Graphs whose nodes keep files on the disk of whoever runs them: the directory ``DISK``.

Served by ``langgraph-temporal worker``, each with a directory of its own, and called by tests.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import tool
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt

BIG = "line of a large result\n" * 8_000
"""Above what deepagents keeps in a message: it goes to a file."""


class Page(TypedDict, total=False):
    """A line to append, and after it all lines and the worker's process."""

    line: str
    lines: list[str]
    disk: str


def _file(config: RunnableConfig) -> Path:
    return disk() / f"{config['configurable']['thread_id']}.txt"


def disk() -> Path:
    """The directory of this process."""
    return Path(os.environ["DISK"])


def _read(config: RunnableConfig) -> Page:
    found = _file(config)
    lines = found.read_text().splitlines() if found.exists() else []
    return {"lines": lines, "disk": disk().name}


def write(state: Page, config: RunnableConfig) -> Page:
    """Append the line to the thread's file."""
    with _file(config).open("a") as file:
        file.write(f"{state['line']}\n")
    get_stream_writer()(f"wrote {state['line']}")
    return _read(config)


def ask(state: Page, config: RunnableConfig) -> Page:
    """Wait for an answer, and append it."""
    answer = interrupt("what next?")
    with _file(config).open("a") as file:
        file.write(f"{answer}\n")
    return _read(config)


def hold(state: Page, config: RunnableConfig) -> Page:
    """Say so in a file, and wait until there is another one."""
    (disk() / "held").touch()
    while not (disk().parent / "go").exists():
        time.sleep(0.05)
    return _read(config)


diary = StateGraph(Page).add_sequence([write]).add_edge(START, "write").compile(name="diary")
asking = StateGraph(Page).add_sequence([write, ask]).add_edge(START, "write").compile(name="asking")
holding = (
    StateGraph(Page).add_sequence([write, hold]).add_edge(START, "write").compile(name="holding")
)
plain = {"diary": diary, "asking": asking, "holding": holding}


class FileModel(BaseChatModel):
    """Does what the human says: ``save PATH TEXT``, ``load PATH``, ``produce``; then says what the
    tool said."""

    @property
    def _llm_type(self) -> str:
        return "files"

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
        last = messages[-1]
        if isinstance(last, ToolMessage):
            return _says(AIMessage(last.text))
        assert isinstance(last, HumanMessage)
        what, _, rest = last.text.partition(" ")
        if what == "delegate":
            args = {"description": rest, "subagent_type": "clerk"}
            return _says(AIMessage("", tool_calls=[{"name": "task", "args": args, "id": "cd"}]))
        path, _, text = rest.partition(" ")
        name, args = {
            "save": ("write_file", {"file_path": path, "content": text}),
            "load": ("read_file", {"file_path": path}),
            "produce": ("produce", {}),
        }[what]
        return _says(AIMessage("", tool_calls=[{"name": name, "args": args, "id": f"c{what}"}]))


def _says(message: AIMessage) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=message)])


@tool
def produce() -> str:
    """A large result."""
    return BIG


def agent() -> Any:
    """A deep agent with a real backend of files."""
    from deepagents import create_deep_agent
    from deepagents.backends import FilesystemBackend

    return create_deep_agent(
        name="keeper",
        model=FileModel(),
        tools=[produce],
        backend=FilesystemBackend(root_dir=disk(), virtual_mode=True),
        subagents=[
            {
                "name": "clerk",
                "description": "Keeps files.",
                "system_prompt": "Keep files.",
                "model": FileModel(),
                "tools": [],
            }
        ],
    )


def __getattr__(name: str) -> Any:
    # Only where deepagents is installed, and there is a disk.
    if name == "graphs":
        return {**plain, "keeper": agent()}
    raise AttributeError(name)
