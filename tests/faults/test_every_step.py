"""A process dies at every step of the protocol, one after the other.

Once the server has acknowledged the start of a run, the run ends as if nothing had happened,
without its caller; before, there is no trace of it. Which steps there are is found out by running
undisturbed: what a process passes must be what ``points.POINTS`` names.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import signal
import tempfile
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.protocol import names
from tests.conftest import TemporalServer
from tests.faults import victim
from tests.faults.ledger import ONCE, Ledger, Ran
from tests.faults.points import (
    BY_THEMSELVES,
    END_BY_TIME,
    IF_DRIVEN,
    LARGE_POINTS,
    POINTS,
    UNLESS_DRIVEN,
    sides,
)
from tests.faults.victim import ANSWER, INPUT, LARGE, Plan

AT_ONCE = 8
"""Cases under way at the same time: nearly all of one is waiting for a heartbeat not to come."""

CASE_S = 100.0
"""Bound of a case. Not a measure of speed."""

POLL_S = 0.05
NODES = ("first", "ask", "last")
ASKED = ["input", "first"]
DONE = [*ASKED, "answered yes", "last"]
BEFORE_ADMISSION = {
    *("before open-mailbox", "after open-mailbox"),
    *("before blob-input", "after blob-input", "before start-run"),
}
"""Where the server cannot know of the run yet. Everywhere else it must."""

# Forks of a process that has imported everything: a start of Python with LangGraph takes seconds.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload([victim.__name__])


@dataclass(kw_only=True)
class Case:
    """One process that is to die, and what is left in this one."""

    plan: Plan
    client: Client
    graph: Any
    saver: TemporalSaver
    process: ForkServerProcess | None = None
    # What had run of the nodes whose results the server had when the process died.
    recorded: dict[str, Ran] = field(default_factory=dict)

    # -- the process --------------------------------------------------------------------------

    def start(self) -> None:
        """Start the process."""
        self.process = processes.Process(target=victim.main, args=(self.plan,))
        self.process.start()

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():  # noqa: ASYNC110 - another process's event
            await asyncio.sleep(POLL_S)

    async def exit_code(self) -> int:
        """How the process ended, once it has."""
        process = self.process
        assert process is not None
        await self.until(lambda: process.exitcode is not None)
        assert process.exitcode is not None
        return process.exitcode

    async def serving(self) -> None:
        """Wait until the process polls."""
        process = self.process
        assert process is not None
        path = self.plan.folder / "serving"
        await self.until(lambda: path.exists() or process.exitcode is not None)

    async def dies(self) -> None:
        """Wait until it has killed itself."""
        assert await self.exit_code() == -signal.SIGKILL, f"it did not die\n{self.output()}"

    def output(self) -> str:
        path = self.plan.folder / "victim.log"
        return path.read_text(errors="replace")[-2_000:] if path.exists() else ""

    # -- what is left -------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def worker(self) -> AsyncIterator[None]:
        """A worker in this process, with a saver of its own: calls are to remain remote."""
        host = TemporalSaver(
            self.client, task_queue=self.plan.task_queue, heartbeat_timeout=self.plan.heartbeat
        )
        async with host.worker(self.graph):
            yield

    async def ask_first(self) -> None:
        """For an answer there must be a question; the process asks it itself if it calls."""
        if self.plan.given == "answer":
            await victim.question(self.graph, self.saver, self.plan)

    async def call(self) -> Any:
        """The call of the case, from this process."""
        return await self.graph.ainvoke(self.plan.input, self.plan.config)

    def run(self) -> WorkflowHandle[Any, Any]:
        """The run the process has started, or was about to start."""
        return self.client.get_workflow_handle(self.plan.points.run())

    async def is_admitted(self) -> bool:
        """Whether the server knows the run."""
        if not self.plan.points.run():
            return False
        try:
            await self.run().describe()
        except RPCError as exc:
            if exc.status is not RPCStatusCode.NOT_FOUND:
                raise
            return False
        return True

    async def note_recorded(self) -> None:
        """Which nodes are in history, at a moment when nothing of the case is alive."""
        ran = self.ran()
        workflow_id = names.thread_workflow_id("langgraph", self.plan.thread_id)
        scheduled: dict[int, str] = {}
        completed: Counter[str] = Counter()
        try:
            history = self.client.get_workflow_handle(workflow_id).fetch_history_events()
            async for event in history:
                if event.HasField("activity_task_scheduled_event_attributes"):
                    kind = event.activity_task_scheduled_event_attributes.activity_type.name
                    scheduled[event.event_id] = kind
                elif event.HasField("activity_task_completed_event_attributes"):
                    done = event.activity_task_completed_event_attributes
                    completed[scheduled[done.scheduled_event_id]] += 1
        except RPCError as exc:
            if exc.status is not RPCStatusCode.NOT_FOUND:
                raise
        # Of the one that asks, the question is recorded first.
        results = {"first": 1, "ask": 2, "last": 1}
        self.recorded = {n: ran[n] for n, nth in results.items() if completed[n] >= nth}

    def ran(self) -> dict[str, Ran]:
        return Ledger(self.plan.folder).ran()

    # -- what must be true --------------------------------------------------------------------

    async def state(self) -> tuple[list[str], list[str], int]:
        """The log, the open questions, and how often input was applied."""
        state = await self.graph.aget_state(self.plan.config)
        asked = [i.value for task in state.tasks for i in task.interrupts]
        history = [s async for s in self.graph.aget_state_history(self.plan.config)]
        inputs = sum((s.metadata or {}).get("source") == "input" for s in history)
        return short(state.values.get("log", [])), asked, inputs

    async def unchanged(self) -> None:
        """The thread is as it was before the call, and the server knows of no run of it."""
        known = [run async for run in self.saver.alist_runs(self.plan.thread_id)]
        if self.plan.given == "answer":
            assert await self.state() == (ASKED, ["sure?"], 1)
            assert len(known) == 1
        else:
            assert await self.state() == ([], [], 0)
            assert known == []
            assert self.ran() == {}

    async def finishes(self) -> None:
        """Once the run has ended: as an undisturbed one, and nothing twice that was recorded."""
        if self.plan.given != "answer":
            assert await self.state() == (ASKED, ["sure?"], 1)
            await self.graph.ainvoke(ANSWER, self.plan.config)
        assert await self.state() == (DONE, [], 1)
        ran = self.ran()
        assert set(ran) == set(NODES)
        for times in ran.values():
            assert 1 <= times.finished <= times.started <= 2, ran
        assert {node: ran[node] for node in self.recorded} == self.recorded


def short(log: Iterable[str]) -> list[str]:
    """A large input reads like any other."""
    return [INPUT["log"][0] if entry == LARGE["log"][0] else entry for entry in log]


Make = Callable[..., contextlib.AbstractAsyncContextManager[Case]]


@pytest.fixture
def case(temporal_server: TemporalServer) -> Make:
    """Makes a case; whatever it leaves running is ended with it."""

    @contextlib.asynccontextmanager
    async def make(
        mode: str, given: str, kill: str = "", *, carries: bool = True, driven: bool = False
    ) -> AsyncIterator[Case]:
        point = kill.partition(" ")[2]
        with tempfile.TemporaryDirectory() as folder:
            plan = Plan(
                address=temporal_server.address,
                task_queue=f"points-{uuid.uuid4().hex}",
                thread_id=str(uuid.uuid4()),
                folder=Path(folder),
                mode=mode,
                given=given,
                kill=kill,
                carries=carries and point not in BY_THEMSELVES.get(given, ()),
                driven=driven or point in IF_DRIVEN,
            )
            client = await Client.connect(temporal_server.address)
            saver = TemporalSaver(
                client, task_queue=plan.task_queue, heartbeat_timeout=plan.heartbeat
            )
            graph = victim.build(plan.folder).with_config(checkpointer=saver)
            made = Case(plan=plan, client=client, graph=graph, saver=saver)
            try:
                async with asyncio.timeout(CASE_S):
                    yield made
            finally:
                if made.process is not None:
                    made.process.kill()
                    await made.exit_code()
                saver.close()

    return make


async def passed(make: Make, mode: str, given: str, **how: bool) -> set[str]:
    """The points an undisturbed process passes."""
    async with make(mode, given, **how) as c:
        if mode == "worker":
            c.start()
            await c.serving()
            await c.ask_first()
            c.plan.points.arm()
            await c.call()
            # What its Activities end with comes after the result.
            await c.until(lambda: "after drive" in (c.plan.folder / "points").read_text())
            return c.plan.points.passed()
        async with contextlib.AsyncExitStack() as stack:
            if mode != "embedded":
                await stack.enter_async_context(c.worker())
            c.start()
            assert await c.exit_code() == 0, c.output()
            if mode == "background":
                await c.run().result()
        return c.plan.points.passed()


async def killed_worker(make: Make, given: str, kill: str) -> None:
    async with make("worker", given, kill) as c:
        c.start()
        await c.serving()
        await c.ask_first()
        c.plan.points.arm()
        call = asyncio.create_task(c.call())
        try:
            await c.dies()
            await c.note_recorded()
            async with c.worker():
                result = await call
                expected = DONE if given == "answer" else ASKED
                assert short(result["log"]) == expected
                await c.finishes()
        finally:
            call.cancel()
            await asyncio.wait([call])


async def killed_caller(make: Make, mode: str, given: str, kill: str) -> None:
    async with make(mode, given, kill) as c, contextlib.AsyncExitStack() as stack:
        if mode != "embedded":
            await stack.enter_async_context(c.worker())
        c.start()
        await c.dies()
        if mode == "embedded":
            await c.note_recorded()
        admitted = await c.is_admitted()
        assert admitted == (kill not in BEFORE_ADMISSION)
        if mode == "embedded":
            await stack.enter_async_context(c.worker())
        if admitted:
            await c.run().result()
        else:
            await c.unchanged()
            await c.call()
        await c.finishes()
        if mode != "embedded":
            # Nothing but the caller died: its worker never stopped.
            assert c.ran() == dict.fromkeys(NODES, ONCE)


async def at_all(kills: Iterable[str], at_one: Callable[[str], Awaitable[None]]) -> None:
    """One case for each point, several at once; fails with all that failed, by their points."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(kill: str) -> None:
        async with room:
            try:
                await at_one(kill)
            except (Exception, asyncio.CancelledError) as exc:
                exc.add_note(f"killed {kill}")
                raise

    ended = await asyncio.gather(*map(one, sorted(kills)), return_exceptions=True)
    failed = [exc for exc in ended if isinstance(exc, Exception)]
    if failed:
        raise ExceptionGroup(f"{len(failed)} of {len(ended)} cases", failed)


