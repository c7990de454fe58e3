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


async def _program(role: str, server: TemporalServer, queue: str) -> asyncio.subprocess.Process:
    paths = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    where = ("--address", server.address, "--task-queue", queue)
    strict = {"PYTHONPATH": os.pathsep.join(paths), "LANGGRAPH_STRICT_MSGPACK": "true"}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.strict", role, *where),
        cwd=ROOT,
        env={**os.environ, **strict},
        stdout=PIPE,
    )


async def test_classes_of_the_schemas_cross(
    temporal_server: TemporalServer, task_queue: str
) -> None:
    worker = await _program("worker", temporal_server, task_queue)
    try:
        assert worker.stdout is not None
        async with asyncio.timeout(RUN_S):
            while READY not in (await worker.stdout.readline()).decode():
                assert worker.returncode is None
        caller = await _program("caller", temporal_server, task_queue)
        try:
            async with asyncio.timeout(RUN_S):
                output, _ = await caller.communicate()
        finally:
            if caller.returncode is None:
                caller.kill()
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
