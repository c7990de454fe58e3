"""Ways to set the server up, and what it says when that is wrong."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from temporalio.client import Client

from langgraph_temporal_exec import (
    ServerUnavailableError,
    TemporalSaver,
    UnsupportedLangGraphError,
    UsageError,
)
from langgraph_temporal_exec.local import start_server
from langgraph_temporal_exec.studio import server as api
from langgraph_temporal_exec.studio.process import current
from langgraph_temporal_exec.studio.settings import Settings, from_environment, open_saver
from tests.conftest import TemporalServer
from tests.studio import custom
from tests.studio.dev import DevServer, free_port, until
from tests.studio.graphs import GATES, gated

Launch = Callable[..., DevServer]


@pytest.fixture
def launch(temporal_server: TemporalServer, tmp_path: Path) -> Iterator[Launch]:
    """Makes servers that end with the test."""
    made: list[DevServer] = []

    def make(address: str | None = None, **options: Any) -> DevServer:
        options.setdefault("id_prefix", f"setup-{uuid.uuid4().hex[:8]}")
        server = DevServer(tmp_path, address or temporal_server.address, **options)
        made.append(server)
        return server

    yield make
    for server in made:
        server.kill()


@pytest.mark.long
async def test_remote_worker(
    launch: Launch, connect: Any, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server runs nothing: its runs are executed by the workers there are. Killed and started
    again when a run has ended without it, it tells how that ended and runs nothing again."""
    server = launch(id_prefix="remote", environ={"LANGGRAPH_TEMPORAL_WORKER": "remote"})
    monkeypatch.setenv(GATES, str(server.gates))
    worker = TemporalSaver(client, task_queue="remote", id_prefix="remote")
    async with worker.worker({"gated": gated}):
        server.start()
        sdk = await connect(server)
        thread_id = (await sdk.threads.create())["thread_id"]
        server.open("here")
        modes: Any = ["updates", "events"]
        stream = sdk.runs.stream(thread_id, "gated", input={"gate": "here"}, stream_mode=modes)
        events = [(part.event, part.data) async for part in stream]
        assert ("updates", {"slow": {"steps": ["slow here"]}}) in events
        assert "on_chain_end" in {data["event"] for name, data in events if name == "events"}
        assert await server.runs_of("here") == [os.getpid()]
        assert (await sdk.threads.get(thread_id))["status"] == "idle"

        run = await sdk.runs.create(thread_id, "gated", input={"gate": "away"})
        await server.runs_of("away")
        await server.knows(run["run_id"])
        server.kill()
        server.open("away")
        handle = await worker.aget_run(run["run_id"].replace("-", ""))
        await handle.aresult()
        server.start()
        sdk = await connect(server)
        joined: Any = await sdk.runs.join(thread_id, run["run_id"])
        assert joined["steps"] == ["before", "slow here", "before", "slow away"]
        assert (await sdk.runs.get(thread_id, run["run_id"]))["status"] == "success"
        assert await server.runs_of("away") == [os.getpid()]
        assert (await sdk.threads.get(thread_id))["status"] == "idle"
        assert server.stop() == 0, server.log[-6000:]


async def test_own_saver_and_app_and_isolated_loops(
    launch: Launch, connect: Any, client: Client
) -> None:
    """Everything at once: background loops in threads, the user's saver, the user's app."""
    server = launch(
        id_prefix="unused",
        app="tests.studio.custom:app",
        environ={
            "LANGGRAPH_TEMPORAL_SAVER": "tests.studio.custom:make_saver",
            "BG_JOB_ISOLATED_LOOPS": "true",
        },
    )
    server.start()
    sdk = await connect(server)
    async with httpx.AsyncClient(base_url=server.url) as http:
        assert (await http.get("/hello")).json() == {"mine": "started"}
    thread_id = (await sdk.threads.create())["thread_id"]
    await sdk.runs.wait(thread_id, "parent", input={})
    done: Any = await sdk.runs.wait(thread_id, "parent", command={"resume": "yes"})
    assert done["steps"] == ["prepared", "inner=yes", "after"]
    saver = TemporalSaver(client, task_queue=custom.QUEUE, id_prefix=custom.QUEUE)
    try:
        assert await saver.aget_thread(thread_id) is not None
        steps = ["before", "slow mine"]
        server.open("mine")
        graph = gated.with_config(checkpointer=saver)
        config: Any = {"configurable": {"thread_id": "my order"}}
        await graph.ainvoke({"gate": "mine"}, config)
        assert await _steps(sdk) == [steps]
        # What a run did is in the list, in whatever number of threads; an edit is at the latest
        # when the thread is asked for.
        await graph.ainvoke({"gate": "mine"}, config)
        assert await _steps(sdk) == [steps * 2]
        await graph.aupdate_state(config, {"steps": ["edited"]})
        thread: Any = await sdk.threads.get("my order")
        assert thread["values"]["steps"] == [*steps * 2, "edited"]
        assert await _steps(sdk) == [[*steps * 2, "edited"]]
    finally:
        saver.close()
    assert server.stop() == 0, server.log[-6000:]
    for sign in ("BlockingError", "was never retrieved", "was never awaited"):
        assert sign not in server.log, server.log[-6000:]


