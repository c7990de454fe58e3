"""Threads that others made: the server lists, reads, resumes, edits, copies and deletes them."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from langgraph.graph import START, StateGraph
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.storage import visibility
from tests.studio.conftest import PREFIX
from tests.studio.dev import DevServer, until
from tests.studio.graphs import BROKEN, GATES, State, broken, chat, flow, gated, made, parent

IDS = {
    "plain": "order-42",
    "unicode": "Bestellung №7: ünïcode 注文",
    "slash": "tenant/7#a?b%20c",
    "long": "long " * 1_000,
    "uuid": "6f1c6a9e-7a0b-4f6e-9d0a-1f2e3d4c5b6a",
    "upper-case-uuid": "6F1C6A9E-7A0B-4F6E-9D0A-1F2E3D4C5B6B",
    "version-5-uuid": str(uuid.uuid5(uuid.NAMESPACE_DNS, "somebody's own")),
}


def _config(thread_id: str) -> Any:
    return {"configurable": {"thread_id": thread_id}}


async def _listed(sdk: LangGraphClient, native: str) -> Any:
    """The thread in the server's list, once Temporal's visibility store shows it."""

    async def find() -> Any:
        return [
            t
            for t in await sdk.threads.search(limit=1000)
            if t["metadata"].get("temporal_thread_id") == native
        ]

    (found,) = await until(find, len)
    return found


@pytest.mark.parametrize("name", sorted(IDS))
async def test_any_id(
    sdk: LangGraphClient, dev_server: DevServer, script: TemporalSaver, name: str
) -> None:
    """Made after the server started; resumed through it; the script sees it at once."""
    native = IDS[name]
    graph = flow.with_config(checkpointer=script)
    await graph.ainvoke({"steps": ["made outside"]}, _config(native))
    found = await _listed(sdk, native)
    assert found["status"] == "interrupted"
    assert found["metadata"]["graph_id"] == "flow"
    assert found["values"] == {"steps": ["made outside", "streamed"]}
    assert [i["value"] for asked in found["interrupts"].values() for i in asked] == ["approve?"]
    thread_id = found["thread_id"]
    assert (thread_id == native) == (name in ("uuid", "version-5-uuid"))
    async with httpx.AsyncClient(base_url=dev_server.url) as http:
        by_its_own = await http.get(f"/threads/{quote(native, safe='')}")
    assert by_its_own.json()["thread_id"] == thread_id
    state: Any = await sdk.threads.get_state(thread_id)
    assert state["checkpoint"]["thread_id"] == thread_id
    history: Any = await sdk.threads.get_history(thread_id)
    assert [s["metadata"]["step"] for s in history] == [1, 0, -1]

    done: Any = await sdk.runs.wait(thread_id, "flow", command={"resume": "yes"})
    expected = ["made outside", "streamed", "approve=yes", "last"]
    assert done["steps"] == expected
    known = await graph.aget_state(_config(native))
    assert known.values == {"steps": expected}
    assert known.next == ()
    # The other way round.
    await graph.ainvoke({"steps": ["again"]}, _config(native))
    thread = await sdk.threads.get(thread_id)
    assert thread["status"] == "interrupted"
    assert thread["values"]["steps"][-2:] == ["again", "streamed"]


async def test_edited_forked_copied_deleted(sdk: LangGraphClient, script: TemporalSaver) -> None:
    native = f"edit-{uuid.uuid4().hex}"
    graph = flow.with_config(checkpointer=script)
    await graph.ainvoke({"steps": ["in"]}, _config(native))
    thread_id = (await _listed(sdk, native))["thread_id"]

    await sdk.threads.update_state(thread_id, {"steps": ["edited"]}, as_node="first")
    known = await graph.aget_state(_config(native))
    assert known.values == {"steps": ["in", "streamed", "edited"]}

    history: Any = await sdk.threads.get_history(thread_id)
    start = next(s for s in history if s["next"] == ["first"])
    await sdk.threads.update_state(
        thread_id, {"steps": ["fork"]}, checkpoint=start["checkpoint"], as_node="__start__"
    )
    known = await graph.aget_state(_config(native))
    assert known.values == {"steps": ["in", "fork"]}

    copy: Any = await sdk.threads.copy(thread_id)
    copied = await graph.aget_state(_config(copy["thread_id"]))
    assert copied.values == known.values
    assert (await sdk.threads.get(copy["thread_id"]))["metadata"]["graph_id"] == "flow"

    await sdk.threads.delete(thread_id)
    assert await script.aget_thread(native) is None
    assert await script.aget_thread(copy["thread_id"]) is not None


async def test_native_ids_in_addresses(sdk: LangGraphClient, script: TemporalSaver) -> None:
    """A thread may be asked for by the id it has in code, before any list was asked for."""
    native = f"order-{uuid.uuid4().hex}"
    graph = flow.with_config(checkpointer=script)
    await graph.ainvoke({"steps": ["in"]}, _config(native))
    thread = await sdk.threads.get(native)
    assert thread["metadata"]["temporal_thread_id"] == native
    done: Any = await sdk.runs.wait(native, "flow", command={"resume": "yes"})
    assert done["steps"] == ["in", "streamed", "approve=yes", "last"]
    with pytest.raises(NotFoundError):
        await sdk.threads.get(f"nobody-made-{uuid.uuid4().hex}")


async def test_status_and_freshness(
    sdk: LangGraphClient, dev_server: DevServer, script: TemporalSaver
) -> None:
    """Every status, as it changes outside the server."""
    failed, ended, waiting = (f"{n}-{uuid.uuid4().hex}" for n in ("failed", "ended", "waiting"))
    with pytest.raises(ValueError, match="no such order"):
        await broken.with_config(checkpointer=script).ainvoke({}, _config(failed))
    found = await _listed(sdk, failed)
    assert (found["status"], found["metadata"]["graph_id"]) == ("error", "broken")
    assert "no such order" in str(found["error"])

    # Of a graph that was given no name: the only such graph here.
    await chat.with_config(checkpointer=script).ainvoke({"messages": ["hello"]}, _config(ended))
    found = await _listed(sdk, ended)
    assert (found["status"], found["metadata"]["graph_id"]) == ("idle", "chat")
    assert found["values"]["messages"][-1]["content"] == "the order is on its way"

    graph = gated.with_config(checkpointer=script)
    run = await script.astart(graph, {"gate": waiting}, _config(waiting))
    await dev_server.runs_of(waiting)
    found = await _listed(sdk, waiting)
    assert (found["status"], found["metadata"]["graph_id"]) == ("busy", "gated")
    dev_server.open(waiting)
    await run.aresult()
    assert (await sdk.threads.get(found["thread_id"]))["status"] == "idle"
    assert (await _listed(sdk, waiting))["values"]["steps"] == ["before", f"slow {waiting}"]

    await script.adelete_thread(waiting)
    with pytest.raises(NotFoundError):
        await sdk.threads.get(found["thread_id"])
    ids = [t["thread_id"] for t in await sdk.threads.search(limit=1000)]
    assert found["thread_id"] not in ids


async def test_an_older_reading_does_not_overwrite_a_newer_one(sdk: LangGraphClient) -> None:
    """The server's own run begins and ends while others look at its thread."""
    order = ["interrupted", "busy", "idle"]

    async def answered() -> list[list[str]]:
        thread_id = (await sdk.threads.create())["thread_id"]
        await sdk.runs.wait(thread_id, "flow", input={"steps": []})
        done = asyncio.Event()

        async def look() -> list[str]:
            seen = []
            while not done.is_set():
                seen.append((await sdk.threads.get(thread_id))["status"])
            return [*seen, (await sdk.threads.get(thread_id))["status"]]

        looks = [asyncio.create_task(look()) for _ in range(4)]
        await sdk.runs.wait(thread_id, "flow", command={"resume": "yes"})
        done.set()
        return await asyncio.gather(*looks)

    for _ in range(2):
        for looks in await asyncio.gather(*(answered() for _ in range(3))):
            for seen in looks:
                assert seen == sorted(seen, key=order.index)
                assert seen[-1] == "idle"


