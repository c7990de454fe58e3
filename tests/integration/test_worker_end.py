"""How a worker ends, and what it tells an orchestrator meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver, UsageError
from tests.integration.test_worker_limits import Gate
from tests.support.graphs import config, countdown
from tests.support.warm import WARM

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def asked(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    def ask() -> tuple[int, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return reply.status, reply.read().decode().strip()
        except urllib.error.HTTPError as exc:
            return exc.code, exc.read().decode().strip()

    return await asyncio.to_thread(ask)


async def entered(context: Any) -> Any:
    await context.__aenter__()
    return context


def leave(context: Any) -> asyncio.Task[None]:
    return asyncio.create_task(context.__aexit__(None, None, None))


@pytest.mark.parametrize("mode", ["embedded", "remote"])
async def test_runs_under_way_end_and_new_ones_go_elsewhere(
    client: Client, temporal_server: Any, task_queue: str, mode: str
) -> None:
    """While one worker stops, its run goes on there; the next run is taken by the other worker."""
    old, new = Gate(), Gate()
    new.go.set()
    stopping = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    other_client = await Client.connect(temporal_server.address)
    other = TemporalSaver(other_client, task_queue=task_queue, id_prefix=task_queue)
    caller = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    port = free_port()
    async with asyncio.timeout(60):
        leaving = await entered(stopping.worker(old.graph, health_port=port))
        called = stopping if mode == "embedded" else caller
        graph = old.graph.with_config(checkpointer=called)
        first = asyncio.create_task(graph.ainvoke({"x": []}, config("a")))
        await old.inside.acquire()
        assert await asked(port, "/ready") == (200, "ok")
        async with other.worker(new.graph):
            left = leave(leaving)
            while await asked(port, "/ready") == (200, "ok"):  # noqa: ASYNC110 # it is asked
                await asyncio.sleep(0.05)
            assert await asked(port, "/ready") == (503, "stopping")
            assert await asked(port, "/live") == (200, "ok")
            # More than one poll that was under way could bring.
            for thread in "bcdef":
                assert await graph.ainvoke({"x": []}, config(thread)) == {"x": ["waited"]}
            assert (old.busy.all, new.busy.all) == (1, 5)
            assert not left.done()
            old.go.set()
            assert await first == {"x": ["waited"]}
            await left
            # Nobody had to begin it again.
            assert (old.busy.all, new.busy.all) == (1, 5)
    caller.close()


async def test_the_only_worker_lets_its_runs_end(client: Client, task_queue: str) -> None:
    """They need workflows to be served as well, and nobody else does that."""
    gate = Gate()
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    caller = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with asyncio.timeout(60):
        leaving = await entered(saver.worker(gate.graph))
        run = await caller.astart(gate.graph, {"x": []}, config("t"))
        await gate.inside.acquire()
        left = leave(leaving)
        gate.go.set()
        assert (await run.aresult())["x"] == ["waited"]
        await left
    assert gate.busy.all == 1
    caller.close()


@pytest.mark.parametrize("mode", ["embedded", "remote"])
async def test_after_the_grace_the_run_moves(
    client: Client, temporal_server: Any, task_queue: str, mode: str
) -> None:
    old, new = Gate(), Gate()
    new.go.set()
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    other_client = await Client.connect(temporal_server.address)
    other = TemporalSaver(other_client, task_queue=task_queue, id_prefix=task_queue)
    caller = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with asyncio.timeout(60):
        grace = timedelta(seconds=0.5)
        leaving = await entered(saver.worker(old.graph, shutdown_grace=grace))
        if mode == "embedded":
            graph = old.graph.with_config(checkpointer=saver)
            call = asyncio.create_task(graph.ainvoke({"x": []}, config("t")))
        else:
            run = await caller.astart(old.graph, {"x": []}, config("t"))
            call = asyncio.create_task(run.aresult())
        await old.inside.acquire()
        async with other.worker(new.graph):
            await leave(leaving)
            if mode == "remote":
                assert (await call)["x"] == ["waited"]
            else:
                with pytest.raises(Exception, match="worker of this process stopped"):
                    await call
                (found,) = [run async for run in other.alist_runs("t")]
                assert (await found.aresult())["x"] == ["waited"]
    assert new.busy.all == 1
    caller.close()


async def test_health(client: Client, task_queue: str) -> None:
    port = free_port()
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with saver.worker(health_port=port):
        assert await asked(port, "/live") == (200, "ok")
        assert await asked(port, "/ready?verbose=1") == (200, "ok")
        assert await asked(port, "/ready", "HEAD") == (200, "")
        assert (await asked(port, "/"))[0] == 404
        assert (await asked(port, "/live", "POST"))[0] == 405
        # Whoever sends nothing, or nonsense, harms nobody.
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"nonsense\r\n\r\n")
        await writer.drain()
        writer.close()
        assert await asked(port, "/live") == (200, "ok")
        other = TemporalSaver(client, task_queue=f"{task_queue}-2", id_prefix=task_queue)
        with pytest.raises(UsageError, match=f"cannot tell its health on port {port}"):
            async with other.worker(health_port=port):
                pass
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_worker_that_has_stopped_by_itself_is_not_alive(
    client: Client, task_queue: str
) -> None:
    port = free_port()
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with saver.worker(health_port=port), asyncio.timeout(60):
        host: Any = saver._caller.host
        await host.loop_thread.call(host._workers[0].shutdown())
        while (await asked(port, "/live"))[0] == 200:  # noqa: ASYNC110 # it is asked
            await asyncio.sleep(0.05)
        assert await asked(port, "/ready") == await asked(port, "/live")


WORKER = [WARM, "-m", "langgraph_temporal_exec.cli", "worker"]

HELD = """
import asyncio
from pathlib import Path
from langgraph.graph import START, MessagesState, StateGraph

async def hold(state):
    Path("begun").touch()
    await asyncio.Event().wait()

builder = StateGraph(MessagesState).add_node("hold", hold).add_edge(START, "hold")
graph = builder.compile(name="held")
"""


async def test_a_second_signal_ends_at_once(
    client: Client, temporal_server: Any, task_queue: str, tmp_path: Path
) -> None:
    (tmp_path / "held.py").write_text(HELD)
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(*WORKER, "held:graph", "--health-port", str(port), "--shutdown-grace", "3600"),
        *("--address", temporal_server.address, "--task-queue", task_queue),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    async with asyncio.timeout(100):
        while b"serving" not in await process.stderr.readline():
            pass
        assert await asked(port, "/ready") == (200, "ok")
        caller = TemporalSaver(client, task_queue=task_queue, graph="held")
        run = await caller.astart(countdown(), {"messages": []}, config(task_queue))
        while not (tmp_path / "begun").exists():  # noqa: ASYNC110 # of another process
            await asyncio.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        while b"stopping: runs under way have 3600 s" not in await process.stderr.readline():
            pass
        while await asked(port, "/ready") == (200, "ok"):  # noqa: ASYNC110 # it is asked
            await asyncio.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 128 + signal.SIGTERM
        await run.acancel()
    caller.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target-cpu", "0.8"], "go together"),
        (
            ["--target-cpu", "0.8", "--target-memory", "0.8", "--max-concurrent-runs", "3"],
            "instead of --max-concurrent-runs",
        ),
        (["--target-cpu", "80", "--target-memory", "0.8"], "parts of the whole"),
    ],
)
def test_options_of_the_command_that_make_no_sense(arguments: list[str], message: str) -> None:
    done = subprocess.run(
        [*WORKER, "tests.support.served:graph", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1
    assert message in done.stderr
