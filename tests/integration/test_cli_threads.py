"""``langgraph-temporal threads``: what an operator sees and does, most of it without a worker."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import subprocess

import pytest
from temporalio.client import Client
from typer.testing import CliRunner

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.cli.main import app
from tests.conftest import TemporalServer
from tests.support.graphs import NodeFailed, config, countdown, failing, parallel
from tests.support.warm import WARM


@pytest.mark.long
async def test_threads(client: Client, temporal_server: TemporalServer, task_queue: str) -> None:
    common = ["--address", temporal_server.address]
    common += ["--task-queue", task_queue, "--id-prefix", task_queue]

    async def run(*args: str, input: str = "") -> tuple[int, str, str]:
        # On a thread, where it has a loop of its own. `test_answered_from_the_shell` has processes.
        command = ["threads", *args, *common]
        done = await asyncio.to_thread(CliRunner().invoke, app, command, input=input)
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
    for reads in ("export", "runs"):
        code, out, err = await run(reads, "nobody")
        assert (code, out, "no thread 'nobody'" in err) == (1, "", True)
    code, _, err = await run("list", "--status", "sleepy")
    assert (code, "Unknown status" in err) == (1, True)
    async with saver.worker(failing()):
        failed = await saver.astart(failing(), {"x": []}, config("fails"))
        with pytest.raises(NodeFailed):
            await failed.aresult()
    waits = await saver.astart(countdown(), {"n": 1}, config("waits"))
    code, out, _ = await run("show", "fails")
    shown = json.loads(out)
    assert (shown["status"], "NodeFailed" in str(shown["error"])) == ("error", True)
    code, out, _ = await run("runs", "fails")
    assert out.startswith(f"{failed.run_id} error tests.support.graphs.NodeFailed: ")
    assert len(out.splitlines()) == 1
    code, out, _ = await run("runs", "waits")
    assert out == f"{waits.run_id} no_workers\n"
    code, out, _ = await run("show", "waits")
    shown = json.loads(out)
    assert (shown["status"], task_queue in shown["note"]) == ("busy", True)
    async with saver.worker(countdown()):
        code, _, err = await run("delete", "nobody", "--yes")
        assert (code, "no thread 'nobody'" in err) == (1, True)
        code, _, err = await run("delete", "done")
        assert (code, "--yes deletes without asking" in err) == (1, True)
        code, _, err = await run("delete", "done", input="n\n")
        assert (code, "Nothing was deleted" in err) == (1, True), err
        assert f"thread 'done' of namespace 'default' at {temporal_server.address}" in err
        code, _, _ = await run("show", "done")
        assert code == 0
        code, _, err = await run("delete", "asks", input="y\n")
        assert (code, "is deleted" in err) == (0, True), err
        code, _, err = await run("delete", "done", "--purge", "--yes")
        assert (code, "is deleted" in err) == (0, True), err
        code, _, err = await run("show", "done")
        assert code == 1
        await countdown().with_config(checkpointer=saver).ainvoke({"n": 2}, config("left"))
        code, _, err = await run("delete", "left", "--yes")
        assert code == 0, err
        # Deleted already, but its closed workflow can still be seen.
        code, _, err = await run("delete", "left", "--yes")
        assert (code, "no thread 'left'" in err) == (1, True)
        code, _, err = await run("delete", "left", "--yes", "--purge")
        assert (code, "is deleted" in err) == (0, True), err
        await countdown().with_config(checkpointer=saver).ainvoke({"n": 2}, config("last"))
    code, _, err = await run("delete", "last", "--yes")
    assert (code, "No worker answers" in err) == (1, True)
    # True: the next worker does carry it out (tests/storage/test_lifetime.py).
    assert "the next worker may carry it out" in err
    code, _, err = await run("resume", "last", "--value", "1")
    assert (code, "answer was not sent" in err) == (1, True)


ID = "tenant-4711/conversation/" + "0123456789abcdef" * 12 + "[red]"


@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
async def test_the_list(
    client: Client, temporal_server: TemporalServer, task_queue: str, terminal: bool
) -> None:
    """In a process of its own: ids are whole, and what is left out is told."""
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    graph = countdown().with_config(checkpointer=saver)
    async with saver.worker():
        for thread_id in ("a", "b", ID):
            await graph.ainvoke({"n": 1}, config(thread_id))

    async def listed(limit: int) -> tuple[str, str]:
        ours, theirs = pty.openpty() if terminal else (0, subprocess.PIPE)
        process = await asyncio.create_subprocess_exec(
            *(WARM, "-m", "langgraph_temporal_exec.cli", "threads", "list"),
            *("--address", temporal_server.address, "--id-prefix", task_queue),
            *("--limit", str(limit)),
            env={**os.environ, "COLUMNS": "80", "TERM": "xterm"},
            stdout=theirs,
            stderr=subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err
        if terminal:
            os.close(theirs)
            # What is written fits into the terminal's buffer.
            out = os.read(ours, 100_000)
            os.close(ours)
        return out.decode(), err.decode()

    # Visibility lags behind, and a process takes long to start.
    while [t.status async for t in saver.alist_threads()] != ["idle"] * 3:  # noqa: ASYNC110 - in Temporal
        await asyncio.sleep(0.1)
    (out, err), (fewer, told) = await asyncio.gather(listed(3), listed(2))
    assert out.count("idle") == 3
    assert err == ""
    if terminal:
        # Folded into lines of its column.
        column = [re.split("[│┃]", line)[1] for line in out.splitlines() if "│" in line]
        assert ID in "".join(column).replace(" ", "")
    else:
        assert [line.split()[:3] for line in out.splitlines() if ID in line] == [
            [ID, "idle", "countdown"]
        ]
        assert len(out.splitlines()) == 1 + 3
    assert fewer.count("idle") == 2
    assert "there are more than these 2: --limit" in told
