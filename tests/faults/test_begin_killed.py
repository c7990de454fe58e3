"""A process dies while a run begins without having asked for its thread."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from pathlib import Path

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


@pytest.mark.long
@pytest.mark.parametrize(
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
async def test_the_run_finishes(
    client: Client,
    temporal_server: TemporalServer,
    task_queue: str,
    thread_id: str,
    tmp_path: Path,
    kill: str,
    ran: Ran,
) -> None:
    plan = second_turn.Plan(
        address=temporal_server.address,
        task_queue=task_queue,
        thread_id=thread_id,
        folder=tmp_path,
        kill=kill,
    )
    process = processes.Process(target=second_turn.main, args=(plan,))
    process.start()
    saver = TemporalSaver(client, task_queue=task_queue, **second_turn.OPTIONS)
    graph = second_turn.build(tmp_path).with_config(checkpointer=saver)
    async with asyncio.timeout(CASE_S):
        while process.exitcode is None:  # noqa: ASYNC110 # another process's event
            await asyncio.sleep(0.05)
        assert process.exitcode == -signal.SIGKILL, (tmp_path / "victim.log").read_text()
        async with saver.worker(graph):
            run_id = names.run_id_of(Points(folder=tmp_path).run())
            result = await (await saver.aget_run(run_id)).aresult()
            assert result["x"] == ["in", "."] * 2
            # And the next one, of another process.
            assert (await graph.ainvoke({"x": ["in"]}, config(thread_id)))["x"] == ["in", "."] * 3
            await check_without_worker(saver, thread_id)
    assert Ledger(tmp_path).ran() == {"turn-0": ONCE, "turn-1": ran, "turn-2": ONCE}


@pytest.mark.long
@pytest.mark.parametrize(
    ("kill", "ran"),
    [
        (f"before {BEGIN}", ONCE),
        (f"before {HANDLED}", ONCE),
        ("before task-node", ONCE),
        ("after task-node", Ran(2, 2)),
        (f"after {HANDLED}", ONCE),
        (f"after {BEGIN}", ONCE),
    ],
)
async def test_the_run_of_a_caller_elsewhere_finishes(
    client: Client,
    temporal_server: TemporalServer,
    task_queue: str,
    thread_id: str,
    tmp_path: Path,
    kill: str,
    ran: Ran,
) -> None:
    plan = second_turn.Plan(
        address=temporal_server.address,
        task_queue=task_queue,
        thread_id=thread_id,
        folder=tmp_path,
        kill=kill,
        serves=True,
    )
    process = processes.Process(target=second_turn.main, args=(plan,))
    process.start()
    options = {"task_queue": task_queue, **second_turn.OPTIONS}
    caller = TemporalSaver(client, **options)
    graph = second_turn.build(tmp_path).with_config(checkpointer=caller)
    async with asyncio.timeout(CASE_S):
        while not (tmp_path / second_turn.SERVING).exists():  # noqa: ASYNC110 # as below
            await asyncio.sleep(0.05)
        await graph.ainvoke({"x": ["in"]}, config(thread_id))
        Points(folder=tmp_path).arm()
        call = asyncio.create_task(graph.ainvoke({"x": ["in"]}, config(thread_id)))
        while process.exitcode is None:  # noqa: ASYNC110 # another process's event
            await asyncio.sleep(0.05)
        assert process.exitcode == -signal.SIGKILL, (tmp_path / "victim.log").read_text()
        other = await Client.connect(temporal_server.address)
        async with TemporalSaver(other, **options).worker(graph):
            assert (await call)["x"] == ["in", "."] * 2
            assert (await graph.ainvoke({"x": ["in"]}, config(thread_id)))["x"] == ["in", "."] * 3
            await check_without_worker(caller, thread_id)
    assert Ledger(tmp_path).ran() == {"turn-0": ONCE, "turn-1": ran, "turn-2": ONCE}
    caller.close()


@pytest.mark.long
async def test_a_result_that_led_to_nothing_comes_before_the_next_attempt(
    client: Client,
    temporal_server: TemporalServer,
    task_queue: str,
    thread_id: str,
    tmp_path: Path,
) -> None:
    """Also for a worker that replays the thread later (temporalio/sdk-python#1591)."""
    plan = second_turn.Plan(
        address=temporal_server.address,
        task_queue=task_queue,
        thread_id=thread_id,
        folder=tmp_path,
        dies=True,
    )
    process = processes.Process(target=second_turn.main, args=(plan,))
    process.start()
    saver = TemporalSaver(client, task_queue=task_queue, **second_turn.OPTIONS)
    graph = second_turn.build(tmp_path, beside=True).with_config(checkpointer=saver)
    async with asyncio.timeout(CASE_S):
        while process.exitcode is None:  # noqa: ASYNC110 # another process's event
            await asyncio.sleep(0.05)
        assert process.exitcode == -signal.SIGKILL, (tmp_path / "victim.log").read_text()
        async with saver.worker(graph):
            run_id = names.run_id_of(Points(folder=tmp_path).run())
            result = await (await saver.aget_run(run_id)).aresult()
            assert result["x"] == ["in", "."] * 2
            await check_without_worker(saver, thread_id)
    assert Ledger(tmp_path).ran() == {"turn-0": ONCE, "turn-1": ONCE}
