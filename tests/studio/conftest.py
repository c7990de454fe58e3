"""One `langgraph dev` per test process, and a plain script beside it on the same Temporal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from importlib.util import find_spec

import pytest
from langgraph_sdk.client import LangGraphClient
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from tests.conftest import TemporalServer

PREFIX = "studio"

if find_spec("langgraph_api") is None:
    # The lowest versions are tested without the extra.
    collect_ignore_glob = ["test_*.py"]
else:
    from tests.studio.dev import DevServer


@pytest.fixture(scope="session")
def dev_server(
    temporal_server: TemporalServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DevServer]:
    """The server most tests share; none of them stops it."""
    folder = tmp_path_factory.mktemp("dev")
    server = DevServer(folder, temporal_server.address, id_prefix=PREFIX)
    server.start()
    try:
        yield server
        assert server.stop() == 0, server.log[-6000:]
        # Blocking calls on its loop and lost tasks are only told in its log.
        for sign in ("BlockingError", "was never retrieved", "was never awaited"):
            assert sign not in server.log, server.log[-6000:]
    finally:
        server.kill()


@pytest.fixture
async def sdk(dev_server: DevServer) -> AsyncIterator[LangGraphClient]:
    """The official client, connected to it."""
    async with dev_server.client() as client:
        yield client


@pytest.fixture
async def script(client: Client) -> AsyncIterator[TemporalSaver]:
    """A plain script on the same Temporal, with the same task queue and no worker of its own:
    what it runs the server's worker executes."""
    saver = TemporalSaver(client, task_queue=PREFIX, id_prefix=PREFIX)
    try:
        yield saver
    finally:
        saver.close()


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[DevServer], Awaitable[LangGraphClient]]]:
    """Makes clients of servers that a test starts itself; closed at its end."""
    async with AsyncExitStack() as stack:
        yield lambda server: stack.enter_async_context(server.client())
