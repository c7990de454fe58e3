"""Benchmark field: the contenders, each a process that is asked for samples."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.contender import LINE_LIMIT, ROOT, Setup
from benchmarks.envs import python_of
from benchmarks.processes import cpu_ms, die_with_parent
from benchmarks.server import Server

OPEN_S = 120
"""Installing is not part of it."""

CLOSE_S = 45

SETTLE_S = 0.3
"""What trails a sample is part of its CPU."""

ACTIONS_SETTLE_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Series:
    """One shape with one set of parameters."""

    name: str
    shape: str
    rounds: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    limit_s: float = 120  # a sample that takes longer hangs
    warm_up: bool = True
    # Most of it is waiting, or it is counted: contenders run at once, each in its own namespace.
    together: bool = False
    once: bool = False  # only on the first kind of server: the other would show the same
    what: str  # for the reader


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A contender: its file in ``benchmarks/contenders``, and where it runs."""

    module: str
    variant: str
    env: str | None = None  # list in ``benchmarks/requirements``; None: this environment
    what: str


_SAME = "the same, its worker in another process"

CONTENDERS: dict[str, Spec] = {
    "inmemory": Spec(
        module="savers", variant="inmemory", what="LangGraph's `InMemorySaver`: nothing survives"
    ),
    "sqlite": Spec(
        module="savers",
        variant="sqlite",
        what="LangGraph's `AsyncSqliteSaver`; by default writes trail the loop",
    ),
    "postgres": Spec(
        module="postgres",
        variant="async",
        env="postgres",
        what="LangGraph's `AsyncPostgresSaver` on a PostgreSQL as it comes; writes trail the loop",
    ),
    "postgres_sync": Spec(
        module="postgres",
        variant="sync",
        env="postgres",
        what='the same with `durability="sync"`: recorded before the next superstep begins',
    ),
    "floor_activity": Spec(
        module="floor",
        variant="embedded",
        what="bare Temporal: a workflow runs one Activity after another; a turn on a thread is an "
        "Update that runs one",
    ),
    "floor_activity_remote": Spec(module="floor", variant="remote", what=_SAME),
    "floor_not_eager": Spec(
        module="floor",
        variant="not_eager",
        what="the first floor, but its Activities come by their task queue, as those do that have "
        "one of their own",
    ),
    "plugin": Spec(
        module="plugin",
        variant="embedded",
        env="plugin",
        what="`temporalio-langgraph`, Temporal's official plugin: graphs run inside a workflow",
    ),
    "plugin_remote": Spec(module="plugin", variant="remote", env="plugin", what=_SAME),
    "deepagents_plugin": Spec(
        module="deepagents",
        variant="embedded",
        env="deepagents",
        what="`temporalio-deepagents`, Temporal's official plugin: deep agents inside a workflow",
    ),
    "deepagents_plugin_remote": Spec(
        module="deepagents", variant="remote", env="deepagents", what=_SAME
    ),
    "wrapper": Spec(
        module="wrapper",
        variant="embedded",
        env="wrapper",
        what="`langgraph-temporal`, which wraps graphs",
    ),
    "embedded": Spec(
        module="package",
        variant="embedded",
        what="this package, its worker on a thread of the caller's process",
    ),
    "remote": Spec(module="package", variant="remote", what=_SAME),
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
        self, series: Series, entry: Entry, *, cpu: bool = False, actions: bool = False
    ) -> dict[str, float] | None:
        """One sample.

        Args:
            series: Of what.
            entry: Says why there is none, if there is none.
            cpu: Add the CPU it took: nothing else runs on the server.
            actions: Add what Temporal counted in its namespace, which nobody else uses.

        Returns:
            Its numbers; ``None`` if there are none.
        """
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
            used = self._cpu()
            counted = await self._actions() if actions else Counter()
            asked = {"shape": series.shape, "parameters": series.parameters}
            answer = await self._ask({"sample": asked}, series.limit_s)
            if "unsupported" in answer:
                entry.unsupported = answer["unsupported"]
                return None
            numbers: dict[str, float] = answer["numbers"]
            if cpu:
                await asyncio.sleep(SETTLE_S)
                # Of processes that have lived from the beginning to the end.
                numbers |= {
                    name: now - used[name] for name, now in self._cpu().items() if name in used
                }
            if actions:
                counted = await self._actions() - counted
                numbers["actions"] = counted.total()
                numbers |= {f"actions {kind}": count for kind, count in counted.most_common()}
        except Exception as exc:
            why = str(exc) or f"no answer within {series.limit_s:g} s"
            entry.error = f"{stage} failed: {type(exc).__name__}: {why}"
            self._console.print(f"{self.name}: {entry.error}", style="red", markup=False)
            if stage == "set-up":
                self._broken = entry.error
            await self.close(kill=True)
            return None
        return numbers

    def _cpu(self) -> dict[str, float]:
        assert self._process is not None
        found = {
            "server_cpu_ms": cpu_ms(self._server.pid),
            "caller_cpu_ms": cpu_ms(self._process.pid),
        }
        if self.workers:
            found["worker_cpu_ms"] = sum(map(cpu_ms, self.workers))
        return found

    async def _actions(self) -> Counter[str]:
        # The server reports about once a second, and what trails a run belongs to it.
        await asyncio.sleep(ACTIONS_SETTLE_S)
        return await self._server.actions(self._namespace)

    async def _open(self) -> None:
        spec = CONTENDERS[self.name]
        python = Path(sys.executable) if spec.env is None else await python_of(spec.env)
        directory = self._server.directory / self.name
        directory.mkdir(exist_ok=True)
        log = self._log()
        with log.open("ab") as sink:
            self._process = await asyncio.create_subprocess_exec(
                *(str(python), "-m", "benchmarks.contender", spec.module),
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
            server_pid=self._server.pid,
            directory=str(directory),
        )
        await self._ask({"open": asdict(setup)}, OPEN_S)

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
        self.workers = answer.get("workers", [])
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
