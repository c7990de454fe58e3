"""What ends programs ends the run that raised it, and nothing else; and programs that do end."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowExecutionStatus

from langgraph_temporal_exec import NodeExitError, TemporalSaver
from tests.faults.host import EXIT_CODE
from tests.faults.lab import HEARTBEAT_S, WAIT_S, Lab, Process
from tests.faults.leavers import KINDS, PLACES, graphs, innocent

LEAVERS = "tests.faults.leavers:graphs"


ENDS = (NodeExitError, RuntimeError)
"""Python itself makes StopIteration a RuntimeError where a coroutine or a generator raises it."""


def _config(thread: str) -> Any:
    return {"configurable": {"thread_id": thread}}


@asynccontextmanager
async def _served(mode: str, lab: Lab) -> AsyncIterator[tuple[TemporalSaver, Process | None]]:
    client = await Client.connect(lab.address)
    saver = TemporalSaver(
        client, task_queue=lab.task_queue, id_prefix="langgraph", no_worker_timeout=WAIT
    )
    try:
        if mode == "embedded":
            async with saver.worker(graphs):
                yield saver, None
        else:
            yield saver, await lab.worker(LEAVERS)
    finally:
        saver.close()


WAIT = timedelta(seconds=WAIT_S)


def _check(exc: BaseException, kind: str) -> None:
    if kind == "StopIteration":
        assert "StopIteration" in f"{exc!r} {exc.__cause__!r}", repr(exc)
    else:
        assert isinstance(exc, NodeExitError), repr(exc)
        assert f"raised {kind}" in str(exc)
        assert "langgraph." not in str(exc)


async def _leaves_and_comes_back(
    lab: Lab, saver: TemporalSaver, graph: Any, place: str, kind: str
) -> None:
    thread = f"{lab.thread_id}-{place}-{kind}"
    async with lab.bounded(f"{kind} in {place} is told"):
        with pytest.raises(ENDS) as caught:
            await graph.ainvoke({"kind": kind}, _config(thread))
    _check(caught.value, kind)
    (run,) = [run async for run in saver.alist_runs(thread)]
    with pytest.raises(ENDS):
        await run.aresult()
    assert await run.astatus() == "error"
    async with lab.bounded(f"the thread is used after {kind} in {place}"):
        result = await graph.ainvoke({"kind": ""}, _config(thread))
    assert result["seen"][-1] == "fine", (place, kind)


@pytest.mark.long
@pytest.mark.parametrize("mode", ["embedded", "remote"])
async def test_code_that_leaves_ends_its_run_alone(lab: Lab, mode: str, thread_id: str) -> None:
    flag = lab.folder / "flag"
    async with _served(mode, lab) as (saver, worker):
        beside = innocent.with_config(checkpointer=saver)
        other = asyncio.create_task(
            beside.ainvoke({"kind": str(flag)}, _config(f"{thread_id}-innocent"))
        )
        await lab.until(Path(f"{flag}.begun").exists, "the run beside begins")
        for place in PLACES:
            graph = graphs[place].with_config(checkpointer=saver)
            await asyncio.gather(
                *(_leaves_and_comes_back(lab, saver, graph, place, kind) for kind in KINDS)
            )
        flag.touch()
        assert (await other)["seen"] == ["fine"]
        (run,) = [run async for run in saver.alist_runs(f"{thread_id}-innocent")]
        attempts = [
            event
            async for event in saver.client.get_workflow_handle(
                f"langgraph/run/{run.run_id}"
            ).fetch_history_events()
            if event.HasField("activity_task_scheduled_event_attributes")
        ]
        assert len(attempts) == 1
        assert worker is None or worker.exit_code is None


@pytest.mark.parametrize("mode", ["embedded", "remote"])
async def test_however_it_is_called(lab: Lab, mode: str, thread_id: str) -> None:
    async with _served(mode, lab) as (saver, worker):
        for place in ("sync_node", "async_tools", "reducer"):
            graph = graphs[place].with_config(checkpointer=saver)
            for kind in KINDS:
                where = _config(f"{thread_id}-{place}-{kind}")
                async with lab.bounded(f"{kind} in {place} is told"):
                    run = await saver.astart(graphs[place], {"kind": kind}, where)
                    with pytest.raises(ENDS) as caught:
                        await run.aresult()
                    _check(caught.value, kind)
                    if place == "async_tools":
                        # A sync call cannot await its tool.
                        continue
                    with pytest.raises(ENDS) as caught:
                        await asyncio.to_thread(graph.invoke, {"kind": kind}, where)
                    _check(caught.value, kind)
                    result = await asyncio.to_thread(graph.invoke, {"kind": ""}, where)
                    assert result["seen"][-1] == "fine"
        assert worker is None or worker.exit_code is None


def test_a_sync_call_of_the_main_thread(lab: Lab, thread_id: str) -> None:
    """Where Python would raise KeyboardInterrupt for a Ctrl-C as well."""
    with TemporalSaver.local() as saver:
        graph = graphs["sync_node"].with_config(checkpointer=saver)
        for kind in KINDS:
            with pytest.raises(ENDS) as caught:
                graph.invoke({"kind": kind}, _config(kind))
            _check(caught.value, kind)
            assert graph.invoke({"kind": ""}, _config(kind))["seen"] == ["fine"]


HOWS = ["exit", "signals", "stop", "close"]


@pytest.mark.long
@pytest.mark.parametrize("how", HOWS)
async def test_a_host_that_is_torn_down_loses_its_runs_to_another_worker(
    lab: Lab, how: str
) -> None:
    flag, trigger = lab.folder / "flag", lab.folder / "trigger"
    begun = Path(f"{flag}.begun")
    command = [sys.executable, "-m", "tests.faults.host", "--address", lab.address]
    command += ["--task-queue", lab.task_queue, "--heartbeat", str(HEARTBEAT_S)]
    host = Process(f"host-{how}", [*command, "--how", how, "--trigger", str(trigger)], lab.folder)
    saver = TemporalSaver(
        await Client.connect(lab.address),
        task_queue=lab.task_queue,
        heartbeat_timeout=timedelta(seconds=HEARTBEAT_S),
        no_worker_timeout=WAIT,
    )
    graph = innocent.with_config(checkpointer=saver)
    try:
        call = asyncio.create_task(graph.ainvoke({"kind": str(flag)}, lab.config))
        await lab.until(begun.exists, "the run begins")
        await asyncio.to_thread(begun.unlink)
        if how == "signals":
            host.send(signal.SIGINT)
            await asyncio.sleep(0.5)
            host.send(signal.SIGINT)
        else:
            trigger.touch()
        if how in ("exit", "signals"):
            await lab.until(lambda: host.exit_code is not None, "the host ends")
            assert how != "exit" or host.exit_code == EXIT_CODE, host.report()
            await lab.worker(LEAVERS)
        await lab.until(begun.exists, "the run goes on")
        flag.touch()
        async with lab.bounded(f"the run ends\n{host.report()}"):
            assert (await call)["seen"] == ["fine"]
        (run,) = [run async for run in saver.alist_runs(lab.thread_id)]
        handle = saver.client.get_workflow_handle(f"langgraph/run/{run.run_id}")
        assert (await handle.describe()).status is WorkflowExecutionStatus.COMPLETED
    finally:
        host.discard()
        saver.close()
