"""Two runs on one thread: the server's strategies, also against a run driven outside it."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError

from langgraph_temporal_exec import RunCancelledError, TemporalSaver
from tests.studio.dev import DevServer, until
from tests.studio.graphs import longer


async def _thread(sdk: LangGraphClient) -> str:
    thread_id: str = (await sdk.threads.create())["thread_id"]
    return thread_id


async def _in_the_server(
    sdk: LangGraphClient, dev: DevServer, script: TemporalSaver, thread_id: str, gate: str
) -> Any:
    run = await sdk.runs.create(thread_id, "longer", input={"steps": ["one"], "gate": gate})
    await dev.runs_of(gate)
    return run


async def _by_a_script(
    sdk: LangGraphClient, dev: DevServer, script: TemporalSaver, thread_id: str, gate: str
) -> Any:
    graph = longer.with_config(checkpointer=script)
    config: Any = {"configurable": {"thread_id": thread_id}}
    run = await script.astart(graph, {"steps": ["one"], "gate": gate}, config)
    await dev.runs_of(gate)
    return run


FIRST = {"server": _in_the_server, "script": _by_a_script}
SECOND: Any = {"steps": ["two"], "gate": "open"}


@pytest.fixture(params=sorted(FIRST))
def first(request: pytest.FixtureRequest) -> Any:
    """Who drives the run that is there first."""
    return FIRST[request.param]


@pytest.fixture
def gate() -> str:
    return uuid.uuid4().hex


async def test_reject(
    sdk: LangGraphClient, dev_server: DevServer, script: TemporalSaver, first: Any, gate: str
) -> None:
    thread_id = await _thread(sdk)
    await first(sdk, dev_server, script, thread_id, gate)
    with pytest.raises(ConflictError):
        await sdk.runs.create(thread_id, "longer", input=SECOND, multitask_strategy="reject")
    # Nor may its state be changed under the run.
    with pytest.raises(ConflictError):
        await sdk.threads.update_state(thread_id, {"steps": ["x"]}, as_node="before")
    dev_server.open(gate)
    await _idle(sdk, thread_id)
    state: Any = await sdk.threads.get_state(thread_id)
    assert state["values"]["steps"] == ["one", "before", f"slow {gate}", "after"]


async def test_enqueue(
    sdk: LangGraphClient, dev_server: DevServer, script: TemporalSaver, first: Any, gate: str
) -> None:
    thread_id = await _thread(sdk)
    await first(sdk, dev_server, script, thread_id, gate)
    dev_server.open("open")
    second = asyncio.create_task(sdk.runs.wait(thread_id, "longer", input=SECOND))
    await until(lambda: _runs(sdk, thread_id), len)
    assert not second.done()
    dev_server.open(gate)
    done: Any = await second
    first_steps = ["one", "before", f"slow {gate}", "after"]
    assert done["steps"] == [*first_steps, "two", "before", "slow open", "after"]


async def test_interrupt(
    sdk: LangGraphClient, dev_server: DevServer, script: TemporalSaver, first: Any, gate: str
) -> None:
    thread_id = await _thread(sdk)
    run = await first(sdk, dev_server, script, thread_id, gate)
    dev_server.open("open")
    second = asyncio.create_task(
        sdk.runs.wait(thread_id, "longer", input=SECOND, multitask_strategy="interrupt")
    )
    if first is _by_a_script:
        # A run of somebody else ends after the superstep that is under way.
        await _in_line(script, thread_id)
        dev_server.open(gate)
        with pytest.raises(RunCancelledError):
            await run.aresult()
    done: Any = await second
    kept = ["one", "before", *([f"slow {gate}"] if first is _by_a_script else [])]
    assert done["steps"] == [*kept, "two", "before", "slow open", "after"]


async def test_rollback(
    sdk: LangGraphClient, dev_server: DevServer, script: TemporalSaver, first: Any, gate: str
) -> None:
    thread_id = await _thread(sdk)
    run = await first(sdk, dev_server, script, thread_id, gate)
    dev_server.open("open")
    done: Any = await sdk.runs.wait(
        thread_id, "longer", input=SECOND, multitask_strategy="rollback"
    )
    assert done["steps"] == ["two", "before", "slow open", "after"]
    await dev_server.cancelled(gate)
    if first is _by_a_script:
        with pytest.raises(RunCancelledError):
            await run.aresult()


@pytest.mark.parametrize("strategy", ["interrupt", "rollback"])
async def test_stopped_by_a_script(
    sdk: LangGraphClient, dev_server: DevServer, script: TemporalSaver, gate: str, strategy: str
) -> None:
    """A script's call stops the server's run, which tells so and has not failed."""
    thread_id = await _thread(sdk)
    run = await _in_the_server(sdk, dev_server, script, thread_id, gate)
    dev_server.open("open")
    graph = longer.with_config(checkpointer=script)
    configurable = {"thread_id": thread_id, "multitask_strategy": strategy}
    second = asyncio.create_task(graph.ainvoke(SECOND, {"configurable": configurable}))
    if strategy == "interrupt":
        await _in_line(script, thread_id)
        dev_server.open(gate)
    done = await second
    kept = ["one", "before", f"slow {gate}"] if strategy == "interrupt" else []
    assert done["steps"] == [*kept, "two", "before", "slow open", "after"]

    async def status() -> Any:
        return (await sdk.runs.get(thread_id, run["run_id"]))["status"]

    await until(status, lambda s: s == "interrupted")
    await _idle(sdk, thread_id)
    state: Any = await sdk.threads.get_state(thread_id)
    assert state["values"]["steps"] == done["steps"]


async def _in_line(script: TemporalSaver, thread_id: str) -> None:
    """Until a run waits for the thread."""

    async def waiting() -> int:
        info = await script.aget_thread(thread_id)
        return 0 if info is None else info.waiting

    await until(waiting, bool)


async def _runs(sdk: LangGraphClient, thread_id: str) -> Any:
    return await sdk.runs.list(thread_id)


async def _idle(sdk: LangGraphClient, thread_id: str) -> None:
    async def status() -> Any:
        return (await sdk.threads.get(thread_id))["status"]

    await until(status, lambda s: s == "idle")
