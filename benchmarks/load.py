"""Benchmark of load (``load``): many threads of a deep agent on workers that are killed.

The judgement on what was executed allows no margins of time. What a step has done is in Temporal
before anything that builds on it begins. So a step may run again if the process in which it had
begun was killed, and nothing of a higher level of that turn had begun; every other repetition is a
fault.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from rich.console import Console
from rich.table import Table
from temporalio.api.enums.v1 import EventType, TimeoutType
from temporalio.client import Client

from benchmarks import report
from benchmarks.report import Json
from benchmarks.server import LabError, flags, open_server
from benchmarks.shapes import load as shape
from benchmarks.shapes.load import LEVELS, Entry
from benchmarks.timing import median, p95
from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.protocol import names
from tests.faults.expected import plain
from tests.faults.lab import Process
from tests.support.warm import WARM

QUEUE = "load"
POLL_S = 0.05
READY_S = 120.0
"""A worker process imports deepagents before it polls, maybe on a machine with no idle core."""

SETTLED_S = 120.0
"""What trails the last turn, such as closing the workflows of sub-agents, has this long."""

QUIET_S = 3.0
"""No workflow has ended for this long: nothing trails any more."""

RESTART_WITHIN_S = 2.0
AT_ONCE = 16
SHOWN_FAULTS = 20


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much load."""

    threads: int = 200
    turns: int = 5  # of each thread
    workers: int = 3  # processes
    kills: int = 10  # SIGKILLs, spread over the whole
    concurrency: int = 30  # turns under way at once
    seed: int = 0  # of which worker is killed when
    heartbeat_s: float = 10.0  # so long a dead worker is not noticed
    turn_s: float = 600.0  # a turn that takes longer hangs

    @property
    def names(self) -> list[str]:
        """Of the threads; all of one length."""
        width = len(str(self.threads - 1))
        return [f"thread-{n:0{width}}" for n in range(self.threads)]

    @property
    def steps(self) -> list[str]:
        """All that is to be executed once."""
        turns = range(1, self.turns + 1)
        return [f"{name}/{turn}/{s}" for name in self.names for turn in turns for s in LEVELS]


# -- the judgement ----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """A step that was executed more often than once."""

    step: str
    fault: str  # "": a kill explains it


def repeats(entries: Iterable[Entry], killed: Mapping[int, float]) -> list[Repeat]:
    """The steps that were begun more often than once.

    Args:
        entries: The ledger, in its order.
        killed: Ids of the processes that were killed, and when (Unix time).
    """
    begun: dict[str, list[int]] = defaultdict(list)
    reached: dict[str, int] = {}
    faults: dict[str, str] = {}
    for entry in entries:
        if entry.event != "started":
            continue
        turn, _, name = entry.step.rpartition("/")
        if pids := begun[entry.step]:
            fault = faults.get(entry.step, "")
            if killed.get(pids[-1], math.inf) > entry.at:
                fault = f"process {pids[-1]}, which had begun it, had not been killed"
            elif reached[turn] > LEVELS[name]:
                fault = "what builds on it had begun"
            faults[entry.step] = fault
        pids.append(entry.pid)
        reached[turn] = max(reached.get(turn, 0), LEVELS[name])
    return [Repeat(step=step, fault=fault) for step, fault in faults.items()]


def unfinished(entries: Iterable[Entry], steps: Iterable[str]) -> list[str]:
    """The steps that never came to their end."""
    ended = {entry.step for entry in entries if entry.event == "finished"}
    return [step for step in steps if step not in ended]


# -- workers that are killed ------------------------------------------------------------------


