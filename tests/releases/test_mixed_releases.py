"""Workers and callers of an earlier release beside those of this one: a rolling deploy."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from tests.conftest import TemporalServer
from tests.faults.ledger import Ran
from tests.releases.conversation import build, steps
from tests.releases.fleet import PRESENT, Fleet, Talker, unpacked

LAST = "f7c64e2"
"""Before tasks were eager (decision 27)."""

DRIVEN = "0cd7d6b"
"""Before a run was one Update (decision 26)."""

UNCARRIED = "0d67789"
"""Before results carried steps (decision 25)."""

RELEASES = [LAST, DRIVEN, UNCARRIED]

RERUN = Ran(2, 1)
"""A step whose process was killed in it."""


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where the earlier releases are, by commit."""
    folder = tmp_path_factory.mktemp("releases")
    return {commit: unpacked(commit, folder) for commit in RELEASES}


@pytest.fixture
def fleet(
    tmp_path: Path,
    temporal_server: TemporalServer,
    task_queue: str,
    thread_id: str,
    releases: dict[str, Path],
) -> Iterator[Fleet]:
    """Processes of several releases on one queue; all are killed in the end."""
    made = Fleet(tmp_path, temporal_server.address, task_queue, thread_id, releases)
    try:
        yield made
    finally:
        made.discard()


async def undisturbed(*turns: str) -> list[str]:
    """What these turns leave, each answered, in plain LangGraph."""
    config: Any = {"configurable": {"thread_id": "undisturbed"}}
    with tempfile.TemporaryDirectory() as folder:
        graph = build(Path(folder)).copy({"checkpointer": InMemorySaver()})
        result: Any = None
        for turn in turns:
            await graph.ainvoke({"turn": turn, "log": [f"{turn} said"]}, config)
            result = await graph.ainvoke(Command(resume="yes"), config)
    log: list[str] = result["log"]
    return log


async def talk(fleet: Fleet, thread: str, turns: list[str], *callers: Talker) -> list[str]:
    """Turns of a thread, question and answer of each by different callers; the log at the end."""
    done: dict[str, Any] = {}
    for number, turn in enumerate(turns):
        ask, answer = callers[number % len(callers)], callers[(number + 1) % len(callers)]
        done = await fleet.call(ask, thread, turn)
        assert done["asked"] == [f"{turn}?"]
        done = await fleet.call(answer, thread, turn, "yes")
        assert done["asked"] == []
    log: list[str] = done["log"]
    return log


THREADS = ("a", "b", "c", "d")
TURNS = 3


async def check(fleet: Fleet, logs: dict[str, list[str]], *, rerun: str = "") -> None:
    """What these threads have is what they have in memory, and nothing ran more often.

    Args:
        fleet: Whose threads.
        logs: What callers were given last, by thread.
        rerun: A step whose process was killed in it.
    """
    expected: dict[str, Ran] = {}
    for thread, log in logs.items():
        turns = list(dict.fromkeys(line.split()[0] for line in log))
        assert turns == [f"{thread}{n}" for n in range(len(turns))]
        assert log == await undisturbed(*turns)
        for turn in turns:
            expected |= steps(turn)
    expected |= {rerun: RERUN} if rerun else {}
    assert fleet.ledger.ran() == expected, fleet.report()
    await fleet.check_histories()


@pytest.mark.parametrize("how", ["cached", "uncached", "hosting"])
async def test_side_by_side(fleet: Fleet, how: str) -> None:
    """Threads are driven by both, called by both, and their workflows replayed by both."""
    if how == "hosting":
        callers = await fleet.callers_of(LAST, PRESENT, hosting=True)
    else:
        # Without a cache each workflow task is a replay, of whoever comes first.
        options = ["--max-cached-workflows", "1000" if how == "cached" else "0"]
        _, callers = await asyncio.gather(
            fleet.workers_of(LAST, PRESENT, options=options), fleet.callers_of(LAST, PRESENT)
        )
    talks = [
        talk(fleet, thread, [f"{thread}{n}" for n in range(TURNS)], *callers[:: (-1) ** i])
        for i, thread in enumerate(THREADS)
    ]
    logs = await asyncio.gather(*talks)
    await check(fleet, dict(zip(THREADS, logs, strict=True)))


@pytest.mark.long
@pytest.mark.parametrize(
    ("before", "after"), [*((release, PRESENT) for release in RELEASES), (PRESENT, LAST)]
)
async def test_all_workers_replaced(fleet: Fleet, before: str, after: str) -> None:
    """A thread that waits, and one at rest, go on in another release; callers may be of either."""
    (worker,), callers = await asyncio.gather(
        fleet.workers_of(before), fleet.callers_of(before, after)
    )
    await talk(fleet, "a", ["a0"], *callers)
    await talk(fleet, "b", ["b0"], *callers)
    assert (await fleet.call(callers[0], "a", "a1"))["asked"] == ["a1?"]
    worker.send(signal.SIGTERM)
    assert await fleet.ended(worker) == 0
    await fleet.workers_of(after)

    assert (await fleet.call(callers[1], "a", "a1", "yes"))["asked"] == []
    logs = await asyncio.gather(
        talk(fleet, "a", ["a2", "a3"], *callers), talk(fleet, "b", ["b1", "b2"], *callers)
    )
    await check(fleet, {"a": logs[0], "b": logs[1]})


@pytest.mark.long
@pytest.mark.parametrize(
    ("killed", "other"), [*((release, PRESENT) for release in RELEASES), (PRESENT, LAST)]
)
async def test_killed_in_a_run(fleet: Fleet, killed: str, other: str) -> None:
    (victim,), callers = await asyncio.gather(
        fleet.workers_of(killed), fleet.callers_of(killed, other)
    )
    await talk(fleet, "b", ["b0"], *callers)
    fleet.ledger.arm("a0-tool-2")
    call = fleet.begin(callers[0], "a", "a0")
    await fleet.held("a0-tool-2", victim)
    victim.kill()
    await fleet.workers_of(other)

    assert (await fleet.ended_call(callers[0], call))["asked"] == ["a0?"]
    await fleet.call(callers[1], "a", "a0", "yes")
    logs = await asyncio.gather(
        talk(fleet, "a", ["a1"], *callers), talk(fleet, "b", ["b1"], *callers)
    )
    await check(fleet, {"a": logs[0], "b": logs[1]}, rerun="a0-tool-2")


@pytest.mark.long
@pytest.mark.parametrize(("before", "after"), [(LAST, PRESENT), (PRESENT, LAST)])
async def test_rolling_deploy(fleet: Fleet, before: str, after: str) -> None:
    """Workers are replaced one by one, while turns go on."""
    leaving, callers = await asyncio.gather(
        fleet.workers_of(before, before), fleet.callers_of(before, after)
    )
    deployed = asyncio.Event()

    async def goes_on(thread: str) -> list[str]:
        turn = 0
        # One turn at least has none but the new ones.
        while not deployed.is_set():
            await talk(fleet, thread, [f"{thread}{turn}"], *callers[:: (-1) ** turn])
            turn += 1
        return await talk(fleet, thread, [f"{thread}{turn}"], *callers)

    async with asyncio.TaskGroup() as group:
        going = {thread: group.create_task(goes_on(thread)) for thread in THREADS[:3]}
        for worker in leaving:
            await fleet.workers_of(after)
            worker.send(signal.SIGTERM)
            assert await fleet.ended(worker) == 0
        deployed.set()
    await check(fleet, {thread: task.result() for thread, task in going.items()})
