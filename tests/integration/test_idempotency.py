"""The key a node has for its effects outside."""

from __future__ import annotations

import asyncio
import http.server
import os
import signal
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from langchain_core.tools import tool
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver, UsageError, idempotency_key
from tests.conftest import TemporalServer
from tests.support.graphs import State, config, durable
from tests.support.payment import API, PAID, payment
from tests.support.warm import WARM

ROOT = Path(__file__).resolve().parents[2]


@tool
def pay(amount: int) -> str:
    """Pay."""
    return idempotency_key("pay", str(amount))


@task
async def child() -> str:
    return idempotency_key()


def _graph(keys: list[str]) -> Any:
    """Keys of parallel tasks, of a tool, of a nested graph and of a task; then it waits, once."""

    async def work(state: Any) -> State:
        return {"x": [idempotency_key(), idempotency_key("a"), await pay.ainvoke({"amount": 1})]}

    async def hang(state: State) -> State:
        keys.append(idempotency_key())
        if len(keys) == 1:
            await asyncio.Event().wait()
        return {"x": [*[await child() for _ in range(2)]]}

    inner = StateGraph(State).add_node("work", work).add_edge(START, "work").compile()
    builder = StateGraph(State).add_node("work", work).add_node("hang", hang)
    builder.add_node("inner", inner).add_edge("work", "inner").add_edge("inner", "hang")
    sends = [Send("work", {"i": 1}), Send("work", {"i": 1})]
    return builder.add_conditional_edges(START, lambda _: sends, ["work"]).compile(name="keys")


@pytest.mark.parametrize("mode", ["embedded"])
async def test_same_key_for_the_same_task(client: Client, task_queue: str, mode: str) -> None:
    keys: list[str] = []
    async with durable(mode, client, task_queue) as saver:
        graph = _graph(keys).with_config(checkpointer=saver)
        call = asyncio.create_task(graph.ainvoke({"x": []}, config("t")))
        async with asyncio.timeout(30):
            while not keys:  # noqa: ASYNC110 # it is in a node
                await asyncio.sleep(0.02)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        first = (await graph.ainvoke(None, config("t")))["x"]
        assert keys[0] == keys[1]
        second = (await graph.ainvoke({"x": []}, config("t")))["x"]
        other = (await graph.ainvoke({"x": []}, config("u")))["x"]
    # Nested graphs give back what they were given as well.
    found = [set(first), set(second) - set(first), set(other)]
    assert [len(keys_of) for keys_of in found] == [3 * 3 + 2] * 3
    assert len(set.union(*found)) == 3 * 11
    assert all(len(key) == 64 for key in first)


def test_outside_of_a_node() -> None:
    with pytest.raises(UsageError, match="in a node"):
        idempotency_key()


async def test_without_a_thread() -> None:
    @entrypoint()
    async def alone(_: Any) -> str:
        return idempotency_key()

    with pytest.raises(UsageError, match="on a thread"):
        await alone.ainvoke(1)


class _Api(http.server.BaseHTTPRequestHandler):
    """Charges once for a key, as APIs do that know such keys."""

    requests: ClassVar[list[str]]
    receipts: ClassVar[dict[str, str]]

    def do_POST(self) -> None:
        key = self.headers["Idempotency-Key"]
        amount = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.requests.append(key)
        receipt = self.receipts.setdefault(key, f"receipt {len(self.receipts) + 1}: {amount}")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(receipt.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


async def test_an_api_charges_once(
    client: Client, temporal_server: TemporalServer, task_queue: str, tmp_path: Path
) -> None:
    """The worker dies after the charge, before anybody knows of it; the task runs again."""
    handler = type("Api", (_Api,), {"requests": [], "receipts": {}})
    api = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=api.serve_forever, daemon=True).start()
    saver = TemporalSaver(
        client,
        task_queue=task_queue,
        id_prefix=task_queue,
        heartbeat_timeout=timedelta(seconds=1),
        # Both workers are still being started.
        no_worker_timeout=timedelta(seconds=90),
    )
    command = [WARM, "-m", "langgraph_temporal_exec.cli.main", "worker"]
    command += ["tests.support.payment:graph", "--address", temporal_server.address]
    command += ["--task-queue", task_queue, "--id-prefix", task_queue, "--heartbeat-timeout", "1"]
    environment = {API: f"http://127.0.0.1:{api.server_port}", PAID: str(tmp_path / "paid")}
    workers = [
        await asyncio.create_subprocess_exec(*command, env={**os.environ, **environment}, cwd=ROOT)
        for _ in range(2)
    ]
    try:
        async with asyncio.timeout(100):
            graph = payment().with_config(checkpointer=saver)
            result = await graph.ainvoke({"amount": 5}, config("t"))
    finally:
        saver.close()
        for worker in workers:
            if worker.returncode is None:
                worker.terminate()
        ended = [await worker.wait() for worker in workers]
        api.shutdown()
        api.server_close()
    assert sorted(ended) == [-signal.SIGKILL, 0]
    assert result["receipt"] == "receipt 1: 5"
    assert len(handler.requests) == 2
    assert len(handler.receipts) == 1
