"""The ways to run durably: with the worker in this process, in another one, and with the worker in
this process but all tasks in another one."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from temporalio.client import Client

from langgraph_temporal_exec import NodeOptions, TemporalSaver
from tests.conftest import TemporalServer
from tests.parity.serve import READY
from tests.parity.stage import LEDGER

ROOT = Path(__file__).parents[2]
START_S = 240.0
"""Bound of starting and stopping a worker."""


@pytest.fixture(scope="session")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where nodes count their side effects, whatever process they run in."""
    folder = tmp_path_factory.mktemp("ledger")
    os.environ[LEDGER] = str(folder)
    yield folder
    del os.environ[LEDGER]


@asynccontextmanager
async def _embedded(
    server: TemporalServer, queue: str, nodes: Mapping[str, NodeOptions] | None = None
) -> AsyncIterator[TemporalSaver]:
    client = await Client.connect(server.address, namespace=server.namespace)
    saver = TemporalSaver(client, task_queue=queue, id_prefix=queue, nodes=nodes)
    async with saver.worker():
        yield saver
    saver.close()


@pytest.fixture(scope="session")
def embedded(temporal_server: TemporalServer, ledger: Path) -> Iterator[TemporalSaver]:
    """A saver that hosts its worker."""
    with _hosted(_embedded(temporal_server, "parity-embedded")) as saver:
        yield saver


@pytest.fixture(scope="session")
def placed(
    temporal_server: TemporalServer, ledger: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TemporalSaver]:
    """A saver that hosts its worker, which has another one run all tasks."""
    there = "parity-placed-there"
    nodes = {"*": NodeOptions(task_queue=there)}
    opening = _embedded(temporal_server, "parity-placed", nodes)
    log = tmp_path_factory.mktemp("placed") / "output.txt"
    with _worker(temporal_server, there, "parity-placed", ledger, log), _hosted(opening) as saver:
        yield saver


@contextmanager
def _hosted(opening: AbstractAsyncContextManager[TemporalSaver]) -> Iterator[TemporalSaver]:
    """A saver with a worker, kept alive by a loop none of the tests runs on."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="parity-embedded", daemon=True)
    thread.start()
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
    with _worker(temporal_server, queue, queue, ledger, log):
        client = asyncio.run(
            Client.connect(temporal_server.address, namespace=temporal_server.namespace)
        )
        saver = TemporalSaver(client, task_queue=queue, id_prefix=queue)
        yield saver
        saver.close()


@contextmanager
def _worker(
    server: TemporalServer, queue: str, id_prefix: str, ledger: Path, log: Path
) -> Iterator[None]:
    """A worker process that serves the graphs of all scenarios."""
    paths = [str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    command = [sys.executable, "-m", "tests.parity.serve"]
    command += ["--address", server.address, "--task-queue", queue, "--id-prefix", id_prefix]
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
        yield
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
