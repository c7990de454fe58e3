"""Assistants and threads through the official client of a real `langgraph dev`."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError

from langgraph_temporal_exec import TemporalSaver
from tests.studio.graphs import GRAPHS, flow


async def _asked(sdk: LangGraphClient) -> str:
    """A thread that waits for an answer."""
    thread = await sdk.threads.create(metadata={"owner": "me"})
    values: Any = await sdk.runs.wait(thread["thread_id"], "flow", input={"steps": ["in"]})
    assert values["__interrupt__"][0]["value"] == "approve?"
    return thread["thread_id"]


async def test_assistants(sdk: LangGraphClient) -> None:
    found = await sdk.assistants.search(limit=20)
    assert {a["graph_id"] for a in found} == set(GRAPHS)
    made = await sdk.assistants.create("flow", name="mine", metadata={"team": "a"})
    assert (await sdk.assistants.get(made["assistant_id"]))["name"] == "mine"
    nodes = (await sdk.assistants.get_graph(made["assistant_id"]))["nodes"]
    assert {n["id"] for n in nodes} >= {"first", "ask", "last"}
    thread = await sdk.threads.create()
    values: Any = await sdk.runs.wait(thread["thread_id"], made["assistant_id"], input={})
    assert values["steps"] == ["streamed"]
    metadata = (await sdk.threads.get(thread["thread_id"]))["metadata"]
    assert (metadata["assistant_id"], metadata["graph_id"]) == (made["assistant_id"], "flow")
    await sdk.assistants.delete(made["assistant_id"])


async def test_state_and_history(sdk: LangGraphClient) -> None:
    thread_id = await _asked(sdk)
    state: Any = await sdk.threads.get_state(thread_id)
    assert state["values"] == {"steps": ["in", "streamed"]}
    assert state["next"] == ["ask"]
    assert [i["value"] for t in state["tasks"] for i in t["interrupts"]] == ["approve?"]
    assert state["checkpoint"]["thread_id"] == thread_id
    history: Any = await sdk.threads.get_history(thread_id, limit=10)
    assert [s["metadata"]["step"] for s in history] == [1, 0, -1]
    assert [s["next"] for s in history] == [["ask"], ["first"], ["__start__"]]
    older: Any = await sdk.threads.get_history(thread_id, before=history[0]["checkpoint"])
    assert [s["metadata"]["step"] for s in older] == [0, -1]
    past: Any = await sdk.threads.get_state(thread_id, checkpoint=history[1]["checkpoint"])
    assert past["values"] == {"steps": ["in"]}


async def test_search_count_and_patch(sdk: LangGraphClient) -> None:
    thread_id = await _asked(sdk)
    mark = uuid.uuid4().hex
    await sdk.threads.update(thread_id, metadata={"mark": mark})
    (found,) = await sdk.threads.search(metadata={"mark": mark}, status="interrupted")
    assert found["thread_id"] == thread_id
    assert found["metadata"]["owner"] == "me"
    assert await sdk.threads.count(metadata={"mark": mark}) == 1
    assert await sdk.threads.search(metadata={"mark": mark}, status="idle") == []
    assert await sdk.threads.search(metadata={"graph_id": "both", "mark": mark}) == []
    (found,) = await sdk.threads.search(metadata={"graph_id": "flow", "mark": mark})


async def test_update_state_and_copy(sdk: LangGraphClient, script: TemporalSaver) -> None:
    thread_id = await _asked(sdk)
    await sdk.threads.update_state(thread_id, {"steps": ["edited"]}, as_node="first")
    copy: Any = await sdk.threads.copy(thread_id)
    assert (await sdk.threads.get(copy["thread_id"]))["status"] == "interrupted"
    expected = ["in", "streamed", "edited", "approve=no", "last"]
    values: Any = await sdk.runs.wait(copy["thread_id"], "flow", input=None)
    values = await sdk.runs.wait(copy["thread_id"], "flow", command={"resume": "no"})
    assert values["steps"] == expected
    # The original still waits.
    assert (await sdk.threads.get_state(thread_id))["next"] == ["ask"]
    # Both are threads of Temporal.
    graph = flow.with_config(checkpointer=script)
    state = await graph.aget_state({"configurable": {"thread_id": copy["thread_id"]}})
    assert state.values["steps"] == expected
    thread = await sdk.threads.get(copy["thread_id"])
    assert thread["metadata"]["temporal_thread_id"] == copy["thread_id"]


async def test_delete(sdk: LangGraphClient, script: TemporalSaver) -> None:
    thread_id = await _asked(sdk)
    assert await script.aget_thread(thread_id) is not None
    await sdk.threads.delete(thread_id)
    assert await script.aget_thread(thread_id) is None
    with pytest.raises(NotFoundError):
        await sdk.threads.get(thread_id)
    assert thread_id not in [t["thread_id"] for t in await sdk.threads.search(limit=1000)]


async def test_prune(sdk: LangGraphClient, script: TemporalSaver, dev_server: Any) -> None:
    thread_id = await _asked(sdk)
    async with httpx.AsyncClient(base_url=dev_server.url) as http:
        reply = await http.post("/threads/prune", json={"thread_ids": [thread_id]})
    assert reply.json() == {"pruned_count": 1}
    assert await script.aget_thread(thread_id) is None


async def test_pruned_delta_channels(sdk: LangGraphClient, script: TemporalSaver) -> None:
    """The server rebuilds them from what a pruned thread keeps, and does not show."""
    thread_id = (await sdk.threads.create())["thread_id"]
    for turn in range(3):
        await sdk.runs.wait(thread_id, "notes", input={"notes": [f"turn {turn}"]})
    expected = ["turn 0", "note 1", "turn 1", "note 3", "turn 2", "note 5"]
    await script.aprune([thread_id])
    assert len(await sdk.threads.get_history(thread_id, limit=20)) == 1
    state: Any = await sdk.threads.get_state(thread_id)
    assert state["values"] == {"notes": expected}
    assert (await sdk.threads.get(thread_id))["values"] == {"notes": expected}


async def test_supersteps(sdk: LangGraphClient, script: TemporalSaver) -> None:
    """A thread created with states but no run is a thread of Temporal too."""
    thread = await sdk.threads.create(
        graph_id="flow",
        supersteps=[{"updates": [{"values": {"steps": ["given"]}, "as_node": "first"}]}],
    )
    state = await sdk.threads.get_state(thread["thread_id"])
    assert state["next"] == ["ask"]
    graph = flow.with_config(checkpointer=script)
    known = await graph.aget_state({"configurable": {"thread_id": thread["thread_id"]}})
    assert known.values == {"steps": ["given"]}