@dataclass(kw_only=True)
class Fleet:
    """Worker processes, each under a name and with a disk of its own."""

    plan: Plan
    folder: Path
    address: str
    processes: list[Process] = field(default_factory=list)  # also those that are gone
    killed: dict[int, float] = field(default_factory=dict)  # ids of processes, and when
    serving: dict[str, Process] = field(default_factory=dict)  # by the worker's name

    @property
    def ledger(self) -> Path:
        """What all of them write to."""
        return self.folder / "ledger"

    def disk(self, name: str) -> Path:
        """That of a worker."""
        path = self.folder / f"disk-{name}"
        path.mkdir(exist_ok=True)
        return path

    def entries(self) -> list[Entry]:
        """The ledger."""
        text = self.ledger.read_text() if self.ledger.exists() else ""
        return [Entry.parse(line) for line in text.splitlines()]

    async def start(self, name: str) -> None:
        """Start a worker, and wait until it polls."""
        command = [WARM, "-m", "langgraph_temporal_exec.cli", "worker"]
        command += [f"{shape.__name__}:agent", "--name", name]
        command += ["--address", self.address, "--task-queue", QUEUE]
        command += ["--heartbeat-timeout", f"{self.plan.heartbeat_s:g}"]
        process = Process(
            f"{name}-{len(self.processes)}",
            command,
            self.folder,
            LOAD_WORKER=name,
            LOAD_DISK=str(self.disk(name)),
            LOAD_LEDGER=str(self.ledger),
        )
        self.processes.append(process)
        deadline = time.monotonic() + READY_S
        while "serving task queue" not in process.output:
            if process.exit_code is not None or time.monotonic() > deadline:
                raise LabError(f"Worker {name} does not serve.\n{process.report()}")
            await asyncio.sleep(POLL_S)
        self.serving[name] = process

    async def kill_at_random(self) -> None:
        """Kill the planned number of times, each time once so much has been executed."""
        chance = random.Random(self.plan.seed)
        lines = 2 * len(self.plan.steps)
        # None of the very last: it would hit nothing.
        due = sorted(chance.sample(range(1, int(lines * 0.95)), self.plan.kills))
        async with asyncio.TaskGroup() as restarts:
            for after in due:
                while self._lines() < after or not self._alive():  # noqa: ASYNC110 # others' doing
                    await asyncio.sleep(POLL_S)
                name = chance.choice(self._alive())
                process = self.serving.pop(name)
                self.killed[process.pid] = time.time()
                await asyncio.to_thread(process.kill)
                restarts.create_task(self._again(name, chance.uniform(0, RESTART_WITHIN_S)))

    async def _again(self, name: str, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        await self.start(name)

    def _alive(self) -> list[str]:
        return sorted(n for n, process in self.serving.items() if process.exit_code is None)

    def _lines(self) -> int:
        return self.ledger.read_bytes().count(b"\n") if self.ledger.exists() else 0

    def ended(self) -> list[str]:
        """Reports of processes that nobody killed, and are gone."""
        gone = [p for p in self.processes if p.exit_code is not None and p.pid not in self.killed]
        return [process.report() for process in gone]

    def close(self) -> None:
        """End all of them."""
        for process in self.processes:
            process.discard()


# -- what is called ---------------------------------------------------------------------------


async def _expected(name: str, turns: int) -> list[list[Any]]:
    """The messages after each turn of a thread, in plain LangGraph, as JSON."""
    config: RunnableConfig = {"configurable": {"thread_id": name}}
    with tempfile.TemporaryDirectory() as folder:
        agent = shape.build_agent(Path(folder), lambda step, event: None)
        graph = agent.copy({"checkpointer": InMemorySaver()})
        found = []
        for turn in range(1, turns + 1):
            given = {"messages": [("user", shape.said(name, turn))]}
            found.append(plain(await graph.ainvoke(given, config))["messages"])
    return found


@dataclass(kw_only=True)
class Calls:
    """The turns of all threads."""

    plan: Plan
    graph: Any
    expected: list[list[Any]]  # of the first thread, by turn
    console: Console
    latencies_ms: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # a text for each turn that went wrong

    async def all(self) -> None:
        """Have all threads take turns; of one thread, one after the other."""
        slots = asyncio.Semaphore(self.plan.concurrency)
        async with asyncio.TaskGroup() as group:
            for name in self.plan.names:
                group.create_task(self._thread(name, slots))

    async def _thread(self, name: str, slots: asyncio.Semaphore) -> None:
        config: RunnableConfig = {"configurable": {"thread_id": name}}
        for turn in range(1, self.plan.turns + 1):
            async with slots:
                began = time.monotonic()
                given = {"messages": [("user", shape.said(name, turn))]}
                try:
                    async with asyncio.timeout(self.plan.turn_s):
                        values = await self.graph.ainvoke(given, config)
                except Exception as exc:
                    # What follows would be wrong for the same reason.
                    rest = range(turn, self.plan.turns + 1)
                    hangs = f"no end within {self.plan.turn_s:g} s"
                    why = f"{type(exc).__name__}: {str(exc) or hangs}"
                    self.wrong += [f"{name}, turn {n}: {why}" for n in rest]
                    return
                self.latencies_ms.append((time.monotonic() - began) * 1000)
            self._show()
            expected = json.dumps(self.expected[turn - 1]).replace(self.plan.names[0], name)
            if difference := _difference(plain(values)["messages"], json.loads(expected)):
                self.wrong.append(f"{name}, turn {turn}: {difference}")

    def _show(self) -> None:
        """Say how far it is, every tenth of the way."""
        done, total = len(self.latencies_ms), self.plan.threads * self.plan.turns
        if done * 10 // total > (done - 1) * 10 // total:
            self.console.print(f"{done} of {total} turns")


def _difference(found: Sequence[Any], expected: Sequence[Any]) -> str:
    """The first message that is another one; "" if there is none."""
    for number, (one, other) in enumerate(zip_longest(found, expected)):
        if one != other:
            return f"message {number} is {one} instead of {other}"
    return ""


async def _missing(fleet: Fleet, saver: TemporalSaver) -> tuple[list[str], Counter[str]]:
    """Threads whose files are not all on the disk of their home, and how many each worker has."""
    homes: Counter[str] = Counter()
    missing = []
    for name in fleet.plan.names:
        info = await saver.aget_thread(name)
        home = "" if info is None else info.home
        homes[home] += 1
        lost = []
        for turn in range(1, fleet.plan.turns + 1):
            path, content = shape.notes(name, turn)
            file = fleet.disk(home) / path.lstrip("/")
            if not file.exists() or file.read_text() != content:
                lost.append(path)
        if lost:
            missing.append(f"{name}, at home on {home!r}: {', '.join(lost)}")
    return missing, homes


async def _lost_attempts(client: Client) -> tuple[int, int]:
    """How many attempts ended without a reply, and how many runs there were."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def of(workflow_id: str) -> int:
        lost = 0
        async with gate:
            handle = client.get_workflow_handle(workflow_id)
            async for event in handle.fetch_history_events():
                if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED:
                    lost += 1
                elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
                    failure = event.activity_task_timed_out_event_attributes.failure
                    kind = failure.timeout_failure_info.timeout_type
                    # Else nobody had taken it.
                    lost += kind != TimeoutType.TIMEOUT_TYPE_SCHEDULE_TO_START
        return lost

    listed = client.list_workflows(f"WorkflowType = '{names.RUN_WORKFLOW}'")
    ids = [run.id async for run in listed]
    return sum(await asyncio.gather(*map(of, ids))), len(ids)


async def _running(client: Client) -> Counter[str]:
    """Workflows that are left running, by type, once no more of them end."""
    found: Counter[str] = Counter()
    since = time.monotonic()
    deadline = since + SETTLED_S
    while time.monotonic() < deadline:
        listed = client.list_workflows("ExecutionStatus = 'Running'")
        now = Counter([w.workflow_type async for w in listed])
        if now != found:
            found, since = now, time.monotonic()
        elif time.monotonic() - since > QUIET_S and not now[names.RUN_WORKFLOW]:
            break
        await asyncio.sleep(10 * POLL_S)
    return found


# -- all of it --------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _open_fleet(plan: Plan, folder: Path, address: str) -> AsyncIterator[Fleet]:
    fleet = Fleet(plan=plan, folder=folder, address=address)
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(plan.workers):
                group.create_task(fleet.start(f"worker-{number}"))
        yield fleet
    finally:
        await asyncio.to_thread(fleet.close)


async def measure(plan: Plan, console: Console, *, server_file: bool) -> dict[str, Json]:
    """Have all threads take their turns while workers are killed, then judge.

    Returns: the JSON object. Its ``faults`` are empty if all is as it must be.

    Raises:
        LabError: Something needed did not start.
    """
    try:
        return await _measure(plan, console, server_file=server_file)
    except BaseExceptionGroup as group:
        # What the first of its parts says, instead of all that was cancelled with it.
        found: BaseException | None = group.subgroup(LabError)
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        if found is None:
            raise
        raise found from group


async def _measure(plan: Plan, console: Console, *, server_file: bool) -> dict[str, Json]:
    expected = await _expected(plan.names[0], plan.turns)
    async with (
        open_server(memory=not server_file) as server,
        _open_fleet(plan, server.directory, server.address) as fleet,
    ):
        saver = TemporalSaver(
            server.client,
            task_queue=QUEUE,
            graph="load",
            heartbeat_timeout=timedelta(seconds=plan.heartbeat_s),
            # All workers may be away for as long as one takes to start.
            no_worker_timeout=timedelta(seconds=READY_S),
            # What is on a disk must be found again.
            affinity="require",
        )
        try:
            graph = shape.build_agent(server.directory, lambda step, event: None)
            durable = graph.with_config(checkpointer=saver)
            calls = Calls(plan=plan, graph=durable, expected=expected, console=console)
            console.print(f"{plan.workers} workers serve")
            began = time.monotonic()
            async with asyncio.TaskGroup() as group:
                killing = group.create_task(fleet.kill_at_random())
                await calls.all()
                took_s = time.monotonic() - began
                # Left are kills only for steps that were never executed, because turns failed.
                if calls.wrong:
                    killing.cancel()
            missing, homes = await _missing(fleet, saver)
            running = await _running(server.client)
            lost, runs = await _lost_attempts(server.client)
        finally:
            saver.close()
        entries = fleet.entries()
        again = repeats(entries, fleet.killed)
        faults = [
            *(f"wrong turn: {text}" for text in calls.wrong),
            *(f"files are missing: {text}" for text in missing),
            *(f"{r.step} was executed again: {r.fault}" for r in again if r.fault),
            *(f"a worker ended by itself: {text}" for text in fleet.ended()),
            *("a run workflow is left running" for _ in range(running[names.RUN_WORKFLOW])),
        ]
        if left := unfinished(entries, plan.steps):
            faults.append(f"{len(left)} steps never came to their end, the first is {left[0]}")
        if len(fleet.killed) != plan.kills:
            faults.append(f"{len(fleet.killed)} kills instead of {plan.kills}")
        if faults:
            # The last words of all workers; their files are removed.
            for process in fleet.processes:
                console.print(process.report(), markup=False, highlight=False)
        # Others are of processes.
        of_threads = running[names.THREAD_WORKFLOW] + running[names.BLOB_WORKFLOW]
        result: dict[str, Json] = {
            "schema": report.SCHEMA,
            "shape": "load",
            "threads": plan.threads,
            "turns": plan.turns,
            "workers": plan.workers,
            "concurrency": plan.concurrency,
            "seed": plan.seed,
            "heartbeat_s": plan.heartbeat_s,
            "environment": report.environment(
                server.version,
                "file" if server_file else "memory",
                flags("tuned", memory=not server_file),
            ),
            "took_s": round(took_s, 1),
            "turns_per_s": round(len(calls.latencies_ms) / took_s, 2),
            "turn_ms": _latency(calls.latencies_ms),
            "kills": len(fleet.killed),
            "runs": runs,
            "attempts_lost": lost,
            "steps": len(plan.steps),
            "tools": _counted(again, models=False),
            "model_calls": _counted(again, models=True),
            "wrong_turns": len(calls.wrong),
            "threads_with_missing_files": len(missing),
            "threads_by_worker": dict(sorted(homes.items())),
            "running_workflows": dict(sorted(running.items())),
            "running_workflows_per_thread": round(of_threads / plan.threads, 2),
            "faults": faults[:SHOWN_FAULTS],
            "faults_count": len(faults),
        }
    _table(result, faults, console)
    return result


def _latency(values: Sequence[float]) -> Json:
    if not values:
        return None
    return {"median": median(values), "p95": p95(values), "max": round(max(values), 2)}


def _counted(again: Iterable[Repeat], *, models: bool) -> Json:
    """Of the steps that are calls of models, or of those that are tools."""
    of = [
        r for r in again if (r.step.rpartition("/")[2].startswith(("model", "research"))) == models
    ]
    return {"repeated": len(of), "explained_by_a_kill": sum(not r.fault for r in of)}


def _table(result: dict[str, Json], faults: Sequence[str], console: Console) -> None:
    table = Table("", "", title="load")
    for key, value in result.items():
        if key not in ("environment", "faults", "schema", "shape"):
            table.add_row(key, str(value))
    console.print(table)
    for fault in faults[:SHOWN_FAULTS]:
        console.print(f"FAULT: {fault}", style="bold red", markup=False, highlight=False)
