"""A thread that is too large to continue as new is refused in time, readable, and can be helped."""

from __future__ import annotations

import asyncio

import pytest
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.errors import ThreadFullError
from langgraph_temporal_exec.protocol.messages import AppendRequest
from langgraph_temporal_exec.workflow.thread import CARRY_BYTES, UPDATES_FULL
from tests.support.graphs import config, parallel

pytestmark = pytest.mark.timeout(300)
SENDERS = 6


async def test_full_thread(client: Client, task_queue: str) -> None:
    host = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    caller = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with host.worker(parallel()), asyncio.timeout(200):
        graph = parallel().with_config(checkpointer=host)
        await graph.ainvoke({"x": ["in"]}, config("t"))
        await graph.aupdate_state(config("t"), {"x": ["y" * (CARRY_BYTES + 50_000)]}, as_node="a")
        await _spend_updates(host, "t", UPDATES_FULL)
        with pytest.raises(ThreadFullError, match=r"'t' is full.*prune"):
            await graph.ainvoke(None, config("t"))
        elsewhere = parallel().with_config(checkpointer=caller)
        with pytest.raises(ThreadFullError, match=r"'t' is full.*prune"):
            await elsewhere.ainvoke(None, config("t"))
        assert len((await graph.aget_state(config("t"))).values["x"][-1]) > CARRY_BYTES
        assert await graph.ainvoke({"x": ["in"]}, config("other"))
        await host.aprune(["t"], strategy="delete")
        again = await graph.ainvoke({"x": ["again"]}, config("t"))
        assert again["x"] == ["again", "a", "b1", "b2"]
    caller.close()


async def _spend_updates(saver: TemporalSaver, thread_id: str, count: int) -> None:
    async def spend(n: int) -> None:
        for _ in range(n):
            await saver._shared.transport.append(thread_id, "", AppendRequest())

    await asyncio.gather(*[spend(count // SENDERS + 1) for _ in range(SENDERS)])
