"""The process of a test that runs two turns, and kills itself at a named point of the second."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

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


def build(root: Path) -> Any:
    """One node, which notes that it runs."""

    async def node(state: State) -> State:
        await Ledger(root).execute(f"turn-{len(state['x']) // 2}")
        return {"x": ["."]}

    return StateGraph(State).add_node("node", node).add_edge(START, "node").compile(name="turns")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the process is to do."""

    address: str
    task_queue: str
    thread_id: str
    folder: Path
    kill: str
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
    graph = build(plan.folder).with_config(checkpointer=saver)
    async with saver.worker(graph):
        if plan.serves:
            (plan.folder / SERVING).touch()
            await asyncio.Event().wait()
        await graph.ainvoke({"x": ["in"]}, config(plan.thread_id))
        points.arm()
        await graph.ainvoke({"x": ["in"]}, config(plan.thread_id))
