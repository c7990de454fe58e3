"""Runs through the API server: answers, time travel, cancellation, failures, many at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from tests.studio.dev import DevServer, until
from tests.studio.graphs import gated


async def _thread(sdk: LangGraphClient) -> str:
    thread_id: str = (await sdk.threads.create())["thread_id"]
    return thread_id


async def test_parallel_interrupts(sdk: LangGraphClient) -> None:
    thread_id = await _thread(sdk)
    asked: Any = await sdk.runs.wait(thread_id, "both", input={})
    ids = {i["value"]: i["id"] for i in asked["__interrupt__"]}
    assert set(ids) == {"left?", "right?"}
    asked = await sdk.runs.wait(thread_id, "both", command={"resume": {ids["left?"]: 1}})
    assert [i["value"] for i in asked["__interrupt__"]] == ["right?"]
    assert (await sdk.threads.get(thread_id))["status"] == "interrupted"
    done: Any = await sdk.runs.wait(thread_id, "both", command={"resume": {ids["right?"]: 2}})
    assert sorted(done["steps"]) == ["left=1", "right=2"]


async def test_interrupt_in_a_sub_agent(sdk: LangGraphClient, script: TemporalSaver) -> None:
    thread_id = await _thread(sdk)
    await sdk.runs.wait(thread_id, "parent", input={})
    done: Any = await sdk.runs.wait(thread_id, "parent", command={"resume": "yes"})
    assert done["steps"] == ["prepared", "inner=yes", "after"]


async def test_it_is_durable(sdk: LangGraphClient, client: Client) -> None:
    """A run of the server is a run in Temporal, its tasks Activities, its sub-agents Children."""
    thread_id = await _thread(sdk)
    run = await sdk.runs.create(thread_id, "parent", input={})
    await sdk.runs.join(thread_id, run["run_id"])
    run_workflow = f"studio/run/{run['run_id'].replace('-', '')}"
    assert (await client.get_workflow_handle(run_workflow).describe()).workflow_type == (
        "LangGraphRun"
    )
    types = set()
    for workflow in (f"studio/thread/{thread_id}",):
        async for event in client.get_workflow_handle(workflow).fetch_history_events():
            if event.HasField("activity_task_scheduled_event_attributes"):
                types.add(event.activity_task_scheduled_event_attributes.activity_type.name)
            if event.HasField("child_workflow_execution_started_event_attributes"):
                types.add("child workflow")
    assert {"child", "child workflow"} <= types


async def test_time_travel(sdk: LangGraphClient) -> None:
    thread_id = await _thread(sdk)
    await sdk.runs.wait(thread_id, "flow", input={"steps": ["in"]})
    await sdk.runs.wait(thread_id, "flow", command={"resume": "yes"})
    history: Any = await sdk.threads.get_history(thread_id, limit=20)
    asked = next(s for s in history if s["next"] == ["ask"])
    again: Any = await sdk.runs.wait(thread_id, "flow", input=None, checkpoint=asked["checkpoint"])
    assert again["__interrupt__"][0]["value"] == "approve?"
    done: Any = await sdk.runs.wait(thread_id, "flow", command={"resume": "no"})
    assert done["steps"] == ["in", "streamed", "approve=no", "last"]
    # A fork: other values at a past checkpoint, run from there.
    fork: Any = await sdk.threads.update_state(
        thread_id, {"steps": ["forked"]}, checkpoint=asked["checkpoint"]
    )
    await sdk.runs.wait(thread_id, "flow", input=None, checkpoint=fork["checkpoint"])
    done = await sdk.runs.wait(thread_id, "flow", command={"resume": "maybe"})
    assert done["steps"] == ["in", "streamed", "forked", "approve=maybe", "last"]


@pytest.mark.parametrize("action", ["interrupt", "rollback"])
async def test_cancel(sdk: LangGraphClient, dev_server: DevServer, action: Any) -> None:
    thread_id = await _thread(sdk)
    gate = f"cancel-{action}"
    await sdk.runs.wait(thread_id, "flow", input={"steps": ["in"]})
    await sdk.runs.wait(thread_id, "flow", command={"resume": "yes"})
    run = await sdk.runs.create(thread_id, "gated", input={"steps": ["more"], "gate": gate})
    await dev_server.runs_of(gate)
    await sdk.runs.cancel(thread_id, run["run_id"], wait=True, action=action)
    # The node has been told, and all is as it stays.
    assert (dev_server.gates / f"{gate}.cancelled").exists()
    state: Any = await sdk.threads.get_state(thread_id)
    before = ["in", "streamed", "approve=yes", "last"]
    if action == "rollback":
        assert state["values"]["steps"] == before
        assert (await sdk.threads.get(thread_id))["status"] == "idle"
        assert run["run_id"] not in [r["run_id"] for r in await sdk.runs.list(thread_id)]
    else:
        assert state["values"]["steps"] == [*before, "more", "before"]
        assert state["next"] == ["slow"]
        assert (await sdk.threads.get(thread_id))["status"] == "interrupted"
        assert (await sdk.runs.get(thread_id, run["run_id"]))["status"] == "interrupted"
        # It goes on from where it was stopped.
        dev_server.open(gate)
        done: Any = await sdk.runs.wait(thread_id, "gated", input=None)
        assert done["steps"] == [*before, "more", "before", f"slow {gate}"]


async def test_node_error(sdk: LangGraphClient) -> None:
    thread_id = await _thread(sdk)
    reply: Any = await sdk.runs.wait(thread_id, "broken", input={}, raise_error=False)
    assert reply["__error__"]["error"] == "ValueError"
    assert reply["__error__"]["message"] == "no such order"
    assert (await sdk.threads.get(thread_id))["status"] == "error"
    assert thread_id in [t["thread_id"] for t in await sdk.threads.search(status="error")]
    state: Any = await sdk.threads.get_state(thread_id)
    assert "no such order" in state["tasks"][0]["error"]


async def test_stateless(sdk: LangGraphClient) -> None:
    """No thread, no checkpoints, nothing in Temporal: LangGraph gives such a run no saver."""
    before = await sdk.threads.count()
    values: Any = await sdk.runs.wait(None, "chat", input={"messages": ["hello"]})
    assert values["messages"][-1]["content"] == "the order is on its way"
    assert await sdk.threads.count() == before


async def test_many_threads(sdk: LangGraphClient) -> None:
    threads = [await _thread(sdk) for _ in range(20)]

    async def talk(thread_id: str) -> list[str]:
        await sdk.runs.wait(thread_id, "flow", input={"steps": [thread_id]})
        done: Any = await sdk.runs.wait(thread_id, "flow", command={"resume": thread_id})
        steps: list[str] = done["steps"]
        return steps

    done = await asyncio.gather(*map(talk, threads))
    assert done == [[t, "streamed", f"approve={t}", "last"] for t in threads]


async def test_a_run_with_another_caller(
    sdk: LangGraphClient, dev_server: DevServer, script: TemporalSaver
) -> None:
    """A script waits for a run that the server started, by its id."""
    thread_id = await _thread(sdk)
    run = await sdk.runs.create(thread_id, "gated", input={"gate": "handle"})
    await dev_server.runs_of("handle")
    handle = await script.aget_run(run["run_id"].replace("-", ""))
    assert await handle.astatus() == "running"
    dev_server.open("handle")
    result = await handle.aresult()
    assert result["steps"] == ["before", "slow handle"]
    graph = gated.with_config(checkpointer=script)
    state = await graph.aget_state({"configurable": {"thread_id": thread_id}})
    assert state.values["steps"] == result["steps"]

    async def status() -> str:
        return str((await sdk.runs.get(thread_id, run["run_id"]))["status"])

    await until(status, lambda s: s == "success")
