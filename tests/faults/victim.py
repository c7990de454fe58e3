"""The process of a test that kills itself at a named point, and the graph it runs.

Forked from a process that has imported all this already: there is one for every point.
"""

from __future__ import annotations

import asyncio
import contextlib
import operator
import random
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.caller import admitted
from langgraph_temporal_exec.worker import outbox
from tests.faults.ledger import Ledger
from tests.faults.points import Interceptor, Points, log_into


class Log(TypedDict):
    """Everything that was applied, in order: what is applied twice is in it twice."""

    log: Annotated[list[str], operator.add]


def build(root: Path) -> Any:
    """A step, a question, a step."""
    ledger = Ledger(root)

    async def first(state: Log) -> Log:
        await ledger.execute("first")
        return {"log": ["first"]}

    async def ask(state: Log) -> Log:
        answer = interrupt("sure?")
        await ledger.execute("ask")
        return {"log": [f"answered {answer}"]}

    async def last(state: Log) -> Log:
        await ledger.execute("last")
        return {"log": ["last"]}

    builder = StateGraph(Log)
    builder.add_sequence([("first", first), ("ask", ask), ("last", last)])
    builder.add_edge(START, "first")
    return builder.compile(name="points")


INPUT: Log = {"log": ["input"]}
# Nothing makes it smaller, so that it is stored outside the log.
LARGE: Log = {"log": [random.Random(0).randbytes(400_000).hex()]}
ANSWER: Command[Any] = Command(resume="yes")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a process is to do, and where it dies."""

    address: str
    task_queue: str
    thread_id: str
    folder: Path
    mode: str  # of points.POINTS
    given: str  # "fresh", "large" or "answer"
    kill: str = ""  # "before start-run"
    carries: bool = True
    """Whether the results of tasks carry steps: in every case, however slow the machine is, or in
    none."""
    driven: bool = False
    """Whether runs of this process wait for their drive Activities, or most of them report."""

    @property
    def heartbeat(self) -> timedelta:
        """Short where a worker dies; else nothing may be taken for dead on a busy machine."""
        return timedelta(seconds=2 if self.mode in ("embedded", "worker") else 60)

    @property
    def config(self) -> RunnableConfig:
        return {"configurable": {"thread_id": self.thread_id}}

    @property
    def points(self) -> Points:
        return Points(folder=self.folder, kill=self.kill)

    @property
    def input(self) -> Any:
        return {"fresh": INPUT, "large": LARGE, "answer": ANSWER}[self.given]


def main(plan: Plan) -> None:
    """Target of the process."""
    log_into(plan.folder)
    # Longer than the run takes; if the process is killed, the next one waits for so long.
    admitted.UNDRIVEN_S = 0.0 if plan.driven else 15.0 if plan.kill else 120.0
    outbox.CARRIED_QUIET_S = 60.0
    outbox.HOLD_S = 60.0 if plan.carries else 0.0
    asyncio.run(_main(plan))


async def _main(plan: Plan) -> None:
    client = await Client.connect(plan.address, interceptors=[Interceptor(plan.points)])
    saver = TemporalSaver(client, task_queue=plan.task_queue, heartbeat_timeout=plan.heartbeat)
    graph = build(plan.folder).with_config(checkpointer=saver)
    hosts = plan.mode in ("embedded", "worker")
    try:
        async with saver.worker(graph) if hosts else contextlib.nullcontext():
            if plan.mode == "worker":
                (plan.folder / "serving").touch()
                await asyncio.Event().wait()
            await _call(plan, graph, saver)
    finally:
        plan.points.at("before", "close")
        saver.close()
        plan.points.at("after", "close")


async def _call(plan: Plan, graph: Any, saver: TemporalSaver) -> None:
    points = plan.points
    if plan.given == "answer":
        await question(graph, saver, plan)
    points.arm()
    if plan.mode == "background":
        await saver.astart(graph, plan.input, plan.config)
    else:
        async with aclosing(graph.astream(plan.input, plan.config, stream_mode="values")) as chunks:
            async for _ in chunks:
                points.at("after", "chunk")
    points.at("after", "returned")


async def question(graph: Any, saver: TemporalSaver, plan: Plan) -> None:
    """The run before the answer: over to its last trace, so that none of it counts as a point."""
    await graph.ainvoke(replace(plan, given="fresh").input, plan.config)
    async for run in saver.alist_runs(plan.thread_id):
        await run.aresult()
