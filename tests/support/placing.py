"""Graphs whose nodes tell where they run, and workers in processes of their own that serve them.

Run as a program, it is such a worker.
"""

from __future__ import annotations

import argparse
import asyncio
import operator
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send, interrupt
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from tests.support.warm import WARM

ROOT = Path(__file__).resolve().parents[2]
READY = "serves tasks"
HEARTBEAT = timedelta(seconds=1)


class State(TypedDict):
    x: Annotated[list[Any], operator.add]


class Part(TypedDict):
    i: int


def mark(name: str) -> str:
    """Put a mark into the folder of the test that says where something ran; its text."""
    folder = Path(os.environ["PLACING"])
    (folder / f"{name}.{os.getpid()}").touch()
    return name


def ran(folder: Path, name: str) -> set[int]:
    """The processes in which something ran."""
    return {int(path.suffix[1:]) for path in folder.glob(f"{name}.*")}


async def gate(name: str) -> None:
    """Wait until the test opens a gate."""
    while not (Path(os.environ["PLACING"]) / f"open-{name}").exists():  # noqa: ASYNC110 # another process
        await asyncio.sleep(0.02)


def everything() -> Any:
    """A node with a stream of its own, a nested graph that streams and asks, and what follows."""

    async def inner_first(state: State) -> State:
        get_stream_writer()("inner")
        return {"x": [mark("first")]}

    async def inner_ask(state: State) -> State:
        return {"x": [mark(f"answer {interrupt('inner question')}")]}

    inner = (
        StateGraph(State)
        .add_node("first", inner_first)
        .add_node("ask", inner_ask)
        .add_edge(START, "first")
        .add_edge("first", "ask")
        .compile()
    )

    async def before(state: State) -> State:
        return {"x": [mark("before")]}

    async def work(state: State) -> State:
        get_stream_writer()("working")
        mark("work")
        result = await inner.ainvoke({"x": ["in"]})
        get_stream_writer()("worked")
        return {"x": result["x"]}

    async def after(state: State) -> State:
        return {"x": [mark("after")]}

    return (
        StateGraph(State)
        .add_node("before", before)
        .add_node("work", work)
        .add_node("after", after)
        .add_edge(START, "before")
        .add_edge("before", "work")
        .add_edge("work", "after")
        .compile(name="everything")
    )


def fan(width: int = 12) -> Any:
    """Many tasks in one superstep."""

    async def plan(state: State) -> State:
        return {"x": []}

    def part(state: Part) -> State:
        mark("part")
        return {"x": [state["i"]]}

    return (
        StateGraph(State)
        .add_node("plan", plan)
        .add_node("part", part)
        .add_edge(START, "plan")
        .add_conditional_edges(
            "plan", lambda _: [Send("part", {"i": i}) for i in range(width)], ["part"]
        )
        .add_edge("part", END)
        .compile(name="fan")
    )


def slow() -> Any:
    """A node that waits for a gate."""

    async def work(state: State) -> State:
        mark("begun")
        await gate("work")
        return {"x": [mark("done")]}

    async def beside(state: State) -> State:
        return {"x": [mark("beside")]}

    return (
        StateGraph(State)
        .add_node("work", work)
        .add_node("beside", beside)
        .add_edge(START, "work")
        .add_edge(START, "beside")
        .compile(name="slow")
    )


def graphs() -> dict[str, Any]:
    """All of them."""
    return {g.name: g for g in (everything(), fan(), slow())}


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--task-queue", required=True)
    parser.add_argument("--id-prefix", required=True)
    args = parser.parse_args()
    saver = TemporalSaver(
        await Client.connect(args.address),
        task_queue=args.task_queue,
        id_prefix=args.id_prefix,
        heartbeat_timeout=HEARTBEAT,
    )
    async with saver.worker(graphs()):
        print(READY, flush=True)
        await asyncio.Event().wait()


@asynccontextmanager
async def workers(
    address: str, task_queues: Sequence[str], id_prefix: str, folder: Path
) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """Worker processes, one for each of the task queues."""
    processes = []
    try:
        for task_queue in task_queues:
            process = await asyncio.create_subprocess_exec(
                *(WARM, "-m", "tests.support.placing", "--address", address),
                *("--task-queue", task_queue, "--id-prefix", id_prefix),
                cwd=ROOT,
                env={**os.environ, "PLACING": str(folder)},
                stdout=asyncio.subprocess.PIPE,
            )
            processes.append(process)
        for process in processes:
            assert process.stdout is not None
            line = (await process.stdout.readline()).decode()
            assert READY in line, line
        yield processes
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
            await process.wait()


if __name__ == "__main__":
    asyncio.run(main())