async def test_thread_that_cannot_be_read(
    sdk: LangGraphClient, client: Client, script: TemporalSaver
) -> None:
    """The others are listed all the same."""
    good, bad = (f"{name}-{uuid.uuid4().hex}" for name in ("good", "bad"))
    handle = await client.start_workflow(
        names.THREAD_WORKFLOW,
        b"of another release",
        id=script._store.transport.thread_workflow_id(bad),
        # Of nobody: a worker would fail it again and again.
        task_queue=f"{PREFIX}-nobody",
        memo={"thread_id": bad},
    )
    try:
        await flow.with_config(checkpointer=script).ainvoke({"steps": ["in"]}, _config(good))
        await until(lambda: visibility.thread_ids(script._store.transport), lambda ids: bad in ids)
        found = await _listed(sdk, good)
        assert (found["status"], found["values"]["steps"]) == ("interrupted", ["in", "streamed"])
        # Whatever is said of it, clients know the word.
        shown = [
            t["status"]
            for t in await sdk.threads.search(limit=1000)
            if t["metadata"].get("temporal_thread_id") == bad
        ]
        assert shown in ([], ["error"])
    finally:
        await handle.terminate()


async def test_sub_agents(sdk: LangGraphClient, script: TemporalSaver) -> None:
    native = f"sub-{uuid.uuid4().hex}"
    await parent.with_config(checkpointer=script).ainvoke({}, _config(native))
    thread_id = (await _listed(sdk, native))["thread_id"]
    state: Any = await sdk.threads.get_state(thread_id, subgraphs=True)
    (task,) = state["tasks"]
    assert task["state"]["values"] == {"steps": ["prepared"]}
    assert task["state"]["checkpoint"]["thread_id"] == thread_id
    done: Any = await sdk.runs.wait(thread_id, "parent", command={"resume": "ok"})
    assert done["steps"] == ["prepared", "inner=ok", "after"]


