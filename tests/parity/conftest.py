"""The two ways to run durably: with the worker in this process, and in another one."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from tests.conftest import TemporalServer
from tests.parity.serve import READY
from tests.parity.stage import LEDGER

ROOT = Path(__file__).parents[2]
START_S = 60.0
"""Bound of starting and stopping a worker."""


@pytest.fixture(scope="session")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where nodes count their side effects, whatever process they run in."""
    folder = tmp_path_factory.mktemp("ledger")
    os.environ[LEDGER] = str(folder)
    yield folder
    del os.environ[LEDGER]


@asynccontextmanager
async def _embedded(server: TemporalServer, queue: str) -> AsyncIterator[TemporalSaver]:
    client = await Client.connect(server.address, namespace=server.namespace)
    saver = TemporalSaver(client, task_queue=queue, id_prefix=queue)
    async with saver.worker():
        yield saver
    saver.close()


@pytest.fixture(scope="session")
def embedded(temporal_server: TemporalServer, ledger: Path) -> Iterator[TemporalSaver]:
    """A saver that hosts its worker, kept alive by a loop none of the tests runs on."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="parity-embedded", daemon=True)
    thread.start()
    opening = _embedded(temporal_server, "parity-embedded")
    try:
        saver = asyncio.run_coroutine_threadsafe(opening.__aenter__(), loop).result(START_S)
        try:
            yield saver
        finally:
            closing = opening.__aexit__(None, None, None)
            asyncio.run_coroutine_threadsafe(closing, loop).result(START_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(START_S)
        loop.close()


@pytest.fixture(scope="session")
def remote(
    temporal_server: TemporalServer, ledger: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TemporalSaver]:
    """A saver of a caller; the worker is another process."""
    queue = "parity-remote"
    log = tmp_path_factory.mktemp("worker") / "output.txt"
    paths = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    command = [sys.executable, "-m", "tests.parity.serve"]
    command += ["--address", temporal_server.address, "--task-queue", queue]
    with log.open("wb") as output:
        worker = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), LEDGER: str(ledger)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _until_ready(worker, log)
        client = asyncio.run(
            Client.connect(temporal_server.address, namespace=temporal_server.namespace)
        )
        saver = TemporalSaver(client, task_queue=queue, id_prefix=queue)
        yield saver
        saver.close()
    finally:
        worker.kill()
        worker.wait(START_S)


def _until_ready(worker: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while READY not in log.read_text(errors="replace"):
        assert worker.poll() is None, f"the worker failed:\n{log.read_text(errors='replace')}"
        assert time.monotonic() < deadline, f"no sign of the worker:\n{log.read_text()}"
        time.sleep(0.05)


@pytest.fixture
def saver(request: pytest.FixtureRequest, mode: str) -> TemporalSaver:
    """The saver of the mode; its worker stays for the session."""
    saver: TemporalSaver = request.getfixturevalue(mode)
    return saver
