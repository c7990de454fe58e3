"""``langgraph-temporal threads``: what an operator sees and does, most of it without a worker."""

from __future__ import annotations

import asyncio
import json

import pytest
from temporalio.client import Client
from typer.testing import CliRunner

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.cli.main import app
from tests.conftest import TemporalServer
from tests.support.graphs import NodeFailed, config, countdown, failing, parallel


async def test_threads(client: Client, temporal_server: TemporalServer, task_queue: str) -> None:
    common = ["--address", temporal_server.address]
    common += ["--task-queue", task_queue, "--id-prefix", task_queue]

    async def run(*args: str) -> tuple[int, str, str]:
        # On a thread, where it has a loop of its own. `test_answered_from_the_shell` has processes.
        command = ["threads", *args, *common]
        done = await asyncio.to_thread(CliRunner().invoke, app, command, env={"COLUMNS": "200"})
        return done.exit_code, done.stdout, done.stderr

    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with saver.worker(countdown(), parallel()):
        await countdown().with_config(checkpointer=saver).ainvoke({"n": 2}, config("done"))
        await parallel().with_config(checkpointer=saver).ainvoke({"x": ["in"]}, config("asks"))

    async def listed() -> dict[str, str]:
        _, out, _ = await run("list", "--json")
        return {t["thread_id"]: t["status"] for t in map(json.loads, out.splitlines())}

    # Visibility lags behind.
    while await listed() != {"done": "idle", "asks": "interrupted"}:  # noqa: ASYNC110 - in Temporal
        await asyncio.sleep(0.1)
    code, out, _ = await run("list", "--status", "interrupted")
    assert (code, "asks" in out, "question" in out, "done" in out) == (0, True, True, False)
    code, out, _ = await run("show", "asks")
    shown = json.loads(out)
    assert (shown["graph"], shown["interrupts"][0]["value"]) == ("parallel", "question")
    code, out, _ = await run("export", "done")
    steps = [json.loads(line)["metadata"]["step"] for line in out.splitlines()]
    assert steps == [-1, 0, 1, 2]
    code, _, err = await run("show", "nobody")
    assert (code, "no thread 'nobody'" in err) == (1, True)
    code, _, err = await run("list", "--status", "sleepy")
    assert (code, "Unknown status" in err) == (1, True)
    code, _, err = await run("delete", "done")
    assert (code, "No worker answers" in err) == (1, True)
    async with saver.worker(failing()):
        failed = await saver.astart(failing(), {"x": []}, config("fails"))
        with pytest.raises(NodeFailed):
            await failed.aresult()
    waits = await saver.astart(countdown(), {"n": 1}, config("waits"))
    code, out, _ = await run("show", "fails")
    shown = json.loads(out)
    assert (shown["status"], "NodeFailed" in shown["error"]) == ("error", True)
    code, out, _ = await run("runs", "fails")
    assert out.startswith(f"{failed.run_id} error tests.support.graphs.NodeFailed: ")
    assert len(out.splitlines()) == 1
    code, out, _ = await run("runs", "waits")
    assert out == f"{waits.run_id} no_workers\n"
    code, out, _ = await run("show", "waits")
    shown = json.loads(out)
    assert (shown["status"], task_queue in shown["note"]) == ("busy", True)
    async with saver.worker(countdown()):
        code, _, err = await run("delete", "done", "--purge")
        assert (code, "is deleted" in err) == (0, True), err
        code, _, err = await run("show", "done")
        assert code == 1
