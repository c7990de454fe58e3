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
from tests.studio.graphs import gated


async def _thread(sdk: LangGraphClient) -> str:
    thread_id: str = (await sdk.threads.create())["thread_id"]
    return thread_id


async def _in_the_server(
    sdk: LangGraphClient, dev: DevServer, script: TemporalSaver, thread_id: str, gate: str
) -> Any:
    run = await sdk.runs.create(thread_id, "gated", input={"steps": ["one"], "gate": gate})
    await dev.runs_of(gate)
    return run


async def _by_a_script(
    sdk: LangGraphClient, dev: DevServer, script: TemporalSaver, thread_id: str, gate: str
) -> Any:
    graph = gated.with_config(checkpointer=script)
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
        await sdk.runs.create(thread_id, "gated", input=SECOND, multitask_strategy="reject")
    # Nor may its state be changed under the run.
    with pytest.raises(ConflictError):
        await sdk.threads.update_state(thread_id, {"steps": ["x"]}, as_node="before")
    dev_server.open(gate)
    await _idle(sdk, thread_id)
    state: Any = await sdk.threads.get_state(thread_id)
    assert state["values"]["steps"] == ["one", "before", f"slow {gate}"]


async def test_enqueue(
    sdk: LangGraphClient, dev_server: DevServer, script: TemporalSaver, first: Any, gate: str
) -> None:
    thread_id = await _thread(sdk)
    await first(sdk, dev_server, script, thread_id, gate)
    dev_server.open("open")
    second = asyncio.create_task(sdk.runs.wait(thread_id, "gated", input=SECOND))
    await until(lambda: _runs(sdk, thread_id), len)
    assert not second.done()
    dev_server.open(gate)
    done: Any = await second
    assert done["steps"] == ["one", "before", f"slow {gate}", "two", "before", "slow open"]


async def test_interrupt(
    sdk: LangGraphClient, dev_server: DevServer, script: TemporalSaver, first: Any, gate: str
) -> None:
    thread_id = await _thread(sdk)
    await first(sdk, dev_server, script, thread_id, gate)
    dev_server.open("open")
    if first is _by_a_script:
        # Ours ends a run of somebody else after the superstep that is under way.
        asyncio.get_running_loop().call_later(1, dev_server.open, gate)
    done: Any = await sdk.runs.wait(
        thread_id, "gated", input=SECOND, multitask_strategy="interrupt"
    )
    assert done["steps"][:2] == ["one", "before"]
    assert done["steps"][-3:] == ["two", "before", "slow open"]


async def test_rollback(
    sdk: LangGraphClient, dev_server: DevServer, script: TemporalSaver, first: Any, gate: str
) -> None:
    thread_id = await _thread(sdk)
    run = await first(sdk, dev_server, script, thread_id, gate)
    dev_server.open("open")
    done: Any = await sdk.runs.wait(thread_id, "gated", input=SECOND, multitask_strategy="rollback")
    assert done["steps"] == ["two", "before", "slow open"]
    await dev_server.cancelled(gate)
    if first is _by_a_script:
        with pytest.raises(RunCancelledError):
            await run.aresult()


async def _runs(sdk: LangGraphClient, thread_id: str) -> Any:
    return await sdk.runs.list(thread_id)


async def _idle(sdk: LangGraphClient, thread_id: str) -> None:
    async def status() -> Any:
        return (await sdk.threads.get(thread_id))["status"]

    await until(status, lambda s: s == "idle")
