"""Workers, callers and a server as processes that can be killed, and bounded waits on them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.types import StateSnapshot
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.local import TUNING, find_temporal
from tests.faults.ledger import Ledger
from tests.support.warm import WARM

ROOT = Path(__file__).parents[2]
WAIT_S = 60.0
"""Bound of every wait. Not a measure of speed: a takeover takes seconds, a busy machine longer."""

POLL_S = 0.05
HEARTBEAT_S = 3
AGENT = "tests.faults.agent:agent"
GATES = "tests.faults.gates:graphs"


class Process:
    """A child process with its output in a file."""

    def __init__(self, name: str, command: list[str], folder: Path, **env: str) -> None:
        self.name = name
        self._output = folder / f"{name}.log"
        with self._output.open("wb") as output:
            self._popen = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), **env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.pid = self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """``None`` while it runs."""
        return self._popen.poll()

    @property
    def output(self) -> str:
        """All it has printed."""
        return self._output.read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        """Send a signal to a process that must still be there."""
        assert self.exit_code is None, f"{self.name} is gone already\n{self.report()}"
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        self.send(signal.SIGKILL)
        self._popen.wait(WAIT_S)

    def discard(self) -> None:
        """End it, whatever it does; it may be stopped, or gone."""
        if self.exit_code is None:
            self._popen.kill()
            self._popen.wait(WAIT_S)

    def report(self) -> str:
        """How it is and the end of what it printed."""
        lines = self.output.splitlines()[-30:]
        return "\n".join([f"--- {self.name} ({self.pid}), exit code {self.exit_code}", *lines])


class Caller(Process):
    """A caller process; what it received is in a file (see ``caller.py``)."""

    def __init__(self, name: str, command: list[str], folder: Path, **env: str) -> None:
        self._received = folder / f"{name}.jsonl"
        super().__init__(name, [*command, "--out", str(self._received)], folder, **env)

    def received(self, key: str) -> list[Any]:
        """The values of all lines with this key, in order."""
        if not self._received.exists():
            return []
        # A line that is being written has no end yet.
        lines = [x for x in self._received.read_text().splitlines(keepends=True) if x[-1] == "\n"]
        return [found[key] for found in map(json.loads, lines) if key in found]


@dataclass
class Server:
    """A dev server as its own process, persisting to a file; survives its own SIGKILL."""

    folder: Path
    port: int
    process: Process | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start on the same port and file as before, and wait until it answers."""
        command = [find_temporal(), "server", "start-dev", "--headless", "--ip", "127.0.0.1"]
        command += ["--port", str(self.port), "--db-filename", str(self.folder / "server.db")]
        self.process = Process("server", [*command, "--log-level", "error", *TUNING], self.folder)
        async with asyncio.timeout(WAIT_S):
            while not await self._answers():
                assert self.process.exit_code is None, self.process.report()
                await asyncio.sleep(POLL_S)

    async def _answers(self) -> bool:
        try:
            client = await Client.connect(self.address)
            return await client.service_client.check_health()
        except RuntimeError:
            return False

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Lab:
    """One test's processes, around one thread on one task queue."""

    folder: Path
    address: str
    task_queue: str
    thread_id: str

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.folder)
        self.processes: list[Process] = []

    @property
    def config(self) -> RunnableConfig:
        """Addresses the thread."""
        return {"configurable": {"thread_id": self.thread_id}}

    def config_of(self, name: str) -> RunnableConfig:
        """Addresses another thread of this test."""
        return {"configurable": {"thread_id": f"{self.thread_id}-{name}"}}

    # -- processes ----------------------------------------------------------------------------

    async def worker(self, target: str = AGENT, heartbeat_s: int = HEARTBEAT_S) -> Process:
        """Start a worker with the command line and wait until it polls."""
        command = [WARM, "-m", "langgraph_temporal_exec.cli", "worker", target]
        command += ["--address", self.address, "--task-queue", self.task_queue]
        # No test wants to wait for longer until a run moves.
        command += ["--heartbeat-timeout", str(heartbeat_s), "--shutdown-grace", "5"]
        name = f"worker-{len(self.processes)}"
        worker = self._add(Process(name, command, self.folder, FAULTS_DIR=str(self.folder)))
        await self.until(lambda: "serving task queue" in worker.output, f"{name} serves")
        return worker

    async def workers(self, target: str = AGENT) -> tuple[Process, Process]:
        """Two of them."""
        first, second = await asyncio.gather(self.worker(target), self.worker(target))
        return first, second

    def call(self, text: str, *options: str, heartbeat_s: int = HEARTBEAT_S) -> Caller:
        """Start a process that calls the agent."""
        command = [WARM, "-m", "tests.faults.caller", "--address", self.address]
        command += ["--task-queue", self.task_queue, "--thread", self.thread_id]
        command += ["--heartbeat-timeout", str(heartbeat_s), *options, text]
        name = f"caller-{len(self.processes)}"
        caller = Caller(name, command, self.folder, FAULTS_DIR=str(self.folder))
        self._add(caller)
        return caller

    def _add(self, process: Process) -> Process:
        self.processes.append(process)
        return process

    def discard(self) -> None:
        """End all processes."""
        for process in self.processes:
            process.discard()

    # -- waiting ------------------------------------------------------------------------------

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait for something in the files; fail at once when a process has failed."""
        async with self.bounded(what):
            while not holds():
                # Killed ones have a negative exit code, and were meant to.
                failed = [p.name for p in self.processes if (p.exit_code or 0) > 0]
                assert not failed, f"{failed} failed before: {what}\n{self.report()}"
                await asyncio.sleep(POLL_S)

    async def held(self, step: str, *candidates: Process) -> tuple[Process, Process | None]:
        """Wait until a step is held; the process it is held in, and one of the others."""
        await self.until(lambda: self.ledger.holder(step) is not None, f"step {step} is held")
        pid = self.ledger.holder(step)
        holding = [p for p in candidates if p.pid == pid]
        others = [p for p in candidates if p.pid != pid]
        assert holding, f"{step} is held by {pid}, none of {[p.pid for p in candidates]}"
        return holding[0], others[0] if others else None

    async def result(self, caller: Caller) -> Any:
        """What the caller's call returned."""
        await self.until(lambda: caller.exit_code is not None, f"{caller.name} returns")
        results = caller.received("result")
        assert len(results) == 1, f"no result\n{self.report()}"
        return results[0]

    async def ended(self, process: Process) -> int:
        """Wait for a process to end by itself; its exit code."""
        await self.until(lambda: process.exit_code is not None, f"{process.name} ends")
        code = process.exit_code
        assert code is not None
        return code

    @contextlib.asynccontextmanager
    async def calling(self, graphs: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """The graphs for calls from this process, which hosts no worker."""
        client = await Client.connect(self.address)
        saver = TemporalSaver(
            client,
            task_queue=self.task_queue,
            heartbeat_timeout=timedelta(seconds=HEARTBEAT_S),
        )
        try:
            yield {n: graph.with_config(checkpointer=saver) for n, graph in graphs.items()}
        finally:
            saver.close()

    async def at_rest(self, graph: Any) -> StateSnapshot:
        """The thread as this process reads it, once nothing is left to do in it."""
        async with self.calling({"graph": graph}) as graphs, self.bounded("the thread is at rest"):
            saver = graphs["graph"].checkpointer
            # Not by `next`: it is empty as soon as the last task's writes are recorded, which is
            # before the checkpoint that has them.
            info = await saver.aget_thread(self.thread_id)
            while info is None or info.status == "busy":
                await asyncio.sleep(POLL_S)
                info = await saver.aget_thread(self.thread_id)
            state: StateSnapshot = await graphs["graph"].aget_state(self.config)
            assert not state.next, f"{info}\n{self.report()}"
            return state

    async def state(
        self, graph: Any, holds: Callable[[StateSnapshot], bool], what: str
    ) -> StateSnapshot:
        """Read the thread until something holds, with a graph for calls from this process."""
        async with self.bounded(what):
            while True:
                state: StateSnapshot = await graph.aget_state(self.config)
                if holds(state):
                    return state
                await asyncio.sleep(POLL_S)

    @contextlib.asynccontextmanager
    async def bounded(self, what: str) -> AsyncIterator[None]:
        """Fail with all there is to know when it takes too long."""
        try:
            async with asyncio.timeout(WAIT_S):
                yield
        except TimeoutError:
            raise AssertionError(f"not within {WAIT_S} s: {what}\n{self.report()}") from None

    def report(self) -> str:
        """What ran, and the last words of every process."""
        ran = [f"{step}: {ran.started}/{ran.finished}" for step, ran in self.ledger.ran().items()]
        reports = [process.report() for process in self.processes]
        return "\n".join(["started/finished: " + ", ".join(ran), *reports])
