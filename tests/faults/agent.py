"""The deep agent of the fault tests: a sub-agent, files, tools that leave a line when they run.

Served by ``langgraph-temporal worker tests.faults.agent:agent`` and called by ``caller.py``, each
with the directory of the test in the environment variable ``FAULTS_DIR``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from deepagents import create_deep_agent
from deepagents.backends import FilesystemBackend
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.pregel import Pregel

from tests.faults.ledger import ONCE, Ledger, Ran
from tests.faults.model import HEARD, ScriptedModel, Turn

NOTES = "gathered, then written down"

MAIN_SCRIPTS: dict[str, list[Turn]] = {
    "report": [
        [("gather", {})],
        [("write_file", {"file_path": "/notes.txt", "content": NOTES})],
        [("task", {"description": "research it", "subagent_type": "researcher"})],
        [("publish", {})],
        "the report is out",
    ],
    "both": [
        [("gather", {}), ("publish", {})],
        "both are done",
    ],
    "carving": [
        [("gather", {})],
        [("carve", {})],
        "carved",
    ],
    "again": [
        f"so far you said: {HEARD}",
    ],
}

RESEARCH_SCRIPTS: dict[str, list[Turn]] = {
    "research": [
        [("look_up", {})],
        [("study", {})],
        [("summarize", {})],
        "three findings",
    ]
}

REPORT_STEPS = {
    **dict.fromkeys(("report-0", "report-1", "report-2", "report-3", "report-4"), ONCE),
    **dict.fromkeys(("research-0", "research-1", "research-2", "research-3"), ONCE),
    **dict.fromkeys(("gather", "look_up", "study", "summarize", "publish"), ONCE),
}
"""What the ledger shows after an undisturbed run of the script ``report``."""

RERUN = Ran(2, 1)
"""A step that was killed inside its first execution."""


def build_agent(root: Path) -> Pregel[Any, Any, Any, Any]:
    """The agent on the directory of one test."""
    files = root / "files"
    files.mkdir(exist_ok=True)
    return create_deep_agent(
        name="faults",
        model=ScriptedModel(root=root, scripts=MAIN_SCRIPTS),
        tools=[_async_tool(root, "gather"), _async_tool(root, "publish"), _sync_tool(root)],
        subagents=[
            {
                "name": "researcher",
                "description": "Researches in three steps.",
                "system_prompt": "Research.",
                "model": ScriptedModel(root=root, scripts=RESEARCH_SCRIPTS),
                "tools": [_async_tool(root, n) for n in ("look_up", "study", "summarize")],
            }
        ],
        backend=FilesystemBackend(root_dir=files, virtual_mode=True),
    )


def _async_tool(root: Path, name: str) -> BaseTool:
    """A tool for both kinds of call; nothing but its ledger tells that it ran."""

    async def work() -> str:
        await Ledger(root).execute(name)
        return f"{name} done"

    def work_blocking() -> str:
        Ledger(root).execute_blocking(name)
        return f"{name} done"

    return StructuredTool.from_function(
        func=work_blocking, coroutine=work, name=name, description=f"{name}."
    )


def _sync_tool(root: Path) -> BaseTool:
    """A tool that always runs in a thread, so that no cancellation reaches it."""

    def carve() -> str:
        Ledger(root).execute_blocking("carve")
        return "carve done"

    return StructuredTool.from_function(func=carve, name="carve", description="carve.")


def __getattr__(name: str) -> Any:
    # Not a plain global: the tests import this module too, and have no such variable.
    if name == "agent":
        agent = build_agent(Path(os.environ["FAULTS_DIR"]))
        globals()["agent"] = agent
        return agent
    raise AttributeError(name)