async def test_created_over_a_thread_of_temporal(
    sdk: LangGraphClient, script: TemporalSaver
) -> None:
    native = str(uuid.uuid4())
    await flow.with_config(checkpointer=script).ainvoke({"steps": ["in"]}, _config(native))
    thread = await sdk.threads.create(thread_id=native, if_exists="do_nothing")
    assert thread["metadata"]["graph_id"] == "flow"
    assert thread["status"] == "interrupted"


async def test_graph_of_a_factory(
    sdk: LangGraphClient,
    dev_server: DevServer,
    script: TemporalSaver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Served before its first call; a factory that fails hides no other thread."""
    monkeypatch.setenv(GATES, str(dev_server.gates))
    graph = made({}).with_config(checkpointer=script)
    native = f"made-{uuid.uuid4().hex}"
    await graph.ainvoke({"steps": ["in"]}, _config(native))
    found = await _listed(sdk, native)
    assert (found["status"], found["metadata"]["graph_id"]) == ("interrupted", "made")
    assert found["values"] == {"steps": ["in", "streamed"]}
    broken_file = dev_server.gates / BROKEN
    broken_file.touch()
    try:
        other = f"other-{uuid.uuid4().hex}"
        await graph.ainvoke({"steps": ["in"]}, _config(other))
        found = await _listed(sdk, other)
        assert (found["status"], found["values"]) == ("interrupted", None)
        assert await _listed(sdk, native)
    finally:
        broken_file.unlink()
    done: Any = await sdk.runs.wait(found["thread_id"], "made", command={"resume": "yes"})
    assert done["steps"] == ["in", "streamed", "approve=yes", "last"]


async def test_graph_that_the_server_does_not_have(
    sdk: LangGraphClient, client: Client, script: TemporalSaver
) -> None:
    native = f"theirs-{uuid.uuid4().hex}"
    theirs = TemporalSaver(client, task_queue=f"{PREFIX}-theirs", id_prefix=PREFIX)
    builder = StateGraph(State).add_node("only", lambda state: {"steps": ["theirs"]})
    graph = builder.add_edge(START, "only").compile(name="theirs")
    async with theirs.worker(graph):
        await graph.with_config(checkpointer=theirs).ainvoke({}, _config(native))
        found = await _listed(sdk, native)
        assert (found["status"], found["metadata"]["temporal_graph"]) == ("idle", "theirs")
        assert "graph_id" not in found["metadata"]
        await theirs.adelete_thread(native)
