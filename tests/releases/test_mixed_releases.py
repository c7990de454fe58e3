"""Workers and callers of an earlier release beside those of this one: a rolling deploy.

``LAST`` may work beside this release. What those before it record differs in what has no marker in
a history (results with steps, answers that stay): they may only be followed by this one, and what
it has served they cannot replay.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from temporalio import activity
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.common import RawValue
from temporalio.worker import Worker

from langgraph_temporal_exec import local
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.protocol.messages import (
    RULES,
    AttachReply,
    AttachRequest,
    StepReply,
    StepRequest,
    TaskOutput,
    TaskSpec,
    TaskStatus,
    ThreadStart,
)
from langgraph_temporal_exec.protocol.wire import pack, unpack
from tests.conftest import TemporalServer
from tests.faults.ledger import Ran
from tests.releases.conversation import STREAMED, build, steps
from tests.releases.fleet import PRESENT, Fleet, Talker, unpacked
from tests.replay.record import HISTORIES, load

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
        assert done["updates"] == STREAMED
        done = await fleet.call(answer, thread, turn, "yes")
        assert done["asked"] == []
    log: list[str] = done["log"]
    return log


THREADS = ("a", "b", "c", "d")
TURNS = 2


async def check(
    fleet: Fleet, logs: dict[str, list[str]], *, rerun: str = "", refused: bool = False
) -> None:
    """What these threads have is what they have in memory, and nothing ran more often.

    Args:
        fleet: Whose threads.
        logs: What callers were given last, by thread.
        rerun: A step whose process was killed in it.
        refused: See ``Fleet.check_histories``.
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
    await fleet.check_histories(refused=refused)


@pytest.mark.parametrize(
    "how",
    ["cached", *(pytest.param(how, marks=pytest.mark.long) for how in ("uncached", "hosting"))],
)
async def test_side_by_side(fleet: Fleet, how: str) -> None:
    """Threads are driven by both, called by both, and their workflows replayed by both."""
    if how == "hosting":
        callers = await fleet.callers_of(LAST, PRESENT, hosting=True)
        pids = {caller.pid for caller in callers}
    else:
        # Without a cache each workflow task is a replay, of whoever comes first.
        options = ["--max-cached-workflows", "1000" if how == "cached" else "0"]
        workers, callers = await asyncio.gather(
            fleet.workers_of(LAST, PRESENT, options=options), fleet.callers_of(LAST, PRESENT)
        )
        pids = {worker.pid for worker in workers}
    talks = [
        talk(fleet, thread, [f"{thread}{n}" for n in range(TURNS)], *callers[:: (-1) ** i])
        for i, thread in enumerate(THREADS)
    ]
    logs = await asyncio.gather(*talks)
    await check(fleet, dict(zip(THREADS, logs, strict=True)))
    # Each has executed nodes, and, where nothing is cached, both have replayed the same threads.
    assert fleet.ledger.all_pids() == pids
    if how == "uncached":
        assert await fleet.hopped(pids)


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
@pytest.mark.parametrize(("killed", "other"), [(LAST, PRESENT), (DRIVEN, PRESENT), (PRESENT, LAST)])
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
async def test_back_to_a_release_that_cannot_replay(fleet: Fleet) -> None:
    """It says so, and changes nothing: the thread goes on when this release is back."""
    (worker,), callers = await asyncio.gather(
        fleet.workers_of(PRESENT), fleet.callers_of(PRESENT, DRIVEN)
    )
    assert (await fleet.call(callers[0], "a", "a0"))["asked"] == ["a0?"]
    worker.send(signal.SIGTERM)
    assert await fleet.ended(worker) == 0
    (earlier,) = await fleet.workers_of(DRIVEN)
    done = await fleet.came_of(callers[1], fleet.begin(callers[1], "a", "a0", "yes"))
    assert done["error"].startswith("UnreadableError")
    assert "The thread is unchanged" in done["error"]
    # Other threads are not held up.
    await talk(fleet, "b", ["b0"], *callers)
    earlier.send(signal.SIGTERM)
    assert await fleet.ended(earlier) == 0
    await fleet.workers_of(PRESENT)

    assert (await fleet.call(callers[1], "a", "a0", "yes"))["asked"] == []
    logs = await asyncio.gather(
        talk(fleet, "a", ["a1"], *callers), talk(fleet, "b", ["b1"], *callers)
    )
    await check(fleet, {"a": logs[0], "b": logs[1]}, refused=True)