async def _steps(sdk: LangGraphClient) -> list[Any]:
    """Of the threads of one graph, as the list has them."""

    async def find() -> Any:
        return await sdk.threads.search(metadata={"graph_id": "gated"})

    return [t["values"]["steps"] for t in await until(find, len)]


async def test_temporal_that_went_away(launch: Launch) -> None:
    """Requests on threads are refused with a reason, and served again when it is back."""
    port = free_port()
    temporal = await start_server(port=port)
    server = launch(temporal.address)
    try:
        server.start()
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
            assert (await http.post("/threads/search", json={})).status_code == 200
            await temporal.shutdown()
            reply = await http.post("/threads/search", json={})
            assert (reply.status_code, reply.headers["content-type"]) == (503, "application/json")
            assert "Temporal" in reply.json()["detail"]
            assert (await http.get("/ok")).status_code == 200
            temporal = await start_server(port=port)
            assert (await http.post("/threads/search", json={})).status_code == 200
    finally:
        await temporal.shutdown()


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"LANGGRAPH_TEMPORAL_WORKER": "none"}, "must be 'embedded' or 'remote'"),
        ({"TEMPORAL_ADDRESS": "127.0.0.1:1"}, "Cannot connect to Temporal at 127.0.0.1:1"),
    ],
)
def test_server_says_what_is_wrong(launch: Launch, environ: dict[str, str], said: str) -> None:
    server = launch(environ=environ)
    server.launch()
    assert server.wait() != 0
    assert said in server.log


def test_settings() -> None:
    assert from_environment({}) == Settings()
    given = {
        "LANGGRAPH_TEMPORAL_TASK_QUEUE": "q",
        "LANGGRAPH_TEMPORAL_ID_PREFIX": "p",
        "LANGGRAPH_TEMPORAL_WORKER": "remote",
    }
    assert from_environment(given) == Settings(task_queue="q", id_prefix="p", worker="remote")
    assert not from_environment(given).embedded
    with pytest.raises(UsageError, match=r"package\.module:function"):
        from_environment({"LANGGRAPH_TEMPORAL_SAVER": "module"})


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("tests.studio.nothing:make", "no module .tests.studio.nothing."),
        ("tests.studio.custom:nothing", "has no .nothing."),
        ("tests.studio.custom:no_saver", "returned a str"),
    ],
)
async def test_saver_that_is_none(reference: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        async with open_saver(Settings(saver=reference)):
            pass


async def test_no_temporal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ServerUnavailableError, match=r"127\.0\.0\.1:1"):
        async with open_saver(Settings()):
            pass


def test_app_without_the_checkpointer() -> None:
    with pytest.raises(UsageError, match=r"langgraph_temporal_exec\.studio\.checkpointer"):
        current()


def test_server_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fits is verified by every server these tests start."""
    needed = {"langgraph_sdk": ("get_client", "gone"), "langgraph_api.no_such_module": ("x",)}
    monkeypatch.setattr(api, "_NEEDED", needed)
    with pytest.raises(UnsupportedLangGraphError) as caught:
        api.verify()
    for part in ("langgraph_sdk.gone", "no_such_module", "langgraph-api 0.", api.SUPPORTED):
        assert part in str(caught.value)
    assert "get_client" not in str(caught.value)
