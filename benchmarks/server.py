"""Benchmark set-up: Temporal dev servers, tuned and as they come, which are watched."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import tempfile
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, GetSystemInfoRequest
from temporalio.client import Client
from temporalio.service import RPCError

from benchmarks.billed import NOT_BILLED
from benchmarks.processes import die_with_parent
from langgraph_temporal_exec.local import (
    DURABLE_TUNING,
    MEMORY_TUNING,
    TUNING,
    find_temporal,
)

Kind = Literal["tuned", "default"]


def flags(kind: Kind, *, memory: bool = False) -> tuple[str, ...]:
    """What a server is started with: how this package starts its own, or nothing."""
    if kind == "default":
        return ()
    return (*TUNING, *(MEMORY_TUNING if memory else DURABLE_TUNING))


START_S = 60.0
STOP_S = 15.0


class LabError(RuntimeError):
    """Something the benchmark needs is missing or did not start."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A Temporal dev server."""

    kind: Kind
    client: Client
    pid: int
    metrics: str  # URL
    directory: Path  # removed with the server
    version: str

    @property
    def address(self) -> str:
        """``host:port`` of the frontend."""
        return self.client.service_client.config.target_host

    async def actions(self, namespace: str) -> Counter[str]:
        """What Temporal itself has counted as actions in a namespace so far, by its names, without
        what Temporal Cloud does not bill."""
        text = await asyncio.to_thread(_get, self.metrics)
        found: Counter[str] = Counter()
        for line in text.splitlines():
            if line.startswith("action{") and f'namespace="{namespace}"' in line:
                kind = line.partition('action_type="')[2].partition('"')[0]
                found[kind] += int(float(line.rpartition(" ")[2]))
        return Counter({kind: n for kind, n in found.items() if kind not in NOT_BILLED})


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as reply:
        return str(reply.read().decode())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def open_server(
    kind: Kind = "tuned", namespaces: Sequence[str] = (), *, memory: bool = False
) -> AsyncIterator[Server]:
    """Start one.

    Args:
        kind: With which flags.
        namespaces: To be there beside ``default``.
        memory: Whether it keeps its data in memory instead of a file.

    Raises:
        LabError: It does not start.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        directory = Path(folder)
        # Others in there run as another user (PostgreSQL).
        os.chmod(directory, 0o755)
        port, metrics = _free_port(), _free_port()
        command = [
            *(find_temporal(), "server", "start-dev", "--headless", "--log-level", "error"),
            *("--ip", "127.0.0.1", "--port", str(port), "--metrics-port", str(metrics)),
            *(() if memory else ("--db-filename", str(directory / "temporal.db"))),
            *flags(kind, memory=memory),
        ]
        for namespace in namespaces:
            command += ["--namespace", namespace]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        try:
            client = await _connect(process, f"127.0.0.1:{port}", ["default", *namespaces])
            info = await client.workflow_service.get_system_info(GetSystemInfoRequest())
            yield Server(
                kind=kind,
                client=client,
                pid=process.pid,
                metrics=f"http://127.0.0.1:{metrics}/metrics",
                directory=directory,
                version=info.server_version,
            )
        finally:
            await stop(process, STOP_S)


async def _connect(
    process: asyncio.subprocess.Process, address: str, namespaces: Sequence[str]
) -> Client:
    deadline = asyncio.get_running_loop().time() + START_S
    while asyncio.get_running_loop().time() < deadline:
        if process.returncode is not None:
            raise LabError(f"The Temporal server exited with {process.returncode}.")
        with contextlib.suppress(RuntimeError, RPCError):
            client = await Client.connect(address)
            for namespace in namespaces:
                await client.workflow_service.describe_namespace(
                    DescribeNamespaceRequest(namespace=namespace), retry=False
                )
            return client
        await asyncio.sleep(0.1)
    raise LabError(f"The Temporal server did not answer within {START_S:.0f} s.")


async def stop(process: asyncio.subprocess.Process, patience_s: float) -> None:
    """Terminate a child, and kill it if it does not end."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(patience_s):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