@pytest.mark.long
@pytest.mark.parametrize(
    ("before", "after"),
    [((LAST, LAST), PRESENT), ((LAST, PRESENT), LAST)],
    ids=["deploy", "half a deploy, undone"],
)
async def test_rolling_deploy(fleet: Fleet, before: tuple[str, str], after: str) -> None:
    """Workers are replaced one by one, while turns go on."""
    leaving, callers = await asyncio.gather(
        fleet.workers_of(*before), fleet.callers_of(LAST, PRESENT)
    )
    deployed = asyncio.Event()

    async def goes_on(thread: str) -> list[str]:
        turn = 0
        while not deployed.is_set():
            await talk(fleet, thread, [f"{thread}{turn}"], *callers[:: (-1) ** turn])
            turn += 1
        # One turn at least has none but the new ones.
        return await talk(fleet, thread, [f"{thread}{turn}"], *callers)

    async with asyncio.TaskGroup() as group:
        going = {thread: group.create_task(goes_on(thread)) for thread in THREADS[:3]}
        for worker in leaving:
            await fleet.workers_of(after)
            worker.send(signal.SIGTERM)
            assert await fleet.ended(worker) == 0
        deployed.set()
    # On a busy machine a thread's workflow moves from one new worker to another, an eager task
    # misses its process, and is sent on: that the last of the old ones cannot replay. It refuses
    # the workflow task, which a new one is given next.
    logs = {thread: task.result() for thread, task in going.items()}
    await check(fleet, logs, refused=after == PRESENT)


@pytest.mark.long
async def test_eager_tasks_that_the_earlier_release_is_given(
    tmp_path: Path,
    task_queue: str,
    thread_id: str,
    releases: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a server that makes no task eager they are on the queue of both, whose only poller is the
    one that does not know them: it fails them, and they go to their own process."""
    setting = "system.enableActivityEagerExecution=false"
    monkeypatch.setattr(local, "TUNING", (*local.TUNING, "--dynamic-config-value", setting))
    server = await local.start_server()
    address = server.client.service_client.config.target_host
    fleet = Fleet(tmp_path, address, task_queue, thread_id, releases)
    try:
        # Its only slot on that queue is the one of the run.
        await fleet.workers_of(PRESENT, options=["--max-concurrent-runs", "1"])
        callers = await fleet.callers_of(PRESENT, LAST)
        fleet.ledger.arm("a0-model-0")
        call = fleet.begin(callers[0], "a", "a0")
        await fleet.until(lambda: fleet.ledger.holder("a0-model-0") is not None, "it is driven")
        await fleet.workers_of(LAST)
        fleet.ledger.release("a0-model-0")
        assert (await fleet.ended_call(callers[0], call))["asked"] == ["a0?"]
        failed = EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED
        assert any(e.event_type == failed for h in await fleet.histories() for e in h.events)

        await fleet.call(callers[1], "a", "a0", "yes")
        log = await talk(fleet, "a", ["a1"], *callers)
        await check(fleet, {"a": log})
    finally:
        fleet.discard()
        await server.shutdown()


async def test_eager_task_that_the_earlier_release_sends_to_its_process(
    client: Client, fleet: Fleet
) -> None:
    """Its workflow code knows of no eager tasks, and what it records for one that its process does
    not have, this release goes on with."""

    @activity.defn(dynamic=True)
    async def unknown(args: Sequence[RawValue]) -> bytes:
        return pack(TaskOutput(status=TaskStatus.UNKNOWN))

    await fleet.workers_of(LAST)
    queue, process = fleet.task_queue, f"{fleet.task_queue}#process"
    start = ThreadStart(thread_id=fleet.thread_id, id_prefix=queue, rules=RULES)
    thread = await client.start_workflow(
        names.THREAD_WORKFLOW,
        pack(start),
        id=names.thread_workflow_id(queue, fleet.thread_id),
        task_queue=queue,
    )
    attach = AttachRequest(run_id="r", attempt=1, run_workflow_id="none")
    async with (
        fleet.bounded("a task is lost"),
        Worker(client, task_queue=process, activities=[unknown]),
    ):
        answer: bytes = await thread.execute_update(
            names.ATTACH_UPDATE, pack(attach), result_type=bytes
        )
        task = TaskSpec(key="k", node="node", queue=process, heartbeat_s=60, eager=True)
        begin = StepRequest(
            epoch=unpack(AttachReply, answer).epoch, seq=0, run_id="r", tasks=(task,)
        )
        await thread.execute_update(names.STEP_UPDATE, pack(begin), result_type=bytes)
        then = replace(begin, seq=1, tasks=(), requires=("k",))
        answer = await thread.execute_update(names.STEP_UPDATE, pack(then), result_type=bytes)
    assert unpack(StepReply, answer).lost == ("k",)
    await fleet.check_histories()


REPLAY = """
import asyncio, sys
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError
from langgraph_temporal_exec.workflow.thread import ThreadWorkflow

history = WorkflowHistory.from_json("thread", sys.stdin.read())
try:
    asyncio.run(Replayer(workflows=[ThreadWorkflow]).replay_workflow(history))
except NondeterminismError:
    print("refused")
else:
    print("replayed")
"""


@pytest.mark.parametrize(
    ("recorded", "comes"), [("v7/later_runs", "refused"), ("v6/strategies", "replayed")]
)
async def test_what_the_release_before_makes_of_a_history(
    releases: dict[str, Path], recorded: str, comes: str
) -> None:
    """It does not know of runs that attach with their first step."""
    history = await asyncio.to_thread(load, HISTORIES / f"{recorded}.thread-t.0.json.gz")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", REPLAY),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd=releases[LAST],
        env={**os.environ, "PYTHONPATH": str(releases[LAST])},
    )
    out, _ = await process.communicate(history.to_json().encode())
    # The SDK logs to stdout what it cannot replay.
    assert out.decode().split()[-1:] == [comes]