def differing(named: Mapping[Any, frozenset[str]], recordings: list[set[str]]) -> dict[Any, Any]:
    """By key: points that have no name in the table, and those that were not passed."""
    pairs = zip(named.items(), recordings, strict=True)
    found = {key: (sorted(got - points), sorted(points - got)) for (key, points), got in pairs}
    return {key: both for key, both in found.items() if any(both)}


def kills_at(points: Iterable[str], given: str = "fresh") -> list[str]:
    """All sides of points; with an answer each point once, when it has been passed."""
    return [
        f"{side} {point}"
        for point in points
        for side in (sides(point)[-1:] if given == "answer" else sides(point))
    ]


async def test_every_step_is_named(case: Make) -> None:
    """A new step of the protocol fails here until it has a name, and with it its kill tests."""
    recordings = await asyncio.gather(*(passed(case, *key) for key in POINTS))
    recordings = [recorded - END_BY_TIME for recorded in recordings]
    assert differing(POINTS, recordings) == {}


async def test_every_step_is_named_if_results_carry_none(case: Make) -> None:
    named = {
        (mode, given): POINTS[mode, given] | alone
        for given, alone in BY_THEMSELVES.items()
        for mode in ("embedded", "worker")
    }
    recordings = await asyncio.gather(*(passed(case, *key, carries=False) for key in named))
    assert differing(named, recordings) == {}


