"""Graphs whose nodes tell where they run, and workers in processes of their own that serve them.

Run as a program, it is such a worker.
"""

from __future__ import annotations

import argparse
import asyncio
import operator
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.tools import tool
from langgraph.channels import UntrackedValue
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send, interrupt
from temporalio.client import Client

from langgraph_temporal_exec import NodeOptions, TemporalSaver
from tests.parity.scenarios.fakes import Scripted, Turn
from tests.parity.stage import LEDGER
from tests.support.warm import WARM

ROOT = Path(__file__).resolve().parents[2]
READY = "serves tasks"
HEARTBEAT = timedelta(seconds=2)


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


async def until(happened: Callable[[], bool]) -> None:
    """Wait for what another process does."""
    while not happened():  # noqa: ASYNC110 # it sets no event here
        await asyncio.sleep(0.02)


async def gate(name: str) -> None:
    """Wait until the test opens a gate."""
    await until((Path(os.environ["PLACING"]) / f"open-{name}").exists)


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

    def plan(state: State) -> State:
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
        try:
            await gate("work")
        except asyncio.CancelledError:
            mark("cancelled")
            raise
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


command_line = slow()
"""As the worker command finds it."""


def nested_node() -> Any:
    """Two graphs that have a node of the same name, one nested in the other as a node."""

    async def inner(state: State) -> State:
        return {"x": [mark("inner work")]}

    async def outer(state: State) -> State:
        return {"x": [mark("outer work")]}

    builder = StateGraph(State).add_node("work", inner).add_edge(START, "work")
    return (
        StateGraph(State)
        .add_node("work", outer)
        .add_node("nested", builder.compile(name="inside"))
        .add_edge(START, "work")
        .add_edge("work", "nested")
        .compile(name="nested_node")
    )


def leaving(*, sync: bool) -> Any:
    """A node that raises what ends programs, unless told to stay."""
    raised = {"exit": SystemExit(3), "interrupt": KeyboardInterrupt(), "close": GeneratorExit()}

    def work(state: State) -> State:
        if state["x"][0] in raised:
            raise raised[state["x"][0]]
        return {"x": [os.getpid()]}

    async def awork(state: State) -> State:
        return work(state)

    return (
        StateGraph(State)
        .add_node("work", work if sync else awork)
        .add_edge(START, "work")
        .compile(name=f"leaving_{sync}")
    )


class Hidden(TypedDict):
    x: Annotated[list[Any], operator.add]
    live: Annotated[Any, UntrackedValue]


def untravelled() -> Any:
    """Nodes that read and write what no checkpoint holds."""

    async def make(state: Hidden) -> Any:
        return {"live": "of this process"} if state["x"] == ["untracked"] else {"x": []}

    async def work(state: Hidden) -> Any:
        mark("work")
        return {"live": "of that process"} if state["x"] == ["writes"] else {"x": ["worked"]}

    return (
        StateGraph(Hidden)
        .add_node("make", make)
        .add_node("work", work)
        .add_edge(START, "make")
        .add_edge("make", "work")
        .compile(name="untravelled")
    )


@tool
async def render(scene: str) -> str:
    """Renders a scene."""
    return mark(f"rendered {scene}")


@tool
async def search(query: str) -> str:
    """Searches."""
    return mark(f"searched {query}")


def painter(checkpointer: Any = None) -> Any:
    """An agent with two tools that are called at once."""
    # Not there with the lowest versions.
    from langchain.agents import create_agent

    calls: list[Turn] = [
        [("render", {"scene": "a"}), ("search", {"query": "b"}), ("render", {"scene": "c"})],
        "painted",
    ]
    return create_agent(
        model=Scripted(scripts={"paint": calls}), tools=[render, search], name="painter"
    )


def graphs() -> dict[str, Any]:
    """All of them."""
    made = [everything(), fan(), slow(), nested_node(), untravelled()]
    made += [leaving(sync=sync) for sync in (False, True)]
    if find_spec("langchain"):
        made.append(painter())
    return {g.name: g for g in made}


async def serve(served: dict[str, Any]) -> None:
    """Be a worker, as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--task-queue", required=True)
    parser.add_argument("--id-prefix", required=True)
    parser.add_argument("--elsewhere", help="task queue of the nodes called `work`")
    args = parser.parse_args()
    elsewhere = {"work": NodeOptions(task_queue=args.elsewhere)} if args.elsewhere else None
    saver = TemporalSaver(
        await Client.connect(args.address),
        task_queue=args.task_queue,
        id_prefix=args.id_prefix,
        heartbeat_timeout=HEARTBEAT,
        nodes=elsewhere,
    )
    async with saver.worker(served):
        print(READY, flush=True)
        await asyncio.Event().wait()


@asynccontextmanager
async def workers(
    address: str,
    task_queues: Sequence[str],
    id_prefix: str,
    folder: Path,
    program: str = "tests.support.placing",
    elsewhere: str = "",
) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """Worker processes, one for each of the task queues."""
    processes = []
    try:
        for task_queue in task_queues:
            process = await asyncio.create_subprocess_exec(
                *(WARM, "-m", program, "--address", address),
                *("--task-queue", task_queue, "--id-prefix", id_prefix),
                *(("--elsewhere", elsewhere) if elsewhere else ()),
                cwd=ROOT,
                env={**os.environ, "PLACING": str(folder), LEDGER: str(folder)},
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
    asyncio.run(serve(graphs()))
