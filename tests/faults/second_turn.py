"""The process of a test that runs two turns, and kills itself at a named point of the second."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
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


_DIES = threading.Event()
"""Set where the process is to die when the second turn's results are in history, and have led to
nothing."""


def _counted(before: int, seen: int) -> int:
    if _DIES.is_set() and seen == 3:
        # The workflow has taken the results in by then, or there is nothing to be seen.
        time.sleep(2)
        os.kill(os.getpid(), signal.SIGKILL)
    return seen


class Turns(State, total=False):
    seen: Annotated[int, _counted]


def _idle(seconds: float, state: Turns) -> Turns:
    time.sleep(seconds)
    return {"x": []}


def build(root: Path, *, wide: bool = False) -> Any:
    """One node, which notes that it runs.

    Args:
        root: Folder of the notes.
        wide: Whether two others run beside it, and end later: then its result, and that of one of
            them, lead to nothing. All are sync.
    """

    async def node(state: Turns) -> Turns:
        await Ledger(root).execute(f"turn-{len(state['x']) // 2}")
        return {"x": ["."]}

    def sync_node(state: Turns) -> Turns:
        Ledger(root).execute_blocking(f"turn-{len(state['x']) // 2}")
        return {"x": ["."], "seen": len(state["x"])}

    builder = StateGraph(Turns).add_node("node", sync_node if wide else node)
    for number in (1, 2) if wide else ():
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
    dies: bool = False  # see ``_DIES``; the graph is wide
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
    graph = build(plan.folder, wide=plan.dies).with_config(checkpointer=saver)
    async with saver.worker(graph):
        if plan.serves:
            (plan.folder / SERVING).touch()
            await asyncio.Event().wait()
        await graph.ainvoke({"x": ["in"]}, config(plan.thread_id))
        points.arm()
        if plan.dies:
            _DIES.set()
            # Its writes are on their way while it dies.
            await asyncio.to_thread(graph.invoke, {"x": ["in"]}, config(plan.thread_id))
        await graph.ainvoke({"x": ["in"]}, config(plan.thread_id))
