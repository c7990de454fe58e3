"""Fixtures shared by all tests: one real Temporal dev server for the session, names per test."""

from __future__ import annotations

import asyncio
import gc
import re
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import settings
from temporalio.client import Client

from langgraph_temporal_exec.local import start_server
from tests.support import warm

warm.install()

# A property that needs a server, or a busy machine, is slow without being wrong.
settings.register_profile("no_deadline", deadline=None, print_blob=True)
settings.load_profile("no_deadline")

# Seconds; how long a start or stop of the server may take before the session is given up.
SERVER_DEADLINE_S = 60


LONG_TIMEOUT_S = 600
"""Ends a test marked `long` that hangs."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first: begun last, one would keep the session waiting by itself."""
    for item in items:
        if item.get_closest_marker("long") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(LONG_TIMEOUT_S))
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_collection_finish() -> None:
    """What is imported and collected lasts: a collection that walks all of it, on a busy machine,
    holds an activation of workflow code for longer than Temporal lets it."""
    gc.collect()
    gc.freeze()


@dataclass(frozen=True, kw_only=True)
class TemporalServer:
    """A running dev server."""

    address: str  # host:port
    namespace: str


def _all(request: pytest.FixtureRequest) -> list[pytest.Function]:
    return [item for item in request.session.items if isinstance(item, pytest.Function)]


@pytest.fixture(scope="session")
def temporal_server(request: pytest.FixtureRequest) -> Iterator[TemporalServer]:
    """One dev server, in memory, on a free port, for the whole session.

    Its environment lives on a thread and an event loop of its own, so that tests, each on its
    own loop, share nothing with it but the address.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="temporal-server", daemon=True)
    thread.start()
    if any(hasattr(item.module, "WARM") or "lab" in item.fixturenames for item in _all(request)):
        warm.prepare()
    try:
        starting = start_server()
        env = asyncio.run_coroutine_threadsafe(starting, loop).result(SERVER_DEADLINE_S)
        try:
            yield TemporalServer(
                address=env.client.service_client.config.target_host,
                namespace=env.client.namespace,
            )
        finally:
            asyncio.run_coroutine_threadsafe(env.shutdown(), loop).result(SERVER_DEADLINE_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(SERVER_DEADLINE_S)
        loop.close()


@pytest.fixture
async def client(temporal_server: TemporalServer) -> Client:
    """A client of the dev server, connected on the test's own loop."""
    return await Client.connect(temporal_server.address, namespace=temporal_server.namespace)


@pytest.fixture
def task_queue(request: pytest.FixtureRequest) -> str:
    """A task queue that no other test polls."""
    test = re.sub(r"\W+", "-", request.node.name).strip("-")[:60]
    return f"{test}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def thread_id() -> str:
    """A thread that no other test uses. A UUID, as LangGraph's API server demands."""
    return str(uuid.uuid4())
