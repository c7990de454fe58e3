"""A process dies while a run begins without having asked for its thread."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.protocol import names
from tests.conftest import TemporalServer
from tests.faults import second_turn
from tests.faults.ledger import ONCE, Ledger, Ran
from tests.faults.points import Points
from tests.support.graphs import config
from tests.support.reading import check_without_worker

CASE_S = 100.0
"""Bound of a case. Not a measure of speed."""

BEGIN, HANDLED = f"update:{names.BEGIN_UPDATE}", f"handle:{names.BEGIN_UPDATE}"

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload([second_turn.__name__])


pytestmark = pytest.mark.long

at_every_point = pytest.mark.parametrize(
    ("kill", "ran"),
    [
        (f"before {BEGIN}", ONCE),
        (f"before {HANDLED}", ONCE),
        ("before task-node", ONCE),
        ("after task-node", Ran(2, 2)),
        # Answered when the outcome is recorded.
        (f"after {HANDLED}", ONCE),
        (f"after {BEGIN}", ONCE),
    ],
)


@pytest.fixture
def plan(
    temporal_server: TemporalServer, task_queue: str, thread_id: str, tmp_path: Path
) -> second_turn.Plan:
    """Two turns, in which nothing happens."""
    return second_turn.Plan(
        address=temporal_server.address,
        task_queue=task_queue,
        thread_id=thread_id,
        folder=tmp_path,
    )


def started(plan: second_turn.Plan) -> Any:
    process = processes.Process(target=second_turn.main, args=(plan,))
    process.start()
    return process


async def killed(process: Any, plan: second_turn.Plan) -> None:
    """Wait until the process has killed itself."""
    while process.exitcode is None:  # noqa: ASYNC110 # another process's event
        await asyncio.sleep(0.05)
    assert process.exitcode == -signal.SIGKILL, (plan.folder / "victim.log").read_text()


async def result_of(saver: TemporalSaver, plan: second_turn.Plan) -> Any:
    """The result of the run that the process has begun after it was armed."""
    run_id = names.run_id_of(Points(folder=plan.folder).run())
    return await (await saver.aget_run(run_id)).aresult()


@at_every_point
async def test_the_run_finishes(
    client: Client, plan: second_turn.Plan, kill: str, ran: Ran
) -> None:
    process = started(replace(plan, kill=kill))
    saver = TemporalSaver(client, task_queue=plan.task_queue, **second_turn.OPTIONS)
    graph = second_turn.build(plan.folder).with_config(checkpointer=saver)
    async with asyncio.timeout(CASE_S):
        await killed(process, plan)
        async with saver.worker(graph):
            assert (await result_of(saver, plan))["x"] == ["in", "."] * 2
            # And the next one, of another process.
            third = await graph.ainvoke({"x": ["in"]}, config(plan.thread_id))
            assert third["x"] == ["in", "."] * 3
            await check_without_worker(saver, plan.thread_id)
    assert Ledger(plan.folder).ran() == {"turn-0": ONCE, "turn-1": ran, "turn-2": ONCE}


@at_every_point
async def test_the_run_of_a_caller_elsewhere_finishes(
    client: Client, plan: second_turn.Plan, kill: str, ran: Ran
) -> None:
    process = started(replace(plan, kill=kill, serves=True))
    options = {"task_queue": plan.task_queue, **second_turn.OPTIONS}
    caller = TemporalSaver(client, **options)
    graph = second_turn.build(plan.folder).with_config(checkpointer=caller)
    at = config(plan.thread_id)
    async with asyncio.timeout(CASE_S):
        while not (plan.folder / second_turn.SERVING).exists():  # noqa: ASYNC110 # as in `killed`
            await asyncio.sleep(0.05)
        await graph.ainvoke({"x": ["in"]}, at)
        Points(folder=plan.folder).arm()
        call = asyncio.create_task(graph.ainvoke({"x": ["in"]}, at))
        await killed(process, plan)
        other = await Client.connect(plan.address)
        async with TemporalSaver(other, **options).worker(graph):
            assert (await call)["x"] == ["in", "."] * 2
            assert (await graph.ainvoke({"x": ["in"]}, at))["x"] == ["in", "."] * 3
            await check_without_worker(caller, plan.thread_id)
    assert Ledger(plan.folder).ran() == {"turn-0": ONCE, "turn-1": ran, "turn-2": ONCE}
    caller.close()


async def test_a_result_that_led_to_nothing_comes_before_the_next_attempt(
    client: Client, plan: second_turn.Plan
) -> None:
    """Also for a worker that replays the thread later (temporalio/sdk-python#1591)."""
    process = started(replace(plan, dies=True))
    saver = TemporalSaver(client, task_queue=plan.task_queue, **second_turn.OPTIONS)
    graph = second_turn.build(plan.folder, wide=True).with_config(checkpointer=saver)
    async with asyncio.timeout(CASE_S):
        await killed(process, plan)
        async with saver.worker(graph):
            assert (await result_of(saver, plan))["x"] == ["in", "."] * 2
            await check_without_worker(saver, plan.thread_id)
    assert Ledger(plan.folder).ran() == {"turn-0": ONCE, "turn-1": ONCE}
