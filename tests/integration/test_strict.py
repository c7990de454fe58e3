"""With ``LANGGRAPH_STRICT_MSGPACK`` what crosses is at least what is read from the state."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

from tests.conftest import TemporalServer
from tests.support.strict import READY

ROOT = Path(__file__).parents[2]
RUN_S = 90.0
"""Bound of starting a worker, and of a caller's calls."""


async def _program(
    role: str, server: TemporalServer, queue: str, *more: str
) -> asyncio.subprocess.Process:
    where = ("--address", server.address, "--task-queue", queue)
    return await _strict("tests.support.strict", role, *where, *more)


async def _strict(*program: str) -> asyncio.subprocess.Process:
    paths = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    strict = {"PYTHONPATH": os.pathsep.join(paths), "LANGGRAPH_STRICT_MSGPACK": "true"}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *program),
        cwd=ROOT,
        env={**os.environ, **strict},
        stdout=PIPE,
    )


async def _output(process: asyncio.subprocess.Process) -> str:
    try:
        async with asyncio.timeout(RUN_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0
    return output.decode()


def _reloaded(shape: Any) -> Any:
    if isinstance(shape, dict):
        return {key: _reloaded(value) for key, value in shape.items()}
    if isinstance(shape, list):
        return [_reloaded(value) for value in shape]
    return "list" if shape == "tuple" else shape


async def test_who_lacks_the_classes_reads_what_sqlite_would_show(
    temporal_server: TemporalServer, task_queue: str, tmp_path: Path
) -> None:
    worker = await _program("worker", temporal_server, task_queue)
    sqlite = str(tmp_path / "plain.sqlite")
    try:
        assert worker.stdout is not None
        async with asyncio.timeout(RUN_S):
            while READY not in (await worker.stdout.readline()).decode():
                assert worker.returncode is None
        starter = await _program("starter", temporal_server, task_queue, "--sqlite", sqlite)
        run_id = (await _output(starter)).strip()
        told: dict[str, Any] = json.loads(
            await _output(
                await _strict(
                    *("tests.support.stranger", "--address", temporal_server.address),
                    *("--queue", task_queue, "--run-id", run_id, "--thread-id", "asks"),
                    *("--sqlite", sqlite),
                )
            )
        )
    finally:
        worker.kill()
        await worker.wait()
    assert not told["loaded"]
    assert told["state"] == told["plain"]
    assert told["asked in state"] == told["asked of thread"] == told["plain asked"]
    # A result keeps tuples, also where a reload of the state has lists.
    assert _reloaded(told["result"]) == told["plain"]
    assert _reloaded(told["asked in result"]) == told["plain asked"]


async def test_classes_of_the_schemas_cross(
    temporal_server: TemporalServer, task_queue: str
) -> None:
    worker = await _program("worker", temporal_server, task_queue)
    try:
        assert worker.stdout is not None
        async with asyncio.timeout(RUN_S):
            while READY not in (await worker.stdout.readline()).decode():
                assert worker.returncode is None
        output = await _output(await _program("caller", temporal_server, task_queue))
    finally:
        worker.kill()
        await worker.wait()
    told: dict[str, Any] = json.loads(output)
    read = ["Order", "Order.Line", "dict"]
    assert told["in memory"]["read"] == told["durable"]["read"] == read
    # What is in no schema may not be revived.
    assert told["durable"]["node"] == [*read, "Order"]
    assert told["durable"]["result"] == read
    assert told["started"] == [*read[:2], "NoneType"]
