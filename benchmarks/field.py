"""Benchmark field: the contenders, each a process that is asked for samples."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.contender import LINE_LIMIT, ROOT, Setup
from benchmarks.envs import python_of
from benchmarks.processes import cpu_ms
from benchmarks.server import Server, die_with_parent

OPEN_S = 120
"""Installing is not part of it."""

CLOSE_S = 45

SETTLE_S = 0.3
"""What trails a sample is part of its CPU."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A contender: its file in ``benchmarks/contenders``, and where it runs."""

    module: str
    variant: str
    env: str | None = None  # list in ``benchmarks/requirements``; None: this environment
    what: str


CONTENDERS: dict[str, Spec] = {
    "inmemory": Spec(
        module="savers", variant="inmemory", what="LangGraph's `InMemorySaver`: nothing survives"
    ),
    "sqlite": Spec(
        module="savers",
        variant="sqlite",
        what='LangGraph\'s `AsyncSqliteSaver`, `durability="async"`: writes trail the loop',
    ),
    "floor_activity": Spec(
        module="floor",
        variant="embedded",
        what="bare Temporal: a workflow runs one Activity after the other",
    ),
    "floor_activity_remote": Spec(module="floor", variant="remote", what="the same"),
    "plugin": Spec(
        module="plugin",
        variant="embedded",
        env="plugin",
        what="`temporalio-langgraph`, Temporal's official plugin",
    ),
    "plugin_remote": Spec(module="plugin", variant="remote", env="plugin", what="the same"),
    "embedded": Spec(module="package", variant="embedded", what="this package"),
    "remote": Spec(module="package", variant="remote", what="this package"),
}
"""In this order they are shown. What cannot be installed or started is reported, and the rest
measured."""


@dataclass(kw_only=True)
class Entry:
    """What a contender brought to a shape: numbers by round, or why there are no more."""

    rounds: list[dict[str, float]] = field(default_factory=list)
    error: str | None = None
    unsupported: str | None = None

    def values(self, metric: str) -> list[float | None]:
        """One per round."""
        return [numbers.get(metric) for numbers in self.rounds]


class Contender:
    """A contender from set-up to tear-down, for all shapes on one server.

    Its first failure in a shape ends it for this shape; for the next it starts anew.
    """

    def __init__(self, name: str, server: Server, console: Console, namespace: str) -> None:
        self.name = name
        self.workers: list[int] = []
        self._server = server
        self._console = console
        self._namespace = namespace
        self._process: asyncio.subprocess.Process | None = None
        self._broken: str | None = None  # it could not be opened: not tried again

    @property
    def pid(self) -> int | None:
        """Of the caller's process."""
        return None if self._process is None else self._process.pid

    async def sample(
        self, shape: str, parameters: Mapping[str, Any], entry: Entry, limit_s: float
    ) -> dict[str, float] | None:
        """One sample, with the CPU it took; ``None`` when there is none, and `entry` says why."""
        if entry.error is not None or entry.unsupported is not None:
            return None
        if self._broken is not None:
            entry.error = self._broken
            return None
        stage = "set-up"
        try:
            if self._process is None:
                await self._open()
            stage = "a run"
            before = self._cpu()
            answer = await self._ask(
                {"sample": {"shape": shape, "parameters": parameters}}, limit_s
            )
            if "unsupported" in answer:
                entry.unsupported = answer["unsupported"]
                return None
            await asyncio.sleep(SETTLE_S)
            used = {key: after - before[key] for key, after in self._cpu().items()}
        except Exception as exc:
            why = str(exc) or f"no answer within {limit_s:g} s"
            entry.error = f"{stage} failed: {type(exc).__name__}: {why}"
            self._console.print(f"{self.name}: {entry.error}", style="red", markup=False)
            if stage == "set-up":
                self._broken = entry.error
            await self.close(kill=True)
            return None
        return {**answer["numbers"], **used}

    def _cpu(self) -> dict[str, float]:
        assert self._process is not None
        found = {
            "server_cpu_ms": cpu_ms(self._server.pid),
            "caller_cpu_ms": cpu_ms(self._process.pid),
        }
        if self.workers:
            found["worker_cpu_ms"] = sum(map(cpu_ms, self.workers))
        return found

    async def _open(self) -> None:
        spec = CONTENDERS[self.name]
        python = Path(sys.executable) if spec.env is None else await python_of(spec.env)
        directory = self._server.directory / self.name
        directory.mkdir(exist_ok=True)
        log = self._log()
        with log.open("ab") as sink:
            self._process = await asyncio.create_subprocess_exec(
                *(str(python), "-m", f"benchmarks.contenders.{spec.module}"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=sink,
                limit=LINE_LIMIT,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                preexec_fn=die_with_parent,
            )
        setup = Setup(
            variant=spec.variant,
            address=self._server.address,
            namespace=self._namespace,
            directory=str(directory),
        )
        self.workers = (await self._ask({"open": asdict(setup)}, OPEN_S))["workers"]

    def _log(self) -> Path:
        return self._server.directory / f"{self.name}.log"

    async def _ask(self, question: Mapping[str, Any], limit_s: float) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(question).encode() + b"\n")
        async with asyncio.timeout(limit_s):
            line = await process.stdout.readline()
        if not line:
            tail = self._log().read_text(errors="replace").strip().splitlines()[-3:]
            raise RuntimeError(f"its process exited. It said: {' | '.join(tail) or 'nothing'}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    async def close(self, *, kill: bool = False) -> None:
        """End its process, and with it its workers."""
        process, self._process = self._process, None
        self.workers = []
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(5 if kill else CLOSE_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
