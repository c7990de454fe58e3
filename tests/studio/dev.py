"""A real `langgraph dev` as a child process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from tests.studio.graphs import GATES, GRAPHS

ROOT = Path(__file__).parents[2]
START_S = 90
STOP_S = 40


class DevServer:
    """`langgraph dev` in a folder of its own, with this package's checkpointer and app.

    Args:
        folder: Where it runs; it keeps its own store there.
        address: Temporal.
        id_prefix: Of the workflow ids.
        environ: More environment.
        app: The ``http.app``.
        jobs: How many runs it works on at a time.
    """

    def __init__(
        self,
        folder: Path,
        address: str,
        *,
        id_prefix: str,
        environ: dict[str, str] | None = None,
        app: str = "langgraph_temporal_exec.studio.app:app",
        jobs: int = 10,
    ) -> None:
        self.folder = folder
        self.prefix = id_prefix
        self.gates = folder / "gates"
        self.gates.mkdir(parents=True, exist_ok=True)
        self._jobs = jobs
        self._environ = {
            **os.environ,
            "TEMPORAL_ADDRESS": address,
            "LANGGRAPH_TEMPORAL_ID_PREFIX": id_prefix,
            "LANGGRAPH_TEMPORAL_TASK_QUEUE": id_prefix,
            "LANGGRAPH_CLI_NO_ANALYTICS": "1",
            "LANGGRAPH_NO_VERSION_CHECK": "true",
            "LANGSMITH_TRACING": "false",
            "PYTHONPATH": str(ROOT),
            GATES: str(self.gates),
            **(environ or {}),
        }
        config = {
            "dependencies": ["."],
            "graphs": {name: f"tests.studio.graphs:{name}" for name in GRAPHS},
            "checkpointer": {"path": "langgraph_temporal_exec.studio.checkpointer"},
            "http": {
                "app": app,
                "middleware_order": "auth_first",
            },
        }
        (folder / "langgraph.json").write_text(json.dumps(config))
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        deadline = time.monotonic() + START_S
        assert self._process is not None
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                if httpx.get(f"{self.url}/ok", timeout=5).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.2)
        self.kill()
        raise AssertionError(f"langgraph dev did not start:\n{self.log[-6000:]}")

    def launch(self) -> None:
        """Start it."""
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        log = (self.folder / "server.log").open("ab")
        self._process = subprocess.Popen(
            [
                *(str(Path(sys.executable).parent / "langgraph"), "dev", "--no-browser"),
                *("--no-reload", "--port", str(port), "--n-jobs-per-worker", str(self._jobs)),
            ],
            cwd=self.folder,
            env=self._environ,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def log(self) -> str:
        """What it has said so far."""
        return (self.folder / "server.log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def client(self) -> LangGraphClient:
        """The official client of it."""
        return get_client(url=self.url)

    def stop(self) -> int:
        """Ctrl-C; its exit code. Its whole session must be gone with it."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGINT)
        try:
            return self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not stop on Ctrl-C:\n{self.log[-6000:]}") from None

    def wait(self) -> int:
        """Until it ends by itself; its exit code."""
        assert self._process is not None
        return self._process.wait(STOP_S)

    def kill(self) -> None:
        """SIGKILL, with what it started."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    async def knows(self, run_id: str) -> None:
        """Wait until it has written a run to its own store, which it does every few seconds."""
        store = self.folder / ".langgraph_api" / ".langgraph_ops.pckl"
        as_pickled = uuid.UUID(run_id).bytes[::-1]

        async def saved() -> bool:
            return store.exists() and as_pickled in store.read_bytes()

        await until(saved, bool)

    # -- the slow node --------------------------------------------------------------------------

    async def runs_of(self, gate: str, count: int = 1) -> list[int]:
        """Processes that have begun the node at a gate, once there are so many."""
        path = self.gates / f"{gate}.runs"

        async def begun() -> list[int]:
            return [int(line) for line in path.read_text().split()] if path.exists() else []

        return await until(begun, lambda pids: len(pids) >= count)

    def open(self, gate: str) -> None:
        """Let the node at a gate end."""
        (self.gates / f"{gate}.open").touch()

    async def cancelled(self, gate: str) -> None:
        """Wait until the node at a gate was told to stop."""
        path = self.gates / f"{gate}.cancelled"

        async def told() -> bool:
            return path.exists()

        await until(told, bool)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def until(ask: Any, good: Any, seconds: float = 60) -> Any:
    """Ask until the answer is good."""
    deadline = time.monotonic() + seconds
    while True:
        answer = await ask()
        if good(answer):
            return answer
        assert time.monotonic() < deadline, f"still {answer!r} after {seconds} s"
        await asyncio.sleep(0.1)
