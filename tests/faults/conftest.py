"""Fixtures of the fault tests: processes around the session's server, or around an own one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.conftest import TemporalServer
from tests.faults.lab import Lab, Server, free_port


@pytest.fixture
def lab(
    tmp_path: Path, temporal_server: TemporalServer, task_queue: str, thread_id: str
) -> Iterator[Lab]:
    """Processes around the session's server; all are killed in the end."""
    made = Lab(tmp_path, temporal_server.address, task_queue, thread_id)
    try:
        yield made
    finally:
        made.discard()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A server of this test's own, on a file."""
    made = Server(tmp_path, free_port())
    try:
        await made.start()
        yield made
    finally:
        if made.process is not None:
            made.process.discard()


@pytest.fixture
def own_lab(tmp_path: Path, server: Server, task_queue: str, thread_id: str) -> Iterator[Lab]:
    """Processes around a server that the test may kill."""
    made = Lab(tmp_path, server.address, task_queue, thread_id)
    try:
        yield made
    finally:
        made.discard()
