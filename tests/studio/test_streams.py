"""Every stream mode of the API server, and streams that are joined."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient

from tests.studio.dev import DevServer


async def _events(stream: Any) -> list[tuple[str, Any]]:
    return [(part.event, part.data) async for part in stream]


def _of(events: list[tuple[str, Any]], name: str) -> list[Any]:
    return [data for event, data in events if event == name]


async def _thread(sdk: LangGraphClient) -> str:
    thread_id: str = (await sdk.threads.create())["thread_id"]
    return thread_id


async def test_values_updates_custom_tasks_debug_checkpoints(sdk: LangGraphClient) -> None:
    thread_id = await _thread(sdk)
    modes: Any = ["values", "updates", "custom", "tasks", "debug", "checkpoints"]
    events = await _events(
        sdk.runs.stream(thread_id, "flow", input={"steps": ["in"]}, stream_mode=modes)
    )
    *values, last = _of(events, "values")
    assert values == [{"steps": ["in"]}, {"steps": ["in", "streamed"]}]
    assert last["__interrupt__"][0]["value"] == "approve?"
    first, asked = _of(events, "updates")
    assert first == {"first": {"steps": ["streamed"]}}
    assert asked["__interrupt__"][0]["value"] == "approve?"
    assert _of(events, "custom") == [{"progress": "half"}]
    assert [t["name"] for t in _of(events, "tasks") if "input" in t] == ["first", "ask"]
    assert {d["type"] for d in _of(events, "debug")} == {"checkpoint", "task", "task_result"}
    ids = {c["checkpoint"]["thread_id"] for c in _of(events, "checkpoints") if "checkpoint" in c}
    ids |= {c["config"]["configurable"]["thread_id"] for c in _of(events, "checkpoints")}
    assert ids == {thread_id}
    assert not _of(events, "error")


@pytest.mark.parametrize("mode", ["messages-tuple", "messages", "events"])
async def test_tokens(sdk: LangGraphClient, mode: Any) -> None:
    thread_id = await _thread(sdk)
    events = await _events(
        sdk.runs.stream(thread_id, "chat", input={"messages": ["where is it?"]}, stream_mode=[mode])
    )
    expected = "the order is on its way"
    if mode == "messages-tuple":
        tokens = [message["content"] for message, _ in _of(events, "messages")]
    elif mode == "messages":
        partial = [m[-1]["content"] for m in _of(events, "messages/partial")]
        assert partial[-1] == expected
        tokens = [new.removeprefix(old) for old, new in zip(["", *partial], partial, strict=False)]
    else:
        chunks = [e for e in _of(events, "events") if e["event"] == "on_chat_model_stream"]
        tokens = [e["data"]["chunk"]["content"] for e in chunks]
    assert "".join(tokens) == expected
    assert len(tokens) > 3, "the model's reply came at once"


@pytest.mark.parametrize("transport", ["sse", "websocket"])
async def test_thread_centric_stream(sdk: LangGraphClient, transport: Any) -> None:
    """The protocol of the official client's newer streams."""
    async with sdk.threads.stream(assistant_id="chat", transport=transport) as thread:
        question = {"role": "user", "content": "where is it?"}
        await thread.run.start(input={"messages": [question]})
        tokens, ended = [], ""
        async for event in thread.subscribe(["messages", "lifecycle"]):
            data = event["params"]["data"]
            if data["event"] == "content-block-delta":
                tokens.append(data["delta"]["text"])
            if event["method"] == "lifecycle" and data["event"] != "running":
                ended = data["event"]
                break
        output = await thread.output
    assert ended == "completed"
    assert "".join(tokens) == "the order is on its way"
    assert len(tokens) > 3, "the model's reply came at once"
    assert output["messages"][-1]["content"][0]["text"] == "the order is on its way"


async def test_subgraphs(sdk: LangGraphClient) -> None:
    thread_id = await _thread(sdk)
    events = await _events(
        sdk.runs.stream(
            thread_id, "parent", input={}, stream_mode=["updates"], stream_subgraphs=True
        )
    )
    inner = [data for name, data in events if name.startswith("updates|child:")]
    assert {"prepare": {"steps": ["prepared"]}} in inner
    state: Any = await sdk.threads.get_state(thread_id, subgraphs=True)
    (task,) = state["tasks"]
    assert task["state"]["values"] == {"steps": ["prepared"]}
    assert [i["value"] for i in state["interrupts"]] == ["inner?"]
    # The namespace of a sub-agent has a history of its own.
    namespace: Any = {"checkpoint_ns": task["state"]["checkpoint"]["checkpoint_ns"]}
    inside: Any = await sdk.threads.get_history(thread_id, checkpoint=namespace)
    assert [s["next"] for s in inside] == [["ask"], ["prepare"], ["__start__"]]


async def test_background_join_and_join_stream(sdk: LangGraphClient, dev_server: DevServer) -> None:
    thread_id = await _thread(sdk)
    run = await sdk.runs.create(
        thread_id,
        "gated",
        input={"gate": "join"},
        stream_mode=["values", "updates"],
        stream_resumable=True,
    )
    await dev_server.runs_of("join")
    assert (await sdk.runs.get(thread_id, run["run_id"]))["status"] == "running"
    assert (await sdk.threads.get(thread_id))["status"] == "busy"
    assert [r["run_id"] for r in await sdk.runs.list(thread_id)] == [run["run_id"]]
    joined = sdk.runs.join_stream(thread_id, run["run_id"], last_event_id="-1")
    dev_server.open("join")
    events = await _events(joined)
    assert {"slow": {"steps": ["slow join"]}} in _of(events, "updates")
    values: Any = await sdk.runs.join(thread_id, run["run_id"])
    assert values["steps"] == ["before", "slow join"]
    assert (await sdk.runs.get(thread_id, run["run_id"]))["status"] == "success"
    assert (await sdk.threads.get(thread_id))["status"] == "idle"
