"""Savers that nobody closes: what is left of them, and how the process ends."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref
from typing import Any

import pytest
from temporalio.client import Client, WorkflowExecutionStatus

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.caller import hub
from tests.conftest import TemporalServer
from tests.support.graphs import config, parallel

CALLERS = "langgraph-temporal-caller"

CHILD_S = 120.0
"""Bound of a child that hangs; most of it is for a machine that is busy."""

PROGRAM = """
import asyncio, sys
from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.local import start_server
from temporalio.client import Client

kept = []

async def main():
    server = await start_server()
    try:
        for number in range(10):
            # Each of a client of its own: they share nothing.
            client = await Client.connect(server.address)
            saver = TemporalSaver(client, task_queue=f"q{number}")
            await saver._caller.mailbox.address()
            kept.append(saver)
    finally:
        if sys.argv[1] == "gone":
            await server.shutdown()
            # Until the pollers of all of them have noticed.
            await asyncio.sleep(4)
    kept.append(server)

asyncio.run(main())
print("ended", flush=True)
"""


def _callers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == CALLERS]


async def _gone(threads: list[threading.Thread]) -> None:
    async with asyncio.timeout(30):
        while any(t.is_alive() for t in threads):  # noqa: ASYNC110 # a thread has no event here
            await asyncio.sleep(0.05)


async def _opened(saver: TemporalSaver) -> tuple[str, hub._Hub]:
    address = await saver._caller.mailbox.address()
    hub = saver._caller.mailbox._hub
    assert hub is not None
    return address, hub


async def test_savers_of_one_client_share(client: Client, task_queue: str) -> None:
    before = _callers()
    savers = [TemporalSaver(client, task_queue=task_queue) for _ in range(5)]
    addresses = {await saver._caller.mailbox.address() for saver in savers}
    assert len(addresses) == 1
    other = TemporalSaver(client, task_queue=task_queue, id_prefix="other")
    assert (await other._caller.mailbox.address()).startswith("other/")
    mine = [t for t in _callers() if t not in before]
    assert len(mine) == 1
    for saver in savers:
        saver.close()
    assert mine[0].is_alive()
    async with other:
        pass
    await _gone(mine)
    # Used again, it opens again.
    with savers[0] as again:
        assert await again._caller.mailbox.address() not in addresses


@pytest.mark.parametrize("how", ["collected", "closed"])
async def test_nothing_is_left_of_a_saver(client: Client, task_queue: str, how: str) -> None:
    before = _callers()
    saver = TemporalSaver(client, task_queue=task_queue)
    graph = parallel().with_config(checkpointer=saver)
    # As LangGraph copies savers: its copy keeps what it shares.
    graph.checkpointer = saver.with_allowlist([("collections", "deque")])
    address, hub = await _opened(saver)
    mine = [t for t in _callers() if t not in before]
    assert len(mine) == 1
    gone = weakref.ref(hub)
    del hub
    if how == "closed":
        await saver.aclose()
        assert not mine[0].is_alive()
    del saver
    gc.collect()
    if how == "collected":
        await asyncio.sleep(0)
        assert mine[0].is_alive(), "the copy in the graph needs it"
    del graph
    gc.collect()
    await _gone(mine)
    described = await client.get_workflow_handle(address).describe()
    assert described.status is WorkflowExecutionStatus.TERMINATED
    gc.collect()
    assert gone() is None


async def test_a_call_outlives_the_saver_it_was_made_with(
    client: Client, task_queue: str, temporal_server: TemporalServer
) -> None:
    host = TemporalSaver(await Client.connect(temporal_server.address), task_queue=task_queue)
    async with host.worker(parallel()):
        graph = parallel().with_config(checkpointer=TemporalSaver(client, task_queue=task_queue))
        stream = graph.astream({"x": ["in"]}, config(task_queue), stream_mode="values")
        del graph
        gc.collect()
        async with asyncio.timeout(60):
            chunks: list[Any] = [chunk async for chunk in stream]
    assert chunks[-1]["x"][0] == "in"


@pytest.mark.parametrize(("server", "at_once"), [("gone", 4), ("there", 1)])
async def test_process_with_unclosed_savers_ends(server: str, at_once: int) -> None:
    """Several at once: one whose server is gone aborted in one of twenty exits."""
    async with asyncio.TaskGroup() as programs:
        for _ in range(at_once):
            programs.create_task(_ends(server))


async def _ends(server: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, server),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    errors = asyncio.ensure_future(process.stderr.read())
    try:
        # Nothing but what the program prints, until its end.
        assert await asyncio.wait_for(process.stdout.readline(), CHILD_S) == b"ended\n"
        # One after the other they took at least ten seconds each, a server that was gone or not.
        rest = await asyncio.wait_for(process.stdout.read(), 30)
        assert rest == b""
        code = await asyncio.wait_for(process.wait(), 30)
        assert code == 0, (await errors).decode()[-2000:]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        errors.cancel()
