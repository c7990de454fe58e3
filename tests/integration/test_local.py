"""The embedded server: quiet, tied to its process, one per file."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from langgraph_temporal_exec import ServerUnavailableError, TemporalSaver, local
from langgraph_temporal_exec.local import start_server
from tests.support.graphs import config, parallel

PROGRAM = textwrap.dedent(
    """
    import asyncio, sys
    from langgraph_temporal_exec import TemporalSaver
    async def main():
        async with TemporalSaver.local(sys.argv[1]) as saver:
            print(saver.client.service_client.config.target_host, flush=True)
            await asyncio.sleep(100)
    asyncio.run(main())
    """
)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_the_server_dies_with_its_process(tmp_path: Path, signum: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "t.db")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A job in the background of a shell ignores SIGINT, and so do its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    assert _listens(address)
    os.kill(process.pid, signum)
    rest, errors = process.communicate(timeout=60)
    assert rest == ""
    assert "Fatal" not in errors
    deadline = time.monotonic() + 60
    while _listens(address):
        assert time.monotonic() < deadline, "the server outlived its process"
        time.sleep(0.2)


async def test_a_port_in_use_is_an_error() -> None:
    server = await start_server()
    try:
        port = int(server.address.rpartition(":")[2])
        with pytest.raises(ServerUnavailableError, match=str(port)):
            await start_server(port=port)
    finally:
        await server.shutdown()
        await server.shutdown()


async def test_port_that_was_taken_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found free, and taken by another process before the server has it: another one is tried."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        ports = iter([taken.getsockname()[1], local._free_port()])
        monkeypatch.setattr(local, "_free_port", lambda: next(ports))
        server = await start_server()
    try:
        assert await server.client.service_client.check_health()
        assert next(ports, None) is None
    finally:
        await server.shutdown()


async def test_a_file_has_one_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of two would take itself for the only one."""
    path = tmp_path / "t.db"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, str(path)), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    address = (await process.stdout.readline()).decode().strip()
    assert _listens(address)
    with monkeypatch.context() as patch:
        patch.setattr(local, "LOCK_S", 0.1)
        with pytest.raises(ServerUnavailableError, match=f"process {process.pid} .*t.db"):
            await start_server(path)
    # It is gone as soon as its server is.
    process.kill()
    server = await start_server(path)
    assert not _listens(address)
    await server.shutdown()


async def test_a_file_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServerUnavailableError, match=r"cannot use the file .*file/t\.db"):
        await start_server(tmp_path / "file" / "t.db")


async def test_local_keeps_threads_in_its_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "temporal.db"
    async with TemporalSaver.local(path) as saver, asyncio.timeout(100):
        graph = parallel().with_config(checkpointer=saver)
        first = await graph.ainvoke({"x": ["in"]}, config("t"))
        assert "__interrupt__" in first
    async with TemporalSaver.local(path) as saver, asyncio.timeout(100):
        graph = parallel().with_config(checkpointer=saver)
        state = await graph.aget_state(config("t"))
        assert state.next == ("ask",)
        assert state.values == {"x": ["in", "a", "b1", "b2"]}
