"""The process of a test that runs two turns, and kills itself at a named point of the second."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import types
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from langgraph.graph import START, StateGraph
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.caller import admitted
from tests.faults.ledger import Ledger
from tests.faults.points import Interceptor, Points, log_into
from tests.support.graphs import State, config

SERVING = "serving"
"""File of a process that only serves, when it does."""

OPTIONS: dict[str, Any] = {"heartbeat_timeout": timedelta(seconds=2), "affinity": "none"}
"""Nobody waits for a home that is dead."""


def _idle(seconds: float, state: Any) -> Any:
    time.sleep(seconds)
    return {"x": []}


def build(root: Path, *, dies: bool = False, beside: bool = False) -> Any:
    """One node, which notes that it runs.

    Args:
        root: Folder of the notes.
        dies: Whether the process dies when the second turn's result is in history, and has led to
            nothing.
        beside: Whether to build the graph of a process that dies so, to go on with.
    """

    def counted(before: int, seen: int) -> int:
        if dies and seen == 3:
            # The workflow has taken the result in by then, or there is nothing to be seen.
            time.sleep(2)
            os.kill(os.getpid(), signal.SIGKILL)
        return seen

    async def node(state: Any) -> Any:
        await Ledger(root).execute(f"turn-{len(state['x']) // 2}")
        return {"x": ["."], "seen": len(state["x"])}

    def sync_node(state: Any) -> Any:
        Ledger(root).execute_blocking(f"turn-{len(state['x']) // 2}")
        return {"x": ["."], "seen": len(state["x"])}

    # A class would look its reducer up among the names of this module.
    turns: Any = types.new_class(
        "Turns",
        (State,),
        {"total": False},
        lambda ns: ns.update(__annotations__={"seen": Annotated[int, counted]}),
    )
    builder = StateGraph(turns).add_node("node", sync_node if dies else node)
    if dies or beside:
        # Of the results at least two lead to nothing, one after the other.
        for number in (1, 2):
            name = f"beside-{number}"
            builder.add_node(name, partial(_idle, number / 2)).add_edge(START, name)
    return builder.add_edge(START, "node").compile(name="turns")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the process is to do."""

    address: str
    task_queue: str
    thread_id: str
    folder: Path
    kill: str = ""
    dies: bool = False  # see ``build``
    serves: bool = False  # only, for calls from elsewhere


def main(plan: Plan) -> None:
    """Target of the process."""
    log_into(plan.folder)
    # So long after its death another process takes the run.
    admitted.UNDRIVEN_S = 5.0
    asyncio.run(_main(plan))


async def _main(plan: Plan) -> None:
    points = Points(folder=plan.folder, kill=plan.kill)
    client = await Client.connect(plan.address, interceptors=[Interceptor(points)])
    saver = TemporalSaver(client, task_queue=plan.task_queue, **OPTIONS)
    graph = build(plan.folder, dies=plan.dies).with_config(checkpointer=saver)
    async with saver.worker(graph):
        if plan.serves:
            (plan.folder / SERVING).touch()
            await asyncio.Event().wait()
        await graph.ainvoke({"x": ["in"]}, config(plan.thread_id))
        points.arm()
        if plan.dies:
            # Its writes are on their way while it dies.
            await asyncio.to_thread(graph.invoke, {"x": ["in"]}, config(plan.thread_id))
        await graph.ainvoke({"x": ["in"]}, config(plan.thread_id))
