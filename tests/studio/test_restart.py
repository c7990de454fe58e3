"""The API server dies or stops in the middle of runs; the runs go on in the next one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient
from temporalio.client import Client

from tests.conftest import TemporalServer
from tests.studio.dev import DevServer, until


@pytest.fixture
def own_server(temporal_server: TemporalServer, tmp_path: Path) -> Iterator[DevServer]:
    """A server to be killed, on a task queue of its own."""
    prefix = f"restart-{uuid.uuid4().hex[:8]}"
    server = DevServer(tmp_path, temporal_server.address, id_prefix=prefix)
    server.start()
    try:
        yield server
    finally:
        server.kill()


async def _start(server: DevServer, gate: str) -> tuple[str, str]:
    """A run that is in its slow node: its thread and its id."""
    async with server.client() as sdk:
        thread_id = (await sdk.threads.create())["thread_id"]
        run = await sdk.runs.create(thread_id, "gated", input={"steps": ["in"], "gate": gate})
    await server.runs_of(gate)
    return thread_id, run["run_id"]


async def _ends(sdk: LangGraphClient, thread_id: str, gate: str) -> None:
    async def thread() -> Any:
        return await sdk.threads.get(thread_id)

    found = await until(thread, lambda t: t["status"] == "idle")
    assert found["values"]["steps"] == ["in", "before", f"slow {gate}"]
    state: Any = await sdk.threads.get_state(thread_id)
    assert state["values"]["steps"] == ["in", "before", f"slow {gate}"]
    history: Any = await sdk.threads.get_history(thread_id, limit=20)
    assert [s["metadata"]["step"] for s in history] == [2, 1, 0, -1], "a step was repeated"


@pytest.mark.long
async def test_killed_in_the_middle_of_runs(own_server: DevServer) -> None:
    known_thread, known_run = await _start(own_server, "known")
    # The server writes its own list of runs to disk every few seconds: one run it will know of
    # when it starts again, and one it will not.
    await own_server.knows(known_run)
    unknown_thread, _ = await _start(own_server, "unknown")
    (first,) = await own_server.runs_of("known")
    own_server.kill()

    own_server.start()
    async with own_server.client() as sdk:
        found = {t["thread_id"]: t["status"] for t in await sdk.threads.search()}
        assert found == {known_thread: "busy", unknown_thread: "busy"}
        # Both nodes are executed again, by the worker in the new process.
        for gate in ("known", "unknown"):
            _, second = await own_server.runs_of(gate, 2)
            assert second != first
            os.kill(second, 0)
            own_server.open(gate)
        joined: Any = await sdk.runs.join(known_thread, known_run)
        assert joined["steps"] == ["in", "before", "slow known"]
        assert (await sdk.runs.get(known_thread, known_run))["status"] == "success"
        await _ends(sdk, known_thread, "known")
        await _ends(sdk, unknown_thread, "unknown")


@pytest.mark.long
async def test_stopped_in_the_middle_of_a_run(own_server: DevServer, client: Client) -> None:
    """Ctrl-C: the server goes in order and leaves nothing behind; the run is not cancelled."""
    thread_id, run_id = await _start(own_server, "stopped")
    pid = own_server.pid
    assert own_server.stop() == 0, own_server.log[-6000:]
    assert pid not in _sessions(), "processes of the server's session are left"
    mailboxes = f"WorkflowId STARTS_WITH '{own_server.prefix}/mailbox/'"

    async def open_mailboxes() -> list[str]:
        query = f"{mailboxes} AND ExecutionStatus = 'Running'"
        return [execution.id async for execution in client.list_workflows(query)]

    await until(open_mailboxes, lambda left: not left)
    for sign in ("BlockingError", "was never retrieved", "was never awaited"):
        assert sign not in own_server.log, own_server.log[-6000:]

    own_server.start()
    await own_server.runs_of("stopped", 2)
    own_server.open("stopped")
    async with own_server.client() as sdk:
        joined: Any = await sdk.runs.join(thread_id, run_id)
        assert joined["steps"] == ["in", "before", "slow stopped"]
        await _ends(sdk, thread_id, "stopped")


def _sessions() -> list[int]:
    """Session ids of all processes of this machine that are no zombies."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            found.append(int(fields[3]))
    return found
