"""A thread whose log cannot be archived is refused in time, readable, and goes on when it can."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.errors import ThreadFullError
from langgraph_temporal_exec.protocol.messages import AppendRequest
from langgraph_temporal_exec.worker.upkeep import Upkeep
from langgraph_temporal_exec.workflow.rollover import CARRY_BYTES, UPDATES_FULL
from tests.support.graphs import config, parallel

pytestmark = pytest.mark.timeout(400)
SENDERS = 6
VALUE = 90_000


async def _fails(*_: object) -> None:
    raise OSError("the storage is away")


@pytest.mark.long
async def test_full_thread(
    client: Client, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    caller = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    monkeypatch.setattr(Upkeep, "_move", _fails)
    async with host.worker(parallel()), asyncio.timeout(300):
        graph = parallel().with_config(checkpointer=host)
        await graph.ainvoke({"x": ["in"]}, config("t"))
        for n in range(CARRY_BYTES // VALUE + 2):
            # Different each time, or it would be stored as a difference.
            await graph.aupdate_state(config("t"), {"x": [_text(n)]}, as_node="a")
        await _spend_updates(host, "t", UPDATES_FULL)
        with pytest.raises(ThreadFullError, match=r"'t' is full.*langgraph:archive"):
            await graph.ainvoke(None, config("t"))
        elsewhere = parallel().with_config(checkpointer=caller)
        with pytest.raises(ThreadFullError, match=r"'t' is full.*langgraph:archive"):
            await elsewhere.ainvoke(None, config("t"))
        with pytest.raises(ThreadFullError):
            await graph.aupdate_state(config("t"), {"x": ["more"]}, as_node="a")
        assert (await graph.aget_state(config("t"))).values["x"][-1] == _text(n)
        assert await graph.ainvoke({"x": ["in"]}, config("other"))
        monkeypatch.undo()
        result = await _when_archived(graph)
        assert result["x"][-3:] == ["a", "b1", "b2"]
        assert _text(n) in (await graph.aget_state(config("t"))).values["x"]
    caller.close()


async def _when_archived(graph: Any) -> Any:
    while True:
        try:
            return await graph.ainvoke({"x": ["again"]}, config("t"))
        except ThreadFullError:
            # The Activity is retried within half a minute.
            await asyncio.sleep(1)


def _text(n: int) -> str:
    return "".join(chr(97 + (i * i * (n + 3) + i * n) % 26) for i in range(VALUE))


async def _spend_updates(saver: TemporalSaver, thread_id: str, count: int) -> None:
    async def spend(n: int) -> None:
        for _ in range(n):
            await saver._store.transport.append(thread_id, "", AppendRequest())

    await asyncio.gather(*[spend(count // SENDERS + 1) for _ in range(SENDERS)])