async def test_every_step_is_named_if_a_run_takes_long(case: Make) -> None:
    named = {
        (mode, given): (POINTS[mode, given] - UNLESS_DRIVEN) | IF_DRIVEN
        for mode, given in POINTS
        if mode == "embedded"
    }
    recordings = await asyncio.gather(*(passed(case, *key, driven=True) for key in named))
    recordings = [recorded - END_BY_TIME for recorded in recordings]
    assert differing(named, recordings) == {}


async def test_every_step_of_large_values_is_named(case: Make) -> None:
    named = {mode: POINTS[mode, "fresh"] | more for mode, more in LARGE_POINTS.items()}
    recordings = await asyncio.gather(*(passed(case, mode, "large") for mode in named))
    recordings = [recorded - END_BY_TIME for recorded in recordings]
    assert differing(named, recordings) == {}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("given", ["fresh", "answer"])
@pytest.mark.long
async def test_embedded_caller_killed(case: Make, given: str) -> None:
    """Caller and worker in one process; then a worker in another one."""
    kills = kills_at(POINTS["embedded", given] | BY_THEMSELVES[given] | IF_DRIVEN, given)
    await at_all(kills, lambda kill: killed_caller(case, "embedded", given, kill))


@pytest.mark.timeout(400)
@pytest.mark.parametrize("given", ["fresh", "answer"])
@pytest.mark.long
async def test_worker_killed(case: Make, given: str) -> None:
    """The caller, in another process, gets its result from the next worker."""
    kills = kills_at(POINTS["worker", given] | BY_THEMSELVES[given], given)
    await at_all(kills, lambda kill: killed_worker(case, given, kill))


@pytest.mark.timeout(400)
@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("mode", "given"), [("caller", "fresh"), ("caller", "answer"), ("background", "fresh")]
)
async def test_remote_caller_killed(case: Make, mode: str, given: str) -> None:
    """Of a worker elsewhere; nothing runs twice, for nothing but the caller has died."""
    kills = kills_at(POINTS[mode, given], given)
    await at_all(kills, lambda kill: killed_caller(case, mode, given, kill))


@pytest.mark.timeout(400)
@pytest.mark.long
async def test_killed_while_large_values_are_stored(case: Make) -> None:
    """An input that does not fit into one payload is stored before the run is."""

    async def at_one(named: str) -> None:
        mode, kill = named.split(": ")
        if mode == "worker":
            await killed_worker(case, "large", kill)
        else:
            await killed_caller(case, mode, "large", kill)

    kills = [f"{m}: {kill}" for m, points in LARGE_POINTS.items() for kill in kills_at(points)]
    await at_all(kills, at_one)
