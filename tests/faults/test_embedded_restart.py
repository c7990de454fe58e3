"""A process with everything in it, server included, is killed; the next one finishes its run."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import textwrap
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langgraph.graph import START, StateGraph

from langgraph_temporal_exec import TemporalSaver

ROOT = Path(__file__).resolve().parents[2]
HEARTBEAT = timedelta(seconds=2)
CONFIG: Any = {"configurable": {"thread_id": "t"}}


class State(TypedDict, total=False):
    done: str


def build(folder: Path) -> Any:
    """Two nodes; the second one waits for the file ``go``. Each leaves a line when it ends."""

    def note(line: str) -> None:
        with (folder / "ran").open("a") as file:
            file.write(f"{line}\n")

    async def first(state: State) -> State:
        note("first")
        return {}

    async def second(state: State) -> State:
        note("second starts")
        while not await asyncio.to_thread((folder / "go").exists):  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.05)
        note("second")
        return {"done": "yes"}

    builder = StateGraph(State)
    builder.add_sequence([("first", first), ("second", second)])
    builder.add_edge(START, "first")
    return builder.compile(name="restarted")


PROGRAM = textwrap.dedent(
    """
    import asyncio, sys
    from pathlib import Path
    from langgraph_temporal_exec import TemporalSaver
    from tests.faults.test_embedded_restart import CONFIG, HEARTBEAT, build
    async def main():
        folder = Path(sys.argv[1])
        async with TemporalSaver.local(folder / "t.db", heartbeat_timeout=HEARTBEAT) as saver:
            await build(folder).with_config(checkpointer=saver).ainvoke({}, CONFIG)
    asyncio.run(main())
    """
)


@pytest.mark.timeout(240)
async def test_the_next_process_finishes_the_run(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, str(tmp_path), cwd=ROOT
    )
    try:
        await _until(lambda: "second starts" in _ran(tmp_path))
    finally:
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
    (tmp_path / "go").touch()
    async with (
        asyncio.timeout(180),
        TemporalSaver.local(tmp_path / "t.db", heartbeat_timeout=HEARTBEAT) as saver,
    ):
        graph = build(tmp_path).with_config(checkpointer=saver)
        assert await graph.ainvoke(None, CONFIG) == {"done": "yes"}
    assert _ran(tmp_path) == ["first", "second starts", "second starts", "second"]


def _ran(folder: Path) -> list[str]:
    path = folder / "ran"
    return path.read_text().splitlines() if path.exists() else []


async def _until(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the first process did not get to its second node"
        await asyncio.sleep(0.1)
