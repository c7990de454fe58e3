"""What reading asks of workers: nothing of those that are not there, and little for lists."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import (
    Client,
    Interceptor,
    OutboundInterceptor,
    QueryWorkflowInput,
)
from temporalio.converter import DataConverter, PayloadCodec

from langgraph_temporal_exec import TemporalSaver, ThreadInfo
from tests.conftest import TemporalServer
from tests.support.graphs import config, countdown, parallel


class Asked(Interceptor):
    """Workflows to which Queries were sent."""

    def __init__(self) -> None:
        self.workflows: list[str] = []
        self.event = asyncio.Event()

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        return _Counting(self, next)


class _Counting(OutboundInterceptor):
    def __init__(self, asked: Asked, next: OutboundInterceptor) -> None:
        super().__init__(next)
        self._asked = asked

    async def query_workflow(self, input: QueryWorkflowInput) -> Any:
        self._asked.workflows.append(input.id)
        self._asked.event.set()
        return await super().query_workflow(input)


@pytest.fixture
async def reader(temporal_server: TemporalServer, task_queue: str) -> tuple[TemporalSaver, Asked]:
    """A saver of a process that has read nothing yet."""
    asked = Asked()
    client = await Client.connect(temporal_server.address, interceptors=[asked])
    return TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue), asked


async def listed(saver: TemporalSaver, number: int) -> dict[str, ThreadInfo]:
    while True:
        found = {info.thread_id: info async for info in saver.alist_threads()}
        if len(found) == number:
            return found
        # Visibility lags behind.
        await asyncio.sleep(0.1)


async def test_nobody_is_asked_who_does_not_poll(
    client: Client, task_queue: str, reader: tuple[TemporalSaver, Asked]
) -> None:
    """No worker has ever polled this queue, so that the history is read at once."""
    saver, asked = reader
    maker = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    run = await maker.astart(countdown(), {"n": 1}, config("t"))
    found = await saver.aget_thread("t")
    assert found is not None
    assert (found.status, found.note) == ("busy", f"no worker polls task queue {task_queue!r}")
    assert [r.run_id async for r in saver.alist_runs("t")] == [run.run_id]
    assert await countdown().with_config(checkpointer=saver).aget_state(config("t"))
    assert asked.workflows == []
    maker.close()


async def test_a_worker_is_asked_once_about_a_thread(
    client: Client, task_queue: str, reader: tuple[TemporalSaver, Asked]
) -> None:
    saver, asked = reader
    host = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with host.worker(parallel()):
        await parallel().with_config(checkpointer=host).ainvoke({"x": []}, config("t"))
        info = await saver.aget_thread("t")
        assert info is not None
        assert (info.status, info.interrupts[0].value) == ("interrupted", "question")
        assert len(asked.workflows) == 1


async def test_lists_spare_the_workers(
    client: Client, task_queue: str, reader: tuple[TemporalSaver, Asked]
) -> None:
    saver, asked = reader
    host = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with host.worker(parallel(), countdown()):
        for n in range(30):
            await countdown().with_config(checkpointer=host).ainvoke({"n": 1}, config(f"t{n}"))
        await parallel().with_config(checkpointer=host).ainvoke({"x": []}, config("asks"))
        found = await listed(saver, 31)
        assert found["asks"].interrupts[0].value == "question"
        assert {info.status for info in found.values()} == {"idle", "interrupted"}
        assert asked.workflows == []
        # And tell the same as workers do.
        assert await host.aget_thread("asks") == found["asks"]
        # As many as are wanted, the newest first.
        some = [info async for info in saver.alist_threads(limit=3)]
        assert [info.thread_id for info in some] == ["asks", "t29", "t28"]


class Held(PayloadCodec):
    """Keeps a worker from reading what it was given, for as long as a test wants."""

    def __init__(self) -> None:
        # It is used on the loop of the worker.
        self.go = threading.Event()
        self.waits = threading.Event()

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return list(payloads)

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        self.waits.set()
        while not self.go.is_set():  # noqa: ASYNC110 - of another loop
            await asyncio.sleep(0.01)
        return list(payloads)


async def test_what_temporal_keeps_back_is_asked_for(
    temporal_server: TemporalServer, task_queue: str, reader: tuple[TemporalSaver, Asked]
) -> None:
    """While a worker is at a workflow, what is sent there is in no history: see
    ``HistoryReader.before_worker``."""
    saver, asked = reader
    codec = Held()
    held = await Client.connect(
        temporal_server.address, data_converter=DataConverter(payload_codec=codec)
    )
    host = TemporalSaver(held, task_queue=task_queue, id_prefix=task_queue)
    transport = saver._store.transport
    async with host.worker(countdown()):
        await transport.announce("t", "countdown", "first")
        while not codec.waits.is_set():  # noqa: ASYNC110 - of another loop
            await asyncio.sleep(0.01)
        await transport.announce("t", "countdown", "second")
        telling = asyncio.ensure_future(listed(saver, 1))
        await asked.event.wait()
        codec.go.set()
        assert (await telling)["t"].waiting == 1
